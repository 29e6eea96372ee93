"""Fragments -> lines: cut fragments at the rulings of tables, and join those of one line."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from hwr.pages import columns
from hwr.pages.fragments import Fragment

# Lengths in line pitches (distances between neighbouring lines).
# Longest gap in a line; from this gap on, columns are looked for; pixels at a fragment's end that tell its slope.
MOST_GAP, LEAST_RIVER, SLOPE_OVER = 5.0, 0.8, 2.0
# How far two ends may be apart vertically, and how much more for each pitch of the gap.
STEP, STEP_PER_GAP = 0.33, 0.06
# Two fragments may overlap by this much; a river between columns is this high.
OVERLAP, RIVER_HEIGHT = 0.6, 2.5
# A ruling is at least this high, and straight over this much of it; text within this distance of it crosses it.
RULING_HEIGHT, RULING_PIECE, BESIDE_RULING = 6.0, 2.2, 0.3
# The least gap between words, half the height of the band without ink there, and how near a gutter it is.
GAP, BAND, NEAR_GUTTER = 0.3, 0.3, 0.3
# Text stops before or after this part of a separating ruling's crossings.
STOPS = 0.3
# Squared paper: a row crosses at least so many rulings, on average, less than this far apart. On tables the median is 2.3 or
# more.
SQUARES, SQUARE = 6, 1.5
# A ruling is darker than the paper beside it by so many grey levels, and by so many times the grain of the paper.
DARKER, GRAIN = 20.0, 5.0


def pitch(parts: list[Fragment], usual: float) -> float:
    """The usual distance between neighbouring lines, in pixels: the median over the columns of fragments."""
    if not parts:
        return 3 * usual
    width = max(f.right for f in parts)
    step = max(1, round(usual))
    distances: list[np.ndarray] = []
    for x in range(step // 2, width, step):
        levels = np.sort([f.centre[x - f.left] for f in parts if f.left <= x < f.right])
        distances.append(np.diff(levels))
    found = np.concatenate(distances) if distances else np.zeros(0)
    found = found[found > 1.2 * usual]
    # Few neighbours: a short note, whose lines are known by their thickness only.
    return float(np.clip(np.median(found), 2 * usual, 4.5 * usual)) if len(found) >= 8 else 3 * usual


def rulings(grey: np.ndarray, step: float) -> np.ndarray:
    """Mark vertical rulings: dark lines at least `RULING_HEIGHT` pitches high and thinner than a stroke is long.

    Args:
        grey: (H, W) uint8, at the size of the map; dark ink.
        step: The pitch in pixels.

    Returns:
        (H, W) bool.
    """
    thin = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((1, 9), np.uint8))
    # Standard deviation of noise, from the median difference of neighbours: 0 to 2 on 243 pages, 9 and 16 on linen.
    grain = (
        1.4826 / math.sqrt(2) * float(np.median(cv2.absdiff(grey[:, 1:], grey[:, :-1]))) if grey.shape[1] > 1 else 0.0
    )
    dark = thin > max(DARKER, GRAIN * grain)
    mask: np.ndarray = cv2.dilate(dark.astype(np.uint8), np.ones((1, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 1), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((round(RULING_PIECE * step) | 1, 1), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    high = stats[:, cv2.CC_STAT_HEIGHT] >= RULING_HEIGHT * step
    high[0] = False  # the paper
    return high[labels]


def separators(parts: list[Fragment], ruled: np.ndarray, ink: np.ndarray, step: float) -> np.ndarray:
    """The rulings before or after which text stops: not folds of the paper, the margins of a pad, or squared paper.

    Args:
        ruled: (H, W) bool, see `rulings`.
        ink: (H, W) float32, 0..1.

    Returns:
        (H, W) bool.
    """
    if _squared(ruled, step):
        return np.zeros_like(ruled)
    _, labels = cv2.connectedComponents(ruled.astype(np.uint8))
    stops: dict[int, list[bool]] = {}
    for part in parts:
        for first, last in _crossings(part, ruled, step):
            y = int(np.clip(round(part.centre[first]), 0, len(ruled) - 1))
            stops.setdefault(int(labels[y, part.left + first]), []).append(_stops(part, first, last, ruled, ink, step))
    crossed = [label for label, found in stops.items() if sum(found) < STOPS * len(found)]
    return ruled & ~np.isin(labels, crossed)


def _squared(ruled: np.ndarray, step: float) -> bool:
    """Whether rulings are those of squared paper."""
    starts = np.diff(ruled[:: max(1, round(step))].astype(np.int8), axis=1, prepend=0) == 1
    rows, columns = np.nonzero(starts)
    gaps = np.diff(columns)[np.diff(rows) == 0]
    return len(gaps) >= SQUARES * len(starts) and float(np.median(gaps)) < SQUARE * step


def _crossings(part: Fragment, ruled: np.ndarray, step: float) -> list[tuple[int, int]]:
    """Where a fragment crosses rulings: first column and the one after the last, from the fragment's left end."""
    rows = np.clip(np.rint(part.centre), 0, len(ruled) - 1).astype(int)
    marks = np.flatnonzero(np.diff(ruled[rows, np.arange(part.left, part.right)].astype(np.int8), prepend=0, append=0))
    pairs = zip(marks[::2].tolist(), marks[1::2].tolist(), strict=True)
    return [(first, last) for first, last in pairs if last - first <= step]


