"""Searchable PDF: the page's image with the text in place, invisible, so that viewers find and copy it."""

import io
import itertools
import math
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from hwr import Error, __version__
from hwr.images import documents
from hwr.pages.outputs import pdf_font, pdf_image
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.words import Point, Word, band, words

# Largest width and height of a PDF page, in points.
LARGEST = 14400

# Files that are joined at once.
MANY = 200

# How far words may lie from the level of their line, in heights of the line. Poppler reads lines that slant more in no order: on
# 60 pages with 2,049 lines it found 81 % of them whole with this, 61 % without; 81 % with all words at one level.
LEVEL = 0.2


def write(pages: Sequence[PageReading]) -> bytes:
    """Make a PDF with a page for each page.

    A JPEG is stored as it is, every other image without loss. The page is as large as the image at its resolution; where
    the file does not say, as long as A4. PDFs of images follow PDF/A-2u. The page of a PDF is copied, and the text laid over
    it; invisible text that it has is removed.

    Raises:
        Error: An image can't be read, or pikepdf is not installed.
    """
    pikepdf = _pikepdf()
    with pikepdf.new() as pdf, ExitStack() as stack:
        archival, opened = True, dict[Path, Any]()
        for page in pages:
            drawn = documents.page_of(page.image)
            if drawn is None or drawn.file.suffix.lower() != documents.PDF:
                _add(pdf, page)
                continue
            archival = False
            try:
                if drawn.file not in opened:
                    opened[drawn.file] = stack.enter_context(pikepdf.open(drawn.file))
                _overlay(pdf, page, opened[drawn.file], drawn)
            except Error:
                raise
            except Exception as error:  # pikepdf raises nearly anything on damaged files
                raise Error(f"{page.image}: can't be copied: {error}") from error
        out = io.BytesIO()
        _save(pdf, out, archival)
        return out.getvalue()


def join(paths: Iterable[Path], out: Path) -> None:
    """Join the pages of several files made by `write`. Memory does not grow with their sizes.

    Raises:
        OSError: The file can't be written.
    """
    pikepdf, paths = _pikepdf(), list(paths)
    if len(paths) > MANY:  # a system allows a few hundred open files
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            groups = [paths[i : i + MANY] for i in range(0, len(paths), MANY)]
            for number, group in enumerate(groups):
                join(group, Path(folder) / f"{number}.pdf")
            join([Path(folder) / f"{number}.pdf" for number in range(len(groups))], out)
        return
    with pikepdf.new() as pdf, ExitStack() as stack:
        archival = True
        for path in paths:
            part = stack.enter_context(pikepdf.open(path))
            archival = archival and "/OutputIntents" in part.Root
            pdf.pages.extend(part.pages)
        with open(out, "wb", buffering=0) as file:
            remembering = _Remembering(file)
            with io.BufferedWriter(remembering) as buffered:
                _save(pdf, buffered, archival)
        if remembering.error is not None:
            raise remembering.error


class _Remembering(io.RawIOBase):
    """Writes to a file, and remembers an error instead of raising it: qpdf writes again after an exception, and aborts.

    It has no `fileno`, through which pikepdf would write itself.

    Attributes:
        error: Of the first write that failed.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """As the file."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the file's."""
        return self._file.seek(offset, whence)

    def write(self, data: Any) -> int:
        """Write what the disk takes; after an error, nothing."""
        if self.error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)


def _pikepdf() -> Any:
    try:
        import pikepdf
    except ImportError as error:
        raise Error(f"PDF needs pikepdf: pip install -e '.[pages]' ({error})") from error
    return pikepdf


def _add(pdf: Any, page: PageReading) -> None:
    placed = pdf_image.add(pdf, page.image, page.upright)
    from pikepdf import Dictionary

    width, height = placed.size
    scale = min(72 / placed.dpi, LARGEST / max(width, height))
    codes = pdf_font.Codes()
    # Everything is in pixels of the image, counted from its lower left corner.
    content = (
        f"{_numbers(scale, 0, 0, scale, 0, 0)} cm\n"
        f"q {_numbers(*pdf_image.matrix(placed))} cm /Image Do Q\n" + text_layer(page, (width, height), codes)
    )
    new = pdf.add_blank_page(page_size=(width * scale, height * scale))
    new.Contents = pdf.make_stream(content.encode("ascii"))
    fonts = Dictionary({"/Hidden": pdf_font.embed(pdf, codes)})
    new.Resources = Dictionary(XObject=Dictionary(Image=placed.image), Font=fonts)


def _overlay(pdf: Any, page: PageReading, source: Any, drawn: documents.PageOf) -> None:
    """Copy the page of a PDF, and lay the text over it."""
    from pikepdf import Dictionary, Name

    pdf.pages.append(source.pages[drawn.number - 1])
    new = pdf.pages[-1]
    _remove_hidden_text(pdf, new)
    size = page.size if all(page.size) else documents.pdf_size(drawn)
    (left, bottom, right, top), turned = documents.pdf_place(drawn)
    # Points per pixel; pixels are those of the page as it is shown.
    scale = (right - left if turned % 180 == 0 else top - bottom) / size[0]
    placed = {
        0: (scale, 0, 0, scale, left, bottom),
        90: (0, scale, -scale, 0, right, bottom),
        180: (-scale, 0, 0, -scale, right, top),
        270: (0, -scale, scale, 0, left, top),
    }[turned]
    codes = pdf_font.Codes()
    layer = text_layer(page, size, codes)
    # pikepdf would draw a name by lot, and replace whatever has a given one.
    taken = {name for kind in new.resources.as_dict().values() if isinstance(kind, Dictionary) for name in kind}
    name = next(name for number in itertools.count() if (name := f"/Hidden{number}") not in taken)
    new.add_resource(pdf_font.embed(pdf, codes), Name.Font, Name(name))
    # The page's own content may leave any state behind.
    new.contents_add(b"q\n", prepend=True)
    new.contents_add(f"\nQ q {_numbers(*placed)} cm\n{layer.replace('/Hidden', name)}Q\n".encode("ascii"))


