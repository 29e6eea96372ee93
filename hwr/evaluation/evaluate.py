"""`hwr evaluate`: read lines and compare with what stands there."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from hwr import Error, __version__, data, engines
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.data import Dataset, Line
from hwr.decoding import decode
from hwr.engines import Engine, Group
from hwr.evaluation import metrics
from hwr.images import batches, cache
from hwr.images.cache import Images


@dataclass(frozen=True)
class Reading:
    """What an engine read.

    Attributes:
        texts: One per line.
        confidences: (lines,) in 0..1, see `decode.greedy`.
        losses: (lines,) CTC loss in nats.
        writable: (lines,) bool: whether the reference can be written with the alphabet in the steps. If not, its loss
            means nothing.
        seconds: For the network and the decoder (of several processes the slowest's); not for the losses, nor for
            preparing images.
    """

    texts: list[str]
    confidences: np.ndarray
    losses: np.ndarray
    writable: np.ndarray
    seconds: float

    @property
    def loss(self) -> float:
        """Mean loss of the writable lines; NaN if there is none."""
        return float(self.losses[self.writable].mean()) if self.writable.any() else float("nan")


class Stopped(Exception):
    """Reading was stopped on request."""


def read(
    engine: Engine,
    images: Images,
    lines: Sequence[Line],
    alphabet: Alphabet,
    config: Config,
    title: str = "reading",
    stop: Callable[[], bool] = lambda: False,
) -> Reading:
    """Read prepared lines; the processes of the engine's group each read some, and all have the whole outcome.

    Args:
        lines: The same lines' records; their texts are used for the losses only.
        stop: Asked after every batch.

    Raises:
        Stopped: `stop` said so.
    """
    steps = batches.frames(config, images.widths).tolist()
    faults = [batches.unwritable(line.text, alphabet, config, t) for line, t in zip(lines, steps, strict=True)]
    writable = np.array([not fault for fault in faults], bool)
    none = np.zeros(0, np.int32)
    labels = [
        alphabet.encode(batches.written(line.text, config)) if ok else none
        for line, ok in zip(lines, writable, strict=True)
    ]
    texts = [""] * len(lines)
    confidences, losses, seconds = np.zeros(len(lines)), np.zeros(len(lines)), 0.0
    group, own, stopped = engine.group, [], False
    all_batches = batches.reading(images, labels, config.evaluate.batch_size, batches.multiple(config))
    with tqdm(desc=title, total=len(lines), unit="line", disable=True if group.rank else None, leave=False) as bar:
        for batch in islice(all_batches, group.rank, None, group.size):
            start = time.perf_counter()
            logits = engine.logits(batch)
            found, confidence = decode.texts(logits, alphabet, config)
            seconds += time.perf_counter() - start
            own.append((batch.index, found, confidence, engine.loss(logits, batch.labels)))
            bar.update(len(batch.index) * group.size)
            stopped = stop()
            if stopped:
                break
    everybody = group.gather((own, seconds, stopped))
    if any(stopped for _, _, stopped in everybody):
        raise Stopped
    for index, found, confidence, loss in itertools.chain.from_iterable(part for part, _, _ in everybody):
        confidences[index], losses[index] = confidence, loss
        for i, text in zip(index.tolist(), found, strict=True):
            texts[i] = text
    seconds = max(seconds for _, seconds, _ in everybody)
    return Reading(texts, confidences, losses, writable, seconds)


def prepared(lines: Sequence[Line], config: Config, group: Group) -> Images:
    """`cache.prepared`; one process of each machine prepares the lines, the others wait for it."""
    if group.local_rank == 0:
        found = cache.prepared(lines, config, progress=group.rank == 0)
    group.gather(None)
    return found if group.local_rank == 0 else cache.prepared(lines, config)


def opened(checkpoint: Checkpoint, config: Config) -> Engine:
    """An engine with the checkpoint's weights. The config's model and image records are the checkpoint's."""
    if checkpoint.exported:
        return engines.exported(checkpoint.exported, config)
    engine = engines.build(config, checkpoint.alphabet.classes, fresh=False)
    engine.load(checkpoint.weights)
    return engine


def lines_of(dataset: Dataset, split: str, config: Config) -> list[Line]:
    """The lines (or words) of a split.

    Raises:
        Error: It has none, or they are whole forms, which a recogniser of lines can't read.
    """
    if config.data.unit == "form":
        raise Error("data.unit: a recogniser reads line or word images, not whole forms; set data.unit=line")
    lines = dataset.part(split)
    if not lines:
        raise Error(f"the {split} split of {dataset.name} has no lines; data.{split} names the lists that make it")
    return lines


def evaluate(
    checkpoint: Checkpoint, config: Config, split: str, name: str
) -> tuple[dict[str, Any], Reading, list[Line]]:
    """Read a split and score it.

    Args:
        config: What to read and how; its model and image records must be the checkpoint's.
        split: train, val or test.
        name: Of the checkpoint, for the report.

    Returns:
        The report (JSON values; keys as in docs/evaluation.md), the reading, and its lines.
    """
    dataset = data.read(config.data)
    lines = lines_of(dataset, split, config)
    engine = opened(checkpoint, config)
    images = prepared(lines, config, engine.group)
    reading = read(engine, images, lines, checkpoint.alphabet, config)
    score = metrics.score([line.text for line in lines], reading.texts, [line.writer for line in lines])
    low, high, over = score.cer_interval(config.evaluate.bootstrap)
    edits = score.characters.edits
    order = [i for i in np.argsort(-edits, kind="stable")[: config.evaluate.worst] if edits[i]]
    report = {
        "split": split,
        "split_name": dataset.name,
        "notes": dataset.notes,
        "data": config.data.root if isinstance(config.data.root, str) else ", ".join(config.data.root),
        "lines": len(lines),
        "excluded": dataset.excluded,
        "characters": int(score.characters.units.sum()),
        "edits": int(edits.sum()),
        "words": int(score.words.units.sum()),
        "word_edits": int(score.words.edits.sum()),
        "cer": score.cer,
        "cer_ci95": [low, high],
        "cer_ci95_over": over,
        "cer_mean_per_line": score.cer_mean_per_line,
        "cer_casefold": score.casefolded.rate,
        "wer": score.wer,
        "wer_punct": score.tokens.rate,
        "confidence": float(reading.confidences.mean()) if lines else float("nan"),
        "calibration_error": metrics.calibration_error(reading.confidences, score.accuracies),
        "decoder": config.decode.model_dump(mode="json"),
        "ctc_loss": reading.loss,
        "ctc_loss_weighted": reading.loss * config.train.loss_weight,
        # References with characters that the network can't write: their edits count, a loss they have not.
        "without_loss": [line.id for line, ok in zip(lines, reading.writable, strict=True) if not ok],
        "lines_per_second": len(lines) / reading.seconds,
        "batch_size": config.evaluate.batch_size,
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "checkpoint": name,
        "hwr": __version__,
        "worst": [
            {
                "id": lines[i].id,
                "image": str(lines[i].image),
                "writer": lines[i].writer,
                "reference": lines[i].text,
                "hypothesis": reading.texts[i],
                "edits": int(edits[i]),
                "confidence": float(reading.confidences[i]),
            }
            for i in order
        ],
    }
    return report, reading, lines
