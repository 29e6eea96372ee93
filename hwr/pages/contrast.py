"""White paper and dark ink, so that pale writing and pages in shadow are found like others."""

import cv2
import numpy as np

# The darkest part of a page, this share of its pixels, is made black.
DARKEST = 0.02

# But only grey levels below this part of the paper's are: those of blank paper's own grain are not.
PALEST = 0.7


def evened(grey: np.ndarray) -> np.ndarray:
    """A page without shading, its paper white and its ink dark.

    Args:
        grey: (H, W) uint8, dark writing; the longer side about 1,280 pixels.

    Returns:
        (H, W) uint8.
    """
    # The brightest pixels around each, without small bright spots: the paper.
    paper = cv2.blur(cv2.medianBlur(cv2.dilate(grey, np.ones((9, 9), np.uint8)), 51), (31, 31))
    part = cv2.divide(grey, np.maximum(paper, 1), scale=255)
    shares = np.cumsum(np.bincount(part.ravel(), minlength=256)) / part.size
    black = min(int(np.searchsorted(shares, DARKEST)), round(PALEST * 255))
    levels = np.clip((np.arange(256) - black) / (255 - black), 0, 1)
    even: np.ndarray = cv2.LUT(part, np.rint(255 * levels).astype(np.uint8))
    return even
