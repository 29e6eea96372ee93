"""ALTO (versions 2 to 4), as libraries and eScriptorium write it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr import Error, __version__
from hwr.config import Data
from hwr.data import Dataset
from hwr.data.formats import marked_pages, shapes, xml
from hwr.data.formats.contents import Contents
from hwr.data.formats.shapes import Marked, Page
from hwr.data.formats.xml import children, descendants, local
from hwr.data.text import blank
from hwr.images.load import Polygon

LAYOUT = "ALTO XML, in pixels, with page images beside it or in the folder above"
TAG = "alto"
UNITS: tuple[str, ...] = ("line",)
USES: tuple[str, ...] = ("images",)
KEEPS_WRITERS = False
# The Processing step of a page whose positions refer to the image as EXIF rotates it. ALTO has no element for it.
TURNED = "EXIF orientation applied"
NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"


def detect(contents: Contents) -> bool:
    """Whether a folder holds ALTO."""
    return contents.tag == TAG


# --- Read ---


def read(data: Data) -> Dataset:
    """Read all ALTO files below `data.root`.

    Raises:
        Error: As `marked_pages.read`.
    """
    return marked_pages.read(data, TAG, parse)


def parse(path: Path, root: Any) -> Page:
    """Make a page from a file's root element.

    Raises:
        Error: A unit other than pixels, no page; names file:line.
    """
    for unit in descendants(root, "MeasurementUnit"):
        if (unit.text or "").strip() not in ("pixel", ""):
            raise Error(f"{path}:{unit.sourceline}: is measured in {unit.text}; only pixels can be found in the image")
    found = descendants(root, "Page")
    if len(found) != 1:
        raise Error(f"{path}:{root.sourceline}: has {len(found)} <Page> elements; one page a file is read")
    names = [name for info in descendants(root, "sourceImageInformation") for name in children(info, "fileName")]
    source = f"{path}:{(names[0] if names else root).sourceline}"
    lines = shapes.unique(_line(line, path, i) for i, line in enumerate(descendants(found[0], "TextLine")))
    image = (names[0].text or "").strip() if names else ""
    width, height = (_number(found[0], name, path) for name in ("WIDTH", "HEIGHT"))
    steps = descendants(root, "processingStepDescription")
    return Page(image, source, width, height, lines, any((step.text or "").strip() == TURNED for step in steps))


def _line(element: Any, path: Path, place: int) -> Marked:
    source = f"{path}:{element.sourceline}"

    def baseline() -> Polygon:
        stated = element.get("BASELINE", "")
        # Before version 4.1 it is one number, a height.
        return shapes.points(stated, source, 2) if len(stated.replace(",", " ").split()) > 1 else ()

    def outline() -> Polygon:
        for polygon in (child for shape in children(element, "Shape") for child in children(shape, "Polygon")):
            return shapes.points(polygon.get("POINTS", ""), f"{path}:{polygon.sourceline}", 3)
        return ()

    def box() -> Polygon:
        x, y, w, h = (_number(element, name, path) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
        # A line known by its baseline only may have the box of its baseline.
        return ((x, y), (x + w, y), (x + w, y + h), (x, y + h)) if min(w, h) > 1 else ()

    return shapes.marked(element.get("ID") or f"line{place}", _text(element), source, [outline, box], baseline)


def _text(element: Any) -> str:
    """The text of a line: its strings, spaces where it has them, a hyphen at its end."""
    parts: list[str] = []
    for child in element:
        match local(child):
            case "String":
                parts.append(_content(child))
            case "SP":
                parts.append(" ")
            case "HYP":
                parts.append(parts.pop() + child.get("CONTENT", "-") if parts else child.get("CONTENT", "-"))
    # Some programs omit the spaces.
    return ("" if children(element, "SP") else " ").join(parts)


def _content(string: Any) -> str:
    """The text of a String: its CONTENT or, if that is blank, that of its glyphs, or the first alternative."""
    stated = string.get("CONTENT", "")
    if not blank(stated):
        return str(stated)
    glyphs = "".join(glyph.get("CONTENT", "") for glyph in children(string, "Glyph"))
    return glyphs or next((found.text or "" for found in children(string, "ALTERNATIVE")), stated)


def _number(element: Any, name: str, path: Path) -> int:
    """A position or length; 0 if it is missing."""
    stated = element.get(name)
    try:
        return 0 if stated is None else shapes.coordinate(stated)
    except ValueError as error:
        raise Error(f"{path}:{element.sourceline}: {name}: {error}") from None


# --- Write ---


def write(dataset: Dataset, out: Path) -> None:
    """Write a dataset as ALTO files beside copies of the page images."""
    marked_pages.write(dataset, out, new)


def new(image: str, size: tuple[int, int], lines: Sequence[Marked], turned: bool = False) -> Any:
    """Make the ALTO of an image, each line's text in one String.

    Args:
        image: Its file name.
        size: Its width and height in pixels.
        turned: See `PageFormat.new`.

    Returns:
        The root element.
    """
    root = xml.new(TAG, NAMESPACE)
    description = xml.add(root, "Description")
    xml.add(description, "MeasurementUnit").text = "pixel"
    xml.add(xml.add(description, "sourceImageInformation"), "fileName").text = image
    if turned:
        step = xml.add(description, "Processing", ID="exif")
        xml.add(step, "processingStepDescription").text = TURNED
        xml.add(xml.add(step, "processingSoftware"), "softwareName").text = f"hwr {__version__}"
    box = {"HPOS": 0, "VPOS": 0, "WIDTH": size[0], "HEIGHT": size[1]}
    page = xml.add(xml.add(root, "Layout"), "Page", ID="page", PHYSICAL_IMG_NR="1", WIDTH=size[0], HEIGHT=size[1])
    block = xml.add(xml.add(page, "PrintSpace", **box), "TextBlock", ID="block", **box)
    for line in lines:
        points = shapes.outline(line, size)
        xs, ys = zip(*points, strict=True)
        place = {"HPOS": min(xs), "VPOS": min(ys), "WIDTH": max(xs) - min(xs), "HEIGHT": max(ys) - min(ys)}
        base = {"BASELINE": shapes.points_text(line.baseline, " ")} if line.baseline else {}
        element = xml.add(block, "TextLine", ID=line.id, **base, **place)
        xml.add(xml.add(element, "Shape"), "Polygon", POINTS=shapes.points_text(points, " "))
        xml.add(element, "String", CONTENT=line.text, **place)
    return root


def update(root: Any, lines: Sequence[Marked], glyphs: bool = False) -> None:
    """Put predicted texts and their confidences into a page, a String for each word; a line with a fault keeps its own.

    Where a line has as many Strings as words, they stay, and only what belonged to old words is removed.

    Args:
        lines: One for each line of the page, in its order.
        glyphs: Whether Strings get a Glyph for each character, if it was located.
    """
    for element, line in zip(descendants(root, "TextLine"), lines, strict=True):
        if not line.fault:
            _update_line(element, line)
            if glyphs:
                _add_glyphs(element, line)


def _add_glyphs(element: Any, line: Marked) -> None:
    for string, (_, _, characters) in zip(children(element, "String"), _words(line), strict=True):
        xml.remove(string, "Glyph")
        box = {key: place for key in ("VPOS", "HEIGHT") if (place := string.get(key) or element.get(key))}
        for character in characters:
            sure = f"{character[3]:.4f}"
            xml.add(string, "Glyph", CONTENT=character[0], GC=sure, **_place([character]), **box)


def _update_line(element: Any, line: Marked) -> None:
    words, same = _words(line), _text(element).strip() == line.text.strip()
    strings, spaces = children(element, "String"), len(children(element, "SP"))
    fits = not children(element, "HYP") and spaces in (0, sum(word[0] for word in words))
    if len(strings) == len(words) and (same or fits):
        for string, (_, word, characters) in zip(strings, words, strict=True):
            if not same and string.get("CONTENT") != word:
                _clear(string)
                string.attrib.update({"CONTENT": word, **_place(characters)})
            string.set("WC", _confidence(characters, line))
        return
    xml.remove(element, "String", "SP", "HYP")
    box = {key: element.get(key) for key in ("VPOS", "HEIGHT") if element.get(key)}
    for number, word, characters in words:
        for _ in range(number):
            xml.add(element, "SP")
        xml.add(element, "String", CONTENT=word, WC=_confidence(characters, line), **_place(characters), **box)


def _clear(string: Any) -> None:
    """Remove what belongs to the old text of a String: alternatives, and what is known of its characters."""
    xml.remove(string, "ALTERNATIVE", "Glyph", "Shape")
    for name in ("CC", "SUBS_TYPE", "SUBS_CONTENT"):
        string.attrib.pop(name, None)


def _place(characters: Sequence[tuple[str, float, float, float]]) -> dict[str, str]:
    """The horizontal position of a word, if that of its characters is known."""
    if not characters:
        return {}
    # On a page that is upside down the first character is the one furthest to the right.
    left, right = round(min(c[1] for c in characters)), round(max(c[2] for c in characters))
    return {"HPOS": str(left), "WIDTH": str(max(1, right - left))}


def _confidence(characters: Sequence[tuple[str, float, float, float]], line: Marked) -> str:
    return f"{min((c[3] for c in characters), default=line.confidence):.4f}"


def _words(line: Marked) -> list[tuple[int, str, list[tuple[str, float, float, float]]]]:
    """The words of a text, each with the number of spaces before it and its characters, if they are known."""
    out, place, spaces = [], 0, 0
    for word in line.text.split(" "):
        if word:
            out.append((spaces, word, list(line.characters[place : place + len(word)])))
            spaces = 0
        spaces += 1
        place += len(word) + 1
    return out
