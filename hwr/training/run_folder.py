"""The run folder: config.yaml, history.csv, checkpoints, and the state that an exact continuation needs."""

import csv
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, checkpoint, config, decoding, processes
from hwr.alphabet import Alphabet
from hwr.atomic import replacing
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.engines import Trainer
from hwr.images import cache

# What may change between a run and its continuation. The first alter no number (but with a cosine schedule, those that
# tell how long the run is); another device or number of threads only
# rounds otherwise; and that the lines are the same wherever they are now, their fingerprint tells.
_FREE = (
    *("train.epochs", "train.minutes", "train.patience", "train.images_every", "train.save_minutes"),
    *("evaluate.", "decode.", "data.cache"),
    *("engine.device", "engine.threads", "data.root", "data.lists", "data.images"),
)


_LOCK = ".lock"


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
    lr: float = 0.0  # of the last one
    spent: float = 0.0  # seconds of training and of reading held-out lines, in all
    best: float = math.inf  # held-out loss or CER, as train.best says
    history: list[Epoch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # of the engine: how the weights began


def check(out: Path, settings: Config, resume: bool) -> None:
    """See that a run can begin in the folder, or that the run in it can go on with this config.

    Raises:
        Error: It can't; says why.
    """
    kept = cache.folder(settings.data.cache).resolve()
    if out.resolve() in (kept, *kept.parents):
        where = "is" if kept == out.resolve() else "lies in"
        raise Error(f"data.cache: {kept} {where} the run folder {out}; choose a place outside")
    if not resume:
        if out.exists() and (not out.is_dir() or any(path.name != _LOCK for path in out.iterdir())):
            raise Error(f"{out} exists already; resume it with --resume, or choose another folder with --out")
        return
    before = config.load(out / "config.yaml")
    changed = [d for d in config.differences(before, settings) if not d.startswith(_FREE)]
    if changed:
        raise Error(f"{out} can't be resumed with another config. It would change\n  " + "\n  ".join(changed))


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder, made if need be, against any other process that would train in it.

    Raises:
        Error: It can't be made, or another process holds it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / _LOCK, "w")  # noqa: SIM115 (held until the run ends, whichever way)
    except OSError as error:
        raise Error(f"{out}: could not be made: {error.strerror}") from error
    with lock:
        if not processes.lock(lock):
            raise Error(f"{out}: another process is training here; wait for it, or choose another --out")
        yield


def begin(out: Path, settings: Config) -> None:
    """Write the config, and remove what a process killed while saving left. The folder must be locked."""
    for leftover in out.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    with replacing(out / "config.yaml") as temporary:
        temporary.write_text(config.dump(settings), encoding="utf-8")


def save_epoch(
    out: Path,
    engine: Trainer,
    settings: Config,
    letters: Alphabet,
    about: Mapping[str, Any],
    progress: Progress,
    better: bool,
) -> None:
    """Save what an epoch brought. The state comes after this: a kill before it repeats the epoch,
    with the same outcome where a resumed run is exact (on a CPU, without `train.minutes`).

    Args:
        about: What to say of the run in its checkpoints.
        better: Whether this epoch is the best so far.
    """
    trained_on = checkpoint.folder_names(settings.data.root)
    scores = {**about, "trained_on": trained_on, **asdict(progress.history[-1])}
    # What the validation lines were read with belongs to the checkpoint; a path would not.
    decoder = decoding.build(settings.decode, letters, settings.model.edge_spaces)
    changes, lm, words = decoding.stored(decoder, settings.decode)
    settings = settings.model_copy(update={"decode": settings.decode.model_copy(update=changes)})
    current = Checkpoint(engine.weights(), settings, letters, scores, language_model=lm, lexicon=words)
    if better:
        checkpoint.save(out / "best.safetensors", current)
    checkpoint.save(out / "last.safetensors", current)
    with replacing(out / "history.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in progress.history)


def save_state(
    out: Path,
    engine: Trainer,
    state: Mapping[str, np.ndarray],
    progress: Progress,
    letters: Alphabet,
    fingerprint: str,
) -> None:
    """Save all that the next training step depends on, in one file.

    Args:
        state: The engine's.
        fingerprint: Of the lines and the alphabet.
    """
    weights = engine.weights()
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise Error(
            f"{out}: the weights are no longer finite: the training has diverged. What was saved before is kept"
        )
    arrays = {f"weights/{name}": array for name, array in weights.items()}
    arrays |= {f"engine/{name}": array for name, array in state.items()}
    about = {"progress": asdict(progress), "engine": engine.name, "fingerprint": fingerprint}
    about["precision"] = engine.precision
    about["alphabet"] = letters.characters
    checkpoint.write_arrays(out / "state.safetensors", arrays, about)


def alphabet(out: Path) -> Alphabet:
    """What the network of the saved state writes.

    Raises:
        Error: The state is damaged, or another version's.
    """
    path = out / "state.safetensors"
    about = checkpoint.read_about(path)
    if "alphabet" not in about:
        raise Error(f"{path}: was saved by another version of hwr; begin a new run with --out")
    return Alphabet(about["alphabet"])


def same_precision(out: Path, settings: Config) -> Config:
    """The config with `engine.precision: auto` as it was resolved where the run was saved: an exact resume computes alike."""
    saved = checkpoint.read_about(out / "state.safetensors").get("precision")
    if settings.engine.precision != "auto" or saved is None:
        return settings
    engine = settings.engine.model_copy(update={"precision": saved})
    return settings.model_copy(update={"engine": engine})


def load_state(out: Path, engine: Trainer, fingerprint: str) -> Progress:
    """Bring the engine to where the run was saved; from the start if it was killed before it saved anything.

    Raises:
        Error: The state is damaged, gone, of another engine, or the lines have changed.
    """
    path = out / "state.safetensors"
    if not path.exists():
        last = out / "last.safetensors"
        # A kill in the first epoch's saving leaves its checkpoints without a state: it is repeated.
        if last.exists() and checkpoint.load(last).scores.get("epoch") != 1:
            raise Error(f"{path}: is gone, so the run can't go on exactly; begin a new one with --out")
        return Progress()
    arrays, about = checkpoint.read_arrays(path)
    if about["engine"] != engine.name:
        raise Error(f"{path}: was trained with engine {about['engine']}; resume with --engine {about['engine']}")
    if about["fingerprint"] != fingerprint:
        raise Error(f"{path}: the lines have changed since; put them back, or begin a new run with --out")

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    values: dict[str, Any] = about["progress"]
    try:
        engine.load(part("weights/"))
        engine.load_state(part("engine/"))
        return Progress(**{**values, "history": [Epoch(**row) for row in values["history"]]})
    except (KeyError, TypeError):
        raise Error(f"{path}: was saved by another version of hwr; begin a new run with --out") from None
