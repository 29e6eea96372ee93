"""Writing on two backgrounds in one line: half of it in a sharp shadow, or inverted. What looks like a margin may be such a part."""

from dataclasses import dataclass

import cv2
import numpy as np

from hwr.images import ink

# Height in pixels at which strokes are looked for.
LOOK = 64

# A part is this wide and high at least, as a fraction of the image's height.
SMALLEST = 0.5

# Its strokes differ from their background by this many grey levels at least, and by this many standard deviations of its grain.
FAINTEST, GRAINS = 12, 6.0

# It has this many strokes at least, of this many heights of the image; together they cover at most this fraction of it.
FEWEST, LONG, MOST = 3, 0.25, 0.3

# Strokes are made stronger by this factor at most.
STRONGEST = 8.0


@dataclass(frozen=True)
class Part:
    """A part of an image with writing on a background of its own.

    Attributes:
        area: (H, W) bool.
        level: The grey level of its background.
        factor: By which differences from it are multiplied to look like the rest of the line; negative if it is inverted.
    """

    area: np.ndarray
    level: float
    factor: float


def parts(image: np.ndarray, margin: np.ndarray, inverted: bool, paper: float) -> tuple[Part, ...]:
    """The connected parts of what was taken for margins that hold writing.

    Args:
        image: (H, W) uint8.
        margin: (H, W) bool.
        inverted: Whether the writing on the rest is lighter than its background, of the level `paper`.
    """
    rest = image[~margin]
    if not rest.size:
        return ()
    strength = abs(paper - float(np.percentile(rest, 99 if inverted else 1)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(margin.astype(np.uint8), connectivity=4)
    least = SMALLEST * image.shape[0]
    out = []
    for number in range(1, len(stats)):
        left, top, width, height = (int(x) for x in stats[number, :4])
        if min(width, height) < least:
            continue
        box = np.s_[top : top + height, left : left + width]
        level = float(np.median(image[box][labels[box] == number]))
        away = np.where(labels[box] == number, image[box] - level, 0.0)
        for dark in (True, False):
            darker = -away if dark else away
            contrast = float(np.percentile(darker, 99))
            if _is_written(darker, contrast, image.shape[0]):
                factor = min(STRONGEST, max(1.0, strength / contrast))
                out.append(Part(labels == number, level, factor if dark != inverted else -factor))
                break
    return tuple(out)


def _is_written(darker: np.ndarray, contrast: float, height: int) -> bool:
    """Whether a part has writing: (H, W) float, by how much each pixel is darker than its background."""
    grain = float(np.percentile(np.abs(darker), 50)) / 0.67  # of a normal distribution
    if contrast < max(FAINTEST, GRAINS * grain):
        return False
    line = np.asarray(255 - np.clip(darker * (255 / contrast), 0, 255), np.uint8)
    factor = min(1.0, LOOK / height)
    size = (max(1, round(line.shape[1] * factor)), max(1, round(line.shape[0] * factor)))
    strokes = ink.strokes(cv2.resize(line, size, interpolation=cv2.INTER_AREA)).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(strokes)
    long = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1, initial=0) >= LONG * height * factor
    return int(long.sum()) >= FEWEST and float(strokes.mean()) <= MOST


def bring(image: np.ndarray, part: Part, paper: float) -> None:
    """Give a part of an image the background and the polarity of the rest, in place: (H, W) uint8."""
    levels = np.clip(np.rint(paper + part.factor * (np.arange(256) - part.level)), 0, 255).astype(np.uint8)
    image[part.area] = levels[image[part.area]]
