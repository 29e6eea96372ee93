"""Edit a PAGE file line by line, in place. Everything that an edit does not concern stays as it is.

A line whose text a person has checked is marked `groundTruth {}` in its `custom` attribute, which eScriptorium and
Transkribus keep.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data.formats import page, shapes, xml
from hwr.data.formats.shapes import Page
from hwr.data.formats.xml_edit import Document
from hwr.images.load import Polygon

GROUND_TRUTH = "groundTruth"

# A mark of `custom`: a name and its properties in braces.
_MARK = re.compile(r"\s*(\w+)\s*\{([^}]*)\}\s*")

# Transkribus' mark for a line's place in its region.
_PLACE = re.compile(r"(\breadingOrder\s*\{\s*index\s*:\s*)\d+")

# The schema's order of a line's children. Whatever is not named here comes last.
_ORDER = ("AlternativeImage", "Coords", "Baseline", "Word", "TextEquiv", "TextStyle", "UserDefined", "Labels")


@dataclass(frozen=True)
class Status:
    """What is known of a line's text.

    Attributes:
        confidence: Of a predicted text, 0..1; None if the text is not a prediction.
        checked: Whether a person has checked the text, so that it counts as ground truth.
    """

    confidence: float | None
    checked: bool


def parse(content: bytes, path: Path) -> tuple[Document, Page, tuple[Status, ...]]:
    """Parse a PAGE file.

    Args:
        path: For messages.

    Returns:
        The file, its page, and the status of each line of the page.

    Raises:
        Error: It is not PAGE, or malformed, or can't be edited; names file:line.
    """
    document = Document(content, path)
    root = document.root
    if xml.local(root) != page.TAG:
        raise Error(f"{path}:{root.sourceline}: the root element is <{xml.local(root)}>, expected <{page.TAG}> (PAGE)")
    _name_all(root)
    found = page.parse(path, root)
    (element,) = xml.children(root, "Page")
    return document, found, tuple(_status(line) for line in xml.descendants(element, "TextLine"))


def set_image(root: Any, name: str) -> None:
    """Let the page belong to this image."""
    xml.children(root, "Page")[0].set("imageFilename", name)


def _name_all(root: Any) -> None:
    """Give an id to each line that has none, or one that has occurred before: edits name lines by their ids."""
    free = _free_ids(root, "hwr_line")
    taken: set[str] = set()
    for line in xml.descendants(root, "TextLine"):
        if (id := line.get("id")) and id not in taken:
            taken.add(id)
        else:
            line.set("id", next(free))


def _free_ids(root: Any, start: str) -> Iterator[str]:
    """Ids with a number at the end that no element has."""
    used = {element.get("id") for element in root.iter() if isinstance(element.tag, str)}
    return (id for number in itertools.count(1) if (id := f"{start}_{number}") not in used)


def _status(line: Any) -> Status:
    best = page.best_equivalent(line)
    try:
        confidence = None if best is None or best.get("conf") is None else min(1.0, max(0.0, float(best.get("conf"))))
    except ValueError:
        confidence = None
    return Status(confidence, any(name == GROUND_TRUTH for name, _ in _MARK.findall(line.get("custom", ""))))


def find(root: Any, id: str) -> Any:
    """The TextLine of that id.

    Raises:
        Error: There is none.
    """
    found = next((line for line in xml.descendants(root, "TextLine") if line.get("id") == id), None)
    if found is None:
        raise Error(f"the page has no line {id!r}")
    return found


def set_text(root: Any, id: str, text: str, confidence: float | None, checked: bool) -> None:
    """Set a line's text and status. If the text does not change, its words and alternatives stay.

    Args:
        confidence: Of a predicted text, 0..1, else None.
        checked: Whether a person has checked it.

    Raises:
        Error: There is no such line.
    """
    line = find(root, id)
    best = page.best_equivalent(line)
    if page.text_of(line).strip() != text.strip() or not text:
        page.set_text(line, text, confidence)
    elif best is not None and confidence is not None:
        best.set("conf", f"{confidence:.4f}")
    elif best is not None:
        best.attrib.pop("conf", None)
    _mark(line, checked)


def _mark(line: Any, checked: bool) -> None:
    custom = line.get("custom", "")
    others = re.sub(rf"\b{GROUND_TRUTH}\s*\{{[^}}]*\}}\s*", "", custom).strip()
    if checked != (others != custom.strip()):
        line.set("custom", f"{others} {GROUND_TRUTH} {{}}".strip() if checked else others)
        if not line.get("custom"):
            del line.attrib["custom"]


def set_shape(root: Any, id: str, polygon: Polygon, baseline: Polygon) -> None:
    """Set the outline and baseline of a line; () for a baseline removes it.

    Raises:
        Error: There is no such line.
    """
    line = find(root, id)
    for name, points in (("Coords", polygon), ("Baseline", baseline)):
        old = xml.children(line, name)
        for extra in old[1:] if points else old:
            xml.detach(extra)
        if points:
            element = old[0] if old else xml.add(line, name)
            for point in list(element):  # files older than 2013 have an element for each point
                xml.detach(point)
            element.set("points", shapes.points_text(points))
    _sort(line)


def _sort(line: Any) -> None:
    """Put a new outline or baseline where the schema wants it."""

    def place(child: Any) -> int:
        return _ORDER.index(xml.local(child)) if xml.local(child) in _ORDER else len(_ORDER)

    elements = [child for child in line if xml.local(child)]
    if elements != (wanted := sorted(elements, key=place)):
        for child in wanted:
            xml.detach(child)
            line.append(child)


def add(root: Any, polygon: Polygon, baseline: Polygon = (), after: str | None = None) -> str:
    """Add a line without text after another one, or before all others.

    Returns:
        Its id.

    Raises:
        Error: There is no line `after`.
    """
    id = next(_free_ids(root, "hwr_line"))
    if after is None:
        line = xml.add(_region(root), "TextLine", id=id)
        _first(line)
    else:
        other = find(root, after)
        line = xml.add(other.getparent(), "TextLine", id=id)
        other.addnext(line)
    set_shape(root, id, polygon, baseline)
    _renumber(line.getparent())
    return id


def move(root: Any, id: str, after: str | None) -> None:
    """Move a line after another one, into its region, or before all others.

    Raises:
        Error: There is no such line.
    """
    line = find(root, id)
    old = line.getparent()
    if after is None:
        first = xml.descendants(root, "TextLine")[0]
        if first is not line:
            xml.detach(line)
            first.addprevious(line)
    elif after != id:
        other = find(root, after)
        xml.detach(line)
        other.addnext(line)
    _renumber(line.getparent())
    if old is not line.getparent():
        _renumber(old)


def delete(root: Any, id: str) -> None:
    """Delete a line.

    Raises:
        Error: There is no such line.
    """
    line = find(root, id)
    region = line.getparent()
    xml.detach(line)
    _renumber(region)


def _region(root: Any) -> Any:
    """The first text region; a new one if there is none."""
    (element,) = xml.children(root, "Page")
    if regions := xml.descendants(element, "TextRegion"):
        return regions[0]
    width, height = int(element.get("imageWidth")), int(element.get("imageHeight"))
    region = xml.add(element, "TextRegion", id=next(_free_ids(root, "hwr_region")))
    xml.add(region, "Coords", points=shapes.points_text(shapes.whole((width, height))))
    return region


def _first(line: Any) -> None:
    """Move a new line, the last child of its region, to where the schema wants the first line."""
    region = line.getparent()
    own: Sequence[Any] = [e for e in region if xml.local(e) == "TextLine" and e is not line]
    later = own or [e for e in region if xml.local(e) in ("TextEquiv", "TextStyle")]
    if later:
        later[0].addprevious(line)


def _renumber(region: Any) -> None:
    """Number the lines of a region as Transkribus does, if it did."""
    customs = [(line, line.get("custom", "")) for line in xml.children(region, "TextLine")]
    if not any(_PLACE.search(custom) for _, custom in customs):
        return
    for number, (line, custom) in enumerate(customs):
        if _PLACE.search(custom):
            line.set("custom", _PLACE.sub(rf"\g<1>{number}", custom))
        else:
            line.set("custom", f"readingOrder {{index:{number};}} {custom}".strip())
