"""Image file and region -> greyscale pixels."""

import io
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from hwr import Error
from hwr.images import direction, documents, exif, greys
from hwr.system import files, memory

Polygon = direction.Polygon

# What iPhones write; read if pillow-heif is installed.
HEIC = (".heic", ".heif")

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".pbm", ".pgm", ".ppm"),
    *HEIC,
)
EITHER_CASE = (*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES))

# Pillow's names of the formats that are read. It knows more: an EPS, whatever its file is called, would start Ghostscript.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "JPEG2000", "PPM")

# Formats of phones. Beside the photo, which Pillow opens, a file may hold previews and other shots; these are no pages.
PHOTOS = ("MPO", "HEIF")

# Larger images would decompress to gigabytes. A page at 600 dpi has 35 million pixels, a newspaper at 400 dpi 90 million.
MOST_PIXELS = 300_000_000

# Pillow's own limit is lower, and a global variable: it is lifted while an image is opened, which reads its size only.
_OPENING = threading.Lock()

# What Pillow says of the file that it was given open.
_OPEN_FILE = re.compile(r" ?<_io\.\w+.*>$")


def read(source: str | Path | bytes, upright: bool = True) -> np.ndarray:
    """Decode an image to greyscale: (H, W) uint8, 0 black to 255 white.

    Reads everything that Pillow reads: 1, 8 and 16 bit, greyscale, RGB, palette, CMYK; see `greys` for transparent pixels.

    Args:
        upright: Whether to apply the EXIF orientation.

    Raises:
        Error: The file is missing, empty, truncated, not an image, has several pages, or is absurdly large.
    """
    name = "image" if isinstance(source, bytes) else str(source)
    page = None if isinstance(source, bytes) else documents.page_of(source)
    if page is not None and page.file.suffix.lower() == documents.PDF:
        return documents.pdf_grey(page)
    if page is None and name.lower().endswith(documents.PDF):
        files.check(name)
        raise Error(f"{name}: is a PDF, and an image is needed; name one of its pages: {name}/1")
    with decoding(name), opened(source) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Error(
                f"{name}: {image.width} x {image.height} are {image.width * image.height // 10**6} megapixels; at most "
                f"{MOST_PIXELS // 10**6} are read. Scale the image down: a line of handwriting needs a height of 100 pixels"
            )
        pages = [1] if page is not None or image.format in PHOTOS else documents.frames(image)
        if pages != [1]:
            tiff = Path(name).suffix.lower() in documents.TIFF
            remedy = f"name one of them: {name}/{pages[0]}" if tiff else "save the one to read as an image of its own"
            raise Error(f"{name}: holds {len(pages)} pages; {remedy}")
        return grey_of(image, upright, name)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn all that Pillow raises while an image is opened and decoded into an Error that begins with its name."""
    try:
        yield
    except Error:
        raise
    # On damaged files, its decoders raise nearly anything: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise Error(f"{name}: {fault(error)}") from error


@contextmanager
def opened(source: str | Path | bytes) -> Iterator[Image.Image]:
    """Open an image without decoding it. Only regular files in one of `FORMATS` are opened.

    Args:
        source: A file, a page of one (`book.pdf/3`, see `documents`), or the content of a file.

    Raises:
        Error: The file is missing, a pipe or a device; it needs a package that is not installed; it has no such page.
        Exception: Pillow's decoders raise nearly anything on damaged files, see `decoding`.
    """
    page = None if isinstance(source, bytes) else documents.page_of(source)
    if page is not None and page.file.suffix.lower() == documents.PDF:
        yield documents.pdf_image(page)
        return
    name = "image" if isinstance(source, bytes) else str(source)
    content = io.BytesIO(source) if isinstance(source, bytes) else files.open_regular(page.file if page else source)
    with content as file:
        if not file.read(1):
            raise Error(f"{name}: is empty")
        file.seek(0)
        known = (*FORMATS, "HEIF") if _is_heic(file, name) else FORMATS
        with _open(file, known) as image:
            if page is not None:
                try:
                    documents.seek(image, page.number)
                except EOFError:
                    raise Error(f"{page.file}: has no page {page.number}") from None
            yield image


def _open(file: BinaryIO, formats: tuple[str, ...]) -> Image.Image:
    """`Image.open` without Pillow's limit and its warning."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_heic(file: BinaryIO, name: str) -> bool:
    """Whether a file is HEIC, by its first bytes; makes Pillow read it.

    Raises:
        Error: pillow-heif is not installed.
    """
    head = file.read(12)
    file.seek(0)
    if head[4:8] != b"ftyp" or head[8:12] not in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return False
    try:
        import pillow_heif
    except ImportError as error:
        raise Error(f"{name}: reading HEIC needs pillow-heif: pip install pillow-heif ({error})") from error
    pillow_heif.register_heif_opener()
    return True


