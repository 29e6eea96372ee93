"""Files that hold several pages: PDF and TIFF. A page has a path inside its file, as if the file were a folder: `book.pdf/3`.

So everything that reads images by their path reads such pages, too.
"""

import functools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from hwr import Error
from hwr.system import files

PDF = ".pdf"
TIFF = (".tif", ".tiff")

# TIFF's tag NewSubfileType, and its bits for a smaller version of another image and for a mask of one. Scans that
# viewers load piece by piece have half a dozen smaller versions.
_SUBFILE, _NO_PAGE = 254, 0b101

# Dots per inch at which a page is drawn that is not one large image, and the least and most otherwise.
DPI, LEAST_DPI, MOST_DPI = 300, 150, 600

# A page is one large image if that covers this part of it.
COVER = 0.5

# Pixels of the largest drawing: an A3 page at 600 dpi. Larger pages are drawn smaller.
MOST_PIXELS = 70_000_000

# PDFium is not safe in several threads.
_one_thread = threading.RLock()


class PageOf(NamedTuple):
    """A page of a file; `number` counts from 1."""

    file: Path
    number: int


def page_of(path: str | Path) -> PageOf | None:
    """The file and page of a path such as `book.pdf/3`; None for any other path."""
    path = Path(path)
    number, suffix = path.name, path.parent.suffix.lower()
    if number.isascii() and number.isdigit() and number[0] != "0" and (suffix == PDF or suffix in TIFF):
        return PageOf(path.parent, int(number[:9])) if path.parent.is_file() else None
    return None


def pages(path: str | Path) -> list[str]:
    """The paths of the pages of a file; the path itself if it is an image, or a TIFF of one page.

    Raises:
        Error: A PDF is damaged, encrypted or empty, or can't be read because pypdfium2 is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == PDF:
        with _document(Path(path)) as document:
            count = len(document)
        if not count:
            raise Error(f"{path}: has no pages")
        return [f"{path}/{number}" for number in range(1, count + 1)]
    if suffix in TIFF:
        numbers = _numbers(Path(path))
        return [str(path)] if numbers == [1] else [f"{path}/{number}" for number in numbers]
    return [str(path)]


def display_name(path: Path) -> str:
    """The name of a file for a page, without suffix: `book-0003` for `book.pdf/3`, `photo` for `photo.jpg`."""
    page = page_of(path)
    return path.stem if page is None else f"{page.file.stem}-{page.number:04}"


# --- TIFF


def seek(image: Image.Image, number: int) -> None:
    """Go to a page of an opened image, from 1.

    Raises:
        EOFError: It has no such page.
    """
    image.seek(number - 1)
    if image.mode not in ("P", "PA"):
        image.palette = None  # Pillow 12 keeps that of another page, and decodes this one wrongly or not at all


def frames(image: Image.Image) -> list[int]:
    """The numbers of the pages of an opened image, from 1. In a TIFF, smaller versions and masks of a page are none."""
    count = int(getattr(image, "n_frames", 1))
    if count == 1 or image.format != "TIFF":
        return list(range(1, count + 1))
    found = []
    for number in range(1, count + 1):
        seek(image, number)
        if not image.tag_v2.get(_SUBFILE, 0) & _NO_PAGE:  # type: ignore[attr-defined]
            found.append(number)
    seek(image, 1)
    return found or list(range(1, count + 1))


def _numbers(path: Path) -> list[int]:
    try:
        with files.open_regular(path) as file, Image.open(file, formats=["TIFF"]) as image:
            return frames(image)
    except Exception:  # reported on reading; Pillow raises nearly anything on damaged files
        return [1]


# --- PDF


@contextmanager
def _document(path: Path) -> Iterator[Any]:
    """Open a PDF, with PDFium for this thread alone."""
    try:
        import pypdfium2
    except ImportError as error:
        raise Error(f"{path}: reading PDF needs pypdfium2: pip install -e '.[pages]' ({error})") from error
    files.check(path)
    with _one_thread:
        try:
            document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            if "assword" in str(error):
                raise Error(
                    f"{path}: is encrypted; remove its password first, for example: qpdf --decrypt --password=… IN OUT"
                ) from error
            raise Error(f"{path}: damaged, or not a PDF: {error}") from error
        try:
            yield document
        except pypdfium2.PdfiumError as error:
            raise Error(f"{path}: damaged: {error}") from error
        finally:
            document.close()


@contextmanager
def _page(page: PageOf) -> Iterator[Any]:
    with _document(page.file) as document:
        if page.number > len(document):
            raise Error(f"{page.file}: has {len(document)} pages, no page {page.number}")
        opened = document[page.number - 1]
        try:
            if not opened.get_width() or not opened.get_height():
                raise Error(f"{page.file}/{page.number}: shows nothing: its CropBox lies outside of its MediaBox")
            yield opened
        finally:
            opened.close()


def _scale(page: Any) -> float:
    """Pixels per point: those of the page's image if it is one large image, so that no detail is lost or made up."""
    import pypdfium2.raw as raw

    x0, y0, x1, y1 = page.get_bbox()  # without rotation, as the objects' places
    dpi = float(DPI)
    for found in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = found.get_bounds()
        inside = max(0, min(right, x1) - max(left, x0)) * max(0, min(top, y1) - max(bottom, y0))
        if inside > COVER * (x1 - x0) * (y1 - y0):
            pixels = max(found.get_px_size()) / max(right - left, top - bottom)
            dpi = min(max(72 * pixels, LEAST_DPI), MOST_DPI)
    longer = max(page.get_width(), page.get_height())
    scale = min(dpi / 72, math.sqrt(MOST_PIXELS / page.get_width() / page.get_height()))
    # PDFium rounds the size of the drawing up; a few hundredths of a pixel less keep whole numbers whole.
    return max(scale - 0.05 / longer, 0.5 / longer)


def pdf_size(page: PageOf) -> tuple[int, int]:
    """Width and height in pixels of a drawn page of a PDF."""
    with _page(page) as opened:
        scale = _scale(opened)
        return math.ceil(opened.get_width() * scale), math.ceil(opened.get_height() * scale)


def pdf_place(page: PageOf) -> tuple[tuple[float, float, float, float], int]:
    """What is drawn of a page of a PDF: left, bottom, right and top in points, and its turn in degrees clockwise.

    A file may say these oddly: boxes larger than the paper, or from any corner to its opposite, turns by 45 degrees.
    """
    with _page(page) as opened:
        return opened.get_bbox(), opened.get_rotation()


def pdf_image(page: PageOf) -> Image.Image:
    """Draw a page of a PDF, in RGB.

    Raises:
        Error: There is no such page, or the file can't be read.
    """
    return _drawn(page, grey=False)


def pdf_grey(page: PageOf) -> np.ndarray:
    """Draw a page of a PDF: (H, W) uint8. The last pages are kept, because a page's lines are found first and then cut out."""
    try:
        stamp = page.file.stat().st_mtime_ns
    except OSError as error:
        raise Error(f"{page.file}: could not be read: {error.strerror}") from error
    return _kept(page, stamp).copy()


@functools.lru_cache(maxsize=2)
def _kept(page: PageOf, stamp: int) -> np.ndarray:
    return np.asarray(_drawn(page, grey=True), np.uint8)


def _drawn(page: PageOf, grey: bool) -> Image.Image:
    with _page(page) as opened:
        image: Image.Image = opened.render(scale=_scale(opened), grayscale=grey).to_pil()
        return image.convert("L" if grey else "RGB").copy()