def _remove_hidden_text(pdf: Any, page: Any) -> None:
    """Remove the invisible text of a page, from an earlier reading: viewers would find everything twice."""
    from pikepdf import PdfError, parse_content_stream, unparse_content_stream

    try:
        instructions = list(parse_content_stream(page))
    except PdfError:  # shown as well as it can be
        return
    kept, mode, modes = [], 0, []
    for instruction in instructions:
        operator = str(instruction.operator)
        if operator == "q":
            modes.append(mode)
        elif operator == "Q":
            mode = modes.pop() if modes else 0
        elif operator == "Tr":
            with suppress(IndexError, TypeError):  # without a number, it changes nothing
                mode = int(instruction.operands[0])
        if operator not in ("Tj", "TJ", "'", '"') or mode != 3:
            kept.append(instruction)
    if len(kept) < len(instructions):
        page.obj.Contents = pdf.make_stream(unparse_content_stream(kept))


def text_layer(page: PageReading, size: tuple[int, int], codes: pdf_font.Codes) -> str:
    """The drawing instructions of a page's text, in pixels counted from the lower left corner.

    Args:
        size: Width and height of the page's image in pixels.
        codes: Collects the characters used.
    """
    lines = [_line(line, size, codes) for line in page.lines if line.text.strip()]
    return "BT 3 Tr\n" + "".join(lines) + "ET\n"  # 3: neither filled nor stroked


def _line(line: PageLine, size: tuple[int, int], codes: pdf_font.Codes) -> str:
    place = band(line, size)
    tall = max(place.ascent + place.descent, 1.0)
    # A space ends each word, also the last: otherwise pdfium drops words of one character.
    found = _levelled(words(line, size), LEVEL * tall)
    shown = [_shown(word, codes.hex(f"{word.text} "), place.descent, tall, size) for word in found]
    return f"/Hidden {_numbers(tall)} Tf\n" + "".join(shown)


def _levelled(found: list[Word], most: float) -> list[Word]:
    """The words, moved so that none lies more than `most` pixels from the line's mean level, in proportion to their distance."""
    levels = [(word.start[1] + word.end[1]) / 2 for word in found]
    letters = [len(word.text) for word in found]
    mean = sum(level * n for level, n in zip(levels, letters, strict=True)) / max(sum(letters), 1)
    furthest = max((abs(level - mean) for level in levels), default=0)
    if furthest <= most or any(abs(w.end[1] - w.start[1]) > abs(w.end[0] - w.start[0]) for w in found):
        return found

    def moved(point: Point, level: float) -> Point:
        return point[0], point[1] + (mean - level) * (1 - most / furthest)

    return [
        replace(word, start=moved(word.start, level), end=moved(word.end, level))
        for word, level in zip(found, levels, strict=True)
    ]


def _shown(word: Word, text: str, descent: float, tall: float, size: tuple[int, int]) -> str:
    """Show a word, stretched to its place.

    Its em box is the band of the line, `descent` below the baseline. The word is level, in the middle of its place, even if
    the line slants a little: poppler takes the letters of slanting text for words of their own.
    """
    (x0, y0), (x1, y1) = word.start, word.end
    turned = abs(y1 - y0) > abs(x1 - x0)
    if turned:
        cos, sin, length = 0.0, math.copysign(1, y0 - y1), abs(y1 - y0)  # y counts upwards in PDF
    else:
        cos, sin, length = math.copysign(1, x1 - x0), 0.0, abs(x1 - x0)
    length = max(length, 0.1)
    # The font's own descent is a quarter of an em: move the text so that its box covers the line's band.
    shift = -descent - tall * pdf_font.DESCENT / 1000
    x = (x0 + x1) / 2 - cos * length / 2 - shift * sin
    y = size[1] - (y0 + y1) / 2 - sin * length / 2 + shift * cos
    stretch = 100 * length / (len(word.text) * tall * pdf_font.WIDTH / 1000)
    return f"{_numbers(stretch)} Tz {_numbers(cos, sin, -sin, cos, x, y)} Tm {text} Tj\n"


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.4f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}" for value in values)


def _save(pdf: Any, out: BinaryIO, archival: bool) -> None:
    """Save the document.

    Args:
        archival: Whether it has what PDF/A-2u requires, and should say so.
    """
    from pikepdf import ObjectStreamMode

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pikepdf warns of its own defaults
        with pdf.open_metadata(set_pikepdf_as_editor=False) as about:
            about["xmp:CreatorTool"] = f"hwr {__version__}"
            if archival:
                about["pdfaid:part"], about["pdfaid:conformance"] = "2", "U"
    if archival:
        _output_intent(pdf)
    pdf.save(out, object_stream_mode=ObjectStreamMode.generate, deterministic_id=True)


def _output_intent(pdf: Any) -> None:
    """Say what the numbers of the colours mean: sRGB."""
    from pikepdf import Array, Dictionary, Name, Stream
    from PIL import ImageCms

    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    content[24:36] = bytes.fromhex("07ea00010001000000000000")  # its date, so that a page always gives the same file
    profile = Stream(pdf, bytes(content))
    profile.N = 3
    intent = Dictionary(
        Type=Name.OutputIntent,
        S=Name.GTS_PDFA1,
        OutputConditionIdentifier="sRGB",
        Info="sRGB IEC61966-2.1",
        DestOutputProfile=profile,
    )
    pdf.Root.OutputIntents = Array([intent])
