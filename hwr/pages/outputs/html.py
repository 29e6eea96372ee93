"""A web page to read: the image beside its text, line by line; one file, without network or other files."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hwr.pages.outputs.images import of_page, shown, thumbnail
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.words import outline
from hwr.system.terminal import CONTROL

# Longer side in pixels and JPEG quality of a page's image: about 200 KB.
LONGEST, QUALITY = 1600, 70

# Lines below this confidence are marked.
UNSURE = 0.6

_TITLE, _BODY = "__TITLE__", "__BODY__"


def write(pages: Sequence[PageReading]) -> bytes:
    """Make a web page of pages.

    Raises:
        Error: An image can't be read.
    """
    title = shown(Path(pages[0].source.name)) if pages else ""
    head, end = _template(title)
    return (head + "".join(map(_page, pages)) + end).encode()


def join(paths: Iterable[Path], out: Path) -> None:
    """Join the pages of several files made by `write`."""
    head, end = _template(out.stem)
    with open(out, "w", encoding="utf-8") as file:
        file.write(head)
        for path in paths:
            text = path.read_text(encoding="utf-8")
            file.write(text[text.index("<section") : text.rindex("</section>") + len("</section>\n")])
        file.write(end)


def _template(title: str) -> tuple[str, str]:
    """What comes before and after the pages."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    head, _, end = template.replace(_TITLE, _text(title), 1).partition(_BODY)
    return head, end


def _page(page: PageReading) -> str:
    (width, height), _ = of_page(page)
    boxes = "".join(
        f'<polygon points="{" ".join(f"{x},{y}" for x, y in outline(line, (width, height)))}"/>' for line in page.lines
    )
    rows = "".join(map(_line, page.lines)) or '<li class="none">no text found</li>'
    return (
        f"<section>\n<h2>{_text(shown(Path(page.source.name)))}</h2>\n<div class=page>\n"
        f'<figure><img alt="" width="{width}" height="{height}" src="{thumbnail(page, LONGEST, QUALITY)}">\n'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{boxes}</svg></figure>\n'
        f"<ol>\n{rows}</ol>\n</div>\n</section>\n"
    )


def _line(line: PageLine) -> str:
    if line.error:
        return f'<li class="error" title="{_text(line.error)}">could not be read</li>\n'
    unsure = ' class="unsure"' if line.confidence < UNSURE else ""
    return f'<li{unsure} title="confidence {100 * line.confidence:.0f} %">{_text(line.text)}</li>\n'


def _text(text: str) -> str:
    return escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
