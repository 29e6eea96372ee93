"""The run folder: config.yaml, history.csv, checkpoints, and the state for an exact resume."""

import csv
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hwr import Error, checkpoint, config
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint, Part
from hwr.config import Config, Decode
from hwr.engines import Trainer
from hwr.images import cache
from hwr.system import memory, processes, signature
from hwr.system.atomic import make_folder, remedy, replacing
from hwr.system.files import real
from hwr.system.terminal import unicode

# Keys that may change when a run is resumed. The first lines do not affect the weights (except the length of the run, with a
# cosine schedule). Another device or number of threads changes only rounding. The data may have moved: the fingerprint
# checks that the lines are the same.
_FREE = (
    *("train.epochs", "train.minutes", "train.patience", "train.images_every", "train.save_minutes"),
    *("evaluate.", "decode.", "data.cache"),
    *("engine.device", "engine.threads", "data.root", "data.lists", "data.images"),
)


T = TypeVar("T")

_LOCK = ".lock"
# A copy of `train.init`, until the run has a checkpoint of its own.
INITIAL = "init.safetensors"
# Temporary files of `atomic.replacing`.
_LEFTOVERS = ".*.tmp"


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


@dataclass(frozen=True)
class Language:
    """What the checkpoints of a run are read with.

    Attributes:
        decode: The decoder's settings; they name no files.
        model: The language model to store, or None.
        lexicon: The word list to store, or None.
    """

    decode: Decode
    model: Part | None = None
    lexicon: Part | None = None


