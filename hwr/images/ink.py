"""Where a prepared line has ink."""

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
    for size in ((round(RULE_ACROSS * height), 1), (1, round(RULE_DOWN * height))):
        if size[0] <= line.shape[1] and max(size) > 1:
            rules = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones(size[::-1], np.uint8))
            found &= ~cv2.dilate(rules, np.ones((3, 3), np.uint8)) & 1
    return np.asarray(found > 0)


def blank(line: np.ndarray, geometry: Geometry) -> bool:
    """Whether a prepared line is empty paper, (H, W) uint8."""
    # The margins are white, and a shadow beside them would look like a stroke.
    line = line[:, geometry.margin : line.shape[1] - geometry.margin] if geometry.any_width else line
    steps = np.abs(line[:, 2:].astype(np.int16) - line[:, :-2]) > SURE
    if steps.sum() > 0.02 * line.size:  # more than specks and rules: the usual case, and fast
        return False
    found = strokes(line, geometry.any_width).astype(np.uint8)
    # A speck is less than a stroke is wide.
    kept = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) if line.shape[0] >= 24 else found
    return int(kept.sum()) <= DUST * (line.shape[0] / DUST_HEIGHT) ** 2
