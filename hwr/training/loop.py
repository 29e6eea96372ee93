"""`hwr train`: the training loop."""

import hashlib
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hwr import Error, alphabet, data, engines
from hwr.config import Config, Train
from hwr.evaluation import evaluate, report
from hwr.images import batches
from hwr.processes import rank_and_world_size
from hwr.training import epoch, finetune, run_folder
from hwr.training.epoch import Task
from hwr.training.run_folder import Epoch, Progress
from hwr.training.tensorboard import Board


def train(settings: Config, out: str | Path, resume: bool = False, say: Callable[[str], None] = print) -> bool:
    """Train to the end, or until Ctrl-C, SIGTERM or SIGHUP.

    Args:
        out: The run folder. Must be new, unless `resume`.
        resume: Go on exactly from the folder's saved state; from the start if it has none yet.
        say: Takes each line for the user.

    Returns:
        Whether the run is complete; False if it was interrupted (and saved).

    Raises:
        Error: Anything that the user can put right, before training where possible.
    """
    out = Path(out)
    rank, size = rank_and_world_size()
    if settings.train.batch_size % size:
        raise Error(f"train.batch_size {settings.train.batch_size} can't be shared evenly by {size} processes")
    if rank:  # process 0 speaks for all, and alone looks after the folder
        say = _silent
    else:
        run_folder.check(out, settings, resume)
    dataset = data.read(settings.data)
    for note in dataset.notes:
        say(f"note: {note}")
    train_lines, val_lines = (evaluate.lines_of(dataset, part, settings) for part in ("train", "val"))
    say(
        f"split {dataset.name}: {len(train_lines)} lines to train on, {len(val_lines)} to choose by, "
        f"{len(dataset.test)} to test on" + (f", {len(dataset.excluded)} left out" if dataset.excluded else "")
    )
    going_on = resume and (out / "state.safetensors").exists()
    if going_on:
        letters, begin_with = run_folder.alphabet(out), None
    else:
        letters, begin_with = finetune.start(settings, [line.text for line in train_lines])
    extra = "".join(c for c in letters.characters if c not in alphabet.ORIGINAL)
    say(f"alphabet: {letters.blank} characters" + (f", not in the original 80: {extra}" if extra else ""))
    if settings.train.center_loss and letters.characters[:1] != " ":
        raise Error(
            "train.center_loss leaves spaces out, and takes the alphabet's first character for the space; it is not"
        )
    batches.check_size(len(train_lines), settings.train.batch_size)
    computed_with = run_folder.same_precision(out, settings) if going_on else settings
    engine = engines.build(computed_with, letters.classes, fresh=not going_on)
    train_images, val_images = (evaluate.prepared(part, settings, engine.group) for part in (train_lines, val_lines))
    labels = batches.encode(train_lines, letters, settings, train_images.widths)
    steps = batches.frames(settings, val_images.widths).tolist()
    faults = [batches.unwritable(line.text, letters, settings, t) for line, t in zip(val_lines, steps, strict=True)]
    if all(faults):
        raise Error(f"no held-out line can be written, so there would be no loss to choose by. The first: {faults[0]}")
    if any(faults):
        say(
            f"note: {sum(map(bool, faults))} held-out lines can't be written whole; they count in CER and WER, not in the loss"
        )

    parameters = sum(array.size for name, array in engine.weights().items() if "running_" not in name)
    many = f", {engine.group.size} processes" if engine.group.size > 1 else ""
    where = f"{engine.name} on {engine.device}, {engine.precision}{many}"
    say(f"network: {settings.model.arch}, {parameters:,} parameters; {where}")
    for note in engine.notes:
        say(note)
    if begin_with is not None:
        new = [c for c in letters.characters if c not in begin_with.alphabet.characters]
        say(
            f"begins with {settings.train.init}"
            + (f", to which these characters are new: {''.join(new)}" if new else "")
        )
        finetune.load(engine, begin_with, letters)
    fingerprint = hashlib.sha256(
        repr([letters.characters, *((x.id, x.text) for x in train_lines + val_lines)]).encode()
    )
    for images in (train_images, val_images):
        fingerprint.update(images.widths.tobytes())
        fingerprint.update(images.pixels.data)
    task = Task(
        config=settings,
        out=out,
        alphabet=letters,
        engine=engine,
        split=dataset.name,
        train_images=train_images,
        train_labels=labels,
        val_images=val_images,
        val_lines=val_lines,
        fingerprint=fingerprint.hexdigest(),
        say=say,
    )
    with nullcontext() if rank else run_folder.locked(out):
        if not rank:
            run_folder.check(out, settings, resume)  # again, now that nobody else can change it
        progress = run_folder.load_state(out, engine, task.fingerprint) if resume else Progress()
        _check_same(task, progress)
        progress.notes = progress.notes or engine.notes
        if not rank:
            run_folder.begin(out, settings)
        if resume:
            say(f"resuming after {progress.epoch} epochs and {progress.batch} batches")
        with _interruptible() as interrupted:
            return _loop(task, progress, interrupted)


