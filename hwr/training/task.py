"""The fixed parts of a run: the lines, the alphabet, the engine."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwr import Error, alphabet, data, decoding, engines, networks
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.data import Dataset, Line
from hwr.data.text import shown
from hwr.decoding import Decoder
from hwr.engines import Trainer
from hwr.evaluation.evaluate import prepared
from hwr.images import batches
from hwr.images.batches import Examples, Recipe
from hwr.images.geometry import Geometry
from hwr.system.terminal import counted, some
from hwr.training import finetune, run_folder, self_training
from hwr.training.run_folder import Language


@dataclass(frozen=True)
class Task:
    """The parts of a run.

    Attributes:
        config: The settings.
        out: The run folder.
        alphabet: The characters that the network writes.
        engine: Trains the network.
        decoder: Decodes the validation lines.
        language: The decoder, language model and word list of the run's checkpoints.
        split: The split's name.
        training: The training lines.
        validation: The validation lines.
        recipe: How training lines become batches.
        fingerprint: Hash of the lines and the alphabet.
        start: The checkpoint that the weights were initialised from; None without `train.init`, or if a saved state replaces them.
        epochs: Passes over the training lines.
        minutes: The time limit, or None.
        best: The validation loss or CER (train.best) to improve on; infinite unless there was a first round.
        say: Receives each message for the user.
    """

    config: Config
    out: Path
    alphabet: Alphabet
    engine: Trainer
    decoder: Decoder
    language: Language
    split: str
    training: Examples
    validation: Examples
    recipe: Recipe
    fingerprint: str
    start: Checkpoint | None
    epochs: int
    minutes: float | None
    best: float
    say: Callable[[str], None]

    @property
    def share(self) -> tuple[int, int]:
        """(k, n): this process trains on the k-th of n shares of each batch."""
        return self.engine.group.rank, self.engine.group.size


def build(config: Config, out: Path, resume: bool, say: Callable[[str], None]) -> Task:
    """Read the lines, determine the alphabet, and build the engine with its initial weights.

    Args:
        resume: Whether the caller will load the folder's saved state, if there is one.

    Raises:
        Error: Anything that the user can fix.
    """
    if config.engine.name in ("auto", "torch"):
        engines.require_torch("training")
    dataset = data.read(config.data)
    for note in dataset.notes:
        say(f"note: {note}")
    train_lines, val_lines = (data.lines_of(dataset, part, config.data) for part in ("train", "val"))
    second = config.self_training.unlabelled is not None  # the first round's config has none
    say(
        f"split {dataset.name}: {counted(len(train_lines), 'training line')}, {counted(len(val_lines), 'validation line')}, "
        f"{counted(len(dataset.test), 'test line')}"
        + (f", {len(dataset.excluded)} excluded" if dataset.excluded else "")
    )
    limits, best = (config.train.epochs, config.train.minutes), math.inf
    texts = [line.text for line in train_lines]
    if second:
        train_lines, texts, best = _with_pseudo_labels(config, out, train_lines, dataset, say)
        limits = self_training.limits(config)
    saved = resume and (out / "state.safetensors").exists()
    start: Checkpoint | None = None
    if saved:
        letters = run_folder.alphabet(out)
    else:
        kept = run_folder.initial(out) if resume else None
        letters, start = finetune.start(config, [line.text for line in train_lines], kept)
    extra = "".join(c for c in letters.characters if c not in alphabet.ORIGINAL)
    say(f"alphabet: {letters.blank} characters" + (f", not in the original 80: {shown(extra)}" if extra else ""))
    if config.train.center_loss and letters.characters[:1] != " ":
        raise Error(
            "train.center_loss needs the space as the first character of the alphabet, because it excludes spaces"
        )
    batches.check_size(len(train_lines), config.train.batch_size)
    geometry, folder = networks.geometry(config), config.data.cache
    decoder = decoding.build(config.decode, letters, config.model.edge_spaces, threads=config.engine.threads)
    computed_with = run_folder.same_precision(out, config) if saved else config
    engine = engines.trainer(computed_with, letters.classes, fresh=not saved)
    training = batches.all_writable(prepared(train_lines, letters, geometry, folder, engine.group))
    validation = prepared(val_lines, letters, geometry, folder, engine.group)
    _check_validation(validation, say)
    _note_squeezed(training, validation, geometry, say)
    _introduce(config, engine, say)
    if start is not None:
        new = [c for c in letters.characters if c not in start.alphabet.characters]
        say(
            f"initialised from {'the first round' if second else config.train.init}"
            + (f"; these characters are new to it: {shown(''.join(new))}" if new else "")
        )
        finetune.load(engine, start, letters)
    language = finetune.language(config, out, decoder, start, texts, say)
    recipe = Recipe(
        geometry, config.train.batch_size, config.train.seed, config.augment, 2 if config.train.consistency else 1
    )
    fingerprint = _fingerprint(letters, training, validation)
    return Task(
        config=config,
        out=out,
        alphabet=letters,
        engine=engine,
        decoder=decoder,
        language=language,
        split=dataset.name,
        training=training,
        validation=validation,
        recipe=recipe,
        fingerprint=fingerprint,
        start=start,
        epochs=limits[0],
        minutes=limits[1],
        best=best,
        say=say,
    )


def _with_pseudo_labels(
    config: Config, out: Path, lines: list[Line], dataset: Dataset, say: Callable[[str], None]
) -> tuple[list[Line], list[str], float]:
    """The training lines of the second round, the texts to add to the language model, and the first round's best value."""
    pseudo = self_training.second_round(config, out, dataset.lines, say)
    repeats = self_training.repeats(len(lines), len(pseudo.lines), config.self_training.share)
    say(
        f"second round: {counted(len(pseudo.lines), 'line')} with pseudo-labels, and the {counted(len(lines), 'line')} with ground truth"
        + (f", {repeats} times each" if repeats > 1 else "")
    )
    # The language model of the first round's checkpoint knows the texts already.
    return [*lines * repeats, *pseudo.lines], [], pseudo.best


