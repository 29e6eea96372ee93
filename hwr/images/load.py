"""File and region -> grey pixels."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from hwr import Error

Polygon = tuple[tuple[int, int], ...]

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
    """`read_lines` of a single line: (H, W) uint8.

    Raises:
        Error: As `read`, or the polygon lies outside the page.
    """
    (found,) = read_lines(path, [region], upright)
    if isinstance(found, Error):
        raise found
    return found


def read_lines(path: Path, regions: Sequence[Polygon], upright: bool = False) -> list[np.ndarray | Error]:
    """Decode an image once, and cut lines out of it.

    Args:
        regions: The polygon of each line, (x, y) in pixels; () if the whole image is the line.
        upright: Whether they are pixels of the page as its orientation tag turns it, and not as they are stored, which is
            what PAGE and ALTO mean.

    Returns:
        (H, W) uint8 for each; or why it can't be read: as `read`, or the polygon lies outside the page.
    """
    pages: dict[bool, np.ndarray | Error] = {}

    def page(turned: bool) -> np.ndarray | Error:
        if turned not in pages:
            try:
                pages[turned] = read(path, turned)
            except Error as error:
                pages[turned] = error
        return pages[turned]

    def line(region: Polygon) -> np.ndarray | Error:
        found = page(upright or not region)
        if isinstance(found, Error) or not region:
            return found
        try:
            return cut(found, region)
        except Error as error:
            return Error(f"{path}: {error}")

    return [line(region) for region in regions]


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
