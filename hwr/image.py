"""Read a line image of any kind as grey pixels, and bring it to the network's size: the original system's, or any width."""

import functools
import io
import math
import threading
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from hwr import Error
from hwr.config import Config

Polygon = tuple[tuple[int, int], ...]

# Mean and standard deviation of IAM's line pixels (0..1), measured by the authors of the original system.
MEAN = 0.942532484060557
STD = 0.15926149044640417

# Brighter pixels are paper: they become white, and padding is never darker (the original's `resize_image`).
PAPER = 230

# Grey levels between paper and ink that count as full contrast at least: pencil has more, the grain of paper less.
FAINTEST = 40

# All grey levels: what is worked out for these is looked up for each pixel.
LEVELS = np.arange(256)

# Straightening: the height in pixels at which the slope is measured, the shortest line that has one (times its height), the
# steepest slope, the share of ink that may be cut off above and below, and the paper left there (of the height).
SLOPE_HEIGHT, SHORTEST, STEEPEST, EDGE, AIR = 64, 1.5, 0.35, 0.001, 0.06

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".pbm", ".pgm", ".ppm")

# EXIF's tag; from 5 on width and height change places.
ORIENTATION = 0x0112

# More would decompress into gigabytes; a page at 600 dpi has 35 million.
MOST_PIXELS = 80_000_000


def read(source: str | Path | bytes, upright: bool = True) -> np.ndarray:
    """Decode an image as grey: (H, W) uint8, 0 black to 255 white.

    Takes what Pillow reads: 1, 8 and 16 bit, grey, RGB, palette, CMYK. Transparent pixels show white paper.

    Args:
        upright: Obey a camera's orientation tag; else the pixels are as they are stored.

    Raises:
        Error: Missing, empty, truncated, not an image, more than one page, or of a size only an attack would have.
    """
    name = "image" if isinstance(source, bytes) else str(source)
    file: BinaryIO
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise Error(f"{name}: could not be opened: {error.strerror}") from error
    try:
        with file, Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Error(f"{name}: {image.width} x {image.height} pixels are not a line of handwriting")
            # The further frames of a phone's MPO are previews of the first.
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if pages > 1:
                raise Error(f"{name}: holds {pages} pages; give one image per line")
            if image.mode == "F":
                raise Error(
                    f"{name}: has floating-point pixels, whose black and white are unknown; save it with 8 or 16 bit"
                )
            grey = _grey(ImageOps.exif_transpose(image) if upright else image)
            # TIFF's PhotometricInterpretation 0: white is zero. Pillow minds it for 8 bit only.
            if image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(262) == 0:
                grey = 255 - grey
            return grey
    except Error:
        raise
    # Pillow's decoders raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise Error(f"{name}: is damaged or not an image: {error}") from error


def size(path: Path, upright: bool = True) -> tuple[int, int]:
    """Width and height of an image in pixels, as `read` gives it, without decoding it.

    Raises:
        Error: It can't be opened.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            turned = upright and opened.getexif().get(ORIENTATION, 1) >= 5
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Error(f"{path}: can't be opened: {error}") from error
    return (height, width) if turned else (width, height)


def read_line(path: Path, region: Polygon = (), upright: bool = False) -> np.ndarray:
    """Decode a line image, or cut a line out of a page's: (H, W) uint8.

    Args:
        region: The polygon that is the line, (x, y) in pixels; () if the whole image is.
        upright: Whether they are pixels of the page as its orientation tag turns it, and not as they are stored, which is
            what PAGE and ALTO mean.

    Raises:
        Error: As `read`, or the polygon lies outside the page.
    """
    if not region:
        return read(path)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise Error(f"{path}: could not be opened: {error.strerror}") from error
    page = _page(path, changed, upright)
    try:
        return cut(page, region)
    except Error as error:
        raise Error(f"{path}: {error}") from None


# Most lines of a page come after each other, and several threads ask for them: one decodes the page, the others wait.
_decoding = threading.Lock()


def _page(path: Path, changed: int, upright: bool) -> np.ndarray:
    with _decoding:
        return _decoded(path, changed, upright)


@functools.lru_cache(maxsize=4)
def _decoded(path: Path, changed: int, upright: bool) -> np.ndarray:
    return read(path, upright)


def cut(page: np.ndarray, region: Polygon) -> np.ndarray:
    """The bounding box of a polygon; what is outside the polygon has the median colour of what is inside: paper.

    Args:
        page: (H, W) uint8.
        region: (x, y) in pixels; what is outside the page is left out.

    Raises:
        Error: Nothing is left.
    """
    h, w = page.shape
    points = np.array(region, np.int64).clip(-(10**6), 10**6).astype(np.int32)
    left, top = np.maximum(points.min(0), 0)
    right, bottom = np.minimum(points.max(0) + 1, (w, h))
    if right - left < 2 or bottom - top < 2:
        raise Error(f"the line at {region[0]} is not on the page of {w} x {h} pixels, or has no height")
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [points - np.array([left, top], np.int32)], (1.0,))
    out = page[top:bottom, left:right].copy()
    if not mask.any():
        raise Error(f"the line at {region[0]} has no area")
    out[mask == 0] = np.uint8(np.median(out[mask > 0]))
    return out


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bit, stored by Pillow in 16 or 32
        deep = np.asarray(image).astype(np.float64)
        return np.clip(np.rint(deep / 257), 0, 255).astype(np.uint8)  # 65535 -> 255
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("L"), np.uint8).copy()


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink, never enlarge, keeping the aspect, to fit height x width; centre and pad; make the paper white.

    The original's `resize_image` to the pixel: OpenCV's linear resize, sizes rounded down, padding of the colour of the
    top-left pixel but at least `PAPER`, then everything brighter than `PAPER` set to 255.

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
    """Stretch the contrast, bring the line to one height with its aspect kept, and put paper to its left and right.

    Paper (the median, for most of a line is paper) becomes 255 and the darkest hundredth of the pixels 0, so that faint
    pencil and dark ink, grey scans and white ones look alike.

    Args:
        image: (H, W) uint8, of any size. A small one is enlarged; a line that is too wide is squeezed, never cut.
        width: The most that comes out, with both margins, in pixels.

    Returns:
        (height, at most width) uint8.
    """
    h, w = image.shape
    wide = min(max(1, round(w * height / h)), width - 2 * margin)
    kind = cv2.INTER_AREA if height < h or wide < w else cv2.INTER_LINEAR
    image = cv2.resize(image, (wide, height), interpolation=kind)
    ink, paper = _contrast(image)
    # What has next to no contrast is paper with its grain, which must not be stretched into ink.
    stretched = 255 - (paper - LEVELS) * (255 / max(paper - ink, FAINTEST))
    line = cv2.LUT(image, np.clip(np.rint(stretched), 0, 255).astype(np.uint8))
    return cv2.copyMakeBorder(line, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=(255.0,))


def straighten(image: np.ndarray) -> np.ndarray:
    """Make a line that climbs or falls level, and cut the empty paper above and below it off.

    A line that runs across its image leaves little of the height for its letters. The slope is that of the straight line
    through the columns' centres of ink, weighted by their ink; far-off columns (ascenders, smears) count less in each of a
    few rounds (Huber weights). Columns are then moved up and down: letters keep their slant.

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
        slope = float(np.clip(slope, -STEEPEST, STEEPEST))
    level = _lowered(image, slope * ((w - 1) / 2 - np.arange(w)))
    rows = np.cumsum(_ink(level).sum(1))
    if rows[-1] <= 0:
        return image
    top, bottom = np.searchsorted(rows, np.array([EDGE, 1 - EDGE]) * rows[-1])
    air = max(1, round(AIR * (bottom - top + 1)))
    return level[max(0, top - air) : bottom + air + 1]


