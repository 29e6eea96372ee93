"""Read lines and compare the predictions with the ground truth."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hwr import Error, __version__, data
from hwr.alphabet import Alphabet
from hwr.checkpoint import folder_names as checkpoint_names
from hwr.config import DECODER, Data, decoder_settings
from hwr.data import Dataset, Line
from hwr.engines import Engine, Group, side_by_side
from hwr.evaluation import metrics
from hwr.evaluation.metrics import Score
from hwr.images import batches, cache, ink, pieces
from hwr.images.batches import Examples
from hwr.images.geometry import Geometry
from hwr.loading import check_root
from hwr.recognizer import Recognizer
from hwr.system.files import checked_path
from hwr.system.terminal import counted


@dataclass(frozen=True)
class Predictions:
    """Predictions for the lines of a dataset.

    Attributes:
        texts: One per line.
        confidences: (lines,) in 0..1.
        losses: (lines,) CTC loss in nats.
        writable: (lines,) bool: whether CTC can write the reference with the alphabet in the time steps. If not, the loss
            is meaningless.
        seconds: Time in the network and the decoder (of the slowest process), without losses and preprocessing.
    """

    texts: list[str]
    confidences: np.ndarray
    losses: np.ndarray
    writable: np.ndarray
    seconds: float

    @property
    def loss(self) -> float:
        """Mean loss of the writable lines; NaN if no line is writable."""
        return float(self.losses[self.writable].mean()) if self.writable.any() else float("nan")


class Stopped(Exception):
    """Reading was stopped on request."""


def read(
    engine: Engine,
    decode: Callable[[np.ndarray], tuple[list[str], np.ndarray]],
    examples: Examples,
    batch_size: int,
    geometry: Geometry,
    title: str = "reading",
    stop: Callable[[], bool] = lambda: False,
) -> Predictions:
    """Read prepared lines. The processes of the engine's group share the lines, and each returns all predictions.

    Args:
        decode: (N, T, C) logits -> N texts and (N,) confidences.
        geometry: The network's. Wider lines are read in pieces, and the text of empty paper is empty.
        stop: Called after every batch; True stops reading.

    Raises:
        Stopped: `stop` returned True.
    """
    texts = [""] * len(examples)
    confidences, losses = np.zeros(len(examples)), np.zeros(len(examples))
    group, own, stopped, seconds = engine.group, [], False, 0.0
    all_batches = batches.reading(examples.images, examples.labels, batch_size, geometry.multiple, geometry.width)
    with tqdm(desc=title, total=len(examples), unit="line", disable=True if group.rank else None, leave=False) as bar:
        own_batches = islice(all_batches, group.rank, None, group.size)
        start = time.perf_counter()
        for batch, logits in side_by_side.logits(engine, own_batches, geometry, batch_size):
            found, confidence = decode(logits)
            _clear_blank(found, confidence, batch, geometry)
            seconds += time.perf_counter() - start
            own.append((batch.index, found, confidence, engine.loss(logits, batch.labels)))
            bar.update(len(batch.index) * group.size)
            stopped = stop()
            if stopped:
                break
            start = time.perf_counter()
    everybody = group.all_gather((own, seconds, stopped))
    if any(stopped for _, _, stopped in everybody):
        raise Stopped
    for index, found, confidence, loss in itertools.chain.from_iterable(part for part, _, _ in everybody):
        confidences[index], losses[index] = confidence, loss
        for i, text in zip(index.tolist(), found, strict=True):
            texts[i] = text
    writable = np.array([not fault for fault in examples.faults], bool)
    return Predictions(texts, confidences, losses, writable, max(seconds for _, seconds, _ in everybody))


def _clear_blank(texts: list[str], confidences: np.ndarray, batch: batches.Batch, geometry: Geometry) -> None:
    for i, (pixels, width) in enumerate(zip(batch.images, batch.widths.tolist(), strict=True)):
        if ink.blank(pixels[:, :width], geometry, texts[i]):
            texts[i], confidences[i] = "", 1.0


def read_with(model: Recognizer, examples: Examples) -> Predictions:
    """Read prepared lines with a recognizer."""
    return read(model.engine, model.decode, examples, model.config.evaluate.batch_size, model.geometry)


def prepared(
    lines: Sequence[Line], alphabet: Alphabet, geometry: Geometry, folder: str | None, group: Group | None = None
) -> Examples:
    """Preprocess lines, or take them from the cache, and encode their labels.

    Args:
        folder: See `cache.prepared`.
        group: One process on each machine prepares the lines; the others wait for it.
    """
    group = group or Group()
    if group.local_rank == 0:
        images = cache.prepared(lines, geometry, folder, progress=group.rank == 0)
    group.all_gather(None)
    if group.local_rank:
        images = cache.prepared(lines, geometry, folder)
    return batches.encode(lines, images, alphabet, geometry)


@dataclass(frozen=True)
class Report:
    """The result of an evaluation. The table, the JSON file and the web page are views of it.

    Attributes:
        split: train, val, test or all.
        dataset: The dataset.
        lines: The lines of the split.
        predictions: For these lines.
        score: Counts of edits; all rates derive from them.
        cer_interval: 95 % bootstrap interval of the CER (low, high), fractions.
        cer_interval_over: The resampled units, writers or lines.
        model: The recognizer.
        checkpoint: The name of its file.
    """

    split: str
    dataset: Dataset
    lines: list[Line]
    predictions: Predictions
    score: Score
    cer_interval: tuple[float, float]
    cer_interval_over: str
    model: Recognizer
    checkpoint: str

    def __repr__(self) -> str:
        return f"<Report: {self.split}, {counted(len(self.lines), 'line')}, CER {self.cer:.4f}, WER {self.wer:.4f}>"

    @property
    def cer(self) -> float:
        """Character error rate, a fraction: cased, spaces counted."""
        return self.score.cer

    @property
    def wer(self) -> float:
        """Word error rate, a fraction: words split at white space."""
        return self.score.wer

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; docs/evaluation.md explains the keys."""
        score, predictions, model, config = self.score, self.predictions, self.model, self.model.config
        edits = score.characters.edits
        order = [i for i in np.argsort(-edits, kind="stable")[: config.evaluate.worst] if edits[i]]
        return {
            "split": self.split,
            "split_name": self.dataset.name,
            "notes": self.dataset.notes,
            "data": config.data.root if isinstance(config.data.root, str) else ", ".join(config.data.root),
            "lines": len(self.lines),
            "excluded": self.dataset.excluded,
            "characters": int(score.characters.units.sum()),
            "edits": int(edits.sum()),
            "words": int(score.words.units.sum()),
            "word_edits": int(score.words.edits.sum()),
            "cer": score.cer,
            "cer_ci95": list(self.cer_interval),
            "cer_ci95_over": self.cer_interval_over,
            "cer_mean_per_line": score.cer_mean_per_line,
            "cer_casefold": score.casefolded.rate,
            "wer": score.wer,
            "wer_punct": score.tokens.rate,
            "confidence": float(predictions.confidences.mean()),
            "calibration_error": metrics.calibration_error(predictions.confidences, score.accuracies),
            "decoder": decoder_settings.as_json(config.decode.model_dump(), DECODER),
            "ctc_loss": predictions.loss,
            "ctc_loss_weighted": predictions.loss * config.train.loss_weight,
            # Lines whose reference the network can't write: their edits count, but they have no loss.
            "without_loss": [line.id for line, ok in zip(self.lines, predictions.writable, strict=True) if not ok],
            "lines_per_second": len(self.lines) / predictions.seconds,
            "batch_size": config.evaluate.batch_size,
            "engine": model.engine.name,
            "device": model.engine.device,
            "precision": model.engine.precision,
            "checkpoint": self.checkpoint,
            "hwr": __version__,
            "worst": [self._line(i) for i in order],
        }

    def _line(self, i: int) -> dict[str, Any]:
        line = self.lines[i]
        return {
            "id": line.id,
            "image": str(line.image),
            "writer": line.writer,
            "reference": line.text,
            "hypothesis": self.predictions.texts[i],
            "edits": int(self.score.characters.edits[i]),
            "confidence": float(self.predictions.confidences[i]),
        }