def fault(error: Exception) -> str:
    """What is wrong with an image that can't be decoded, for a message that begins with its name."""
    if memory.is_short(error):
        return "is too large for the memory that is left"
    return f"damaged, or not an image: {_OPEN_FILE.sub('', str(error))}"


def grey_of(image: Image.Image, upright: bool = True, name: str = "image") -> np.ndarray:
    """The grey pixels of a Pillow image: (H, W) uint8.

    Args:
        upright: As of `read`.
        name: For messages.

    Raises:
        Error: It is damaged, or has floating-point pixels.
    """
    _refuse_floats(image, name)
    with decoding(name):
        return greys.of(exif.turned(image, upright))


def plain_of(image: Image.Image, upright: bool = True, name: str = "image") -> Image.Image:
    """A Pillow image as people see it, in 8-bit grey or RGB, see `greys.plain`. Arguments and errors are those of `grey_of`."""
    _refuse_floats(image, name)
    with decoding(name):
        return greys.plain(exif.turned(image, upright))


def _refuse_floats(image: Image.Image, name: str) -> None:
    if image.mode == "F":
        raise Error(f"{name}: floating-point pixels have no defined black and white; save the image with 8 or 16 bits")


def size(path: Path, upright: bool = True) -> tuple[int, int]:
    """Width and height of the image that `read` returns, in pixels, without decoding it.

    Raises:
        Error: The image can't be opened.
    """
    (width, height), turned = stored(path)
    return (height, width) if upright and turned >= 5 else (width, height)


def orientation(path: Path) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 means that it is stored upright.

    Raises:
        Error: The image can't be opened.
    """
    return stored(path)[1]


def stored(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height of an image as stored, in pixels, and its EXIF orientation, without decoding it.

    Raises:
        Error: The image can't be opened.
    """
    page = documents.page_of(path)
    if page is not None and page.file.suffix.lower() == documents.PDF:
        return documents.pdf_size(page), 1
    try:
        with opened(path) as image:
            return exif.stored(image)
    except Error:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Error(f"{path}: can't be opened: {error}") from error


def read_line(path: Path, region: Polygon = (), upright: bool = False, baseline: Polygon = ()) -> np.ndarray:
    """`read_lines` for a single line: (H, W) uint8.

    Raises:
        Error: As in `read`, or the polygon lies outside the page.
    """
    (found,) = read_lines(path, [region], upright, [baseline])
    if isinstance(found, Error):
        raise found
    return found


def read_lines(
    path: Path, regions: Sequence[Polygon], upright: bool = False, baselines: Sequence[Polygon] = ()
) -> list[np.ndarray | Error]:
    """Decode an image once, and crop lines from it, turned so that they run from left to right.

    Args:
        regions: The polygon of each line, (x, y) in pixels; () if the whole image is the line.
        upright: Whether regions refer to the image rotated by its EXIF orientation rather than as stored.
        baselines: The baseline of each line, from its start to its end; () if it is unknown.

    Returns:
        For each line, (H, W) uint8 pixels, or the Error: as in `read`, or the polygon lies outside the page.
    """
    pages: dict[bool, np.ndarray | Error] = {}

    def page(turned: bool) -> np.ndarray | Error:
        if turned not in pages:
            try:
                pages[turned] = read(path, turned)
            except Error as error:
                pages[turned] = error
        return pages[turned]

    def line(region: Polygon, baseline: Polygon) -> np.ndarray | Error:
        found = page(upright or not region)
        if isinstance(found, Error) or not region:
            return found
        try:
            return cut(found, region, baseline)
        except Error as error:
            return Error(f"{path}: {error}")

    return [line(*place) for place in zip(regions, baselines or [()] * len(regions), strict=True)]


def cut(page: np.ndarray, region: Polygon, baseline: Polygon = ()) -> np.ndarray:
    """Crop the bounding box of a polygon. Pixels outside the polygon get the median inside it, the paper.

    Args:
        page: (H, W) uint8.
        region: (x, y) in pixels; clipped to the page.
        baseline: If it is steep, vertical or upside down, the line is turned, see `direction`.

    Raises:
        Error: The region has no area on the page.
    """
    h, w = page.shape
    points = np.array(region, np.float64).clip(-1e6, 1e6).astype(np.int32)
    left, top = np.maximum(points.min(0), 0)
    right, bottom = np.minimum(points.max(0) + 1, (w, h))
    if right - left < 2 or bottom - top < 2:
        raise Error(f"the line at {region[0]} is not on the page of {w} x {h} pixels, or has no height")
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [points - np.array([left, top], np.int32)], (1.0,))
    out = page[top:bottom, left:right].copy()
    if not mask.any():
        raise Error(f"the line at {region[0]} has no area")
    paper = np.uint8(np.median(out[mask > 0]))
    out[mask == 0] = paper
    if degrees := direction.angle(baseline, region):
        how = direction.turn(degrees, (out.shape[1], out.shape[0]), (points - np.array([left, top])).tolist())
        return direction.turned(out, how, int(paper))
    return out
