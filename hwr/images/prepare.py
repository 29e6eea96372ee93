"""Preprocess a line's pixels for a network: to the original system's size, or to one height and any width."""

import math

import cv2
import numpy as np

from hwr import Error
from hwr.images import polarity, shading
from hwr.images.geometry import Geometry

# Pixels brighter than this are paper and become white; padding is never darker (the original's `resize_image`).
PAPER = 230

# Smallest difference between paper and ink that is stretched to full contrast, in grey levels: `FAINT`, or less on clean paper:
# `GRAINS` standard deviations of its grain, or the difference of its dust if that is more, but at least `FAINTEST`.
FAINT, FAINTEST, GRAINS = 40, 8, 8.0

# Straightening: the height in pixels at which the slope is measured, the shortest line that is levelled (in heights), the
# steepest slope, the fraction of ink that may be cropped above and below, and the paper kept there (fraction of the height).
SLOPE_HEIGHT, SHORTEST, STEEPEST, EDGE, AIR = 64, 1.5, 0.35, 0.001, 0.06

# A network for lines of one width refuses to read lines of which less than this fraction of the height is left.
LEGIBLE = 0.25

# The widest line that is read in pieces, in heights; and how much wider straightening may make it.
WIDEST, CROP = 2000, 4


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink (never enlarge) to fit height x width, keeping the aspect ratio; centre, pad, and make the paper white.

    Equal to the original's `resize_image` to the pixel: OpenCV's linear resize, sizes rounded down, padding with the colour of
    the top-left pixel but at least `PAPER`, then all pixels brighter than `PAPER` set to 255.

    Args:
        image: (H, W) uint8, of any size.

    Returns:
        (height, width) uint8.
    """
    h, w = image.shape
    if h > height or w > width:
        ratio = min(height / h, width / w)
        h, w = max(1, int(h * ratio)), max(1, int(w * ratio))
        image = cv2.resize(image, (w, h))
    top, left = (height - h) // 2, (width - w) // 2
    colour = max(PAPER, int(image[0, 0]))
    image = cv2.copyMakeBorder(
        image, top, height - h - top, left, width - w - left, cv2.BORDER_CONSTANT, value=(float(colour),)
    )
    image[image > PAPER] = 255
    return image


def scale(image: np.ndarray, height: int, width: int, margin: int) -> np.ndarray:
    """Stretch the contrast, scale the line to one height, keeping its aspect ratio, and add paper left and right.

    Paper (the median, because most of a line is paper) becomes 255 and the darkest percentile of the pixels 0, so that faint
    pencil and dark ink, grey and white scans look alike.

    Args:
        image: (H, W) uint8, of any size. Small images are enlarged; lines that are too wide are squeezed, never cropped.
        width: Largest width of the result in pixels, including both margins.

    Returns:
        (height, at most width) uint8.
    """
    h, w = image.shape
    wide = min(max(1, round(w * height / h)), width - 2 * margin)
    kind = cv2.INTER_AREA if height < h or wide < w else cv2.INTER_LINEAR
    image = cv2.resize(image, (wide, height), interpolation=kind)
    paper, contrast = _contrast(image)
    stretched = 255 - (paper - polarity.LEVELS) * (255 / contrast)
    line = cv2.LUT(image, np.clip(np.rint(stretched), 0, 255).astype(np.uint8))
    return cv2.copyMakeBorder(line, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=(255.0,))


def straighten(image: np.ndarray) -> np.ndarray:
    """Level a slanting line, and crop the empty paper above and below it.

    In the image of a slanting line, letters fill little of the height. The slope is that of a straight line through the
    columns' centres of ink, weighted by their ink; outliers (ascenders, smears) are down-weighted iteratively (Huber
    weights). Columns are then shifted vertically, so letters keep their slant.

    Args:
        image: (H, W) uint8, of any size.

    Returns:
        (H', W) uint8.
    """
    h, w = image.shape
    factor = min(1.0, SLOPE_HEIGHT / h)
    small = cv2.resize(image, (max(1, round(w * factor)), max(1, round(h * factor))), interpolation=cv2.INTER_AREA)
    ink = _ink(small)
    mass = ink.sum(0)
    columns = np.flatnonzero(mass > 0)
    slope = 0.0
    if len(columns) and np.ptp(columns) >= SHORTEST * small.shape[0]:
        y = (ink * np.arange(small.shape[0])[:, None]).sum(0)[columns] / mass[columns]
        weight = base = np.minimum(mass[columns], np.percentile(mass[columns], 90))
        for _ in range(5):
            total = weight.sum()
            middle, high = (weight * columns).sum() / total, (weight * y).sum() / total
            x = columns - middle
            slope = (weight * x * (y - high)).sum() / (weight * x * x).sum()
            away = np.abs(y - high - slope * x)
            weight = base * np.minimum(1, max(1.0, float(np.median(away))) / np.maximum(away, 1e-6))
        # Writing that leaves the image would need one taller than its height.
        steepest = min(STEEPEST, small.shape[0] / float(np.ptp(columns)))
        slope = float(np.clip(slope, -steepest, steepest))
    x = np.arange(w)
    by = slope * ((w - 1) / 2 - x)
    if np.abs(by).max() > 2 * h:
        # A steep slope of a little ink in a wide image: the paper beside the ink is not moved further than the ink.
        left, right = columns[[0, -1]] / factor
        by = slope * ((left + right) / 2 - x.clip(left, right))
    level = _lowered(image, by)
    rows = np.cumsum(_ink(level).sum(1))
    if rows[-1] <= 0:
        return image
    top, bottom = np.searchsorted(rows, np.array([EDGE, 1 - EDGE]) * rows[-1])
    air = max(1, round(AIR * (bottom - top + 1)))
    return level[max(0, top - air) : bottom + air + 1]


def _lowered(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Shift each column down by `by` pixels, (W,): linear interpolation, padded with paper so that nothing is lost.

    OpenCV's warpAffine is not used, because its pixels differ between versions.
    """
    (h, w), steps = image.shape, np.rint(by * 256).astype(np.int32)  # in 256ths of a pixel
    room = int(np.abs(steps).max() >> 8) + 2
    # Transposed, so that a column's pixels are contiguous and can be shifted as one block.
    turned = np.full((w, h + 4 * room), round(_contrast(image)[0]), np.uint8)
    turned[:, 2 * room : 2 * room + h] = image.T
    pieces = np.lib.stride_tricks.sliding_window_view(turned, h + 2 * room + 1, axis=1)
    moved = pieces[np.arange(w), room - 1 - (steps >> 8)]  # (W, H' + 1)
    # Each output pixel interpolates the two pixels around its position.
    of_upper = (steps & 255).astype(np.uint16)[:, None]
    mixed = moved[:, 1:] * (256 - of_upper) + moved[:, :-1] * of_upper
    return np.ascontiguousarray(((mixed + 128) >> 8).astype(np.uint8).T)


def _ink(image: np.ndarray) -> np.ndarray:
    """Fraction of ink per pixel, 0..1; below a quarter counts as paper."""
    paper, contrast = _contrast(image)
    ink = np.clip((paper - polarity.LEVELS) / contrast, 0, 1)
    out: np.ndarray = cv2.LUT(image, np.where(ink > 0.25, ink, 0))
    return out


def _contrast(image: np.ndarray) -> tuple[float, float]:
    """The grey level of paper (median), and how much darker ink is (the first percentile of the pixels).

    An image with almost no contrast is empty paper, whose grain must not be stretched into ink: ink counts as darker than the
    grain, and at least as dark as the darkest dust. Most of a line is paper: the 30th percentile is that of normally
    distributed grain, 0.52 standard deviations below the median.
    """
    below = np.cumsum(cv2.calcHist([image], [0], None, [256], [0, 256]), dtype=np.float64)

    def level(share: float) -> float:
        """Like `np.percentile`, from the histogram."""
        place = share * (image.size - 1)
        left, right = below.searchsorted([math.floor(place), math.ceil(place)], side="right").tolist()
        return float(left + (right - left) * (place % 1))

    paper = level(0.5)
    contrast = paper - level(0.01)
    if contrast < FAINT:
        # Grey levels are rounded, and grain may be finer.
        some, half = np.interp(np.array([0.3, 0.5]) * image.size, below, polarity.LEVELS + 0.5)
        grain = (half - some) / 0.52
        contrast = max(contrast, min(FAINT, max(FAINTEST, GRAINS * grain, paper - level(0.001))))
    return paper, contrast


def scaled_width(width: int, height: int, geometry: Geometry) -> int:
    """The width that `scale` gives to a line of this size, in pixels, including margins."""
    margins = 2 * geometry.margin
    wide = max(1, round(width * geometry.height / max(1, height))) + margins
    return wide if geometry.whole else min(wide, geometry.width)


def columns(height: int, width: int, prepared: int, geometry: Geometry) -> tuple[float, float]:
    """Map a prepared line's columns to its image: (offset, factor), where x in the image = (x prepared - offset) * factor.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        prepared: Width of the prepared line in pixels.
    """
    if geometry.any_width:
        return geometry.margin, width / (prepared - 2 * geometry.margin)
    ratio = min(1.0, geometry.height / height, geometry.width / width)
    inside = max(1, int(width * ratio))
    return (geometry.width - inside) // 2, width / inside


def prepare(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Preprocess a line for the network.

    Light writing on a dark background is inverted, and black margins become paper, see `polarity.normalise`. Paper in shadow
    is lightened for networks that read lines of any width.

    Args:
        image: (H, W) uint8, of any size.

    Returns:
        (`geometry.height`, W) uint8; W is `geometry.width`, or at most that for lines of any width unless `geometry.whole`.

    Raises:
        Error: With `geometry.whole`, the image is absurdly wide.
    """
    image = polarity.normalise(image)
    if not geometry.any_width:
        return fit(image, geometry.height, geometry.width)
    image = shading.lightened(image)
    height, limit = image.shape[0], geometry.width
    if geometry.whole:
        wide = scaled_width(image.shape[1], height, geometry)
        if wide > WIDEST * geometry.height:
            raise Error(
                f"{image.shape[1]} x {height} pixels are not a line of handwriting: it is more than {WIDEST:,} times as wide "
                "as it is high; cut it into several"
            )
        # The crop of straightening widens a line, but it may have found no more than a rule or a speck.
        limit = max(limit, round(CROP * wide))
    if geometry.straighten:
        image = straighten(image)
    return scale(image, geometry.height, limit, geometry.margin)


def check_legible(image: np.ndarray, geometry: Geometry) -> None:
    """Check that a network for lines of one width can read a line.

    Raises:
        Error: The line is so long that little of its height is left in that width.
    """
    height, width = image.shape
    left = height * min(1.0, geometry.height / height, geometry.width / width)
    if not geometry.any_width and left < LEGIBLE * min(height, geometry.height):
        raise Error(
            f"{width} x {height} pixels are too long a line for this network: in its width, {geometry.width}, {left:.0f} pixels of "
            "height are left; cut the line in pieces, or use a network for lines of any width"
        )


def prepared_or_error(image: np.ndarray, geometry: Geometry, legible: bool = False) -> np.ndarray | Error:
    """`prepare`, with the Error returned; with `legible`, also that of `check_legible`."""
    try:
        if legible:
            check_legible(image, geometry)
        return prepare(image, geometry)
    except Error as error:
        return error
