"""`hwr train`: the training loop."""

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hwr import Error, alphabet, batches, cache, datasets, engines, evaluate, metrics, report, run
from hwr.alphabet import Alphabet
from hwr.board import Board
from hwr.config import Config
from hwr.datasets import Line
from hwr.engines import Engine
from hwr.run import Epoch, Progress


@dataclass(frozen=True)
class Task:
    """What stays the same through a run."""

    config: Config
    out: Path
    alphabet: Alphabet
    engine: Engine
    split: str
    train_images: np.ndarray
    train_labels: list[np.ndarray]
    val_images: np.ndarray
    val_lines: list[Line]
    fingerprint: str  # of the training lines and the alphabet


def train(settings: Config, out: str | Path, resume: bool = False, say: Callable[[str], None] = print) -> bool:
    """Train to the end, or until Ctrl-C or SIGTERM.

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
    run.check(out, settings, resume)
    dataset = datasets.read(settings.data)
    for note in dataset.notes:
        say(f"note: {note}")
    train_lines, val_lines = (evaluate.lines_of(dataset, part, settings) for part in ("train", "val"))
    say(
        f"split {dataset.name}: {len(train_lines)} lines to train on, {len(val_lines)} to choose by, "
        f"{len(dataset.test)} to test on" + (f", {len(dataset.excluded)} left out" if dataset.excluded else "")
    )
    letters = alphabet.resolve(settings.data.alphabet, [line.text for line in train_lines])
    extra = letters.characters.removeprefix(alphabet.ORIGINAL)
    say(f"alphabet: {letters.blank} characters" + (f", beyond the original 80: {extra}" if extra else ""))
    labels = batches.encode(train_lines, letters, settings.model.steps)
    unwritable = sum(bool(batches.unwritable(line.text, letters, settings.model.steps)) for line in val_lines)
    if unwritable == len(val_lines):
        raise Error(
            "no held-out line can be written with this alphabet and model.steps: there would be no loss to choose by"
        )
    if unwritable:
        say(f"note: {unwritable} held-out lines can't be written whole; they count in CER and WER, not in the loss")

    engine = engines.build(settings, letters.classes, fresh=True)
    parameters = sum(array.size for array in engine.weights().values())
    say(f"network: {settings.model.arch}, {parameters:,} parameters; {engine.name} on {engine.device}")
    for note in engine.notes:
        say(note)
    task = Task(
        settings,
        out,
        letters,
        engine,
        dataset.name,
        cache.prepared(train_lines, settings, progress=True),
        labels,
        cache.prepared(val_lines, settings, progress=True),
        val_lines,
        hashlib.sha256(repr([letters.characters, *((x.id, x.text) for x in train_lines)]).encode()).hexdigest(),
    )
    run.begin(out, settings)  # not before all of the above went well
    progress = run.load_state(out, engine, task.fingerprint) if resume else Progress()
    if resume:
        say(f"resuming after {progress.epoch} epochs and {progress.batch} batches")
    with _interruptible(say) as interrupted:
        return _loop(task, progress, interrupted, say)


def _loop(task: Task, progress: Progress, interrupted: Callable[[], bool], say: Callable[[str], None]) -> bool:
    epochs = task.config.train.epochs
    with closing(Board(task.out, progress.epoch + 1)) as board:
        while progress.epoch < epochs:
            if interrupted() or not _epoch(task, progress, interrupted):
                run.save_state(task.out, task.engine, progress, task.fingerprint)
                say(f"interrupted and saved; go on with: hwr train --resume --out {task.out}")
                return False
            train_loss = progress.loss_sum / progress.batch if progress.batch else math.nan
            row, reading = _held_out(task, progress, train_loss)
            better = row.val_loss < progress.best_loss
            progress = Progress(
                epoch=progress.epoch + 1,
                updates=progress.updates,
                best_loss=min(row.val_loss, progress.best_loss),
                history=[*progress.history, row],
            )
            say(_line(row, epochs, better, task.config.train.loss_weight))
            _log(board, task, row, reading)
            _check_blank(row, reading, say)
            about = {"split_name": task.split}
            run.save_epoch(task.out, task.engine, task.config, task.alphabet, about, progress, better)
            run.save_state(task.out, task.engine, progress, task.fingerprint)
    best = min(progress.history, key=lambda row: row.val_loss, default=None)
    if best:
        say(
            f"best epoch {best.epoch}: held-out CER {report.percent(best.val_cer)}, WER {report.percent(best.val_wer)}. "
            f"Next: hwr evaluate --checkpoint {task.out / 'best.safetensors'}"
        )
    return True


def _epoch(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> bool:
    """Train what is left of an epoch; False if interrupted on the way. Saves the state every so often."""
    settings = task.config.train
    total = batches.count(len(task.train_images), settings.batch_size, progress.epoch)
    started, saved = time.monotonic() - progress.seconds, time.monotonic()
    with tqdm(
        desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
        total=total * settings.batch_size,
        initial=progress.batch * settings.batch_size,
        unit="line",
        disable=None,
        leave=False,
    ) as bar:
        for batch in batches.training(
            task.train_images, task.train_labels, task.config, progress.epoch, progress.batch
        ):
            loss = task.engine.train_step(batch, settings.lr)
            if not math.isfinite(loss):
                raise Error(
                    f"the loss became {loss} in epoch {progress.epoch + 1}, batch {progress.batch + 1}: the training has "
                    f"diverged. Lower train.lr (now {settings.lr:g}), or use engine.precision=fp32. "
                    f"The last good checkpoints are in {task.out}"
                )
            progress.loss_sum += loss
            progress.batch += 1
            progress.updates += 1
            progress.seconds = time.monotonic() - started
            bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.2f}", refresh=False)
            bar.update(len(batch.index))
            if interrupted():
                return progress.batch == total
            if time.monotonic() - saved > settings.save_minutes * 60:
                run.save_state(task.out, task.engine, progress, task.fingerprint)
                saved = time.monotonic()
    return True


def _held_out(task: Task, progress: Progress, train_loss: float) -> tuple[Epoch, evaluate.Reading]:
    reading = evaluate.read(
        task.engine, task.val_images, task.val_lines, task.alphabet, task.config.evaluate.batch_size, "held-out lines"
    )
    score = metrics.score([line.text for line in task.val_lines], reading.texts)
    lines = progress.batch * task.config.train.batch_size
    row = Epoch(
        epoch=progress.epoch + 1,
        updates=progress.updates,
        train_loss=train_loss,
        val_loss=reading.loss,
        val_cer=score.cer,
        val_wer=score.wer,
        lr=task.config.train.lr,
        seconds=progress.seconds,
        lines_per_second=lines / progress.seconds if progress.seconds else math.nan,
    )
    return row, reading


def _line(row: Epoch, epochs: int, better: bool, weight: float) -> str:
    return (
        f"epoch {row.epoch:>3}/{epochs}  train loss {row.train_loss:.3f}  held-out loss {row.val_loss:.3f} "
        f"(x {weight:g} = {weight * row.val_loss:.3f})  CER {report.percent(row.val_cer)}  WER {report.percent(row.val_wer)}  "
        f"{row.lines_per_second:.1f} lines/s" + ("  best so far" if better else "")
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
            "texts belong together, and whether model.steps is well above the longest text"
        )


@contextmanager
def _interruptible(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C or SIGTERM a polite request; the second one kills as usual."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        say("stopping after this batch; once more to stop at once (and lose what is not saved)")
        for signal_, handler in before.items():
            signal.signal(signal_, handler)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for signal_, handler in before.items():
            signal.signal(signal_, handler)
