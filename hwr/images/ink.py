"""Where a prepared line has ink."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from hwr.images.geometry import Geometry

# Height of the window whose median is a pixel's background, as a fraction of the line's height.
WINDOW = 0.6

# A stroke is darker than its background by this many grey levels at least (in a line whose contrast was stretched; in others),
# and by this many standard deviations of the grain; a difference of `SURE` is always a stroke.
FAINTEST, FAINTEST_AS_IT_IS, GRAINS, SURE = 40, 4, 6, 100

# Strokes longer than these are rules: horizontal ones in heights of the line, vertical ones as a fraction of its height.
RULE_ACROSS, RULE_DOWN = 3.0, 0.95

# Pixels of ink that are more than dust, in a line of this height.
DUST, DUST_HEIGHT = 5, 64

# Writing has a stroke of at least this many heights of the line, from end to end; specks are smaller. In 1,550 validation
# lines of seven sources, with all short ones, the longest stroke was 0.54 heights or more, and 0.37 in a crossed-out one.
SPECK = 0.2

# Up to this many characters a text may be what a network reads in a few specks. Up to three points, which are specks
# themselves, are larger than this (a full stop that was cut out closely has 0.3 heights).
FEW = 8
POINTS, LARGE = ".,·'`:;", 0.28

# The edge of a stroke, in grey levels per two pixels (in a line whose contrast was stretched).
SHARP = 60

# How far the ink of the first and the last character may be from the step that writes it, in heights of the line; and how much
# ink a letter's end may cross rather than be a height away from the middle between two letters, in pixels.
REACH, VALLEY = 1.5, 12.0


def strokes(line: np.ndarray, stretched: bool = True) -> np.ndarray:
    """Where a line has strokes: (H, W) bool. Grain, shadows, stains and the rules of the paper are none.

    Args:
        line: (H, W) uint8, dark on light.
        stretched: Whether its contrast was stretched, see `prepare.scale`.
    """
    height = line.shape[0]
    background = cv2.medianBlur(line, max(3, int(height * WINDOW) | 1))
    darker = background.astype(np.int16) - line
    # Of the grain, what is lighter than the paper is clipped. The 70th percentile of normally distributed grain is 0.52 standard
    # deviations, and ink is less than the darkest 30 %.
    grain = float(np.percentile(darker, 70)) / 0.52
    least = FAINTEST if stretched else FAINTEST_AS_IT_IS
    found = (darker > min(SURE, max(least, GRAINS * grain))).astype(np.uint8)
    rules = np.zeros_like(found)
    for size in ((round(RULE_ACROSS * height), 1), (1, round(RULE_DOWN * height))):
        if size[0] <= line.shape[1] and max(size) > 1:
            rules |= cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones(size[::-1], np.uint8))
    found[cv2.dilate(rules, np.ones((3, 3), np.uint8)) > 0] = 0
    return np.asarray(found > 0)


def blank(line: np.ndarray, geometry: Geometry, text: str = "") -> bool:
    """Whether a prepared line is empty paper, perhaps with dust and blots: (H, W) uint8.

    Args:
        text: What the network reads there. A long one takes more than specks, which is quicker to see.
    """
    # The margins are white, and a shadow beside them would look like a stroke.
    line = line[:, geometry.margin : line.shape[1] - geometry.margin] if geometry.any_width else line
    steps = np.abs(line[:, 2:].astype(np.int16) - line[:, :-2]) > SURE
    if len(text) > FEW and steps.sum() > 0.02 * line.size:  # more than specks and rules: the usual case, and fast
        return False
    found = strokes(line, geometry.any_width).astype(np.uint8)
    # A speck is less than a stroke is wide.
    kept = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) if line.shape[0] >= 24 else found
    if int(kept.sum()) <= DUST * (line.shape[0] / DUST_HEIGHT) ** 2:
        return True
    if not geometry.any_width:  # small images are not enlarged, so a full stop is no larger than a speck
        return False
    # The edges of a stain are soft.
    _, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    sharp = np.zeros(line.shape, bool)
    sharp[:, 1:-1] = np.abs(line[:, 2:].astype(np.int16) - line[:, :-2]) > SHARP
    sharp[1:-1] |= np.abs(line[2:].astype(np.int16) - line[:-2]) > SHARP
    drawn = np.unique(parts[sharp & (found > 0)])
    sizes = stats[drawn[drawn > 0]][:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    least = LARGE if 0 < len(text) <= 3 and set(text) <= set(POINTS) else SPECK
    return int(sizes.max(initial=0)) < least * line.shape[0]


def edges(line: np.ndarray, steps: np.ndarray, spaces: Sequence[bool], geometry: Geometry) -> np.ndarray:
    """Where the ink of each character begins and ends.

    Neighbours are parted where there is least ink between the steps at which the network writes them; words, at the widest
    gap.

    Args:
        line: (H, W) uint8, prepared.
        steps: (L, 2), first and last column of the steps at which each character of the text is written.
        spaces: (L,) whether each is a space.

    Returns:
        (L, 2) float, in columns of the line. A character without ink there, such as a space, has the place left for it.
    """
    if not len(steps):
        return np.zeros((0, 2))
    height, width = line.shape
    mass = strokes(line, geometry.any_width).sum(0)
    places = np.clip(steps.mean(1), 0, width - 1)
    letters = [i for i, space in enumerate(spaces) if not space]
    out = np.clip(steps, 0, width).astype(np.float64)
    if not letters:
        return out
    begin = max(0, round(places[letters[0]] - REACH * height))
    for i, after in zip(letters, [*letters[1:], None], strict=True):
        if after is None:
            end, next_begin = min(width, round(places[i] + REACH * height)), width
        elif after == i + 1:
            end = next_begin = _valley(mass, begin, places[i], places[after], height)
        else:
            end, next_begin = _gap(mass, begin, places[i], places[after], height)
            cuts = np.linspace(end, next_begin, after - i)
            out[i + 1 : after] = np.stack([cuts[:-1], cuts[1:]], 1)
        inked = np.flatnonzero(mass[begin:end])
        if len(inked):
            out[i] = begin + inked[0], begin + inked[-1] + 1
        begin = next_begin
    return out


def _valley(mass: np.ndarray, begin: int, left: float, right: float, height: int) -> int:
    """The column that parts two letters written at `left` and `right`; the first begins at `begin`."""
    start = max(begin + 1, math.floor(left))
    end = max(start + 1, math.ceil(right))
    # The first letter has ink: it ends after its first stroke.
    first = np.flatnonzero(mass[begin:end])
    if len(first):
        start = min(max(start, begin + int(first[0]) + 1), end - 1)
    columns = np.arange(start, min(end, len(mass)))
    if not len(columns):
        return min(start, len(mass))
    away = np.abs(columns - (left + right) / 2) / height
    return int(columns[np.argmin(mass[columns] + VALLEY * away)])


def _gap(mass: np.ndarray, begin: int, left: float, right: float, height: int) -> tuple[int, int]:
    """First and last column of the gap between two words, whose letters there are written at `left` and `right`."""
    start, end = max(begin, math.floor(left - height / 2)), min(len(mass), math.ceil(right + height / 2))
    empty = np.concatenate([[False], mass[start:end] == 0, [False]])
    starts, ends = np.flatnonzero(empty[1:] & ~empty[:-1]) + start, np.flatnonzero(~empty[1:] & empty[:-1]) + start
    inside = (ends > left) & (starts < right) & (starts > begin)
    if not inside.any():
        middle = _valley(mass, begin, left, right, height)
        return middle, middle
    starts, ends = starts[inside], ends[inside]
    away = np.abs((starts + ends) / 2 - (left + right) / 2)
    best = int(np.argmax(ends - starts - away / 2))
    return int(starts[best]), int(ends[best])
