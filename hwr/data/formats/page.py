"""PAGE XML (2013 to 2019), as Transkribus, eScriptorium and OCR-D write it -> Dataset."""

from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset
from hwr.data.formats import pages
from hwr.data.formats.pages import Marked, Page, children, descendants
from hwr.images.load import Polygon


def read(data: Data) -> Dataset:
    """Read all PAGE files below `data.root`."""
    return pages.read(data, "PcGts", parse)


def parse(path: Path, root: Any) -> Page:
    """Make a page of a file's root element.

    Raises:
        Error: No page or no size, a line without an id or with bad points; names file:line.
    """
    found = children(root, "Page")
    if len(found) != 1:
        raise Error(f"{path}:{root.sourceline}: has {len(found)} <Page> elements, there should be one")
    element = found[0]
    source = f"{path}:{element.sourceline}"
    try:
        width, height = int(element.get("imageWidth", "")), int(element.get("imageHeight", ""))
    except ValueError:
        raise Error(f"{source}: <Page> has no imageWidth or imageHeight, or one that is no number") from None
    lines = tuple(_line(line, path) for line in descendants(element, "TextLine"))
    pages.unique((line.id, line.source) for line in lines)
    return Page(element.get("imageFilename", ""), source, width, height, lines)


def _line(element: Any, path: Path) -> Marked:
    source = f"{path}:{element.sourceline}"
    id = element.get("id")
    if not id:
        raise Error(f"{source}: <TextLine> has no id")
    return pages.marked(
        id,
        text(element),
        source,
        lambda: _points(element, "Coords", path, 3),
        lambda: _points(element, "Baseline", path, 2),
    )


def text(element: Any) -> str:
    """The text of a line: its TextEquiv of the lowest index, or else those of its words."""
    equivalents = children(element, "TextEquiv")
    if equivalents:
        best = min(equivalents, key=lambda e: int(e.get("index", "0")) if e.get("index", "0").isdigit() else 0)
        return "".join("".join(unicode.itertext()) for unicode in children(best, "Unicode"))
    return " ".join(found for word in children(element, "Word") if (found := text(word)))


def _points(element: Any, name: str, path: Path, least: int) -> Polygon:
    for child in children(element, name):
        where = f"{path}:{child.sourceline}"
        if child.get("points"):
            return pages.points(child.get("points"), where, least)
        inner = [f"{point.get('x')},{point.get('y')}" for point in children(child, "Point")]  # before 2013
        return pages.points(" ".join(inner), where, least)
    return ()
