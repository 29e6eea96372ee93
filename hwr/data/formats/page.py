"""PAGE XML (2013 to 2019), as Transkribus, eScriptorium and OCR-D write it."""

import re
from collections.abc import Sequence
from datetime import datetime, timezone
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

LAYOUT = "PAGE XML with page images beside it or in the folder above"
TAG = "PcGts"
UNITS: tuple[str, ...] = ("line",)
USES: tuple[str, ...] = ("images",)
KEEPS_WRITERS = False
# The attribute `custom` of a Page whose positions refer to the image as EXIF rotates it. PAGE has no element for it.
TURNED = "exifOrientation {applied:true;}"
# Marks on parts of a line's text, as Transkribus has them in the attribute `custom`.
_RANGES = re.compile(r"\w+ *\{[^}]*offset:[^}]*\} *")
NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


def detect(contents: Contents) -> bool:
    """Whether a folder holds PAGE."""
    return contents.tag == TAG


# --- Read ---


def read(data: Data) -> Dataset:
    """Read all PAGE files below `data.root`.

    Raises:
        Error: As `marked_pages.read`.
    """
    return marked_pages.read(data, TAG, parse)


def parse(path: Path, root: Any) -> Page:
    """Make a page from a file's root element.

    Raises:
        Error: No page or no size, a line without an id; names file:line.
    """
    found = children(root, "Page")
    if len(found) != 1:
        raise Error(f"{path}:{root.sourceline}: has {len(found)} <Page> elements, there should be one")
    element = found[0]
    source = f"{path}:{element.sourceline}"
    try:
        width, height = (shapes.coordinate(element.get(name, "")) for name in ("imageWidth", "imageHeight"))
    except ValueError as error:
        raise Error(f"{source}: <Page> needs imageWidth and imageHeight as numbers: {error}") from None
    lines = shapes.unique(_line(line, path, i) for i, line in enumerate(descendants(element, "TextLine")))
    turned = TURNED in element.get("custom", "")
    return Page(element.get("imageFilename", ""), source, max(0, width), max(0, height), lines, turned)


def _line(element: Any, path: Path, place: int) -> Marked:
    source = f"{path}:{element.sourceline}"
    return shapes.marked(
        element.get("id") or f"line{place}",
        text_of(element),
        source,
        [lambda: _points(element, "Coords", path, 3)],
        lambda: _points(element, "Baseline", path, 2),
    )


def text_of(element: Any) -> str:
    """The text of a line: its TextEquiv of the lowest index that is not blank, else the text of its words, or of their glyphs."""
    best = best_equivalent(element)
    if best is not None and not blank(text := _stated(best)):
        return text
    words = " ".join(found for word in children(element, "Word") if (found := text_of(word)))
    return words or "".join(map(text_of, children(element, "Glyph")))


def best_equivalent(element: Any) -> Any | None:
    """The TextEquiv of the lowest index among those that are not blank, or among all, or None."""
    return min(children(element, "TextEquiv"), key=lambda found: (blank(_stated(found)), _index(found)), default=None)


def _stated(equivalent: Any) -> str:
    """The text of a TextEquiv."""
    parts = ("".join("".join(x.itertext()) for x in children(equivalent, name)) for name in ("Unicode", "PlainText"))
    return next((text for text in parts if not blank(text)), "")


def _index(equivalent: Any) -> int:
    """The rank of a TextEquiv; 0, the first, if it states none or not a number."""
    stated = equivalent.get("index", "0")
    return int(stated) if re.fullmatch("[0-9]{1,9}", stated) else 0


def _points(element: Any, name: str, path: Path, least: int) -> Polygon:
    for child in children(element, name):
        where = f"{path}:{child.sourceline}"
        if child.get("points"):
            return shapes.points(child.get("points"), where, least)
        inner = [f"{point.get('x')},{point.get('y')}" for point in children(child, "Point")]  # before 2013
        return shapes.points(" ".join(inner), where, least)
    return ()


# --- Write ---


def write(dataset: Dataset, out: Path) -> None:
    """Write a dataset as PAGE files beside copies of the page images."""
    marked_pages.write(dataset, out, new)


