"""PAGE and ALTO: the XML that was read with the new texts, or a new file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hwr import Error
from hwr.data import formats
from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.marked_pages import check_name
from hwr.data.formats.shapes import Marked
from hwr.data.formats.xml_edit import Document
from hwr.images import load
from hwr.pages.outputs.images import of_page
from hwr.pages.page_reading import PageReading


def page(pages: Sequence[PageReading]) -> bytes:
    """PAGE XML of one page."""
    return _write(pages, "page", PAGE_FORMATS["page"].update)


def alto(pages: Sequence[PageReading], characters: bool = False) -> bytes:
    """ALTO of one page.

    Args:
        characters: Whether words hold a `Glyph` for each character that was located.
    """
    return _write(pages, "alto", partial(formats.alto.update, glyphs=characters))


def _write(pages: Sequence[PageReading], kind: str, update: Callable[[Any, Sequence[Marked]], None]) -> bytes:
    """A page's texts and confidences, which `update` puts into its XML.

    If the page was read from XML of the same format, every byte of its XML is kept, except for what belonged to the old
    texts. Otherwise the page is new, with its image and lines.

    Raises:
        Error: There are several pages; the image's name can't be written into XML.
    """
    if len(pages) != 1:
        raise Error(f"{kind} holds one page per file, not {len(pages)}")
    (reading,) = pages
    lines = [
        Marked(
            id=line.id or f"line{number}",
            text=line.text,
            polygon=line.region,
            baseline=line.baseline,
            source=str(reading.source),
            fault=line.error,
            confidence=line.confidence,
            characters=line.characters,
        )
        for number, line in enumerate(reading.lines, 1)
    ]
    if reading.kind == kind:
        document = Document(reading.xml, reading.source)
        update(document.root, lines)
        return document.content()
    size, _ = of_page(reading)
    name, turned = check_name(reading.image).name, reading.upright and load.orientation(reading.image) != 1
    root = PAGE_FORMATS[kind].new(name, size, [replace(line, text="") for line in lines], turned)
    update(root, lines)
    return xml.text(root)
