"""What the formats need to know about a page's image."""

import base64
import io
from pathlib import Path

from hwr.images import load
from hwr.pages.page_reading import PageReading
from hwr.system.terminal import unicode


def shown(path: Path) -> str:
    """A path as text, with bytes that are not UTF-8 replaced; "" if the page was read from pixels."""
    return "" if path == Path() else unicode(str(path))


def of_page(page: PageReading) -> tuple[tuple[int, int], int]:
    """Width and height in pixels of the image to which the page's positions refer, and its dots per inch, 0 if unknown.

    Raises:
        Error: The size is unknown, and the image can't be opened.
    """
    size = page.size if all(page.size) else load.size(page.image, page.upright)
    try:
        with load.opened(page.image) as image:
            dpi = float(image.info.get("dpi", (0, 0))[0])
    except Exception:  # Pillow raises nearly anything on damaged files
        dpi = 0.0
    return size, round(dpi) if 1 <= dpi <= 9600 else 0


def thumbnail(page: PageReading, longest: int, quality: int) -> str:
    """The page's image as a data URL, a JPEG of at most `longest` pixels.

    Raises:
        Error: The image can't be read.
    """
    with load.decoding(str(page.image)), load.opened(page.image) as opened:
        opened.draft("RGB", (longest, longest))  # decodes a large JPEG at a fraction of its size
        image = load.plain_of(opened, page.upright, str(page.image))
        image.thumbnail((longest, longest))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
