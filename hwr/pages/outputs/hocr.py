"""hOCR: HTML whose classes and titles say where pages, lines and words are (version 1.2 of kba.github.io/hocr-spec)."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hwr import __version__
from hwr.pages.outputs.images import of_page, shown
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.words import Word, band, outline, words
from hwr.system.terminal import CONTROL

Box = tuple[int, int, int, int]

HEAD = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml">
 <head>
  <title></title>
  <meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>
  <meta name="ocr-system" content="hwr {__version__}"/>
  <meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"/>
 </head>
 <body>
"""
END = " </body>\n</html>\n"


def write(pages: Sequence[PageReading], characters: bool = False) -> bytes:
    """Make an hOCR document of pages.

    Args:
        characters: Whether words hold an `ocrx_cinfo` for each character that was located.

    Raises:
        Error: The size of a page's image is needed, and the image can't be read.
    """
    body = "".join(_page(page, number, characters) for number, page in enumerate(pages))
    return (HEAD + body + END).encode()


def join(paths: Iterable[Path], out: Path) -> None:
    """Join the pages of several files made by `write`."""
    number = 0
    with open(out, "w", encoding="utf-8") as file:
        file.write(HEAD)
        for path in paths:
            body = path.read_text(encoding="utf-8").removeprefix(HEAD).removesuffix(END)
            # Ids and numbers of pages are unique in a document; each file counts from 0.
            for row in body.splitlines(keepends=True):
                if row.startswith('  <div class="ocr_page"'):
                    before, _, after = row.rpartition("ppageno 0")  # an image's name may hold it, too
                    row = f"{before}ppageno {number}{after}"
                file.write(row.replace(' id="p0', f' id="p{number}'))
            number += 1
        file.write(END)


def _page(page: PageReading, number: int, characters: bool) -> str:
    size, dpi = of_page(page)
    resolution = f"; scan_res {dpi} {dpi}" if dpi else ""
    image = page.image if page.kind or page.source == Path() else page.source
    # A quotation mark or a semicolon in the name would end the property.
    name = CONTROL.sub(" ", shown(image)).replace('"', "'").replace(";", ",")
    title = f'image "{name}"; bbox 0 0 {size[0]} {size[1]}; ppageno {number}{resolution}'
    lines = [_line(line, size, f"p{number}_l{i}", characters) for i, line in enumerate(page.lines)]
    box = _box(_around([_corners(line, size) for line in page.lines]) or (0, 0, *size))
    return (
        f'  <div class="ocr_page" id="p{number}" title="{escape(title)}">\n'
        + (f'   <div class="ocr_carea" id="p{number}_c" title="{box}">\n' if lines else "")
        + (f'    <p class="ocr_par" id="p{number}_p" title="{box}">\n' if lines else "")
        + "".join(lines)
        + ("    </p>\n   </div>\n" if lines else "")
        + "  </div>\n"
    )


def _line(line: PageLine, size: tuple[int, int], id: str, characters: bool) -> str:
    box, place = _corners(line, size), band(line, size)
    # The baseline relative to the lower left corner of the box, as slope and constant.
    x, y = place.baseline[0]
    slope = place.slope if abs(place.slope) < 1 else 0.0
    constant = y + slope * (box[0] - x) - box[3]
    tall = place.ascent + place.descent
    title = f"{_box(box)}; baseline {slope:.4f} {constant:.1f}; x_size {tall:.1f}; x_wconf {100 * line.confidence:.0f}"
    found = [_word(word, f"{id}_w{i}", characters) for i, word in enumerate(words(line, size))]
    return f'     <span class="ocr_line" id="{id}" title="{title}">' + " ".join(found) + "</span>\n"


def _word(word: Word, id: str, characters: bool) -> str:
    _, top, _, bottom = word.box
    title = f"{_box(word.box)}; x_wconf {100 * word.confidence:.0f}"
    if characters and word.characters:
        inner = "".join(
            f'<span class="ocrx_cinfo" title="x_bboxes {math.floor(c.left)} {top} {math.ceil(c.right)} {bottom}; '
            f'x_conf {100 * c.confidence:.1f}">{_text(c.text)}</span>'
            for c in word.characters
        )
    else:
        inner = _text(word.text)
    return f'<span class="ocrx_word" id="{id}" title="{title}">{inner}</span>'


def _text(text: str) -> str:
    return escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def _corners(line: PageLine, size: tuple[int, int]) -> Box:
    xs, ys = zip(*outline(line, size), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _around(boxes: list[Box]) -> Box | None:
    if not boxes:
        return None
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _box(box: Box) -> str:
    return f"bbox {box[0]} {box[1]} {box[2]} {box[3]}"
