"""Lines that are wider than a network takes: read in overlapping pieces, whose logits are joined."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hwr.images.batches import Batch, pad
from hwr.images.cache import Images
from hwr.images.geometry import Geometry

# Neighbouring pieces share this width: a fraction of the piece's width, and at most this many heights of the line.
SHARED, SHARED_HEIGHTS = 0.25, 12

# The logits are joined within this fraction of the shared width, away from the ends of the pieces.
INNER = 0.5


def unsqueezed(geometry: Geometry) -> Geometry:
    """The geometry by which lines of any width are prepared for reading: longer ones are not squeezed, but read in pieces."""
    return replace(geometry, whole=geometry.any_width)


def logits(run: Callable[[Batch], np.ndarray], batch: Batch, geometry: Geometry, size: int) -> np.ndarray:
    """The logits of a batch, (N, T, C); of a line that is wider than `geometry.width`, in pieces.

    Args:
        run: Computes the logits of a batch.
        batch: Lines at most `geometry.width` wide, or a single wider one; see `batches.reading`.
        size: Most pieces in a batch.
    """
    width = int(batch.widths.max())
    if not geometry.any_width or width <= geometry.width:
        return run(batch)
    line = batch.images[0, :, :width]
    step = math.prod(geometry.strides)
    whole = max(step, geometry.width // step * step)
    shared = int(min(SHARED * whole, SHARED_HEIGHTS * geometry.height)) // step * step
    starts = list(range(0, max(1, width - shared), max(step, whole - shared)))
    images = Images.of([line[:, start : start + whole] for start in starts])
    parts: list[np.ndarray] = []
    for first in range(0, len(starts), size):
        index = np.arange(first, min(first + size, len(starts)))
        pixels = images.batch(index, geometry.multiple)
        nothing = pad([np.zeros(0, np.int32)] * len(index))
        found = run(Batch(pixels, images.widths[index], nothing, None, index))  # (n, T, C)
        steps = geometry.time_steps(images.widths[index])
        parts += [row[:own] for row, own in zip(found, steps.tolist(), strict=True)]
    out, begin = [parts[0]], 0
    for start, part in zip(starts[1:], parts[1:], strict=True):
        # Time steps of the line: `at` is where this piece begins, `begin` where the latest in `out` does.
        at = start // step * geometry.frames
        before = out.pop()
        both = len(before) + begin - at
        cut = _cut(before[at - begin :], part[:both])
        out += [before[: at - begin + cut], part[cut:]]
        begin = at + cut
    return np.concatenate(out)[None]


def _cut(a: np.ndarray, b: np.ndarray) -> int:
    """The step at which to leave the logits (t, C) of one piece for those of the next.

    Both should be writing nothing there: it is the middle of their longest common run of blanks, else where both are most
    likely to be blank.
    """
    steps = min(len(a), len(b))
    low, high = round(steps * (1 - INNER) / 2), round(steps * (1 + INNER) / 2)
    if high <= low:
        return steps // 2
    inner = np.stack([a[low:high], b[low:high]])
    blank = inner.shape[2] - 1
    empty = np.concatenate([[False], (inner.argmax(2) == blank).all(0), [False]])
    starts, ends = np.flatnonzero(empty[1:] & ~empty[:-1]), np.flatnonzero(~empty[1:] & empty[:-1])
    if len(starts):
        longest = int(np.argmax(ends - starts))
        return low + int(starts[longest] + ends[longest]) // 2
    relative = inner[:, :, blank] - np.logaddexp.reduce(inner, axis=2)
    return low + int(relative.min(0).argmax())
