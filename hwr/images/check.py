"""What is suspicious about the image of a line."""

import numpy as np

from hwr.alphabet import Alphabet
from hwr.data import Line
from hwr.images import ink, pieces, polarity, prepare
from hwr.images.batches import unwritable
from hwr.images.geometry import Geometry

# Pixels in height or width; less is hardly a line of handwriting.
TINY = 8

# A line that loses more than this fraction of its width, or is left less than this fraction of the network's height, is named.
SQUEEZED, SHRUNK = 0.15, 0.4

# A line that is this many times as high as wide, and has no baseline, may run in another direction.
TALL = 2.5


def faults(line: Line, pixels: np.ndarray, geometry: Geometry) -> list[str]:
    """What is suspicious about a line's image, (H, W) uint8, for this network; empty for an ordinary one."""
    height, width = pixels.shape
    if min(height, width) < TINY:
        return [f"its image is {width} x {height} pixels"]
    found = [f"its image shows {odd}" for odd in [polarity.describe(pixels)] if odd]
    if height > TALL * width and len(line.text) > 1 and not line.baseline:
        found.append(
            f"its image is {width} x {height} pixels, higher than wide; without a baseline, it is read from left to right"
        )
    whole = prepare.prepared_or_error(pixels, pieces.unsqueezed(geometry))
    if not isinstance(whole, np.ndarray):
        return [*found, str(whole)]
    if ink.blank(whole, geometry):
        found.append("its image shows empty paper")
    return found + [fault for fault in (squeezed(pixels, whole, geometry), too_long(line, whole, geometry)) if fault]


def squeezed(pixels: np.ndarray, whole: np.ndarray, geometry: Geometry) -> str:
    """How much training squeezes a long line; "" if little or not at all.

    Args:
        pixels: (H, W) uint8.
        whole: Prepared without being squeezed.
    """
    height, width = pixels.shape
    if geometry.any_width:
        kept = geometry.width / whole.shape[1]
        if kept >= 1 - SQUEEZED:
            return ""
        return (
            f"its image of {width} x {height} pixels is squeezed to {kept:.0%} of its width for training (image.width is "
            f"{geometry.width}); cut the line in two, or raise image.width"
        )
    tall = min(height, geometry.height, height * geometry.width / width)
    if tall >= SHRUNK * min(height, geometry.height):
        return ""
    return (
        f"its image of {width} x {height} pixels is shrunk to a height of {tall:.0f} to fit into image.width, "
        f"{geometry.width}; cut the line in two, or use a network for lines of any width (model.arch=crnn)"
    )


def too_long(line: Line, whole: np.ndarray, geometry: Geometry) -> str:
    """Why CTC can't write the line's text in the time steps of its image, with any alphabet; "" if it can."""
    letters = Alphabet("".join(sorted({*geometry.written(line.text)})))
    width = min(whole.shape[1], geometry.width) if geometry.any_width else geometry.width
    return unwritable(line.text, letters, geometry, int(geometry.time_steps(np.array([width]))[0]))