def cut_at_rulings(parts: list[Fragment], ruled: np.ndarray, ink: np.ndarray, step: float) -> list[Fragment]:
    """Cut fragments where they cross a ruling and the text stops before it on either side.

    Args:
        ruled: (H, W) bool, see `separators`.
        ink: (H, W) float32, 0..1.
    """
    out: list[Fragment] = []
    for part in parts:
        start = part.left
        for first, last in _crossings(part, ruled, step):
            if not _stops(part, first, last, ruled, ink, step):
                continue
            if part.left + first - start > 2:
                out.append(part.part(start, part.left + first))
            start = part.left + last
        if part.right - start > 2:
            out.append(part.part(start, part.right))
    return sorted(out, key=lambda f: f.left)


def cut_at_gutters(parts: Sequence[Fragment], gutters: Sequence[float], ink: np.ndarray, step: float) -> list[Fragment]:
    """Cut fragments that cross a gutter at their widest gap near it, if they have one.

    Args:
        gutters: Their x, in pixels.
        ink: (H, W) float32, 0..1.
    """
    out: list[Fragment] = []
    for part in parts:
        start = part.left
        for x in gutters:
            near = [gap for gap in _gaps(part, ink, step) if max(gap[0] - x, x - gap[1]) < NEAR_GUTTER * step]
            inside = [(first, last) for first, last in near if first - start > 2 and part.right - last > 2]
            if inside:
                first, last = max(inside, key=lambda gap: gap[1] - gap[0])
                out.append(part.part(start, first))
                start = last
        out.append(part.part(start, part.right))
    return sorted(out, key=lambda f: f.left)


def _gaps(part: Fragment, ink: np.ndarray, step: float) -> list[tuple[int, int]]:
    """The gaps between the words of a fragment: the first column, and the one after the last."""
    half = max(1, round(BAND * step))
    rows = np.clip(np.rint(part.centre)[:, None].astype(int) + np.arange(-half, half + 1), 0, len(ink) - 1)
    free = ink[rows, np.arange(part.left, part.right)[:, None]].max(1) < 0.5  # (W,)
    ends = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0)) + part.left
    pairs = zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True)
    return [(first, last) for first, last in pairs if last - first >= GAP * step]


def _stops(part: Fragment, first: int, last: int, ruled: np.ndarray, ink: np.ndarray, step: float) -> bool:
    """Whether a text has no ink right before or right after a ruling in its columns `first` to `last`."""
    y = float(part.centre[first])
    top, bottom = max(0, round(y - 0.3 * step)), max(1, round(y + 0.3 * step))
    beside = max(3, round(BESIDE_RULING * step))
    before = slice(max(0, part.left + first - 2 - beside), max(0, part.left + first - 2))
    after = slice(part.left + last + 2, part.left + last + 2 + beside)
    sides = [ink[top:bottom, side] * ~ruled[top:bottom, side] for side in (before, after)]
    return any(side.size == 0 or side.max(0).mean() < 0.1 for side in sides)


