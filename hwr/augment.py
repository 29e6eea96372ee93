"""Random warps of line images: drawn here from a seed, applied here by scikit-image (the reference) or by an engine.

What is drawn for a line depends on (seed, pass over the data, line) alone: not on the batch, the engine, the machine
or the number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwr.config import Augment


@dataclass(frozen=True)
class Warps:
    """One warp per image of a batch.

    Attributes:
        gamma: (N,) float32; pixels (0..1) are raised to this power first.
        matrix: (N, 2, 3) float32; where the pixel at output (x, y, 1) comes from in the input, (x, y) in pixels.
    """

    gamma: np.ndarray
    matrix: np.ndarray


def draw(augment: Augment, height: int, width: int, seed: int, lines: Sequence[tuple[int, int]]) -> Warps:
    """Draw a warp for each (pass, line index).

    The distribution is the original's: gamma uniform; one affine map with uniform translation (fractions of the size),
    scale in x and y, and shear in radians. The map is that of scikit-image before 0.20, which the original used: a
    shear s takes (x, y) to (x - y sin s, y cos s), about the top-left corner.

    Args:
        augment: The ranges.
        height: Of the images, in pixels; `width` likewise.
    """
    rngs = [np.random.default_rng((seed, epoch, index)) for epoch, index in lines]
    u = np.array([rng.uniform(-1, 1, 6) for rng in rngs]).reshape(-1, 6)  # (N, 6)
    low, high = augment.gamma
    gamma = low + (u[:, 0] + 1) / 2 * (high - low)
    tx, ty = u[:, 1] * augment.translate * width, u[:, 2] * augment.translate * height
    sx, sy = 1 + u[:, 3] * augment.scale, 1 + u[:, 4] * augment.scale
    shear = u[:, 5] * augment.shear
    zero = np.zeros_like(sx)
    rows = [[sx, -sy * np.sin(shear), tx], [zero, sy * np.cos(shear), ty]]
    matrix = np.moveaxis(np.array(rows), 2, 0)  # (N, 2, 3)
    return Warps(gamma.astype(np.float32), matrix.astype(np.float32))


def apply(images: np.ndarray, warps: Warps) -> np.ndarray:
    """Warp a batch with scikit-image: bilinear, white outside.

    Args:
        images: (N, H, W) uint8.

    Returns:
        (N, H, W) float32 in 0..1.
    """
    from skimage.transform import warp

    out = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        matrix = np.vstack([warps.matrix[i].astype(np.float64), [0, 0, 1]])
        out[i] = warp((image / 255) ** float(warps.gamma[i]), matrix, order=1, cval=1.0)
    return out
