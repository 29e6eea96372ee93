"""Pages with marked lines, for the benchmarks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hwr import Error, data
from hwr.config import Data
from hwr.evaluation.page_metrics import ScoredLine
from hwr.images import load
from hwr.images.load import Polygon
from hwr.pages.sources import Target

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marked:
    """A page: its image, its lines in order, boxes with text that is not marked, and whether more may be unmarked."""

    source: str
    image: Path
    lines: tuple[ScoredLine, ...]
    unmarked: tuple[Box, ...] = ()
    partial: bool = False


def pages(folder: Path, partial: bool = False) -> Iterator[Marked]:
    """The pages of a folder: JSON files (size, lines, boxes of unmarked text) beside images, or PAGE or ALTO.

    Args:
        partial: Whether text may be unmarked on the pages of PAGE and ALTO, which can't say so.

    Raises:
        Error: A page can't be read.
    """
    files = sorted(folder.rglob("*.json"))
    if files:
        yield from map(_from_json, files)
        return
    dataset = data.read(Data(root=str(folder)))
    of: dict[Path, list[data.Line]] = {}
    for line in dataset.lines:
        of.setdefault(line.image, []).append(line)
    for image, lines in of.items():
        lines.sort(key=lambda line: int(line.source.rpartition(":")[2]))
        marked = tuple(ScoredLine(line.region, line.text) for line in lines)
        yield Marked(folder.name, image, marked, partial=partial)


def _from_json(path: Path) -> Marked:
    said = json.loads(path.read_text(encoding="utf-8"))
    image = next((path.with_suffix(s) for s in load.EITHER_CASE if path.with_suffix(s).is_file()), None)
    if image is None:
        raise Error(f"{path}: no image of the same name beside it")
    lines = tuple(ScoredLine(rounded(line["polygon"]), line["text"]) for line in said["lines"])
    boxes = tuple(tuple(box) for box in said.get("unmarked", ()))
    return Marked(path.parent.name, image, lines, boxes, bool(said.get("partial")))


def rounded(points: list[list[float]]) -> Polygon:
    """Points in whole pixels."""
    return tuple((round(x), round(y)) for x, y in points)


def counts(page: Marked, target: Target) -> bool:
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
