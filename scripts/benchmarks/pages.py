"""Benchmark line finders on pages with marked lines."""

import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from benchmarks.common import conditions, json_option, write
from hwr import Error, data
from hwr.evaluation import page_metrics
from hwr.evaluation.page_metrics import PageLine, PageScore
from hwr.images import load
from hwr.images.load import Polygon
from hwr.pages import kraken, segment
from hwr.pages.predict import read_targets
from hwr.pages.sources import Target
from hwr.recognizer import Recognizer
from hwr.recognizer import load as load_model

Finder = Callable[[Path, np.ndarray], list[Target]]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marked:
    """A page: its image, its lines in order, boxes with text that is not marked, and whether more may be unmarked."""

    source: str
    image: Path
    lines: tuple[PageLine, ...]
    unmarked: tuple[Box, ...] = ()
    partial: bool = False


@click.command("pages")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", metavar="FILE", help="The model that reads (default: the bundled model).")
@click.option(
    "--finder",
    "names",
    multiple=True,
    type=click.Choice(["hwr", "rapidocr", "kraken"]),
    help="Line finders (repeatable; default: hwr and rapidocr, and kraken if it is installed).",
)
@click.option("--every", default=1, type=click.IntRange(min=1), help="Take every nth page of a source only.")
@json_option
def compare_finders(
    folders: tuple[Path, ...], checkpoint: str | None, names: tuple[str, ...], every: int, json_path: Path | None
) -> None:
    """Page CER with the lines of several finders and with the ground-truth lines, lines found, seconds per page.

    FOLDERS hold PAGE or ALTO with page images, or folders of JSON files (size, lines with polygon and text, boxes of
    unmarked text) beside images of the same name. Each folder below is a source. Found lines that lie in boxes of unmarked
    text are not counted; on pages marked in part, neither are those that touch no marked line.
    """
    about = conditions()
    try:
        model = load_model(checkpoint)
        pages = [page for folder in folders for page in _pages(folder)]
        chosen = defaultdict(list)
        for page in pages:
            chosen[page.source].append(page)
        found = {source: _measured(model, own[::every], names or _installed()) for source, own in chosen.items()}
    except Error as error:
        raise click.ClickException(str(error)) from None
    write(json_path, {"conditions": about, "sources": found})


def _installed() -> list[str]:
    try:
        import kraken as _  # noqa: F401
    except ImportError:
        return ["hwr", "rapidocr"]
    return ["hwr", "rapidocr", "kraken"]


