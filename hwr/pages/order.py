"""The order in which the lines of a page are read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hwr.pages import columns

# Lines of one block lie at most this many pitches apart, and share this part of the shorter line.
FAR, SHARED = 4.0, 0.5

# A note beside a block has at most this part of its height and of its width, and stands at most this many pitches away.
NOTE, NEAR = 0.5, 3.0

# Blocks side by side are columns if they overlap by this many pitches, so by three lines.
COLUMN = 2.6

# Narrower lines than this part of a line are insertions, which do not end a block.
INSERTION = 0.15

# A number or name at the top right is at most this part of the usual line, and stands at least this many pitches above all
# others, of which there are at least TEXT_LINES. Letters put their date there, too, but it is longer.
NAME, ALONE, TEXT_LINES = 0.33, 1.9, 4


class Place(NamedTuple):
    """A line's left and right end, and its level: pixels, y downwards."""

    left: float
    right: float
    y: float


@dataclass(frozen=True)
class Block:
    """Lines one above another, from top to bottom, and the box around them.

    Attributes:
        lines: The indices of its lines.
        column: Whether another block stands beside it. Any other block is a single line.
    """

    lines: tuple[int, ...]
    left: float
    right: float
    top: float
    bottom: float
    column: bool = False


def reading_order(lines: Sequence[Place], step: float, page: tuple[float, float] = (-math.inf, math.inf)) -> list[int]:
    """Order lines: from top to bottom, tables by rows or columns (see `columns.parts`), and columns of text block by block.

    Blocks of three or more lines side by side are columns, read from left to right; a small one beside a large one is a
    note in the margin, read after it. Where fewer lines stand beside others, as in the head of a letter, rows are read.
    The number of the page or the name of the file, alone at the top right, is read last.

    Args:
        step: The pitch, the usual distance between two lines, in pixels.
        page: The x between which the page lies, see `columns.page`. Lines beyond are read after all others.

    Returns:
        The indices of the lines, in reading order.
    """
    beyond = [i for i, line in enumerate(lines) if not page[0] <= (line.left + line.right) / 2 <= page[1]]
    if beyond:
        inside = sorted({*range(len(lines))} - {*beyond})
        return [part[k] for part in (inside, beyond) for k in reading_order([lines[i] for i in part], step)]
    last = _number(lines, step)
    text = [i for i in range(len(lines)) if i not in last]
    parts = columns.parts([lines[i] for i in text], step)
    return [text[part[i]] for part in parts for i in _by_blocks([lines[text[k]] for k in part], step)] + last


def _number(lines: Sequence[Place], step: float) -> list[int]:
    """The line with the page's number or its file's name, alone at the top right; [] if there is none."""
    top = min(range(len(lines)), key=lambda i: lines[i].y, default=0)
    text = [line for i, line in enumerate(lines) if i != top]
    if len(text) < TEXT_LINES:
        return []
    middle = (np.percentile([line.left for line in text], 20) + np.percentile([line.right for line in text], 80)) / 2
    usual = np.median([line.right - line.left for line in text])
    number = lines[top]
    apart = min(line.y for line in text) - number.y > ALONE * step
    return [top] if apart and number.left > middle and number.right - number.left < NAME * usual else []


def _by_blocks(lines: Sequence[Place], step: float) -> list[int]:
    """The reading order of lines without long gutters."""
    blocks = _columns(_blocks(lines, step), lines, step)
    before = [[_before(a, b, step) for b in blocks] for a in blocks]
    order: list[int] = []
    left = set(range(len(blocks)))
    last: Block | None = None
    while left:
        free = [i for i in left if not any(before[j][i] for j in left if j != i)]
        # No block is free if three or more wait for each other in a circle.
        chosen = min(free or left, key=lambda i: (_turn(last, blocks[i], step), blocks[i].top, blocks[i].left))
        left.remove(chosen)
        last = blocks[chosen]
        order += last.lines
    return order


