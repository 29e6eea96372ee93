"""The training loop: `train` -> the batches of an epoch -> `engine.train_step`; then validation."""

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

from tqdm import tqdm

from hwr import Error
from hwr.config import Config, Train, given
from hwr.evaluation import metrics, report
from hwr.evaluation.evaluate import Predictions, Stopped, read
from hwr.images import batches
from hwr.system.files import checked_path
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import counted
from hwr.training import finetune, run_folder, schedule, self_training, task
from hwr.training.interrupt import interruptible
from hwr.training.run_folder import Epoch, Progress
from hwr.training.task import Task
from hwr.training.tensorboard import Board

# Seconds between two reads of the losses, each of which waits for the device.
LOSS_SECONDS = 1.0


def train(
    config: Config | str | Path,
    out: str | Path,
    resume: bool = False,
    say: Callable[[str], None] = print,
    overrides: Sequence[str] = (),
) -> bool:
    """Train to the end, or until Ctrl-C, SIGTERM or SIGHUP.

    Args:
        config: A config, a YAML file, or the name of a bundled recipe such as `lines_cpu`.
        out: The run folder; must be new unless `resume`.
        resume: Resume exactly from the folder's saved state, or start anew if it has none yet.
        say: Receives each message for the user.
        overrides: Settings in the form of `--set` that override a file or a recipe: `["data.root=data/mine"]`.

    Returns:
        Whether the run is complete; False if it was interrupted (and saved).

    Raises:
        Error: Anything that the user can fix, before training where possible.
    """
    out = checked_path(out, "train: out")
    if not isinstance(config, Config | str | Path):
        raise Error(f"train needs a Config, a YAML file or the name of a recipe, not a {type(config).__name__}")
    if not callable(say):
        raise Error(f"train: say must be a function that takes a message, such as print, not {say!r}")
    if not isinstance(config, Config):
        config = finetune.fine_tuning_config(given(config, overrides))
    elif overrides:
        raise Error("overrides need a config file or a recipe; a Config is used unchanged")
    config = finetune.with_initial_network(config)
    if config.self_training.unlabelled is not None:
        if not self_training.first_round(config, out, resume, say, _train):
            return _interrupted(out, say)
        resume = True  # the folder has the first round's network, from which the second starts
    return _train(config, out, resume, say) or _interrupted(out, say)


def _interrupted(out: Path, say: Callable[[str], None]) -> bool:
    if not rank_and_world_size()[0]:
        say(f"interrupted and saved; resume with: hwr train --resume --out {shlex.quote(str(out))}")
    return False


def _train(config: Config, out: Path, resume: bool, say: Callable[[str], None]) -> bool:
    """Train, or one of two rounds; returns whether it is complete."""
    with _started(config, out, resume, say) as (run, progress, interrupted):
        with _board(run, progress) as board:
            while not _over(run, progress):
                try:
                    _train_epoch(run, progress, interrupted)
                    row, predictions = _validate(run, progress, interrupted)
                except Stopped:
                    _save_state(run, progress)
                    return False
                progress = _finish_epoch(run, progress, row)
                _check_blank(row, predictions, run.say)
                if board is not None:
                    board.epoch(row, config.train, run.validation, predictions.texts)
        if progress.history:
            _say_end(run, progress)
    return True


@contextmanager
def _started(
    config: Config, out: Path, resume: bool, say: Callable[[str], None]
) -> Iterator[tuple[Task, Progress, Callable[[], bool]]]:
    """Prepare a run and lock its folder; yields the run, its progress, and a function that says whether to stop."""
    rank, size = rank_and_world_size()
    if config.train.batch_size % size:
        raise Error(f"train.batch_size {config.train.batch_size} can't be split evenly among {size} processes")
    if rank:  # only process 0 prints, and writes to the run folder
        say = _silent
    else:
        run_folder.check(out, config, resume)
    run = task.build(config, out, resume, say)
    with nullcontext() if rank else run_folder.locked(out):
        if not rank:
            run_folder.check(out, config, resume)  # again, now that no other process can change it
        progress = run_folder.load_state(out, run.engine, run.fingerprint) if resume else Progress()
        progress.best = min(progress.best, run.best)
        task.check_same(run, progress)
        progress.notes = progress.notes or run.engine.notes
        if not rank:
            run_folder.begin(out, config, run.start)
        if resume and (progress.updates or config.self_training.unlabelled is None):
            say(f"resuming after {counted(progress.epoch, 'epoch')} and {counted(progress.batch, 'batch', 'batches')}")
        if run.recipe.geometry.any_width and not _over(run, progress):
            # Otherwise the batch that needs the most memory might come hours into the run.
            run.engine.rehearse(batches.widest(run.training, run.recipe, run.share))
        with interruptible() as interrupted:
            yield run, progress, interrupted