def _lowered(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each column moved down by so many pixels, (W,): linear between pixels, paper above and below, room for all.

    Not OpenCV's warpAffine, whose pixels are other ones from version to version.
    """
    (h, w), steps = image.shape, np.rint(by * 256).astype(np.int32)  # in 256ths of a pixel
    room = int(np.abs(steps).max() >> 8) + 2
    # Turned, so that a column's pixels lie side by side: a column is then moved in one piece.
    turned = np.full((w, h + 4 * room), round(_contrast(image)[1]), np.uint8)
    turned[:, 2 * room : 2 * room + h] = image.T
    pieces = np.lib.stride_tricks.sliding_window_view(turned, h + 2 * room + 1, axis=1)
    moved = pieces[np.arange(w), room - 1 - (steps >> 8)]  # (W, H' + 1)
    # Every pixel that comes out is made of the two around its place.
    of_upper = (steps & 255).astype(np.uint16)[:, None]
    mixed = moved[:, 1:] * (256 - of_upper) + moved[:, :-1] * of_upper
    return np.ascontiguousarray(((mixed + 128) >> 8).astype(np.uint8).T)


def _ink(image: np.ndarray) -> np.ndarray:
    """How much of each pixel is ink, 0..1; what is fainter than a quarter is taken for paper."""
    dark, paper = _contrast(image)
    ink = np.clip((paper - LEVELS) / max(paper - dark, FAINTEST), 0, 1)
    out: np.ndarray = cv2.LUT(image, np.where(ink > 0.25, ink, 0))
    return out


def _contrast(image: np.ndarray) -> tuple[float, float]:
    """The grey levels of ink, the darkest hundredth of the pixels, and of paper, the median."""
    below = np.cumsum(cv2.calcHist([image], [0], None, [256], [0, 256]), dtype=np.float64)

    def level(share: float) -> float:
        """As `np.percentile`, of pixels that are counted already."""
        place = share * (image.size - 1)
        left, right = below.searchsorted([math.floor(place), math.ceil(place)], side="right").tolist()
        return float(left + (right - left) * (place % 1))

    return level(0.01), level(0.5)


def scaled_width(width: int, height: int, config: Config) -> int:
    """Pixels of width that `scale` gives a line of this size, margins included."""
    size = config.image
    return min(max(1, round(width * size.height / max(1, height))), size.width - 2 * size.margin) + 2 * size.margin


def columns(height: int, width: int, prepared: int, config: Config) -> tuple[float, float]:
    """Where a prepared line's columns were: (offset, factor), so that x of the image = (x prepared - offset) * factor.

    Args:
        height: Of the image, in pixels.
        width: Likewise.
        prepared: Width of the prepared line, in pixels.
    """
    size = config.image
    if config.model.any_width:
        return size.margin, width / (prepared - 2 * size.margin)
    ratio = min(1.0, size.height / height, size.width / width)
    inside = max(1, int(width * ratio))
    return (size.width - inside) // 2, width / inside


def prepare(image: np.ndarray, config: Config) -> np.ndarray:
    """A line as the config's network takes it: (H, W) uint8, W the same for all lines or at most `image.width`."""
    size = config.image
    match config.model.arch:
        case "original":
            return fit(image, size.height, size.width)
        case "crnn":
            if size.straighten:
                image = straighten(image)
            return scale(image, size.height, size.width, size.margin)


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Pixels 0..1 (any shape) as the network takes them: float32, mean 0 and deviation 1 over IAM's lines."""
    return ((pixels - MEAN) / STD).astype(np.float32)