def evaluate(
    model: Recognizer, root: str | Path | Sequence[str | Path] | None = None, split: str = "test", checkpoint: str = ""
) -> Report:
    """Read a split and score the predictions.

    Args:
        root: The dataset's folder or file, or several (`data.root`); None: `data.root` of the model's config.
        split: train, val, test or all.
        checkpoint: The name of the model's file, for the report.

    Raises:
        Error: The dataset can't be read, the split has no lines, or `model` is something else.
    """
    if not isinstance(model, Recognizer):
        raise Error(f"evaluate needs a model such as hwr.load({str(model)!r}), not a {type(model).__name__}")
    config = model.config
    if root is not None:
        roots: str | tuple[str, ...]
        if root and isinstance(root, Sequence) and not isinstance(root, str):
            roots = tuple(str(checked_path(each, "evaluate: root")) for each in root)
        else:
            roots = str(checked_path(root, "evaluate: root"))
        config = config.model_copy(update={"data": config.data.model_copy(update={"root": roots})})
        model = model.with_config(config)
    else:
        check_root(config.data, checkpoint or model.name or "the model")
    dataset = noted(data.read(config.data), config.data, model)
    lines = data.lines_of(dataset, split, config.data)
    model.decoder.expect(len(lines) // model.engine.group.size)
    geometry = pieces.unsqueezed(model.geometry)
    examples = prepared(lines, model.alphabet, geometry, config.data.cache, model.engine.group)
    predictions = read_with(model, examples)
    score = metrics.score([line.text for line in lines], predictions.texts, [line.writer for line in lines])
    low, high, over = score.cer_interval(config.evaluate.bootstrap)
    return Report(split, dataset, lines, predictions, score, (low, high), over, model, checkpoint or model.name)


def noted(dataset: Dataset, settings: Data, model: Recognizer) -> Dataset:
    """The dataset, with a note if folders of it are those of the training but split otherwise."""
    scores = model.checkpoint.scores
    if scores.get("split_name") is None:
        return dataset
    before = _splits(scores.get("trained_on", []), scores["split_name"])
    now = _splits(checkpoint_names(settings.root), dataset.name)
    if changed := [name for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]:
        note = (
            f"the model was trained on {', '.join(changed)}, split {scores['split_name']!r}; this split is "
            f"{dataset.name!r}, so its lines may be training lines"
        )
        return replace(dataset, notes=[*dataset.notes, note])
    return dataset


def _splits(folders: Sequence[str], name: str) -> dict[str, str]:
    """The name of each folder's own split, given that of all: see `data.read_all`."""
    names = name.split(" + ")
    return dict(zip(folders, names if len(names) == len(folders) else [name] * len(folders), strict=True))
