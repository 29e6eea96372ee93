"""Lines of fragments -> centre lines, baselines and polygons that enclose ascenders and descenders."""

from dataclasses import dataclass

import cv2
import numpy as np

from hwr.pages.fragments import Fragment

# Lengths in line pitches: reach of a polygon above and below the centre line, and beyond the ends of the text.
ABOVE, BELOW, ENDS = 0.46, 0.46, 0.15
# The text goes on beyond a fragment's end while its columns have ink, with gaps up to this; at most this far.
INK_GAP, MOST_INK = 0.3, 1.5
# The edge of the page cuts off text that ends within this distance of it on the map and has ink in the last RIM pixels.
NEAR_EDGE, RIM = 0.7, 2


@dataclass(frozen=True)
class Centre:
    """The centre line of a line: y at each column from `left` on."""

    left: int
    y: np.ndarray

    @property
    def right(self) -> int:
        """The column after its last."""
        return self.left + len(self.y)


def centre_line(parts: list[Fragment], usual: float) -> Centre:
    """The smooth centre line through the fragments of a line, from left to right."""
    left, right = parts[0].left, max(part.right for part in parts)
    total, weight = np.zeros(right - left), np.zeros(right - left)
    for part in parts:
        here = slice(part.left - left, part.right - left)
        total[here] += part.centre * part.thickness
        weight[here] += part.thickness
    known = np.flatnonzero(weight > 0)
    y = np.interp(np.arange(right - left), known, total[known] / weight[known])
    return Centre(left, smooth(y, 4 * usual))


def smooth(y: np.ndarray, window: float) -> np.ndarray:
    """Average y over a window of this many pixels, twice; the ends are prolonged along their slope."""
    half = max(1, round(window / 2))
    for _ in range(2):
        pad = min(half, len(y) - 1)
        if pad < 1:
            return y
        # Mirrored through the end point, so that a slope stays one.
        y = np.concatenate([2 * y[0] - y[pad:0:-1], y, 2 * y[-1] - y[-2 : -pad - 2 : -1]])
        sums = np.cumsum(np.concatenate([[0.0], y]))
        y = (sums[2 * pad + 1 :] - sums[: -2 * pad - 1]) / (2 * pad + 1)
    return y


def ink_of(grey: np.ndarray, ruled: np.ndarray, step: float) -> np.ndarray:
    """The ink of a page without shading and rulings: (H, W) float32, 0 paper to 1 ink.

    Args:
        grey: (H, W) uint8, dark ink, at the size of the map.
        ruled: (H, W) bool, its vertical rulings.
        step: The pitch in pixels.
    """
    size = max(9, round(1.5 * step) | 1)
    paper = cv2.blur(cv2.dilate(cv2.medianBlur(grey, 3), np.ones((size // 3, size // 3), np.uint8)), (size, size))
    dark = cv2.subtract(paper, grey)
    thin = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((7, 1), np.uint8))
    level: np.ndarray = (thin > 12).astype(np.uint8)
    level = cv2.morphologyEx(level, cv2.MORPH_CLOSE, np.ones((1, round(step / 3) | 1), np.uint8))
    level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, round(2.5 * step) | 1), np.uint8))
    dark[(level > 0) | ruled] = 0
    strong = max(60.0, float(np.percentile(dark, 98)))
    return np.clip((dark.astype(np.float32) / strong - 0.2) / 0.5, 0, 1)


def reach(part: Fragment, ink: np.ndarray, step: float) -> tuple[int, int]:
    """The first column of a fragment, and the one after its last: 0 and the width where the edge of the page cuts off its text.

    The text map fades there, so that the fragment itself does not reach the edge.

    Args:
        ink: See `ink_of`.
    """
    width = ink.shape[1]

    def cut(far: int, y: float, rim: slice) -> bool:
        rows = slice(max(0, round(y - ABOVE * step)), max(1, round(y + BELOW * step) + 1))
        return far <= NEAR_EDGE * step and ink[rows, rim].max(initial=0) > 0.5

    left = 0 if cut(part.left, part.centre[0], slice(0, RIM)) else part.left
    right = width if cut(width - part.right, part.centre[-1], slice(width - RIM, width)) else part.right
    return left, right


def extended(line: Centre, taken: np.ndarray, ruled: np.ndarray, ink: np.ndarray, step: float) -> Centre:
    """A centre line prolonged at both ends to where the ink of its text ends.

    Args:
        taken: (H, W) bool; the middles of all lines, which it must not run into.
        ruled: (H, W) bool.
        ink: See `ink_of`.
    """
    start, end = _more(line, -1, taken, ruled, ink, step), _more(line, 1, taken, ruled, ink, step)
    over = min(len(line.y), max(2, round(2 * step)))
    slopes = [(line.y[over - 1] - line.y[0]) / over, (line.y[-1] - line.y[-over]) / over]
    before = line.y[0] - slopes[0] * np.arange(start, 0, -1)
    after = line.y[-1] + slopes[1] * np.arange(1, end + 1)
    return Centre(line.left - start, np.concatenate([before, line.y, after]))


def _more(line: Centre, way: int, taken: np.ndarray, ruled: np.ndarray, ink: np.ndarray, step: float) -> int:
    """By how many columns to prolong a line to the left (-1) or right (1)."""
    height, width = ink.shape
    over = min(len(line.y), max(2, round(2 * step)))
    slope = (line.y[over - 1] - line.y[0]) / over if way < 0 else (line.y[-1] - line.y[-over]) / over
    x, y = (line.left, line.y[0]) if way < 0 else (line.right - 1, line.y[-1])
    reached = 0
    for far in range(1, round(MOST_INK * step) + 1):
        x, y = x + way, y + way * slope
        top, bottom = max(0, round(y - 0.3 * step)), min(height, round(y + 0.3 * step) + 1)
        if not 0 <= x < width or top >= bottom:
            break
        middle = slice(max(0, round(y - 0.15 * step)), max(1, round(y + 0.15 * step) + 1))
        if far > 3 and (taken[middle, x].any() or ruled[middle, x].any()):
            break
        if ink[top:bottom, x].max() > 0.5:
            reached = far
        elif far - reached > INK_GAP * step:
            break
    return reached


def polygons(lines: list[Centre], shape: tuple[int, int], step: float) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """The upper and lower edge of each line, and the column where they start.

    An edge lies `ABOVE` or `BELOW` pitches from the centre line, or less where a neighbour is near.
    """
    height, width = shape
    out = []
    for line in lines:
        ends = round(ENDS * step)
        left, right = max(0, line.left - ends), min(width, line.right + ends)
        x = np.arange(left, right)
        y = np.interp(x, np.arange(line.left, line.right), line.y)
        up, down = np.full(len(x), ABOVE * step), np.full(len(x), BELOW * step)
        for other in lines:
            if other is line or other.right <= left or other.left >= right:
                continue
            here = slice(max(left, other.left) - left, min(right, other.right) - left)
            away = y[here] - other.y[max(left, other.left) - other.left : min(right, other.right) - other.left]
            up[here] = np.where(away > 0.3 * step, np.minimum(up[here], 0.8 * away), up[here])
            down[here] = np.where(away < -0.3 * step, np.minimum(down[here], -0.7 * away), down[here])
        out.append((np.clip(y - smooth(up, step), 0, height - 1), np.clip(y + smooth(down, step), 0, height - 1), left))
    return out
