"""Gutters: tables, which are read by rows or by columns, and facing pages and columns of text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hwr.pages.order import Place

# A table has at least this many columns, of at least this many lines each. Fewer columns are columns of text, or facing pages.
COLUMNS, CELLS = 4, 4

# Facing pages and columns of text have at least this many lines beside each other, the emptier side at least this part of the
# other's; and the lines of one side are at least this part as long as the other's: those of a margin are shorter.
BESIDE, EVEN, AS_LONG = 6, 0.5, 0.4

# A line spans two columns if this part of it lies on either side of the gutter.
SPANS = 0.2

# A gutter is crossed by at most this part of the lines on its emptier side; lines may run into it by this many pitches.
CROSSED, TOUCH = 0.15, 0.3

# A table is read by rows if in its main column this part of the lines stands apart from the line above: by APART times the
# usual distance. In seven registers and a table of contents the part was 0.09 or less, in one with spaced entries 0.18 or more.
ENTRIES, APART = 0.13, 1.45

# A facing page is cut off by the edge of the photo if the ink of this part of its lines, of which there are BESIDE or more,
# reaches the edge. Of 251 pages this found 16 photos, all of them such, and missed none whose left edge cuts off six lines.
CUT = 0.3

# Lines of a row differ by at most this many pitches in their level.
ROW = 0.35

# The head of a table holds at most this part of its lines, and ends with an empty band of at least this many pitches.
HEAD, BAND = 0.2, 1.0


def parts(lines: Sequence["Place"], step: float) -> list[list[int]]:
    """Split the lines of a page into parts that are read one after the other.

    The head of a table is read by rows. Its body is read by rows if space between its entries shows them, else by columns.
    Facing pages and long columns of text are a part each.

    Args:
        step: The pitch, the usual distance between two lines, in pixels.

    Returns:
        The indices of the lines of each part.
    """
    everything = list(range(len(lines)))
    gutters = find_gutters(lines, step)
    if len(gutters) < COLUMNS - 1:
        return _pages(lines, everything, gutters, step)
    column = _columns(lines, gutters)
    if _entries([lines[i] for i in everything if column[i] == _widest(lines, column)], step):
        return _rows(lines, everything, step)
    head = _head(lines, step)
    body = [i for i in everything if i not in head]
    return _rows(lines, head, step) + [[i for i in body if column[i] == k] for k in sorted({column[i] for i in body})]


def find_gutters(lines: Sequence["Place"], step: float) -> list[float]:
    """The x of the gutters between columns of at least `CELLS` lines, from left to right: few or no lines cross them."""
    if len(lines) < 2 * CELLS:
        return []
    left, right = np.array([line.left for line in lines]), np.array([line.right for line in lines])
    edges = np.unique(np.concatenate([left, right]))
    x = (edges[:-1] + edges[1:]) / 2  # (X,): between two edges the same lines are crossed
    before = right <= x[:, None] + TOUCH * step  # (X, lines)
    after = (left >= x[:, None] - TOUCH * step) & ~before
    beside = np.minimum(before.sum(1), after.sum(1))
    crossed = len(lines) - before.sum(1) - after.sum(1)
    free = (beside >= CELLS) & (crossed <= CROSSED * beside)
    ends = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0))
    gutters = []
    for start, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
        best = min(range(start, end), key=lambda k: (crossed[k], edges[k] - edges[k + 1]))
        gutters.append(float(x[best]))
    while gutters:
        cells = np.bincount(_columns(lines, gutters), minlength=len(gutters) + 1)
        if cells.min() >= CELLS:
            break
        del gutters[min(int(cells.argmin()), len(gutters) - 1)]
    return gutters


def _pages(lines: Sequence["Place"], chosen: list[int], gutters: Sequence[float], step: float) -> list[list[int]]:
    """Split lines at the gutters between facing pages or columns of text, and at lines that span them."""
    for x in gutters:
        spans = {
            i for i in chosen if min(x - lines[i].left, lines[i].right - x) > SPANS * (lines[i].right - lines[i].left)
        }
        left = [i for i in chosen if i not in spans and lines[i].left + lines[i].right < 2 * x]
        right = [i for i in chosen if i not in spans and lines[i].left + lines[i].right >= 2 * x]
        if not _side_by_side([lines[i] for i in left], [lines[i] for i in right], step):
            continue
        if not spans:
            return _pages(lines, left, gutters, step) + _pages(lines, right, gutters, step)
        first = min(spans, key=lambda i: lines[i].y)
        above = [i for i in chosen if lines[i].y < lines[first].y and i != first]
        below = [i for i in chosen if lines[i].y >= lines[first].y and i != first]
        return [*_pages(lines, above, gutters, step), [first], *_pages(lines, below, gutters, step)]
    return [chosen] if chosen else []


def _side_by_side(left: Sequence["Place"], right: Sequence["Place"], step: float) -> bool:
    """Whether the lines left and right of a gutter are columns of text: not a margin, nor one below the other."""
    if not left or not right:
        return False
    top = max(min(line.y for line in side) for side in (left, right)) - step
    bottom = min(max(line.y for line in side) for side in (left, right)) + step
    fewer, more = sorted(sum(top <= line.y <= bottom for line in side) for side in (left, right))
    shorter, longer = sorted(float(np.median([line.right - line.left for line in side])) for side in (left, right))
    return fewer >= max(BESIDE, EVEN * more) and shorter > AS_LONG * longer


def respected(lines: Sequence["Place"], step: float) -> list[float]:
    """The x of the gutters of a table, or of those between facing pages and columns of text.

    Args:
        lines: Lines, or fragments of lines.
    """
    gutters = find_gutters(lines, step)
    if len(gutters) >= COLUMNS - 1:
        return gutters
    out = []
    for x in gutters:
        left = [line for line in lines if line.right <= x + TOUCH * step]
        if _side_by_side(left, [line for line in lines if line.left >= x - TOUCH * step], step):
            out.append(x)
    return out


def page(lines: Sequence["Place"], width: int, step: float) -> tuple[float, float]:
    """The x between which a page lies. Beyond are the lines of a facing page that the left or right edge of a photo cuts off.

    A table has none: its first column may begin at the edge of a tight image.

    Args:
        lines: Lines, or fragments of lines. Those that the edge cuts off begin at 0, or end at the width.
        width: Of the photo, in pixels.
    """
    gutters = find_gutters(lines, step)
    if len(gutters) >= COLUMNS - 1:
        return 0.0, float(width)
    start = min((x for x in gutters if _cut_off(lines, x, width, step)), default=0.0)
    mirrored = [line._replace(left=width - line.right, right=width - line.left) for line in lines]
    end = max((x for x in gutters if _cut_off(mirrored, width - x, width, step)), default=float(width))
    return start, end


def _cut_off(lines: Sequence["Place"], x: float, width: int, step: float) -> bool:
    """Whether the lines left of a gutter are those of a facing page that the left edge cuts off."""
    before = [line for line in lines if line.right <= x + TOUCH * step]
    cut = sum(line.left <= 0 for line in before)
    return x <= AS_LONG * (width - x) and len(before) >= BESIDE and cut >= CUT * len(before)


def _columns(lines: Sequence["Place"], gutters: Sequence[float]) -> list[int]:
    """The column that the middle of each line lies in."""
    return [int(np.searchsorted(gutters, (line.left + line.right) / 2)) for line in lines]


def _widest(lines: Sequence["Place"], column: Sequence[int]) -> int:
    """The column whose lines are the longest together."""
    lengths = np.bincount(column, [line.right - line.left for line in lines])
    return int(lengths.argmax())


def _entries(lines: Sequence["Place"], step: float) -> bool:
    """Whether space separates the entries of a column."""
    distances = np.diff(sorted(line.y for line in lines))
    distances = distances[distances > 0.4 * step]
    return len(distances) > 0 and bool((distances > APART * np.median(distances)).mean() > ENTRIES)


def _head(lines: Sequence["Place"], step: float) -> list[int]:
    """The lines above the highest empty band near the top of a table; [] if there is none."""
    order = sorted(range(len(lines)), key=lambda i: lines[i].y)
    levels = [lines[i].y for i in order]
    bands = np.diff(levels[: max(1, int(HEAD * len(levels)))])
    if not len(bands) or bands.max() < BAND * step:
        return []
    return order[: int(bands.argmax()) + 1]


def _rows(lines: Sequence["Place"], chosen: Sequence[int], step: float) -> list[list[int]]:
    """Group lines into rows, from top to bottom: each starts with the highest line left."""
    out: list[list[int]] = []
    for i in sorted(chosen, key=lambda i: lines[i].y):
        if out and lines[i].y - lines[out[-1][0]].y < ROW * step:
            out[-1].append(i)
        else:
            out.append([i])
    return out