@dataclass
class Progress:
    """The progress of a run, to the batch. With the engine's state it is all that an exact resume needs."""

    epoch: int = 0  # completed epochs
    batch: int = 0  # completed batches of the next epoch
    loss_sum: float = 0.0  # over those batches
    seconds: float = 0.0  # spent on them
    updates: int = 0
    lr: float = 0.0  # of the last update
    spent: float = 0.0  # seconds of training and validation so far
    best: float = math.inf  # lowest validation loss or CER (train.best)
    history: list[Epoch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # the engine's, on how the weights were initialised


def check(out: Path, settings: Config, resume: bool) -> None:
    """Check that a run can start in the folder, or that the run in it can be resumed with this config.

    Raises:
        Error: It can't.
    """
    kept, here = real(cache.folder(settings.data.cache)), real(out)
    if here in (kept, *kept.parents):
        where = "is" if kept == here else "lies in"
        raise Error(f"data.cache: {kept} {where} the run folder {out}; choose a folder outside it")
    for key in ("root", "lists", "images", "cache"):
        if (value := str(getattr(settings.data, key))) != unicode(value):
            raise Error(
                f"data.{key}: {value}: config.yaml can't hold a name that is not UTF-8; rename it, or name a link to it"
            )
    if _is_new(out):
        # With a lock, a run was killed before its first files were written: then resuming is starting.
        if resume and not (out / _LOCK).exists():
            raise Error(
                f"{out / 'config.yaml'}: no such config file, so there is no run to resume; start it without --resume"
            )
        return
    if not resume:
        raise Error(f"{out} exists already; resume it with --resume, or choose another folder with --out")
    before = config.load(out / "config.yaml")
    rounds = [one.self_training.unlabelled is not None for one in (before, settings)]
    free = (*_FREE, "self_training.unlabelled") if all(rounds) else _FREE  # its lines may have moved, like data.root
    changed = [d for d in config.differences(before, settings) if not d.startswith(free)]
    if changed:
        raise Error(f"{out} can't be resumed with a different config. These keys differ:\n  " + "\n  ".join(changed))


def _is_new(out: Path) -> bool:
    """Whether a folder is missing, or has only what a run leaves that is killed at its very start."""
    if not out.exists():
        return True
    early = (_LOCK, INITIAL)
    return out.is_dir() and all(path.name in early or path.match(_LEFTOVERS) for path in out.iterdir())


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Create the folder if necessary, and lock it against other processes.

    Raises:
        Error: It can't be created, or another process holds the lock.
    """
    make_folder(out)
    try:
        lock = open(out / _LOCK, "w")  # noqa: SIM115 (held until the run ends, however it ends)
    except OSError as error:
        raise Error(f"{out}: could not be written to: {error.strerror}.{remedy(error, out)}") from error
    with lock:
        if not processes.lock(lock):
            raise Error(f"{out}: another process is training here; wait for it, or choose another --out")
        yield


def begin(out: Path, settings: Config, start: Checkpoint | None = None) -> None:
    """Write the config, and remove temporary files that a killed process left. The folder must be locked.

    Args:
        start: The checkpoint that the run is initialised from; it is kept until the end of the first epoch.
    """
    for leftover in out.glob(_LEFTOVERS):
        leftover.unlink(missing_ok=True)
    if start is not None:
        checkpoint.save(out / INITIAL, start)
    with replacing(out / "config.yaml") as temporary:
        temporary.write_text(signature.signed(config.dump(settings)), encoding="utf-8")


def initial(out: Path) -> Path | None:
    """The copy of the checkpoint that a run in its first epoch was initialised from."""
    return path if (path := out / INITIAL).exists() else None


def forget_initial(out: Path) -> None:
    """Remove the copy of the initial checkpoint, once the run has a state and a checkpoint of its own."""
    (out / INITIAL).unlink(missing_ok=True)


def save_epoch(
    out: Path,
    engine: Trainer,
    settings: Config,
    letters: Alphabet,
    about: Mapping[str, Any],
    language: Language,
    progress: Progress,
    better: bool,
) -> None:
    """Save the results of an epoch. The state is saved afterwards: a kill in between repeats the epoch, with the same
    result where resuming is exact (on a CPU, without `train.minutes`).

    Args:
        about: Facts about the run, for its checkpoints.
        language: The decoder, language model and word list of its checkpoints.
        better: Whether this epoch is the best so far.
    """
    trained_on = checkpoint.folder_names(settings.data.root)
    scores = {**about, "trained_on": trained_on, **asdict(progress.history[-1])}
    settings = settings.model_copy(update={"decode": language.decode})
    current = Checkpoint(engine.weights(), settings, letters, scores, None, language.model, language.lexicon)
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
    """Save everything that the next training step depends on, in one file.

    Args:
        state: The engine's.
        fingerprint: Of the lines and the alphabet.
    """
    weights = engine.weights()
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise Error(
            f"{out}: the weights are no longer finite: training has diverged. Lower train.lr; earlier checkpoints are kept"
        )
    arrays = {f"weights/{name}": array for name, array in weights.items()}
    arrays |= {f"engine/{name}": array for name, array in state.items()}
    about = {"progress": asdict(progress), "engine": engine.name, "fingerprint": fingerprint}
    about["precision"] = engine.precision
    about["alphabet"] = letters.characters
    checkpoint.write_arrays(out / "state.safetensors", arrays, about)


def alphabet(out: Path) -> Alphabet:
    """The alphabet of the saved state.

    Raises:
        Error: The state is damaged, or from another version.
    """
    path = out / "state.safetensors"
    characters = checkpoint.read_about(path).get("alphabet")
    if not isinstance(characters, str):
        raise _unusable(path, "it has no alphabet")
    try:
        return Alphabet(characters)
    except Error as error:
        raise _unusable(path, str(error)) from None


def _unusable(path: Path, fault: str) -> Error:
    return Error(f"{path}: is damaged, or was saved by another version of hwr ({fault}); start a new run with --out")


def same_precision(out: Path, settings: Config) -> Config:
    """The config with `engine.precision: auto` replaced by the precision of the saved run, so that resuming is exact."""
    saved = checkpoint.read_about(out / "state.safetensors").get("precision")
    if settings.engine.precision != "auto" or saved is None:
        return settings
    if saved not in ("fp32", "bf16"):
        raise _unusable(out / "state.safetensors", f"its precision is {saved!r}")
    engine = settings.engine.model_copy(update={"precision": saved})
    return settings.model_copy(update={"engine": engine})


def load_state(out: Path, engine: Trainer, fingerprint: str) -> Progress:
    """Load the saved state into the engine. A run killed before its first save starts anew.

    Raises:
        Error: The state is damaged, missing or from another engine, or the lines have changed.
    """
    path = out / "state.safetensors"
    if not path.exists():
        last = out / "last.safetensors"
        # A kill while the first epoch was being saved leaves checkpoints without a state: repeat the epoch.
        if last.exists() and checkpoint.load(last).scores.get("epoch") != 1:
            raise Error(f"{path} is missing, so the run can't be resumed exactly; start a new run with --out")
        return Progress()
    arrays, about = checkpoint.read_arrays(path)
    if about.get("engine") not in ("torch", "mxnet"):
        raise _unusable(path, f"its engine is {about.get('engine')!r}")
    if about["engine"] != engine.name:
        raise Error(f"{path}: was trained with engine {about['engine']}; resume with --engine {about['engine']}")
    if about.get("fingerprint") != fingerprint:
        raise Error(f"{path}: the lines have changed since; restore them, or start a new run with --out")

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    try:
        progress = _progress(about.get("progress"))
        engine.load(part("weights/"))
        engine.load_state(part("engine/"))
    except Exception as error:  # the libraries raise nearly anything on a state of another network
        if isinstance(error, Error) or memory.is_short(error):
            raise
        raise _unusable(path, f"{type(error).__name__}: {error}") from error
    return progress


def _progress(values: Any) -> Progress:
    """The progress from JSON values.

    Raises:
        TypeError: A value is missing, unknown or of another type.
    """
    rows = [_typed(Epoch, row) for row in values["history"]]
    return _typed(Progress, {**values, "history": rows})


def _typed(record: type[T], values: Any) -> T:
    """A dataclass from JSON values of its fields' types."""
    found = record(**values)
    for each in fields(record):  # type: ignore[arg-type]
        value, kind = getattr(found, each.name), typing.get_origin(each.type) or each.type
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"{each.name} is {value!r}")
    return found
