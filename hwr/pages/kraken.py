"""Find the lines of a page photo with kraken's segmenter and its bundled model."""

from pathlib import Path
from typing import Any

from PIL import ImageOps

from hwr import Error
from hwr.data.formats import shapes
from hwr.images import load
from hwr.images.load import Polygon
from hwr.pages.sources import Target


def lines_of(path: Path) -> list[Target]:
    """Find the lines of a page, in reading order.

    Raises:
        Error: kraken is not installed, or the image can't be read.
    """
    try:
        from kraken import blla
    except ImportError as error:
        raise Error(f"--segmenter kraken needs kraken: pip install -e '.[kraken]' ({error})") from error
    with load.decoding(str(path)), load.opened(path) as image:
        # kraken ignores the EXIF orientation, so it gets the upright image.
        picture = ImageOps.exif_transpose(image).convert("RGB")
    try:
        found = blla.segment(picture)
    except Exception as error:  # may come from any of kraken's libraries
        raise Error(f"{path}: kraken can't find its lines: {error}") from error
    lines = tuple(
        shapes.Marked(f"line{number}", "", _rounded(line.boundary), _rounded(line.baseline), str(path))
        for number, line in enumerate(found.lines, 1)
    )
    page = shapes.Page(path.name, str(path), *picture.size, lines)
    return [
        Target(
            path, region, line.baseline, line.id, "" if region else f"{path}: {line.id} has no outline", upright=True
        )
        for line, region in zip(lines, shapes.regions(page), strict=True)
    ]


def _rounded(points: Any) -> Polygon:
    return tuple((round(x), round(y)) for x, y in points or [])
