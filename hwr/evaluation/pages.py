"""Find and read the lines of pages, and compare them with the ground truth."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, __version__, data
from hwr.config import DECODER, decoder_settings
from hwr.data import Dataset, Line
from hwr.evaluation import metrics, page_metrics
from hwr.evaluation.evaluate import noted
from hwr.evaluation.metrics import Counts
from hwr.evaluation.page_metrics import PageScore, ScoredLine
from hwr.images import load, orientation
from hwr.images.load import Polygon
from hwr.loading import check_root
from hwr.pages.predict import Prediction
from hwr.pages.predict import predict as predict_jobs
from hwr.pages.sources import Job, Target, job
from hwr.recognizer import Recognizer

Finder = Callable[[Path], list[Target]]
"""Finds the lines of a page image, in reading order."""


@dataclass(frozen=True)
class EvaluatedPage:
    """A page with its ground truth and its predictions.

    Attributes:
        image: Its image.
        truth: The ground-truth lines.
        given: The predictions for the ground-truth lines.
        found: The lines found, with their predictions; positions as in `truth`.
        errors: Why the page or some of its lines could not be read.
        upright: Whether positions refer to the image rotated by its EXIF orientation rather than as stored.
    """

    image: Path
    truth: tuple[ScoredLine, ...]
    given: tuple[ScoredLine, ...]
    found: tuple[ScoredLine, ...]
    errors: tuple[str, ...] = ()
    upright: bool = False


@dataclass(frozen=True)
class PagesReport:
    """The result of an evaluation of pages. The table, the JSON file and the web page are views of it.

    Attributes:
        split: train, val, test or all.
        split_name: The name of the split.
        notes: What the user should know of the data.
        pages: The pages of the split.
        score: Of the lines found.
        given: Of the ground-truth lines.
        finding: Seconds spent on finding the lines of all pages, by the slowest process; `reading` on reading them.
        model: The recognizer.
        checkpoint: The name of its file.
    """

    split: str
    split_name: str
    notes: list[str]
    pages: list[EvaluatedPage]
    score: PageScore
    given: PageScore
    finding: float
    reading: float
    model: Recognizer
    checkpoint: str

    @property
    def cer(self) -> float:
        """Page CER with the lines found, a fraction."""
        return self.score.cer

    @property
    def broken(self) -> list[str]:
        """Why pages or lines could not be read."""
        return [error for page in self.pages for error in page.errors]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; docs/evaluation.md explains the keys."""
        config, lines = self.model.config, self.score.all_lines
        edits = self.score.characters.edits
        order = [i for i in np.argsort(-edits, kind="stable")[: config.evaluate.worst] if edits[i]]
        number = max(1, len(self.pages))
        return {
            "split": self.split,
            "split_name": self.split_name,
            "notes": self.notes,
            "data": config.data.root if isinstance(config.data.root, str) else ", ".join(config.data.root),
            "pages": len(self.pages),
            "characters": int(self.score.characters.units.sum()),
            "edits": int(edits.sum()),
            **rates(self.score, config.evaluate.bootstrap),
            "ground_truth_lines": rates(self.given, config.evaluate.bootstrap),
            "cer_ratio": self.score.cer / self.given.cer if self.given.cer else float("nan"),
            **{("lines" if key == "lines" else f"lines_{key}"): value for key, value in lines._asdict().items()},
            "decoder": decoder_settings.as_json(config.decode.model_dump(), DECODER),
            "seconds_finding": self.finding / number,
            "seconds_reading": self.reading / number,
            "engine": self.model.engine.name,
            "device": self.model.engine.device,
            "precision": self.model.engine.precision,
            "checkpoint": self.checkpoint,
            "hwr": __version__,
            "broken": self.broken,
            "worst": [self._page(i) for i in order],
        }

    def _page(self, i: int) -> dict[str, Any]:
        page = self.pages[i]
        return {
            "id": page.image.stem,
            "image": str(page.image),
            "cer": _rate(self.score.characters, i),
            "cer_in_order": _rate(self.score.in_order, i),
            "cer_given": _rate(self.given.characters, i),
            **self.score.lines[i]._asdict(),
            "reference": page_metrics.page_text([line.text for line in page.truth]),
            "hypothesis": page_metrics.page_text([line.text for line in page.found]),
            "edits": int(self.score.characters.edits[i]),
        }


def _rate(counts: Counts, i: int) -> float:
    return float(counts.edits[i] / counts.units[i]) if counts.units[i] else float("nan")


