"""The text map of a page -> fragments: stretches of text lines, each with a centre line."""

from dataclasses import dataclass

import cv2
import numpy as np

# A map value from which a pixel is text, one that each fragment must reach, and those at which fragments that hold two lines
# are cut apart (of 255).
TEXT, PEAK = 77, 153
STRICTER = (128, 179, 217)

# A fragment holds two lines if this share of its columns has a gap.
DOUBLE = 0.15


@dataclass(frozen=True)
class Fragment:
    """A stretch of one line, in pixels of the map.

    Attributes:
        left: Its first column.
        centre: (W,) float64; the centre of its text in each column.
        thickness: (W,) float64; height of its middle in each column.
        score: Mean probability, 0..1.
    """

    left: int
    centre: np.ndarray
    thickness: np.ndarray
    score: float

    @property
    def right(self) -> int:
        """The column after its last."""
        return self.left + len(self.centre)

    @property
    def level(self) -> float:
        """Mean y."""
        return float(self.centre.mean())

    def part(self, start: int, end: int) -> "Fragment":
        """Its columns from `start` up to `end`, columns of the map."""
        here = slice(start - self.left, end - self.left)
        return Fragment(start, self.centre[here], self.thickness[here], self.score)


def thickness(text: np.ndarray) -> float:
    """The usual height of the middle of a line in pixels: the median over the map's columns, weighted by height; 0 if empty."""
    mask = (text > TEXT).astype(np.int8)
    if text.max() < PEAK:
        return 0.0
    edges = np.diff(mask, axis=0, prepend=0, append=0).T  # (W, H + 1)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0.0
    return float(np.median(ends - starts))


def fragments(text: np.ndarray, usual: float) -> list[Fragment]:
    """Cut the text of a map into fragments, from left to right.

    Args:
        text: (H, W) uint8, see `detector.text_map`; lines run roughly from left to right.
        usual: See `thickness`.
    """
    found: list[Fragment] = []
    _collect(text, (0, 0), TEXT, usual, found)
    return sorted(found, key=lambda f: f.left)


def _collect(text: np.ndarray, corner: tuple[int, int], level: int, usual: float, found: list[Fragment]) -> None:
    """Add the fragments of a part of the map, whose top left corner is at `corner` (x, y)."""
    mask = (text > level).astype(np.uint8)
    # Removes thin bridges between two lines.
    kernel = np.ones((1, max(3, round(usual) | 1)), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel))
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        if area < 0.5 * usual**2:
            continue
        inside = labels[y : y + h, x : x + w] == i
        values = np.where(inside, text[y : y + h, x : x + w], 0)
        if values.max() < PEAK:
            continue
        stricter = next((value for value in STRICTER if value > level), None)
        if stricter and _double(inside, usual):
            padded = np.pad(values, 1)
            before = len(found)
            _collect(padded, (corner[0] + x - 1, corner[1] + y - 1), stricter, usual, found)
            if len(found) > before:
                continue
        mass = values.sum(0, dtype=np.float64)
        centre = (values * np.arange(h)[:, None]).sum(0) / mass + corner[1] + y
        score = float(values.sum() / 255 / max(1, area))
        found.append(Fragment(corner[0] + x, centre, inside.sum(0).astype(np.float64), score))


def _double(inside: np.ndarray, usual: float) -> bool:
    """Whether a component holds two lines: many of its columns have a gap, or it is far too thick."""
    rows = np.arange(len(inside))[:, None]
    extent = np.where(inside, rows, -1).max(0) - np.where(inside, rows, len(inside)).min(0) + 1
    gaps = extent - inside.sum(0)
    return bool((gaps > 2).mean() > DOUBLE or np.median(extent) > 2.2 * usual)