def link(parts: list[Fragment], ruled: np.ndarray, step: float, gutters: Sequence[float] = ()) -> list[list[Fragment]]:
    """Join the fragments of each line.

    Each fragment's end is joined to at most one start, the best pairs first: little apart along the line and across it,
    with neither a ruling, nor a gutter, nor a river of paper between columns in the gap.

    Args:
        parts: From left to right.
        ruled: (H, W) bool, see `rulings`.
        step: The pitch in pixels.
        gutters: Their x, in pixels.

    Returns:
        The fragments of each line, from left to right.
    """
    pairs = []
    for i, a in enumerate(parts):
        for j, b in enumerate(parts):
            gap = b.left - a.right
            if i == j or gap > MOST_GAP * step or gap < -OVERLAP * step or b.right <= a.right or b.left <= a.left:
                continue
            off = _apart(a, b, step)
            if off > STEP * step + STEP_PER_GAP * max(0, gap):
                continue
            if gap > 0 and (_ruled(a, b, ruled) or (gap > LEAST_RIVER * step and _river(a, b, parts, step))):
                continue
            if any(a.right - columns.TOUCH * step <= x <= b.left + columns.TOUCH * step for x in gutters):
                continue
            pairs.append((max(0, gap) + 3 * off, i, j))
    after: dict[int, int] = {}
    before: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in after and j not in before:
            after[i], before[j] = j, i
    chains = []
    for i in range(len(parts)):
        if i not in before:
            chain = [i]
            while chain[-1] in after:
                chain.append(after[chain[-1]])
            chains.append([parts[k] for k in chain])
    return chains


def _apart(a: Fragment, b: Fragment, step: float) -> float:
    """Vertical distance between the end of one fragment and the start of the next, each prolonged to the other."""
    over = max(2, round(SLOPE_OVER * step))
    end, start = a.centre[-over:], b.centre[:over]
    gap = b.left - a.right
    from_a = end.mean() + _slope(end, step) * (len(end) / 2 + gap)
    from_b = start.mean() - _slope(start, step) * (len(start) / 2 + gap)
    near = max(1, over // 4)
    return float(abs(from_a - start[:near].mean()) + abs(from_b - end[-near:].mean())) / 2


def _slope(centre: np.ndarray, step: float) -> float:
    """Slope of a centre line, drawn to 0 for one that is short."""
    x = np.arange(len(centre)) - (len(centre) - 1) / 2
    return float((x * centre).sum() / ((x * x).sum() + step**3 / 6))


def _ruled(a: Fragment, b: Fragment, ruled: np.ndarray) -> bool:
    """Whether a ruling passes between two fragments."""
    y = np.clip(round((a.centre[-1] + b.centre[0]) / 2), 0, len(ruled) - 1)
    return bool(ruled[y, max(0, a.right - 3) : b.left + 3].any())


def _river(a: Fragment, b: Fragment, parts: list[Fragment], step: float) -> bool:
    """Whether the gap between two fragments belongs to a river of paper between columns, or beside a block of text."""
    left, right = a.right, b.left
    quarter = (right - left) / 4
    y = (a.centre[-1] + b.centre[0]) / 2
    top, bottom = -np.inf, np.inf
    for f in parts:
        start, end = max(f.left, round(left + quarter)), min(f.right, round(right - quarter))
        if start < end and f is not a and f is not b:
            level = float(f.centre[start - f.left : end - f.left].mean())
            if level < y:
                top = max(top, level)
            else:
                bottom = min(bottom, level)
    beside = [0, 0]
    for f in parts:
        if f is a or f is b:
            continue
        if f.right <= right - quarter and f.right > left - 4 * step and top < f.centre[-1] < bottom:
            beside[0] += 1
        elif f.left >= left + quarter and f.left < right + 4 * step and top < f.centre[0] < bottom:
            beside[1] += 1
    high = min(bottom, y + 4 * step) - max(top, y - 4 * step)
    return high >= RIVER_HEIGHT * step and sum(beside) >= 3