def _board(run: Task, progress: Progress) -> AbstractContextManager[Board | None]:
    """TensorBoard's event file; only the first process writes one."""
    if run.engine.group.rank:
        return nullcontext()
    return closing(Board(run.out, progress.epoch + 1, run.engine.name))


def _finish_epoch(run: Task, progress: Progress, row: Epoch) -> Progress:
    """Save an epoch and report it; returns the progress for the next one."""
    value = _criterion(row, run.config.train)
    better = value <= progress.best  # a tie goes to the later epoch
    progress = replace(
        Progress(progress.epoch + 1, updates=progress.updates, spent=progress.spent, notes=progress.notes),
        best=value if better else progress.best,
        history=[*progress.history, row],
    )
    # Save first, so that an error while reporting can't lose the epoch.
    if not run.engine.group.rank:
        about = {"split_name": run.split, "notes": progress.notes}
        run_folder.save_epoch(run.out, run.engine, run.config, run.alphabet, about, run.language, progress, better)
    _save_state(run, progress)
    if not run.engine.group.rank:
        run_folder.forget_initial(run.out)
    run.say(_line(row, run, progress, better))
    return progress


def _train_epoch(run: Task, progress: Progress, interrupted: Callable[[], bool]) -> None:
    """Train the rest of an epoch, or until the time limit. Saves the state every `train.save_minutes`.

    Raises:
        Stopped: Interrupted after a batch; `progress` says which.
        Error: The loss is no longer finite.
    """
    settings, group = run.config.train, run.engine.group
    now = saved = checked = time.monotonic()
    started, run_started = now - progress.seconds, now - progress.spent
    losses: list[SupportsFloat] = []  # not read yet, because that waits for the device
    made = batches.training(run.training, run.recipe, progress.epoch, progress.batch, run.share)
    with _bar(run, progress) as bar:
        done = _done_anywhere(run, progress)
        for batch in batches.ahead(made):
            if done >= 1:
                break
            progress.lr = schedule.learning_rate(settings, done)
            center_loss = settings.center_loss if done >= settings.center_from else 0.0
            if done < settings.consistency_from:
                batch = replace(batch, second=None)  # one view
            losses.append(run.engine.train_step(batch, progress.lr, center_loss))
            progress.batch += 1
            progress.updates += 1
            now = time.monotonic()
            if now - checked > LOSS_SECONDS:
                _add_losses(run, progress, losses)
                bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.2f}", refresh=False)
                checked = now = time.monotonic()
            progress.seconds, progress.spent = now - started, now - run_started
            bar.update(len(batch.index) * group.size)
            due = now - saved > settings.save_minutes * 60
            stop, save, done = group.highest([interrupted(), due, _done(run, progress)])
            if stop:
                _add_losses(run, progress, losses)
                raise Stopped
            if save:
                _add_losses(run, progress, losses)
                _save_state(run, progress)
                saved = now
        _add_losses(run, progress, losses)
        now = time.monotonic()
        progress.seconds, progress.spent = now - started, now - run_started


def _bar(run: Task, progress: Progress) -> Any:
    size, epochs = run.recipe.size, run.epochs
    return tqdm(
        desc=f"epoch {progress.epoch + 1}/{epochs}",
        total=batches.count(len(run.training), size, progress.epoch) * size,
        initial=progress.batch * size,
        unit="line",
        disable=True if run.engine.group.rank else None,
        leave=False,
    )


def _add_losses(run: Task, progress: Progress, losses: list[SupportsFloat]) -> None:
    """Move losses into the epoch's sum.

    Raises:
        Error: A loss is not finite.
    """
    for number, loss in enumerate(map(float, losses), progress.batch - len(losses) + 1):
        if not math.isfinite(loss):
            raise Error(
                f"the loss became {loss} in epoch {progress.epoch + 1}, batch {number}: training has diverged. "
                f"Lower train.lr (now {run.config.train.lr:g})"
                + (", or set engine.precision=fp32" if run.engine.precision != "fp32" else "")
                + f". Earlier checkpoints are in {run.out}"
            )
        progress.loss_sum += loss
    losses.clear()