def _loop(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> bool:
    settings, first = task.config.train, not task.engine.group.rank
    with closing(Board(task.out, progress.epoch + 1)) if first else nullcontext() as board:
        while not _over(task, progress):
            try:
                epoch.train_on(task, progress, interrupted)
                row, reading = epoch.held_out(task, progress, interrupted)
            except evaluate.Stopped:
                epoch.save_state(task, progress)
                task.say(f"interrupted and saved; go on with: hwr train --resume --out {shlex.quote(str(task.out))}")
                return False
            value = _to_choose_by(row, settings)
            better = value <= progress.best  # of equals the later one
            progress = Progress(
                epoch=progress.epoch + 1,
                updates=progress.updates,
                spent=progress.spent,
                best=min(value, progress.best),
                history=[*progress.history, row],
                notes=progress.notes,
            )
            # Saved first: whatever goes wrong with telling of it, the epoch is not lost.
            if first:
                about = {"split_name": task.split, "notes": progress.notes}
                run_folder.save_epoch(task.out, task.engine, task.config, task.alphabet, about, progress, better)
            epoch.save_state(task, progress)
            task.say(_line(row, task, progress, better))
            _check_blank(row, reading, task.say)
            if board is not None:
                _log(board, task, row, reading)
    if progress.history:
        if _impatient(progress, settings):
            task.say(f"no better for {settings.patience} epochs (train.patience): this is the end")
        best = _best(progress, settings)
        task.say(
            f"best epoch {best.epoch}: held-out CER {report.percent(best.val_cer)}, WER {report.percent(best.val_wer)}. "
            f"Next: hwr evaluate --checkpoint {shlex.quote(str(task.out / 'best.safetensors'))}"
        )
    return True


def _best(progress: Progress, settings: Train) -> Epoch:
    return min(reversed(progress.history), key=lambda row: _to_choose_by(row, settings))


def _to_choose_by(row: Epoch, settings: Train) -> float:
    return row.val_cer if settings.best == "cer" else row.val_loss


def _over(task: Task, progress: Progress) -> bool:
    """Whether the run is complete. An epoch that was begun is finished first: its held-out lines are read."""
    settings = task.config.train
    if progress.batch:
        return False
    return (
        progress.epoch >= settings.epochs or _impatient(progress, settings) or epoch.done_anywhere(task, progress) >= 1
    )


def _impatient(progress: Progress, settings: Train) -> bool:
    """Whether the last epochs, `train.patience` of them, have brought nothing better."""
    if not settings.patience or not progress.history:
        return False
    return progress.history[-1].epoch - _best(progress, settings).epoch >= settings.patience


def _check_same(task: Task, progress: Progress) -> None:
    """See that all processes go on from the same point with the same lines: each machine has read its own files."""
    here = (task.fingerprint, progress.epoch, progress.batch, progress.updates)
    if any(other != here for other in task.engine.group.gather(here)):
        raise Error(
            f"the processes' lines, or what they found in {task.out}, differ: all machines must see the same data and "
            "the same run folder"
        )


def _line(row: Epoch, task: Task, progress: Progress, better: bool) -> str:
    settings = task.config.train
    weight = settings.loss_weight
    return (
        f"epoch {row.epoch:>3}/{settings.epochs}"
        + (f" ({progress.spent / 60:.1f}/{settings.minutes:g} min)" if settings.minutes else "")
        + f"  train loss {row.train_loss:.3f}  held-out loss {row.val_loss:.3f}"
        + (f" (x {weight:g} = {weight * row.val_loss:.3f})" if weight != 1 else "")
        + f"  CER {report.percent(row.val_cer)}  WER {report.percent(row.val_wer)}  {row.lines_per_second:.1f} lines/s"
        + ("  best so far" if better else "")
    )


def _log(board: Board, task: Task, row: Epoch, reading: evaluate.Reading) -> None:
    scalars = asdict(row)
    step = scalars.pop("epoch")
    for name, value in scalars.items():
        board.scalar(name, value, step)
    weight = task.config.train.loss_weight
    board.scalar("val_loss_weighted", weight * row.val_loss, step)  # the original's number
    every = task.config.train.images_every
    if every and (step % every == 0 or step == task.config.train.epochs):
        shown = np.linspace(0, len(task.val_lines) - 1, min(8, len(task.val_lines))).astype(int).tolist()
        sheet = report.picture(
            [task.val_images[i] for i in shown],
            [task.val_lines[i].text for i in shown],
            [reading.texts[i] for i in shown],
        )
        board.picture("held_out_lines", sheet, step)


def _check_blank(row: Epoch, reading: evaluate.Reading, say: Callable[[str], None]) -> None:
    # CTC always begins by writing blanks only; the networks here leave that within some 500 updates.
    if row.updates >= 1000 and not any(reading.texts):
        say(
            f"note: after {row.updates} updates the network still writes nothing but blanks. If the loss no longer falls: "
            "raise train.lr by 3 to 10 times, use a smaller train.batch_size (more updates), look whether the images and "
            "texts belong together, and whether the network has well more time steps than the longest text has characters"
        )


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C, SIGTERM or hang-up a polite request; the second one kills as usual.

    What is ignored stays so: nohup's hang-up, or Ctrl-C in a script's background job. In another thread than the main one,
    where Python hears no signals, nothing is changed.
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for signal_, handler in before.items():
            signal.signal(signal_, handler)

    main = threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if main and hasattr(signal, name)]
    heard = [s for s in known if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, ask) for s in heard}
    try:
        yield lambda: asked
    finally:
        restore()


def _silent(line: str) -> None:
    """What the processes but the first say."""