def rates(score: PageScore, resamples: int) -> dict[str, Any]:
    """The rates of a score with their 95 % bootstrap intervals over pages, fractions."""
    each = {"cer": score.characters, "cer_in_order": score.in_order, "wer": score.words, "bag_of_words": score.bag}
    out: dict[str, Any] = {}
    for name, counts in each.items():
        out |= {name: counts.rate, f"{name}_ci95": list(metrics.bootstrap(counts.edits, counts.units, resamples))}
    ones = np.ones(len(score.similarities))
    interval = metrics.bootstrap(score.similarities, ones, resamples)
    return out | {"similarity": score.similarity, "similarity_ci95": list(interval)}


def evaluate(model: Recognizer, find: Finder, split: str = "test", checkpoint: str = "") -> PagesReport:
    """Find and read the lines of a split's pages (PAGE or ALTO in `data.root`), read its ground-truth lines, and score both.

    The processes of the engine's group share the pages, and each returns the report of all.

    Args:
        split: train, val, test or all.
        checkpoint: The name of the model's file, for the report.

    Raises:
        Error: The dataset can't be read, has no pages, or its split has no lines.
    """
    config = model.config
    check_root(config.data, checkpoint or model.name or "the model")
    dataset = noted(data.read(config.data), config.data, model)
    of = _pages(dataset, data.lines_of(dataset, split, config.data))
    group, timer = model.engine.group, _Timer(find)
    own = dict(itertools.islice(of.items(), group.rank, None, group.size))
    start = time.perf_counter()
    given = list(predict_jobs(model, _given(own)))
    found = list(predict_jobs(model, (job(image, timer) for image in own)))
    seconds = time.perf_counter() - start - timer.seconds
    parts = group.all_gather(
        [
            _evaluated(image, lines, read, other)
            for (image, lines), (_, read), other in zip(own.items(), given, found, strict=True)
        ]
    )
    pages = [parts[number % group.size][number // group.size] for number in range(len(of))]
    # The lines were read twice: as given, and as found.
    finding, reading = group.highest([timer.seconds, seconds / 2])
    truths = [page.truth for page in pages]
    return PagesReport(
        split=split,
        split_name=dataset.name,
        notes=dataset.notes,
        pages=pages,
        score=page_metrics.score(truths, [page.found for page in pages]),
        given=page_metrics.score(truths, [page.given for page in pages]),
        finding=finding,
        reading=reading,
        model=model,
        checkpoint=checkpoint or model.name,
    )


class _Timer:
    """A finder that measures how long it takes."""

    def __init__(self, find: Finder) -> None:
        self.find, self.seconds = find, 0.0

    def __call__(self, path: Path) -> list[Target]:
        start = time.perf_counter()
        try:
            return self.find(path)
        finally:
            self.seconds += time.perf_counter() - start


def _pages(dataset: Dataset, lines: Sequence[Line]) -> dict[Path, list[Line]]:
    """The lines of each page image, in the order of its XML.

    Raises:
        Error: They are line images, or only a part of a page's lines is among them.
    """
    out: dict[Path, list[Line]] = {}
    for line in lines:
        if not line.region:
            raise Error(f"--pages: {line.source} is a line image; data.root needs to be PAGE or ALTO with page images")
        out.setdefault(line.image, []).append(line)
    everything = Counter(line.image for line in dataset.lines)
    for image, own in out.items():
        if len(own) < everything[image]:
            raise Error(
                f"--pages: only {len(own)} of the {everything[image]} lines of {image} are in this split; list whole "
                "pages in data.lists, or use --split all"
            )
        own.sort(key=lambda line: line.place)
    return out


def _given(of: dict[Path, list[Line]]) -> Iterator[Job]:
    for image, lines in of.items():
        yield Job(
            image, image, [Target(image, line.region, line.baseline, line.id, upright=line.upright) for line in lines]
        )


def _evaluated(
    image: Path, lines: Sequence[Line], given: Sequence[Prediction], found: tuple[Job, list[Prediction]]
) -> EvaluatedPage:
    job, predictions = found
    errors = [job.error] if job.error else [p.error for p in predictions if p.error]
    # Positions as in the ground truth; the lines found are upright.
    stored = any(p.target.upright for p in predictions) and not any(line.upright for line in lines)
    (width, height), turn = load.stored(image) if stored else ((0, 0), 1)

    def place(target: Target) -> Polygon:
        return orientation.as_stored(target.region, turn, width, height) if target.upright else target.region

    return EvaluatedPage(
        image,
        truth=tuple(ScoredLine(line.region, line.text) for line in lines),
        given=tuple(ScoredLine(p.target.region, p.text or "") for p in given),
        found=tuple(ScoredLine(place(p.target), p.text or "") for p in predictions),
        errors=(*(p.error for p in given if p.error), *errors),
        upright=any(line.upright for line in lines),
    )
