"""`hwr train`: the training loop, and the run folder that it keeps."""

import csv
import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from hwr import Error, alphabet, batches, cache, checkpoint, config, datasets, engines, evaluate, metrics, report
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.datasets import Line
from hwr.engines import Engine
from hwr.files import replacing

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

# What may change between a run and its continuation: it alters no number.
_FREE = ("train.epochs", "train.images_every", "train.save_minutes", "evaluate.", "engine.threads", "data.cache")


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv. Losses are CTC in nats per line, unweighted; rates are fractions; `epoch` counts from 1."""

    epoch: int
    updates: int
    train_loss: float
    val_loss: float
    val_cer: float
    val_wer: float
    lr: float
    seconds: float
    lines_per_second: float


@dataclass
class Progress:
    """How far a run has come, to the batch: with the engine's state, all that an exact continuation needs."""

    epoch: int = 0  # epochs that are done
    batch: int = 0  # batches done of the next one
    loss_sum: float = 0.0  # of those batches
    seconds: float = 0.0  # spent on them
    updates: int = 0
    best_loss: float = math.inf
    history: list[Epoch] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
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
    _prepare_folder(out, settings, resume)
    dataset = datasets.read(settings.data)
    for note in dataset.notes:
        say(f"note: {note}")
    train_lines, val_lines = evaluate.lines_of(dataset, "train"), evaluate.lines_of(dataset, "val")
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
    run = Run(
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
    progress = _load_state(run) if resume and (out / "state.safetensors").exists() else Progress()
    if resume:
        say(f"resuming after {progress.epoch} epochs and {progress.batch} batches")
    with _interruptible(say) as interrupted:
        return _loop(run, progress, interrupted, say)


def _loop(run: Run, progress: Progress, interrupted: Callable[[], bool], say: Callable[[str], None]) -> bool:
    # Imports torch if it finds it, and only engines may: so not before an engine is built.
    from tensorboardX import SummaryWriter

    epochs = run.config.train.epochs
    with SummaryWriter(str(run.out), purge_step=progress.epoch + 1) as board:
        while progress.epoch < epochs:
            if interrupted() or not _epoch(run, progress, interrupted):
                _save_state(run, progress)
                say(f"interrupted and saved; go on with: hwr train --resume --out {run.out}")
                return False
            train_loss = progress.loss_sum / progress.batch if progress.batch else math.nan
            row, reading = _held_out(run, progress, train_loss)
            better = row.val_loss < progress.best_loss
            progress = Progress(
                epoch=progress.epoch + 1,
                updates=progress.updates,
                best_loss=min(row.val_loss, progress.best_loss),
                history=[*progress.history, row],
            )
            say(_line(row, epochs, better, run.config.train.loss_weight))
            _log(board, run, row, reading)
            _check_blank(row, reading, say)
            _save(run, progress, better)
    best = min(progress.history, key=lambda row: row.val_loss, default=None)
    if best:
        say(
            f"best epoch {best.epoch}: held-out CER {report.percent(best.val_cer)}, WER {report.percent(best.val_wer)}. "
            f"Next: hwr evaluate --checkpoint {run.out / 'best.safetensors'}"
        )
    return True


def _epoch(run: Run, progress: Progress, interrupted: Callable[[], bool]) -> bool:
    """Train what is left of an epoch; False if interrupted on the way. Saves the state every so often."""
    settings = run.config.train
    total = batches.count(len(run.train_images), settings.batch_size, progress.epoch)
    started, saved = time.monotonic() - progress.seconds, time.monotonic()
    with tqdm(
        desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
        total=total * settings.batch_size,
        initial=progress.batch * settings.batch_size,
        unit="line",
        disable=None,
        leave=False,
    ) as bar:
        for batch in batches.training(run.train_images, run.train_labels, run.config, progress.epoch, progress.batch):
            loss = run.engine.train_step(batch, settings.lr)
            if not math.isfinite(loss):
                raise Error(
                    f"the loss became {loss} in epoch {progress.epoch + 1}, batch {progress.batch + 1}: the training has "
                    f"diverged. Lower train.lr (now {settings.lr:g}), or use engine.precision=fp32. "
                    f"The last good checkpoints are in {run.out}"
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
                _save_state(run, progress)
                saved = time.monotonic()
    return True


def _held_out(run: Run, progress: Progress, train_loss: float) -> tuple[Epoch, evaluate.Reading]:
    reading = evaluate.read(
        run.engine, run.val_images, run.val_lines, run.alphabet, run.config.evaluate.batch_size, "held-out lines"
    )
    score = metrics.score([line.text for line in run.val_lines], reading.texts)
    lines = progress.batch * run.config.train.batch_size
    row = Epoch(
        epoch=progress.epoch + 1,
        updates=progress.updates,
        train_loss=train_loss,
        val_loss=reading.loss,
        val_cer=score.cer,
        val_wer=score.wer,
        lr=run.config.train.lr,
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


def _log(board: "SummaryWriter", run: Run, row: Epoch, reading: evaluate.Reading) -> None:
    scalars = asdict(row)
    step = scalars.pop("epoch")
    for name, value in scalars.items():
        board.add_scalar(name, value, step)
    weight = run.config.train.loss_weight
    board.add_scalar("val_loss_weighted", weight * row.val_loss, step)  # the original's number
    every = run.config.train.images_every
    if every and (step % every == 0 or step == run.config.train.epochs):
        shown = np.linspace(0, len(run.val_lines) - 1, min(8, len(run.val_lines))).astype(int).tolist()
        sheet = report.picture(
            [run.val_images[i] for i in shown],
            [run.val_lines[i].text for i in shown],
            [reading.texts[i] for i in shown],
        )
        board.add_image("held-out lines", sheet, step, dataformats="HWC")
    board.flush()


def _check_blank(row: Epoch, reading: evaluate.Reading, say: Callable[[str], None]) -> None:
    # CTC always begins by writing blanks only; the networks here leave that within some 500 updates.
    if row.updates >= 1000 and not any(reading.texts):
        say(
            f"note: after {row.updates} updates the network still writes nothing but blanks. If the loss no longer falls: "
            "raise train.lr by 3 to 10 times, use a smaller train.batch_size (more updates), look whether the images and "
            "texts belong together, and whether model.steps is well above the longest text"
        )


def _prepare_folder(out: Path, settings: Config, resume: bool) -> None:
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise Error(f"{out} is there already; go on with --resume, or choose another folder with --out")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"{out}: could not be made: {error.strerror}") from error
    else:
        before = config.load(out / "config.yaml")
        changed = [d for d in config.differences(before, settings) if not d.startswith(_FREE)]
        if changed:
            raise Error(f"{out} can't be resumed with another config. It would change\n  " + "\n  ".join(changed))
        for leftover in out.glob(".*.tmp"):  # of a process killed while saving
            leftover.unlink(missing_ok=True)
    with replacing(out / "config.yaml") as temporary:
        temporary.write_text(config.dump(settings), encoding="utf-8")


def _save(run: Run, progress: Progress, better: bool) -> None:
    """After an epoch. The state comes last: a kill before it repeats the epoch, with the same outcome."""
    row = progress.history[-1]
    scores = {"split_name": run.split, **asdict(row)}
    current = Checkpoint(run.engine.weights(), run.config, run.alphabet, scores)
    if better:
        checkpoint.save(run.out / "best.safetensors", current)
    checkpoint.save(run.out / "last.safetensors", current)
    with replacing(run.out / "history.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in progress.history)
    _save_state(run, progress)


def _save_state(run: Run, progress: Progress) -> None:
    arrays = {f"weights/{name}": array for name, array in run.engine.weights().items()}
    arrays |= {f"engine/{name}": array for name, array in run.engine.state().items()}
    about = {"progress": asdict(progress), "engine": run.engine.name, "fingerprint": run.fingerprint}
    checkpoint.write_arrays(run.out / "state.safetensors", arrays, about)


def _load_state(run: Run) -> Progress:
    path = run.out / "state.safetensors"
    arrays, about = checkpoint.read_arrays(path)
    if about["engine"] != run.engine.name:
        raise Error(f"{path}: was trained with engine {about['engine']}; resume with --engine {about['engine']}")
    if about["fingerprint"] != run.fingerprint:
        raise Error(f"{path}: the training lines have changed since; put them back, or begin a new run with --out")

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    run.engine.load(part("weights/"))
    run.engine.load_state(part("engine/"))
    values: dict[str, Any] = about["progress"]
    return Progress(**{**values, "history": [Epoch(**row) for row in values["history"]]})


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