def _turn(last: Block | None, block: Block, step: float) -> int:
    """0 for a note beside the block read last, 1 for the next block of its column, 2 for others."""
    if last is None:
        return 2
    if min(last.bottom, block.bottom) - max(last.top, block.top) > 0.6 * step and _note(block, last, step):
        return 0
    below = _shared(last, block) > SHARED and block.top > last.bottom - step
    return 1 if last.column and block.column and below else 2


def _blocks(lines: Sequence[Place], step: float) -> list[Block]:
    """Group lines into blocks: each line with the one below it, if neither has another neighbour there."""
    below = {i: [j for j in range(len(lines)) if _next(lines, i, j, step)] for i in range(len(lines))}
    above: dict[int, list[int]] = {i: [] for i in below}
    for i, others in below.items():
        for j in others:
            above[j].append(i)
    joined = {i: others[0] for i, others in below.items() if len(others) == 1 and len(above[others[0]]) == 1}
    starts = set(below) - set(joined.values())
    out = []
    for i in sorted(starts):
        chain = [i]
        while chain[-1] in joined:
            chain.append(joined[chain[-1]])
        out.append(_block(chain, lines, step))
    return out


def _block(chain: Sequence[int], lines: Sequence[Place], step: float) -> Block:
    """The block of some lines, from top to bottom."""
    places = [lines[k] for k in chain]
    left, right = min(p.left for p in places), max(p.right for p in places)
    return Block(tuple(chain), left, right, places[0].y - step / 2, places[-1].y + step / 2)


def _columns(blocks: Sequence[Block], lines: Sequence[Place], step: float) -> list[Block]:
    """The blocks that stand beside another one as columns, and the lines of all others, each as a block."""
    out = []
    for a in blocks:
        beside = (min(a.bottom, b.bottom) - max(a.top, b.top) for b in blocks if _shared(a, b) <= SHARED)
        if max(beside, default=0.0) >= COLUMN * step:
            out.append(replace(a, column=True))
        else:
            out += [_block([k], lines, step) for k in a.lines]
    return out


def _shared(a: Place | Block, b: Place | Block) -> float:
    """Columns that two lines or blocks share, as a part of the narrower one; negative if they are apart."""
    shared = min(a.right, b.right) - max(a.left, b.left)
    return shared / max(1.0, min(a.right - a.left, b.right - b.left))


def _next(lines: Sequence[Place], i: int, j: int, step: float) -> bool:
    """Whether line j is right below line i, with nothing between them but insertions."""
    a, b = lines[i], lines[j]
    if i == j or not 0.3 * step < b.y - a.y < FAR * step or _shared(a, b) < SHARED:
        return False
    narrow, wide = sorted((a.right - a.left, b.right - b.left))
    if narrow < INSERTION * wide:
        return False
    # Where lines are further apart, a short one between them is the end of a paragraph.
    least = INSERTION * narrow if b.y - a.y < 1.5 * step else 0.0
    return not any(
        a.y + 0.3 * step < c.y < b.y - 0.3 * step and _shared(a, c) > 0.2 and _shared(b, c) > 0.2
        for k, c in enumerate(lines)
        if k not in (i, j) and c.right - c.left >= least
    )


def _before(a: Block, b: Block, step: float) -> bool:
    """Whether a block must be read before another."""
    if a is b:
        return False
    beside = min(a.bottom, b.bottom) - max(a.top, b.top)
    if beside < 0.6 * step:  # one above the other
        return _shared(a, b) > 0.1 and a.top < b.top
    if _shared(a, b) > SHARED:
        return a.top + a.bottom < b.top + b.bottom
    if a.left + a.right < b.left + b.right:
        return not _note(a, b, step)
    return _note(b, a, step)


def _note(a: Block, b: Block, step: float) -> bool:
    """Whether a block is a note in the margin of another."""
    small = a.bottom - a.top < NOTE * (b.bottom - b.top) and a.right - a.left < NOTE * (b.right - b.left)
    return small and max(b.left - a.right, a.left - b.right) < NEAR * step
