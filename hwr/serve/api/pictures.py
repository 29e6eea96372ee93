"""The pictures that the page view shows: a page in a size that suits a screen, and single lines enlarged."""

import contextlib
import functools
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from hwr import Error
from hwr.images import direction, load
from hwr.serve.project import outlines
from hwr.serve.project.coordinates import image_size
from hwr.serve.project.page_state import LineState, PageState
from hwr.system.atomic import replacing

# Widths of a page's picture, in pixels. Only these are made, so that clients can't fill the cache.
WIDTHS = (320, 1600, 3200)

# Line pictures are at most this wide and high, in pixels.
MOST_LINE = (2400, 600)


def page_picture(page: PageState, width: int, folder: Path) -> bytes:
    """A page as JPEG, at most `width` pixels wide; `width` is one of `WIDTHS`.

    Args:
        folder: Keeps pictures, which take a tenth of a second and more to make.

    Raises:
        Error: The image can't be decoded.
    """
    changed = _changed(page)
    kept = folder / f"{page.id}-{width}-{changed}.jpg"
    if kept.is_file():
        return kept.read_bytes()
    made = _jpeg(_small(page.image, width) if width == WIDTHS[0] else _fitted(_pixels(page.image, changed), width))
    with contextlib.suppress(OSError, Error):  # on a full disk it is made anew each time
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{page.id}-{width}-*.jpg"):
            old.unlink(missing_ok=True)
        with replacing(kept) as temporary:
            temporary.write_bytes(made)
    return made


def _fitted(pixels: np.ndarray, width: int) -> np.ndarray:
    if pixels.shape[1] <= width:
        return pixels
    size = (width, max(1, round(pixels.shape[0] * width / pixels.shape[1])))
    # Up to half the size, linear interpolation looks the same and takes a seventh of the time.
    how = cv2.INTER_LINEAR if pixels.shape[1] <= 2 * width else cv2.INTER_AREA
    return cv2.resize(pixels, size, interpolation=how)


def _small(path: Path, width: int) -> np.ndarray:
    """A picture for the list of pages: a JPEG is decoded at a fraction of its size, ten times as fast."""
    image_size(path)
    with load.decoding(path.name), load.opened(path) as image:
        if image.format == "JPEG" and image.mode == "RGB":
            image.draft("RGB", (2 * width, 2 * width))
        return _fitted(_decoded(image, path.name), width)


def line_picture(page: PageState, line: LineState) -> tuple[bytes, tuple[int, int, int, int]]:
    """The part of a page around a line as JPEG, and its left, top, right and bottom in pixels of the page.

    If the line is vertical or upside down, its picture is turned so that it runs from left to right.

    Raises:
        Error: The image can't be decoded, or the line has no outline or lies outside.
    """
    pixels = _pixels(page.image, _changed(page))
    if not line.polygon:
        raise Error(f"{page.name}: {line.id}: {line.fault or 'has no outline'}")
    left, top, right, bottom = outlines.box(line.polygon)
    margin = max(6, min(right - left, bottom - top) // 4)
    left, top = max(0, left - margin), max(0, top - margin)
    right, bottom = min(pixels.shape[1], right + margin), min(pixels.shape[0], bottom + margin)
    if right - left < 2 or bottom - top < 2:
        raise Error(f"line {line.id} lies outside of the page")
    quarters = round(direction.angle(line.baseline, line.polygon) / 90)
    cut = np.ascontiguousarray(np.rot90(pixels[top:bottom, left:right], quarters))
    factor = min(1.0, MOST_LINE[0] / cut.shape[1], MOST_LINE[1] / cut.shape[0])
    if factor < 1:
        cut = cv2.resize(cut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return _jpeg(cut), (left, top, right, bottom)


def _changed(page: PageState) -> int:
    """When the image was changed, in ns since 1970."""
    try:
        return page.image.stat().st_mtime_ns
    except OSError as error:
        raise Error(page.error or f"{page.name}: {error.strerror or error}") from error


# A page's picture and that of its first line are asked for at once; only one of them decodes the image.
_DECODING = threading.Lock()


def _pixels(path: Path, changed: int) -> np.ndarray:
    """(H, W) grey or (H, W, 3) RGB uint8, upright. Kept for a few pages: decoding takes a tenth of a second and more."""
    with _DECODING:
        return _kept_pixels(path, changed)


@functools.lru_cache(maxsize=3)
def _kept_pixels(path: Path, changed: int) -> np.ndarray:
    image_size(path)
    with load.decoding(path.name), load.opened(path) as image:
        return _decoded(image, path.name)


def _decoded(image: Image.Image, name: str) -> np.ndarray:
    """(H, W) grey or (H, W, 3) RGB uint8, upright. A grey page takes a third of the time of a coloured one."""
    ImageOps.exif_transpose(image, in_place=True)  # a copy of a page takes a hundredth of a second
    return np.asarray(load.plain_of(image, upright=False, name=name))


def _jpeg(pixels: np.ndarray) -> bytes:
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise Error("the picture can't be encoded as JPEG")
    return encoded.tobytes()