def _note_squeezed(training: Examples, validation: Examples, geometry: Geometry, say: Callable[[str], None]) -> None:
    """Say how many lines are as wide as the network allows, because they were squeezed to that width."""
    if not geometry.any_width:
        return
    lines = [
        line.id
        for examples in (training, validation)
        for line, width in zip(examples.lines, examples.images.widths.tolist(), strict=True)
        if width >= geometry.width
    ]
    if lines:
        say(
            f"note: {counted(len(lines), 'line is', 'lines are')} squeezed to image.width, {geometry.width} pixels ({some(lines)}); `hwr data summary` "
            "says by how much"
        )


def _check_validation(validation: Examples, say: Callable[[str], None]) -> None:
    faults = [fault for fault in validation.faults if fault]
    if len(faults) == len(validation):
        raise Error(
            f"the network can't write any validation line, so there is no validation loss. The first: {faults[0]}"
        )
    if faults:
        say(
            f"note: the network can't write {counted(len(faults), 'validation line')}, which {'counts' if len(faults) == 1 else 'count'} "
            "in CER and WER, not in the loss"
        )


def _introduce(config: Config, engine: Trainer, say: Callable[[str], None]) -> None:
    parameters = sum(array.size for name, array in engine.weights().items() if "running_" not in name)
    many = f", {engine.group.size} processes" if engine.group.size > 1 else ""
    say(
        f"network: {config.model.arch}, {parameters:,} parameters; {engine.name} on {engine.device}, "
        f"{engine.precision}{many}"
    )
    for note in engine.notes:
        say(note)


def _fingerprint(letters: Alphabet, *parts: Examples) -> str:
    """Hash of the lines (ids, texts, pixels) and the alphabet, wherever the files are."""
    ids = [(line.id, line.text) for part in parts for line in part.lines]
    digests = [part.images.digest for part in parts]
    return hashlib.sha256(repr([letters.characters, ids, digests]).encode()).hexdigest()


def check_same(task: Task, progress: run_folder.Progress) -> None:
    """Check that all processes start from the same state with the same lines: each machine reads its own files."""
    here = (task.fingerprint, progress.epoch, progress.batch, progress.updates)
    if any(other != here for other in task.engine.group.all_gather(here)):
        raise Error(
            f"the processes disagree on the lines or on the state in {task.out}: all machines must see the same data and "
            "the same run folder"
        )
