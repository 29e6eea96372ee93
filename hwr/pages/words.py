"""Where the words of a line are on the page."""

import math
from dataclasses import dataclass

import numpy as np

from hwr.images.load import Polygon
from hwr.pages.page_reading import PageLine
from hwr.recognizer import Character

# Where the position of the baseline is unknown: its height above the lower edge of the line, as a fraction of the line's height.
FEET = 0.25

Point = tuple[float, float]


@dataclass(frozen=True)
class Word:
    """A word on the page.

    Attributes:
        text: Without spaces.
        start: Where it begins on the baseline, (x, y) in pixels; `end`: where it ends.
        corners: Its outline, (x, y): upper left, upper right, lower right, lower left, as the line runs.
        confidence: 0..1.
        characters: Its characters, if they were located.
    """

    text: str
    start: Point
    end: Point
    corners: tuple[Point, Point, Point, Point]
    confidence: float
    characters: tuple[Character, ...] = ()

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels."""
        xs, ys = zip(*self.corners, strict=True)
        return math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))


@dataclass(frozen=True)
class Band:
    """The place of a line: its baseline, and how far the line reaches above and below it in pixels."""

    baseline: np.ndarray  # (N, 2), from the line's start to its end
    ascent: float
    descent: float

    @property
    def slope(self) -> float:
        """Of the chord of the baseline, dy / dx."""
        (x0, y0), (x1, y1) = self.baseline[0], self.baseline[-1]
        return float((y1 - y0) / (x1 - x0)) if x1 != x0 else 0.0


def band(line: PageLine, size: tuple[int, int]) -> Band:
    """The place of a line.

    Args:
        size: Width and height of the page's image, which the line fills if it has no region.
    """
    width, height = size
    region = np.array(line.region or ((0, 0), (width, 0), (width, height), (0, height)), float)
    baseline = np.array(line.baseline, float) if len(line.baseline) > 1 else None
    if baseline is not None and _length(baseline) < 1:
        baseline = None
    area, centre = _area(region)
    if baseline is None:
        baseline = _along(region)
        tall = max(area / _length(baseline), 1.0)
        return Band(baseline, (1 - FEET) * tall, FEET * tall)
    tall = max(area / _length(baseline), 1.0)
    # How far the middle of the region lies above the baseline, at right angles to its chord.
    (x0, y0), (x1, y1) = baseline[0], baseline[-1]
    chord = max(math.hypot(x1 - x0, y1 - y0), 1e-6)
    above = ((centre[0] - baseline[:, 0].mean()) * (y1 - y0) - (centre[1] - baseline[:, 1].mean()) * (x1 - x0)) / chord
    above = float(np.clip(above, 0, 0.45 * tall))
    return Band(baseline, tall / 2 + above, tall / 2 - above)


def words(line: PageLine, size: tuple[int, int]) -> list[Word]:
    """The words of a line, in order.

    Positions are those of the characters, where these were located and the line runs from left to right. Otherwise the
    text is spread evenly over the baseline.

    Args:
        size: Width and height of the page's image in pixels.
    """
    if not line.text.strip():
        return []
    place = band(line, size)
    edges = _edges(line, place)
    out, start = [], 0
    for text in line.text.split(" "):
        if text:
            end = start + len(text)
            own = line.characters[start:end] if len(line.characters) == len(line.text) else ()
            sure = min((c.confidence for c in own), default=line.confidence)
            out.append(_word(text, edges[start][0], max(edges[end - 1][1], edges[start][0] + 1), place, sure, own))
        start += len(text) + 1
    return out


def _edges(line: PageLine, place: Band) -> list[tuple[float, float]]:
    """Start and end of each character: the distance along the baseline, in pixels."""
    total = _length(place.baseline)
    (x0, y0), (x1, y1) = place.baseline[0], place.baseline[-1]
    if len(line.characters) == len(line.text) and x1 - x0 > abs(y1 - y0):
        # Distances are relative to the baseline's first point; a word may begin before it or end behind its last.
        along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(place.baseline, axis=0).T))])
        xs = place.baseline[:, 0]
        stretch = total / (x1 - x0)

        def distance(x: float) -> float:
            if x < xs[0]:
                return (x - float(xs[0])) * stretch
            if x > xs[-1]:
                return total + (x - float(xs[-1])) * stretch
            return float(np.interp(x, xs, along))

        return [(distance(c.left), distance(c.right)) for c in line.characters]
    step = total / len(line.text)
    return [(i * step, (i + 1) * step) for i in range(len(line.text))]


def _word(
    text: str, start: float, end: float, place: Band, confidence: float, characters: tuple[Character, ...]
) -> Word:
    first, last = _at(place.baseline, start), _at(place.baseline, end)
    length = max(math.hypot(last[0] - first[0], last[1] - first[1]), 1e-6)
    up = ((last[1] - first[1]) / length, -(last[0] - first[0]) / length)

    def moved(point: Point, distance: float) -> Point:
        return point[0] + distance * up[0], point[1] + distance * up[1]

    corners = (
        moved(first, place.ascent),
        moved(last, place.ascent),
        moved(last, -place.descent),
        moved(first, -place.descent),
    )
    return Word(text, first, last, corners, confidence, characters)


def _at(baseline: np.ndarray, distance: float) -> Point:
    """The point of a baseline at a distance from its first point; beyond its ends, on its continuation."""
    steps = np.hypot(*np.diff(baseline, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    i = int(np.clip(np.searchsorted(along, distance, side="right") - 1, 0, len(steps) - 1))
    part = (distance - along[i]) / max(steps[i], 1e-6)
    x, y = baseline[i] + part * (baseline[i + 1] - baseline[i])
    return float(x), float(y)


def _length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _area(region: np.ndarray) -> tuple[float, Point]:
    """Area and centre of a polygon (the shoelace formula)."""
    x, y = region.T
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    cross = x * y2 - x2 * y
    area = float(cross.sum()) / 2
    if abs(area) < 1:
        return 1.0, (float(x.mean()), float(y.mean()))
    return abs(area), (float(((x + x2) * cross).sum() / (6 * area)), float(((y + y2) * cross).sum() / (6 * area)))


def _along(region: np.ndarray) -> np.ndarray:
    """A straight baseline for a polygon: through the lower quarter of its left and of its right end."""
    xs = region[:, 0]
    left, right = float(xs.min()), float(max(xs.max(), xs.min() + 1))
    ends = []
    for x in (left + 0.1 * (right - left), right - 0.1 * (right - left)):
        ys = _crossings(region, x)
        low, high = (min(ys), max(ys)) if ys else (float(region[:, 1].min()), float(region[:, 1].max()))
        ends.append((x, high - FEET * (high - low)))
    (x0, y0), (x1, y1) = ends
    slope = (y1 - y0) / (x1 - x0)
    return np.array([[left, y0 + slope * (left - x0)], [right, y1 + slope * (right - x1)]])


def _crossings(region: np.ndarray, x: float) -> list[float]:
    """The y at which a polygon's edges cross a vertical line."""
    out = []
    for (x0, y0), (x1, y1) in zip(region, np.roll(region, -1, axis=0), strict=True):
        if min(x0, x1) <= x <= max(x0, x1) and x0 != x1:
            out.append(float(y0 + (y1 - y0) * (x - x0) / (x1 - x0)))
    return out


def outline(line: PageLine, size: tuple[int, int]) -> Polygon:
    """The outline of a line; the whole page if it has none."""
    width, height = size
    return line.region or ((0, 0), (width, 0), (width, height), (0, height))