def _validate(run: Task, progress: Progress, interrupted: Callable[[], bool]) -> tuple[Epoch, Predictions]:
    """Read and score the validation lines after an epoch.

    Raises:
        Stopped: Interrupted after the epoch's last batch.
    """
    started = time.monotonic() - progress.spent
    predictions = read(
        run.engine,
        run.decoder,
        run.validation,
        run.config.evaluate.batch_size,
        run.recipe.geometry,
        title="validation lines",
        stop=interrupted,
    )
    progress.spent = time.monotonic() - started
    score = metrics.score([line.text for line in run.validation.lines], predictions.texts)
    lines = progress.batch * run.recipe.size
    row = Epoch(
        epoch=progress.epoch + 1,
        updates=progress.updates,
        train_loss=progress.loss_sum / progress.batch,
        val_loss=predictions.loss,
        val_cer=score.cer,
        val_wer=score.wer,
        lr=progress.lr,
        seconds=progress.seconds,
        lines_per_second=lines / progress.seconds if progress.seconds else math.nan,
    )
    return row, predictions


def _save_state(run: Task, progress: Progress) -> None:
    """Save the state for an exact resume. All processes take part."""
    state = run.engine.state()
    if not run.engine.group.rank:
        run_folder.save_state(run.out, run.engine, state, progress, run.alphabet, run.fingerprint)


def _done(run: Task, progress: Progress) -> float:
    """Completed fraction of the run in this process, 0..1: of its epochs or its time limit, whichever is further."""
    updates = run.epochs * len(run.training) // run.config.train.batch_size
    of_time = progress.spent / 60 / run.minutes if run.minutes else 0.0
    return max(progress.updates / updates, of_time)


def _done_anywhere(run: Task, progress: Progress) -> float:
    """The largest completed fraction over the processes."""
    return run.engine.group.highest([_done(run, progress)])[0]


def _over(run: Task, progress: Progress) -> bool:
    """Whether the run is complete. A started epoch still needs its validation."""
    settings = run.config.train
    if progress.batch:
        return False
    return progress.epoch >= run.epochs or _impatient(progress, settings) or _done_anywhere(run, progress) >= 1


def _impatient(progress: Progress, settings: Train) -> bool:
    """Whether none of the last `train.patience` epochs was the best."""
    if not settings.patience or not progress.history:
        return False
    return progress.history[-1].epoch - _best(progress, settings).epoch >= settings.patience


def _best(progress: Progress, settings: Train) -> Epoch:
    return min(reversed(progress.history), key=lambda row: _criterion(row, settings))


def _criterion(row: Epoch, settings: Train) -> float:
    """The value by which the best epoch is chosen."""
    return row.val_cer if settings.best == "cer" else row.val_loss


def _say_end(run: Task, progress: Progress) -> None:
    settings = run.config.train
    if settings.patience and _impatient(progress, settings):
        run.say(f"no improvement for {counted(settings.patience, 'epoch')} (train.patience): the run ends here")
    best = _best(progress, settings)
    if _criterion(best, settings) > run.best:
        run.say("the second round did not read the validation lines better: best.safetensors is the first round's")
        return
    run.say(
        f"best epoch {best.epoch}: validation CER {report.percent(best.val_cer)}, WER {report.percent(best.val_wer)}"
    )


def _line(row: Epoch, run: Task, progress: Progress, better: bool) -> str:
    settings = run.config.train
    weight = settings.loss_weight
    return (
        f"epoch {row.epoch:>3}/{run.epochs}"
        + (f" ({progress.spent / 60:.1f}/{run.minutes:g} min)" if run.minutes else "")
        + f"  train loss {row.train_loss:.3f}  validation loss {row.val_loss:.3f}"
        + (f" (x {weight:g} = {weight * row.val_loss:.3f})" if weight != 1 else "")
        + f"  CER {report.percent(row.val_cer)}  WER {report.percent(row.val_wer)}  {row.lines_per_second:.1f} lines/s"
        + ("  best so far" if better else "")
    )


def _check_blank(row: Epoch, predictions: Predictions, say: Callable[[str], None]) -> None:
    # CTC training starts with blank predictions. These networks leave that phase within about 500 updates.
    if row.updates >= 1000 and not any(predictions.texts):
        say(
            f"note: after {row.updates} updates the network still writes nothing but blanks. If the loss no longer falls: "
            "raise train.lr by 3 to 10 times, use a smaller train.batch_size (more updates), look whether the images and "
            "texts belong together, and whether the network has well more time steps than the longest text has characters"
        )


def _silent(line: str) -> None:
    """What the processes but the first say."""
