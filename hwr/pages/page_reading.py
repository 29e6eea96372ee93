"""A page that has been read: what every output format is a view of."""

from dataclasses import dataclass, field
from pathlib import Path

from hwr.images.load import Polygon
from hwr.recognizer import Reading
from hwr.system.files import checked_path


@dataclass(frozen=True)
class PageLine(Reading):
    """A line of a page, with its prediction.

    Attributes:
        id: Its id on the page; "" if the image is one line.
        region: Its polygon, (x, y) in pixels of the page; () if the whole image is the line.
        baseline: Its baseline from left to right, (x, y); () if unknown.
        error: Why the line could not be read, else ""; on error the text is empty and the confidence 0.
    """

    id: str = ""
    region: Polygon = ()
    baseline: Polygon = ()
    error: str = ""


@dataclass(frozen=True)
class PageReading:
    """A page with its lines in reading order.

    Attributes:
        image: The file with the page's image.
        lines: Its lines.
        size: Width and height of the image to which positions refer, in pixels; (0, 0) if unknown.
        upright: Whether positions refer to the image rotated by its EXIF orientation rather than as stored.
        source: The file that was read: the image, or the XML that marks its lines.
        kind: The format of that XML, a name in `data.formats.PAGE_FORMATS`; "" for an image.
        xml: The content of that XML.
        error: Why the page could not be read, else "".
    """

    image: Path
    lines: tuple[PageLine, ...]
    size: tuple[int, int] = (0, 0)
    upright: bool = True
    source: Path = Path()
    kind: str = ""
    xml: bytes = field(default=b"", repr=False, compare=False)
    error: str = ""

    @property
    def errors(self) -> list[str]:
        """Why the page, or some of its lines, could not be read."""
        return [self.error] if self.error else [line.error for line in self.lines if line.error]

    @property
    def text(self) -> str:
        """The texts of the lines, one per line."""
        return "\n".join(line.text for line in self.lines)

    def save(self, path: str | Path, format: str | None = None, characters: bool = False) -> None:
        """Write the page as `hwr predict` does. A file of this name is replaced.

        In PDF, ALTO and hOCR each word has its place if the page was read with `characters=True`; otherwise the words of a
        line are spread evenly.

        Args:
            path: Such as `photo.pdf`; its folder is made.
            format: txt, tsv, json, page, alto, hocr, pdf or html; None: that of the suffix.
            characters: Whether to add the place and confidence of each character (json, alto, hocr). The page must have been
                read with `characters=True`.

        Raises:
            Error: The format is unknown or can't hold what is asked; the file is the page's own image or XML, or can't be
                written; the page was read from pixels, and the format refers to an image file.
        """
        from hwr.pages import write  # knows all formats, each of which is a view of this record

        write.save(self, checked_path(path, "save: path"), format, characters)