def new(image: str, size: tuple[int, int], lines: Sequence[Marked], turned: bool = False) -> Any:
    """Make the PAGE of an image.

    Args:
        image: Its file name.
        size: Its width and height in pixels.
        turned: See `PageFormat.new`.

    Returns:
        The root element.
    """
    root = xml.new(TAG, NAMESPACE)
    metadata = xml.add(root, "Metadata")
    for tag, text in (("Creator", f"hwr {__version__}"), ("Created", _now()), ("LastChange", _now())):
        xml.add(metadata, tag).text = text
    width, height = size
    page = xml.add(root, "Page", imageFilename=image, imageWidth=width, imageHeight=height)
    if turned:
        page.set("custom", TURNED)
    region = xml.add(page, "TextRegion", id="region")
    xml.add(region, "Coords", points=shapes.points_text(shapes.whole(size)))
    for line in lines:
        element = xml.add(region, "TextLine", id=line.id)
        xml.add(element, "Coords", points=shapes.points_text(shapes.outline(line, size)))
        if line.baseline:
            xml.add(element, "Baseline", points=shapes.points_text(line.baseline))
        xml.add(xml.add(element, "TextEquiv"), "Unicode").text = line.text
    return root


def update(root: Any, lines: Sequence[Marked]) -> None:
    """Put predicted texts and their confidences into a page; a line with a fault stays unchanged.

    What belongs to an old text is removed, see `set_text` and `follow_lines`. All else stays.

    Args:
        lines: One for each line of the page, in its order.
    """
    before, regions = xml.text(root), region_texts(root)
    for element, line in zip(descendants(root, "TextLine"), lines, strict=True):
        if line.fault:
            continue
        best = best_equivalent(element)
        if best is not None and line.text and _stated(best).strip() == line.text.strip():
            best.set("conf", f"{line.confidence:.4f}")
        else:
            set_text(element, line.text, line.confidence)
    follow_lines(regions)
    if xml.text(root) != before:
        touch(root)


def region_texts(root: Any) -> dict[Any, str]:
    """The regions that have a text of their own, each with the texts of its lines, one per line."""
    regions = (element for element in root.iter() if local(element).endswith(("Region", "TableCell")))
    return {region: _joined(region) for region in regions if children(region, "TextEquiv")}


def follow_lines(before: dict[Any, str]) -> None:
    """After an edit, let the texts of regions follow their lines. Where they were other texts, they are removed.

    Args:
        before: The `region_texts` before the edit.
    """
    for region, old in before.items():
        if (new := _joined(region)) == old:
            continue
        first, *more = children(region, "TextEquiv")
        if more or _stated(first).strip() != old.strip():
            xml.remove(region, "TextEquiv")
        else:
            first.attrib.pop("conf", None)
            _set_unicode(first, new)


def _joined(region: Any) -> str:
    return "\n".join(text_of(line) for line in descendants(region, "TextLine"))


def touch(root: Any) -> None:
    """Set the time of the last change."""
    for changed in descendants(root, "LastChange"):
        changed.text = _now()


def set_text(element: Any, text: str, confidence: float | None) -> None:
    """Set the text of a TextLine.

    What belonged to the old text is removed: words, alternatives, marks on parts of it.

    Args:
        confidence: Of a predicted text, 0..1; None for any other.
    """
    xml.remove(element, "Word")
    custom = element.get("custom", "")
    if _RANGES.search(custom):
        element.set("custom", _RANGES.sub("", custom).strip())
    best = best_equivalent(element)
    for other in children(element, "TextEquiv"):
        if other is not best:
            xml.detach(other)
    if best is None:
        best = xml.add(element, "TextEquiv")
        # The schema wants it after the line's shape and before its style.
        shape = [i for i, child in enumerate(element) if local(child) in ("AlternativeImage", "Coords", "Baseline")]
        element.insert(max(shape, default=-1) + 1, best)
    if confidence is not None:
        best.set("conf", f"{confidence:.4f}")
    else:
        best.attrib.pop("conf", None)
    _set_unicode(best, text)


def _set_unicode(equivalent: Any, text: str) -> None:
    xml.remove(equivalent, "PlainText")
    first, *more = children(equivalent, "Unicode") or [xml.add(equivalent, "Unicode")]
    for extra in more:
        xml.detach(extra)
    first.text = text
    for inside in first:  # a comment
        inside.tail = None


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