def _measured(model: Recognizer, pages: list[Marked], names: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Measure the finders on the pages of a source, and print their rows."""
    truths = [page.lines for page in pages]
    images = [load.read(page.image, upright=False) for page in pages]
    given = []
    for page, pixels in zip(pages, images, strict=True):
        targets = [Target(page.image, line.region) for line in page.lines]
        given.append([PageLine(p.target.region, p.text or "") for p in read_targets(model, pixels, targets)])
    best = page_metrics.score(truths, given)
    lines = sum(map(len, truths))
    click.echo(
        f"{pages[0].source}: {len(pages)} pages, {lines} lines; with their lines: page CER {100 * best.cer:.1f} %"
    )
    out: dict[str, Any] = {"pages": len(pages), "lines": lines, "given": best.cer}
    for name in names:
        texts, seconds = [], np.zeros((2, 2))
        for page, pixels in zip(pages, images, strict=True):
            start = _clocks()
            targets = FINDERS[name](model)(page.image, pixels)
            middle = _clocks()
            read = read_targets(model, pixels, targets)
            seconds += [middle - start, _clocks() - middle]
            texts.append([PageLine(p.target.region, p.text or "") for p in read if _counts(page, p.target)])
        score = page_metrics.score(truths, texts)
        out[name] = _row(name, score, best, seconds / len(pages))
    return out


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of all CPUs in this process, since some moment."""
    return np.array([time.perf_counter(), time.process_time()])


def _row(name: str, score: PageScore, best: PageScore, seconds: np.ndarray) -> dict[str, Any]:
    """Print a finder's row. `seconds` a page: finding and reading, each on the wall and of all CPUs."""
    lines, (finding, reading) = score.all_lines, seconds.tolist()
    click.echo(
        f"{name:>12} CER {100 * score.cer:5.1f} % ({score.cer / best.cer:4.2f} times), bag of words "
        f"{100 * score.bag.rate:5.1f} %; found {lines.found}, split {lines.split}, merged {lines.merged}, missed "
        f"{lines.missed}, extra {lines.extra}; {finding[0]:.2f} + {reading[0]:.2f} s a page "
        f"({finding[1]:.2f} + {reading[1]:.2f} CPU seconds)"
    )
    return {
        "cer": score.cer,
        "ratio": score.cer / best.cer,
        "bag_of_words": score.bag.rate,
        "similarity": score.similarity,
        **lines._asdict(),
        "seconds_finding": finding,
        "seconds_reading": reading,
    }


def _counts(page: Marked, target: Target) -> bool:
    """Whether a found line counts: most of its middle lies outside the boxes of unmarked text."""
    line = target.region
    if not line:
        return False
    xs, ys = zip(*line, strict=True)
    high = (max(ys) - min(ys)) / 2
    middle = np.array(line, np.float64).reshape(-1, 2).mean(0)
    along = [(x, middle[1]) for x in np.linspace(min(xs), max(xs), 15)]
    if target.baseline:
        base = np.array(target.baseline, np.float64)
        at = np.linspace(0, len(base) - 1, 15)
        along = [
            (
                float(np.interp(i, range(len(base)), base[:, 0])),
                float(np.interp(i, range(len(base)), base[:, 1])) - high / 3,
            )
            for i in at
        ]
    outlines = [np.array(marked.region, np.float32) for marked in page.lines]
    marked = [any(cv2.pointPolygonTest(o, point, True) > -high / 4 for o in outlines) for point in along]
    boxed = [any(a <= x <= c and b <= y <= d for a, b, c, d in page.unmarked) for x, y in along]
    hidden = sum(box and not mark for box, mark in zip(boxed, marked, strict=True))
    return hidden < len(along) / 2 and not (page.partial and sum(marked) < 0.3 * len(along))


# --- Pages ---


def _pages(folder: Path) -> Iterator[Marked]:
    files = sorted(folder.rglob("*.json"))
    if files:
        yield from map(_from_json, files)
        return
    from hwr.config import Data

    dataset = data.read(Data(root=str(folder)))
    of: dict[Path, list[data.Line]] = {}
    for line in (*dataset.train, *dataset.val, *dataset.test):
        of.setdefault(line.image, []).append(line)
    for image, lines in of.items():
        lines.sort(key=lambda line: int(line.source.rpartition(":")[2]))
        yield Marked(folder.name, image, tuple(PageLine(line.region, line.text) for line in lines))


def _from_json(path: Path) -> Marked:
    said = json.loads(path.read_text(encoding="utf-8"))
    image = next((path.with_suffix(s) for s in load.SUFFIXES if path.with_suffix(s).is_file()), None)
    if image is None:
        raise Error(f"{path}: no image of the same name beside it")
    lines = tuple(PageLine(_rounded(line["polygon"]), line["text"]) for line in said["lines"])
    boxes = tuple(tuple(box) for box in said.get("unmarked", ()))
    return Marked(path.parent.name, image, lines, boxes, bool(said.get("partial")))  # type: ignore[arg-type]


def _rounded(points: list[list[float]]) -> Polygon:
    return tuple((round(x), round(y)) for x, y in points)


# --- Finders ---


def _ours(model: Recognizer) -> Finder:
    return lambda path, pixels: segment.targets_of(pixels, path, model)


def _kraken(model: Recognizer) -> Finder:
    return lambda path, pixels: kraken.lines_of(path)


def _rapidocr(model: Recognizer) -> Finder:
    """rapidocr's own boxes, in its own order, at its default size."""
    engine = _rapidocr_engine()

    def find(path: Path, pixels: np.ndarray) -> list[Target]:
        found = engine(np.dstack([pixels] * 3), use_det=True, use_cls=False, use_rec=False).boxes
        boxes = [] if found is None else [_rounded(box.tolist()) for box in found]
        return [Target(path, box, id=f"line{number}", upright=True) for number, box in enumerate(boxes, 1)]

    return find


@functools.cache
def _rapidocr_engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "warning"})


FINDERS: dict[str, Callable[[Recognizer], Finder]] = {"hwr": _ours, "rapidocr": _rapidocr, "kraken": _kraken}
