"""`hwr train`: the training loop."""

import hashlib
import math
import shlex
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
    fingerprint: str  # of the lines and the alphabet
    say: Callable[[str], None]


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
    extra = "".join(c for c in letters.characters if c not in alphabet.ORIGINAL)
    say(f"alphabet: {letters.blank} characters" + (f", not in the original 80: {extra}" if extra else ""))
    labels = batches.encode(train_lines, letters, settings.model.steps)
    batches.check_size(len(train_lines), settings.train.batch_size)
    unwritable = sum(bool(batches.unwritable(line.text, letters, settings.model.steps)) for line in val_lines)
    if unwritable == len(val_lines):
        raise Error(
            "no held-out line can be written with this alphabet and model.steps: there would be no loss to choose by"
        )
    if unwritable:
        say(f"note: {unwritable} held-out lines can't be written whole; they count in CER and WER, not in the loss")

    going_on = resume and (out / "state.safetensors").exists()
    engine = engines.build(settings, letters.classes, fresh=not going_on)
    parameters = sum(array.size for name, array in engine.weights().items() if "running_" not in name)
    say(f"network: {settings.model.arch}, {parameters:,} parameters; {engine.name} on {engine.device}")
    for note in engine.notes:
        say(note)
    train_images = cache.prepared(train_lines, settings, progress=True)
    val_images = cache.prepared(val_lines, settings, progress=True)
    fingerprint = hashlib.sha256(
        repr([letters.characters, *((x.id, x.text) for x in train_lines + val_lines)]).encode()
    )
    for images in (train_images, val_images):
        fingerprint.update(images.data)
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
    with run.locked(out):
        run.check(out, settings, resume)  # again, now that nobody else can change it
        progress = run.load_state(out, engine, task.fingerprint) if resume else Progress()
        progress.notes = progress.notes or engine.notes
        run.begin(out, settings)
        if resume:
            say(f"resuming after {progress.epoch} epochs and {progress.batch} batches")
        with _interruptible() as interrupted:
            return _loop(task, progress, interrupted)


def _loop(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> bool:
    epochs = task.config.train.epochs
    with closing(Board(task.out, progress.epoch + 1)) as board:
        while progress.epoch < epochs:
            try:
                _epoch(task, progress, interrupted)
                row, reading = _held_out(task, progress, interrupted)
            except evaluate.Stopped:
                _save_state(task, progress)
                task.say(f"interrupted and saved; go on with: hwr train --resume --out {shlex.quote(str(task.out))}")
                return False
            better = row.val_loss < progress.best_loss
            progress = Progress(
                epoch=progress.epoch + 1,
                updates=progress.updates,
                best_loss=min(row.val_loss, progress.best_loss),
                history=[*progress.history, row],
                notes=progress.notes,
            )
            # Saved first: whatever goes wrong with telling of it, the epoch is not lost.
            about = {"split_name": task.split, "notes": progress.notes}
            run.save_epoch(task.out, task.engine, task.config, task.alphabet, about, progress, better)
            _save_state(task, progress)
            task.say(_line(row, epochs, better, task.config.train.loss_weight))
            _check_blank(row, reading, task.say)
            _log(board, task, row, reading)
    best = min(progress.history, key=lambda row: row.val_loss, default=None)
    if best:
        task.say(
            f"best epoch {best.epoch}: held-out CER {report.percent(best.val_cer)}, WER {report.percent(best.val_wer)}. "
            f"Next: hwr evaluate --checkpoint {shlex.quote(str(task.out / 'best.safetensors'))}"
        )
    return True


def _save_state(task: Task, progress: Progress) -> None:
    run.save_state(task.out, task.engine, progress, task.fingerprint)


def _epoch(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> None:
    """Train what is left of an epoch. Saves the state every so often.

    Raises:
        Stopped: Interrupted after a batch; `progress` tells which.
        Error: The loss is no longer finite.
    """
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
                    f"diverged. Lower train.lr (now {settings.lr:g})"
                    + (", or set engine.precision=fp32" if task.config.engine.precision != "fp32" else "")
                    + f". What was saved before is in {task.out}"
                )
            progress.loss_sum += loss
            progress.batch += 1
            progress.updates += 1
            progress.seconds = time.monotonic() - started
            bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.2f}", refresh=False)
            bar.update(len(batch.index))
            if interrupted():
                raise evaluate.Stopped
            if time.monotonic() - saved > settings.save_minutes * 60:
                _save_state(task, progress)
                saved = time.monotonic()


def _held_out(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> tuple[Epoch, evaluate.Reading]:
    """Read and score the held-out lines after an epoch.

    Raises:
        Stopped: Interrupted; the epoch's batches are all done.
    """
    reading = evaluate.read(
        task.engine,
        task.val_images,
        task.val_lines,
        task.alphabet,
        task.config.evaluate.batch_size,
        title="held-out lines",
        stop=interrupted,
    )
    score = metrics.score([line.text for line in task.val_lines], reading.texts)
    lines = progress.batch * task.config.train.batch_size
    row = Epoch(
        epoch=progress.epoch + 1,
        updates=progress.updates,
        train_loss=progress.loss_sum / progress.batch,
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
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C, SIGTERM or hang-up a polite request; the second one kills as usual."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for signal_, handler in before.items():
            signal.signal(signal_, handler)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield lambda: asked
    finally:
        restore()
