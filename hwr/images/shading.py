"""Shadow along a line: paper that grows darker from column to column."""

import cv2
import numpy as np

# Height in pixels at which the paper is looked at, and the widths over which its level is a median, in heights: of a pixel's
# surroundings, which strokes are too thin to change, and of the columns.
LOOK, STROKES, SMOOTH = 48, 0.6, 2.0

# Paper is in shadow if its level is below this part of the brightest. Ordinary photos and scans of lines stay above it.
SHADOW = 0.92

# Ink in the deepest shadow is lightened by at most this factor.
MOST = 5.0


def lightened(image: np.ndarray) -> np.ndarray:
    """A line whose paper is in shadow, with the paper everywhere as bright as at its brightest; other lines as they are.

    Args:
        image: (H, W) uint8, dark writing on paper.

    Returns:
        (H, W) uint8.
    """
    h, w = image.shape
    factor = min(1.0, LOOK / h)
    height, width = max(1, round(h * factor)), max(1, round(w * factor))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    surroundings = cv2.medianBlur(small, max(3, int(height * STROKES) | 1))
    window = max(3, round(height * SMOOTH) | 1)
    # Beyond its ends the paper goes on growing darker or brighter as it does there.
    paper = np.pad(np.percentile(surroundings, 75, axis=0), window, "reflect", reflect_type="odd")
    paper = cv2.medianBlur(np.clip(paper, 0, 255).astype(np.uint8)[None], min(window, 255)).astype(np.float32)
    paper = cv2.blur(paper, (window, 1))[:, window:-window]  # (1, W')
    darkest, brightest = np.percentile(paper, (2, 98))
    if darkest >= SHADOW * brightest:
        return image
    level = cv2.resize(paper, (w, 1), interpolation=cv2.INTER_LINEAR)
    gain = np.clip(brightest / np.maximum(level, 1), 1, MOST)  # (1, W)
    return np.rint(np.minimum(image * gain, 255)).astype(np.uint8)
