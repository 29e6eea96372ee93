"""ALTO (versions 2 to 4), as libraries and eScriptorium write it -> Dataset."""

from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset
from hwr.data.formats import pages
from hwr.data.formats.pages import Marked, Page, children, descendants, local
from hwr.images.load import Polygon


def read(data: Data) -> Dataset:
    """Read all ALTO files below `data.root`."""
    return pages.read(data, "alto", parse)


def parse(path: Path, root: Any) -> Page:
    """Make a page of a file's root element.

    Raises:
        Error: Measured in something else than pixels; no page, or a line with bad points; names file:line.
    """
    for unit in descendants(root, "MeasurementUnit"):
        if (unit.text or "").strip() not in ("pixel", ""):
            raise Error(f"{path}:{unit.sourceline}: is measured in {unit.text}; only pixels can be found in the image")
    found = descendants(root, "Page")
    if len(found) != 1:
        raise Error(f"{path}:{root.sourceline}: has {len(found)} <Page> elements; one page a file is read")
    names = [name for info in descendants(root, "sourceImageInformation") for name in children(info, "fileName")]
    source = f"{path}:{(names[0] if names else root).sourceline}"
    lines = tuple(_line(line, path, i) for i, line in enumerate(descendants(found[0], "TextLine")))
    pages.unique((line.id, line.source) for line in lines)
    image = (names[0].text or "").strip() if names else ""
    width, height = (_number(found[0], name, path, 0) for name in ("WIDTH", "HEIGHT"))
    return Page(image, source, width, height, lines)


def _line(element: Any, path: Path, place: int) -> Marked:
    source = f"{path}:{element.sourceline}"

    def baseline() -> Polygon:
        stated = element.get("BASELINE", "")
        # Before version 4.1 it is one number, a height.
        return pages.points(stated, source, 2) if len(stated.replace(",", " ").split()) > 1 else ()

    def shape() -> Polygon:
        for polygon in (child for shape in children(element, "Shape") for child in children(shape, "Polygon")):
            return pages.points(polygon.get("POINTS", ""), f"{path}:{polygon.sourceline}", 3)
        x, y, w, h = (_number(element, name, path, 0) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
        # A line that is known by its baseline alone may have that one's box.
        return ((x, y), (x + w, y), (x + w, y + h), (x, y + h)) if min(w, h) > 1 else ()

    return pages.marked(element.get("ID") or f"line{place}", text(element), source, shape, baseline)


def text(element: Any) -> str:
    """The text of a line: its strings, spaces where it has them, a hyphen at its end."""
    parts: list[str] = []
    for child in element:
        match local(child):
            case "String":
                parts.append(child.get("CONTENT", ""))
            case "SP":
                parts.append(" ")
            case "HYP":
                parts.append(parts.pop() + child.get("CONTENT", "-") if parts else child.get("CONTENT", "-"))
    # Some programs leave the spaces out.
    strings = [child for child in element if local(child) == "String"]
    spaced = any(local(child) == "SP" for child in element) or len(strings) < 2
    return "".join(parts) if spaced else " ".join(parts)


def _number(element: Any, name: str, path: Path, default: int) -> int:
    stated = element.get(name)
    try:
        return default if stated is None else round(float(stated))
    except ValueError:
        raise Error(f"{path}:{element.sourceline}: {name} is {stated!r}, not a number") from None
