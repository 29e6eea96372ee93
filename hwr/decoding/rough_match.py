"""Match the readings of a page's lines with its transcript by edit distance, where either may lack parts of the other."""

import math
from collections.abc import Sequence

import numpy as np

# Costs in tenths of an edit: an edit within a line; per character, skipping text between lines, and a line without text.
# A line and a text that do not belong together differ in some 0.75 edits per character, so skipping both is cheaper.
EDIT, SKIP_TEXT, SKIP_LINE = 10, 3, 3

BARRIER = "\0"
"""In a text: no line spans this."""

# The cost of a barrier within a line.
_NEVER = 10**7


def match(readings: Sequence[str], text: str) -> list[tuple[int, int] | None]:
    """The span of the text that each line has, such that the cost of all lines in order is lowest.

    Args:
        readings: What the network reads in each line, in order; a line without a reading has no span.
        text: The transcript. Spaces and barriers between lines cost nothing.

    Returns:
        For each line its start and end in the text, or None if it is skipped.
    """
    codes = np.array([ord(c) for c in text], np.int64)
    barrier = codes == ord(BARRIER)
    inside = _sums(np.where(barrier, _NEVER, EDIT))
    between = _sums(np.where(barrier | (codes == ord(" ")), 0, SKIP_TEXT))

    def after(row: np.ndarray, reading: str) -> np.ndarray:
        """The row after a line: the lowest cost of the lines so far, if they use the text up to each place."""
        skip = row + SKIP_LINE * len(reading)
        end = _read(row, reading, codes, barrier, inside)[-1] if reading else skip + 1
        return _relaxed(np.minimum(end, skip), between)

    # A row before each line would take gigabytes for long texts. Some are kept, and those between are computed again.
    every = max(1, math.isqrt(len(readings)))
    kept, row = [between], between
    for number, reading in enumerate(readings, 1):
        row = after(row, reading)
        if number % every == 0:
            kept.append(row)
    x, out = len(text), list[tuple[int, int] | None]()
    rows: list[np.ndarray] = []  # before the lines from the last kept row on
    for k in range(len(readings) - 1, -1, -1):
        if len(rows) <= k % every:
            rows = [kept[k // every]]
            for reading in readings[k - k % every : k]:
                rows.append(after(rows[-1], reading))
        row, reading = rows.pop(), readings[k]
        skip = row + SKIP_LINE * len(reading)
        reads = _read(row, reading, codes, barrier, inside) if reading else [skip + 1]
        end = reads[-1]
        best = np.minimum(end, skip)[: x + 1]
        cost = _relaxed(np.minimum(end, skip), between)[x]
        x = int(np.flatnonzero(best + (between[x] - between[: x + 1]) == cost)[-1])
        if end[x] > skip[x]:
            out.append(None)
            continue
        start = _start(reads, x, reading, codes, barrier)
        out.append((start, x))
        x = start
    return out[::-1]


def _sums(costs: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(costs)])


def _relaxed(row: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The row after moving right at the cost whose sums are given."""
    return np.asarray(np.minimum.accumulate(row - sums) + sums)


def _read(
    row: np.ndarray, reading: str, codes: np.ndarray, barrier: np.ndarray, inside: np.ndarray
) -> list[np.ndarray]:
    """The rows after each character of a line, the first being that before the line."""
    out = [row]
    for c in reading:
        new = out[-1] + EDIT
        np.minimum(new[1:], out[-1][:-1] + np.where(barrier, _NEVER, EDIT * (codes != ord(c))), out=new[1:])
        out.append(_relaxed(new, inside))
    return out


def _start(rows: list[np.ndarray], x: int, reading: str, codes: np.ndarray, barrier: np.ndarray) -> int:
    """Where a line that ends at x starts."""
    j = len(reading)
    while j:
        here = rows[j][x]
        if x and not barrier[x - 1] and here == rows[j - 1][x - 1] + EDIT * (codes[x - 1] != ord(reading[j - 1])):
            j, x = j - 1, x - 1
        elif here == rows[j - 1][x] + EDIT:
            j -= 1
        else:
            x -= 1
    return x
