"""Augmentation: random warps drawn from a seed, and applied with scikit-image (the reference) or by an engine.

A line's warp depends only on (seed, pass over the data, line), not on the batch, the engine, the machine or the number of
workers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwr.config import Augment

# The elastic grid: rows of nodes (one each for ascenders, x-height and descenders), and the distance between columns of nodes
# in line heights.
GRID_ROWS = 3
GRID_STEP = 0.5

# Rotation moves the ends of a line by at most this fraction of the height, so that long lines stay in the image.
MOST_RISE = 0.15

# Width per masked span, in line heights.
MASK_EVERY = 3


@dataclass(frozen=True)
class Warps:
    """One warp per image of a batch, applied in this order.

    Attributes:
        gamma: (N,) float32; exponent on pixels in 0..1.
        matrix: (N, 2, 3) float32; maps output coordinates (x, y, 1) to input coordinates (x, y), in pixels.
        widths: (N,) int32; widths of the warped lines.
        grid: (N, 2, GRID_ROWS, columns) float32, or None; further displacements (x, y) of the input coordinates, in pixels.
            Rows are spread evenly from the first to the last pixel row, columns are `grid_step(height)` pixels apart.
        thickness: (N,) float32, -1..1, or None; pixels by which strokes grow (or shrink) on each side.
        contrast: (N,) float32 or None; factor on the darkness of the ink.
        brightness: (N,) float32 or None; added to every pixel (0..1), then clipped to 0..1.
        masks: (N, K, 2) float32 or None; spans of output columns (start, end) that become white.
    """

    gamma: np.ndarray
    matrix: np.ndarray
    widths: np.ndarray
    grid: np.ndarray | None = None
    thickness: np.ndarray | None = None
    contrast: np.ndarray | None = None
    brightness: np.ndarray | None = None
    masks: np.ndarray | None = None

    def of(self, chosen: slice) -> "Warps":
        """The warps of some of the images."""
        drawn = {name: array for name, array in vars(self).items() if array is not None}
        return replace(self, **{name: array[chosen] for name, array in drawn.items()})


def grid_step(height: int) -> int:
    """Distance between two columns of the elastic grid, in pixels."""
    return max(2, round(GRID_STEP * height))


def draw(
    augment: Augment,
    height: int,
    widths: np.ndarray,
    seed: int,
    lines: Sequence[tuple[int, int]],
    *,
    centred: bool = False,
    least: np.ndarray | None = None,
) -> Warps:
    """Draw a warp for each (pass, line index).

    Gamma, the affine map and each of the other augmentations apply with probability `augment.p`, independently. With p = 1
    and the others at 0 the distribution is the original's: uniform gamma, and one affine map with uniform translation
    (fractions of the size), scale in x and y, and shear in radians. The map is that of scikit-image before 0.20, which the
    original used: a shear s maps (x, y) to (x - y sin s, y cos s), about the top-left corner.

    Args:
        augment: The ranges.
        height: Height of the images in pixels.
        widths: (N,) widths of the images in pixels.
        centred: For lines of any width: warp about the centre of each line, and widen the image so that no letter is lost.
            Translation is then vertical only, and lines grow vertically by at most a quarter of `augment.scale`.
        least: (N,) minimum widths in pixels, so that the text still fits; lines already narrower stay as they are. For
            `centred` only.
    """
    n = len(lines)
    rngs = [np.random.default_rng((seed, epoch, index)) for epoch, index in lines]
    u = np.array([rng.uniform(-1, 1, 6) for rng in rngs]).reshape(-1, 6)  # (N, 6)
    more = np.array([rng.uniform(-1, 1, 4) for rng in rngs]).reshape(-1, 4)  # rotation, thickness, contrast, brightness
    on = np.array([rng.random(7) < augment.p for rng in rngs]).reshape(-1, 7)
    low, high = augment.gamma
    gamma = np.where(on[:, 0], low + (u[:, 0] + 1) / 2 * (high - low), 1)
    u[:, 1:] *= on[:, 1:2]
    more *= on[:, [1, 2, 3, 4]]
    if centred:
        matrix, wide = _centred(augment, height, widths, u, more[:, 0], least)
    else:
        tx, ty = u[:, 1] * augment.translate * widths, u[:, 2] * augment.translate * height
        sx, sy = 1 + u[:, 3] * augment.scale, 1 + u[:, 4] * augment.scale
        shear = u[:, 5] * augment.shear
        rows = [[sx, -sy * np.sin(shear), tx], [np.zeros(n), sy * np.cos(shear), ty]]
        matrix, wide = np.moveaxis(np.array(rows), 2, 0), np.array(widths)  # (N, 2, 3), (N,)
    f4 = np.float32
    return Warps(
        gamma.astype(f4),
        matrix.astype(f4),
        wide.astype(np.int32),
        _grid(augment.elastic * on[:, 5], height, wide, rngs) if augment.elastic else None,
        **_look(augment, more[:, 1:], on[:, 3]),
        masks=_masks(augment.mask * on[:, 6], height, wide, rngs) if augment.mask else None,
    )


def second_view(augment: Augment, height: int, first: Warps, seed: int, lines: Sequence[tuple[int, int]]) -> Warps:
    """Draw another look for the same warped lines: gamma, thickness, contrast, brightness and masks, but not the geometry.

    The frames of both views show the same places of the text, so that their predictions can be compared frame by frame.

    Args:
        first: What `draw` drew for these lines with the other arguments.
    """
    # A separate random stream; a zero instead of the one would give that of `draw`, because keys are padded with zeros.
    rngs = [np.random.default_rng((seed, epoch, index, 1)) for epoch, index in lines]
    u = np.array([rng.uniform(-1, 1, 4) for rng in rngs]).reshape(-1, 4)
    on = np.array([rng.random(5) < augment.p for rng in rngs]).reshape(-1, 5)
    low, high = augment.gamma
    return Warps(
        np.where(on[:, 0], low + (u[:, 0] + 1) / 2 * (high - low), 1).astype(np.float32),
        first.matrix,
        first.widths,
        first.grid,
        **_look(augment, u[:, 1:] * on[:, 1:4], on[:, 2]),
        masks=_masks(augment.mask * on[:, 4], height, first.widths, rngs) if augment.mask else None,
    )


def _look(augment: Augment, u: np.ndarray, contrast: np.ndarray) -> dict[str, np.ndarray | None]:
    """Thickness, contrast and brightness of `Warps`.

    Args:
        u: (N, 3) -1..1, 0 where the augmentation does not apply.
        contrast: (N,) bool; whether the contrast changes.
    """
    f4 = np.float32
    return {
        "thickness": (u[:, 0] * augment.thickness).astype(f4) if augment.thickness else None,
        "contrast": (1 + (u[:, 1] - 1) / 2 * augment.contrast * contrast).astype(f4) if augment.contrast else None,
        "brightness": (u[:, 2] * augment.brightness).astype(f4) if augment.brightness else None,
    }


def _centred(
    augment: Augment, height: int, widths: np.ndarray, u: np.ndarray, turn: np.ndarray, least: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps about the lines' centres, (N, 2, 3), and widths that fit the whole warped lines, (N,)."""
    sx, sy = 1 + u[:, 3] * augment.scale, 1 + np.minimum(u[:, 4], u[:, 4] / 4) * augment.scale
    if least is not None:
        sx = np.maximum(sx, np.minimum(1, least / widths))
    slant = np.tan(u[:, 5] * augment.shear)
    rise = turn * np.minimum(np.tan(augment.rotate), 2 * MOST_RISE * height / widths)
    wide = np.ceil(widths * sx + np.abs(slant) * height)
    xx, xy, yx, yy = 1 / sx, slant / sx, rise, 1 / sy
    # Pixel centres: the middle of W pixels is at (W - 1) / 2.
    mx, my, cx, cy = (widths - 1) / 2, (height - 1) / 2, (wide - 1) / 2, (height - 1) / 2
    ty = u[:, 2] * augment.translate * height
    rows = [[xx, xy, mx - xx * cx - xy * cy], [yx, yy, my - yx * cx - yy * cy + ty]]
    return np.moveaxis(np.array(rows), 2, 0), wide


