"""The order in which the lines of a page are read."""

from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """A line's left and right end, and its level: pixels, y downwards."""

    left: float
    right: float
    y: float


def reading_order(lines: Sequence[Place], step: float) -> list[int]:
    """Order lines: columns one after the other, from left to right, each from top to bottom.

    A line comes before another if it stands above it and shares columns with it; or if it stands to the left of it, and no
    line that shares columns with both lies between the two. (Breuel, "High performance document layout analysis", 2003.)

    Args:
        step: The usual distance between two lines in pixels.

    Returns:
        The indices of the lines, in reading order.
    """

    def above(a: Place, b: Place) -> bool:
        shared = min(a.right, b.right) - max(a.left, b.left)
        return shared > min(0.1 * min(a.right - a.left, b.right - b.left), 0.5 * step) and a.y < b.y

    n = len(lines)
    before = [[False] * n for _ in range(n)]
    for i, a in enumerate(lines):
        for j, b in enumerate(lines):
            if i == j:
                continue
            if above(a, b):
                before[i][j] = True
            elif not above(b, a) and (a.left + a.right) < (b.left + b.right):
                low, high = sorted((a.y, b.y))
                between = (
                    c
                    for c in lines
                    if low < c.y < high and c.left < min(a.right, b.right) and c.right > max(a.left, b.left)
                )
                before[i][j] = next(between, None) is None
    return _sorted(lines, before)


def _sorted(lines: Sequence[Place], before: list[list[bool]]) -> list[int]:
    """Topological order, depth first, starting from the top; cycles are broken where they are met."""
    order: list[int] = []
    state = [0] * len(lines)

    def visit(j: int) -> None:
        state[j] = 1
        for i in by_y:
            if before[i][j] and not state[i]:
                visit(i)
        order.append(j)

    by_y = sorted(range(len(lines)), key=lambda i: (lines[i].y, lines[i].left))
    for i in by_y:
        if not state[i]:
            visit(i)
    return order
