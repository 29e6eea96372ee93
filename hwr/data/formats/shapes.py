"""Pages with marked lines, and the shapes of lines: points, outlines, bands along baselines."""

import bisect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hwr import Error
from hwr.images import direction
from hwr.images.load import Polygon

# No image has more pixels in a row.
FARTHEST = 10_000_000

# A line with a baseline only reaches this far above and below it, in fractions of the usual distance between baselines
# (or of the page's height / 40 if there is no other baseline).
ABOVE, BELOW = 0.75, 0.3

# Baselines above and below a line among which the nearest in its column is sought: tables have fewer columns.
NEIGHBOURS = 1000


@dataclass(frozen=True)
class Marked:
    """A line of a page, read from its XML or to be written into it.

    Attributes:
        id: Unique on the page.
        text: Its transcription, "" if there is none.
        polygon: Its outline, in pixels of the page; () if only a baseline is known.
        baseline: Points from left to right, or ().
        source: `file:line`.
        fault: What is wrong with its shape, or why it could not be read, or "".
        note: What was wrong with its shape, if another one is used instead, or "".
        confidence: Of a predicted text, 0..1.
        characters: Of a predicted text, where they are known: (character, left, right, confidence), in pixels.
    """

    id: str
    text: str
    polygon: Polygon
    baseline: Polygon
    source: str
    fault: str = ""
    confidence: float = 1.0
    characters: Sequence[tuple[str, float, float, float]] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A page: the name of its image as the XML gives it, where it says so (`file:line`), and its lines in order.

    Attributes:
        width: Width in pixels, 0 if unknown; `height` too.
        upright: Whether positions refer to the image rotated by its EXIF orientation. From `parse`: whether the file says so;
            from `with_image`: decided.
    """

    image: str
    source: str
    width: int
    height: int
    lines: tuple[Marked, ...]
    upright: bool = False


# --- Points ---


def outline(line: Marked, size: tuple[int, int]) -> Polygon:
    """The polygon of a line to be written; the whole image if it has none."""
    return line.polygon or whole(size)


def whole(size: tuple[int, int]) -> Polygon:
    """The outline of an image of this width and height, in pixels."""
    width, height = size
    return ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))


def points_text(points: Polygon, between: str = ",") -> str:
    """Points as PAGE writes them, `1,2 3,4`, or with another separator."""
    return " ".join(f"{x}{between}{y}" for x, y in points)


def points(stated: str, source: str, least: int) -> Polygon:
    """Read `1,2 3,4` or `1 2 3 4`, as PAGE and ALTO write points.

    Raises:
        Error: Not pairs of numbers, or too few; names the source.
    """
    numbers = re.findall(r"[^\s,]+", stated)
    short = stated[:60] + "…" * (len(stated) > 60)
    try:
        values = [coordinate(number) for number in numbers]
    except ValueError as error:
        raise Error(f"{source}: {short!r} is not a list of points, x,y x,y …: {error}") from None
    if len(values) % 2 or len(values) < 2 * least:
        raise Error(f"{source}: {short!r} are {len(values)} numbers; at least {least} points, x,y each, are needed")
    return tuple(zip(values[::2], values[1::2], strict=True))


def coordinate(number: str) -> int:
    """A number of pixels, rounded.

    Raises:
        ValueError: It is not a number, or lies far outside any image.
    """
    short = number[:20] + "…" * (len(number) > 20)
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{short!r} is not a number") from None
    if not abs(value) <= FARTHEST:
        raise ValueError(f"{short} pixels are not on any image")
    return round(value)


# --- The shapes of lines ---


def regions(page: Page) -> list[Polygon]:
    """The outline of each line: its polygon, or a band along its baseline; () if it has a fault."""
    steps = _steps([_place(line) for line in page.lines if line.baseline], page.height / 200)
    usual = sorted(steps)[len(steps) // 2] if steps else page.height / 40
    out: list[Polygon] = []
    for line in page.lines:
        if line.polygon or not line.baseline:
            out.append(line.polygon)
            continue
        # Away from the baseline: up in an ordinary line; at right angles to one that is steep, vertical or upside down.
        radians = math.radians(direction.angle(line.baseline, ()))
        up_x, up_y = math.sin(radians), -math.cos(radians)
        above = [(round(x + ABOVE * usual * up_x), round(y + ABOVE * usual * up_y)) for x, y in line.baseline]
        below = [(round(x - BELOW * usual * up_x), round(y - BELOW * usual * up_y)) for x, y in reversed(line.baseline)]
        out.append((*above, *below))
    return out


def _steps(places: Sequence[tuple[float, int, int]], least: float) -> list[float]:
    """Pixels from each baseline to the nearest one above or below it in the same column, where there is one.

    Args:
        places: Of the baselines, see `_place`.
        least: Baselines that are no further apart lie beside each other.
    """
    ordered = sorted(places)
    levels = [level for level, _, _ in ordered]
    out = []
    for level, left, right in ordered:

        def nearest(candidates: Iterable[int], level: float = level, left: int = left, right: int = right) -> float:
            for i in candidates:
                its, start, end = ordered[i]
                if min(right, end) - max(left, start) > 0.3 * min(right - left, end - start):
                    return abs(its - level)
            return math.inf

        first, last = bisect.bisect_left(levels, level - least), bisect.bisect_right(levels, level + least)
        above = nearest(range(first - 1, max(-1, first - 1 - NEIGHBOURS), -1))
        step = min(above, nearest(range(last, min(len(ordered), last + NEIGHBOURS))))
        if step < math.inf:
            out.append(step)
    return out


def _place(line: Marked) -> tuple[float, int, int]:
    """Mean y, left and right end of a baseline."""
    xs, ys = zip(*line.baseline, strict=True)
    return sum(ys) / len(ys), min(xs), max(xs)


def marked(
    id: str, text: str, source: str, shapes: Sequence[Callable[[], Polygon]], baseline: Callable[[], Polygon]
) -> Marked:
    """Make a line from the functions that read its outline and its baseline; bad points are this line's fault only.

    Args:
        shapes: The first that gives an outline counts; the line's note says if an earlier one is damaged. Without an
            outline, the baseline is enough.
    """
    polygon: Polygon = ()
    along: Polygon = ()
    problems: list[str] = []
    try:
        along = baseline()
    except Error as error:
        problems.append(str(error))
    damaged = ""
    for shape in shapes:
        try:
            polygon = polygon or shape()
        except Error as error:
            damaged = damaged or str(error)
    if not polygon and not along:
        problems = [damaged] * bool(damaged) + problems
        return Marked(
            id,
            text,
            (),
            (),
            source,
            "; ".join(problems) or f"{source}: line {id} has neither an outline nor a baseline",
        )
    note = f"{damaged}; line {id} is cut {'out by its box' if polygon else 'along its baseline'}" if damaged else ""
    return Marked(id, text, polygon, along, source, note=note)


def unique(lines: Iterable[Marked]) -> tuple[Marked, ...]:
    """The lines of a page; one whose id has occurred before has a fault."""
    seen: dict[str, str] = {}
    out = []
    for line in lines:
        if line.id in seen and not line.fault:
            line = replace(line, fault=f"{line.source}: line {line.id} already occurs at {seen[line.id]}")
        seen.setdefault(line.id, line.source)
        out.append(line)
    return tuple(out)