def _grid(strength: np.ndarray, height: int, widths: np.ndarray, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    step = grid_step(height)
    columns = [math.ceil(width / step) + 1 for width in widths]
    out = np.zeros((len(rngs), 2, GRID_ROWS, max(columns)), np.float32)
    for row, count, amount, rng in zip(out, columns, strength, rngs, strict=True):
        row[..., :count] = rng.normal(0, 1, (2, GRID_ROWS, count)) * amount * height
    return out


def _masks(share: np.ndarray, height: int, widths: np.ndarray, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    counts = [math.ceil(width / (MASK_EVERY * height)) for width in widths]
    out = np.zeros((len(rngs), max(counts), 2), np.float32)
    for row, count, amount, width, rng in zip(out, counts, share, widths, rngs, strict=True):
        start, length = rng.uniform(0, 1, (2, count))
        row[:count, 0] = start * width
        row[:count, 1] = start * width + length * amount * height
    return out


def apply(images: np.ndarray, warps: Warps) -> np.ndarray:
    """Warp a batch with scikit-image: bilinear, white outside.

    Args:
        images: (N, H, W) uint8.

    Returns:
        (N, H, max(`warps.widths`)) float32 in 0..1.
    """
    from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
    from skimage.transform import warp

    height, width = images.shape[1], int(warps.widths.max())
    out = np.empty((len(images), height, width), np.float32)
    for i, image in enumerate(images):
        matrix = np.vstack([warps.matrix[i].astype(np.float64), [0, 0, 1]])
        source = (image / 255) ** float(warps.gamma[i])
        if warps.grid is None:
            line = warp(source, matrix, order=1, cval=1.0, output_shape=(height, width))
        else:
            y, x = np.mgrid[:height, :width].astype(np.float64)
            nodes = [y * (GRID_ROWS - 1) / max(1, height - 1), x / grid_step(height)]
            move = [map_coordinates(grid, nodes, order=1, mode="nearest") for grid in warps.grid[i].astype(np.float64)]
            at = np.tensordot(matrix[:2], np.stack([x, y, np.ones_like(x)]), 1) + move  # (2, H, W), (x, y)
            line = map_coordinates(source, at[::-1], order=1, mode="constant", cval=1.0)
        if warps.thickness is not None:
            amount = float(warps.thickness[i])
            line += abs(amount) * ((minimum_filter if amount > 0 else maximum_filter)(line, 3, mode="nearest") - line)
        if warps.contrast is not None:
            line = 1 - (1 - line) * float(warps.contrast[i])
        if warps.brightness is not None:
            line = np.clip(line + float(warps.brightness[i]), 0, 1)
        if warps.masks is not None:
            for start, end in warps.masks[i]:
                line[:, (np.arange(width) >= start) & (np.arange(width) < end)] = 1
        out[i] = line
    return out
