"""What PAGE and ALTO have in common: pages with marked lines, their images, and lines cut from them."""

import itertools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.datasets import Dataset, Line, splits, xml

Point = tuple[int, int]
Polygon = tuple[Point, ...]

# A line that is marked by its baseline alone reaches so far above and below it, in fractions of the distance to the next
# baseline on the page (or of the page's height / 40 where it is the only one).
ABOVE, BELOW = 0.75, 0.3


@dataclass(frozen=True)
class Marked:
    """A line as a page's XML marks it.

    Attributes:
        id: As it stands there.
        text: Its transcription, "" where there is none.
        polygon: What belongs to it, in pixels of the page; () where only a baseline is known.
        baseline: Points from left to right, or ().
        source: `file:line`.
    """

    id: str
    text: str
    polygon: Polygon
    baseline: Polygon
    source: str


@dataclass(frozen=True)
class Page:
    """A page: its image's name as the XML has it, where that stands, and its lines in their order."""

    image: str
    source: str
    height: int
    lines: tuple[Marked, ...]


def read(data: Data, root_tag: str, parse: Callable[[Path, Any], Page]) -> Dataset:
    """Read all pages below a folder.

    Args:
        root_tag: The root element's name: `PcGts` or `alto`.
        parse: Makes a page of a file and its root element.

    Raises:
        Error: No such folder or no page in it; a malformed page, a missing image; names file and line.
    """
    root, notes = data.folder, list[str]()
    if not root.exists():
        raise Error(f"data.root: {root}: no such folder")
    lines: list[Line] = []
    empty: list[str] = []
    for path in xml_below(root):
        element = xml.parse(path)
        name = local(element)
        if name == "mets":
            continue  # the table of contents of an export
        if name != root_tag:
            known = {"PcGts": "page", "alto": "alto"}.get(name)
            more = f"; data.format={known} reads it" if known else ""
            raise Error(f"{path}:{element.sourceline}: the root element is <{name}>, not <{root_tag}>{more}")
        page = parse(path, element)
        image = find_image(page, path, data.images)
        document = (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix("").as_posix()
        for line, polygon in zip(page.lines, regions(page), strict=True):
            id = f"{document}/{line.id}"
            if line.text.strip():
                lines.append(Line(id, image, line.text.strip(), "", line.source, polygon, line.baseline))
            else:
                empty.append(id)
    if empty:
        notes.append(
            f"{len(empty)} lines have no text and are left out: {', '.join(empty[:5])}" + (", …" if empty[5:] else "")
        )
    if not lines:
        raise Error(f"{root}: no line with text in its pages")
    return splits.split(data, lines, [line.id.rpartition("/")[0] for line in lines], empty, notes)


def xml_below(root: Path) -> list[Path]:
    """The XML files of a folder and its sub-folders, sorted; hidden ones left out. A file is the only one."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".xml" else []
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, n) for n in sorted(names) if n.lower().endswith(".xml") and not n.startswith(".")]
    return found


def local(element: Any) -> str:
    """An element's name without its namespace; "" of a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def children(element: Any, name: str) -> list[Any]:
    return [child for child in element if local(child) == name]


def descendants(element: Any, name: str) -> list[Any]:
    return [child for child in element.iter() if local(child) == name]


def points(text: str, source: str, least: int) -> Polygon:
    """`1,2 3,4` or `1 2 3 4`, as PAGE and ALTO write them.

    Raises:
        Error: Not pairs of numbers, or too few; names the source.
    """
    numbers = re.findall(r"[^\s,]+", text)
    try:
        values = [round(float(number)) for number in numbers]
    except (ValueError, OverflowError):
        raise Error(f"{source}: {text[:60]!r} are no points: x,y x,y …") from None
    if len(values) % 2 or len(values) < 2 * least:
        raise Error(f"{source}: {text[:60]!r} are {len(values)} numbers; at least {least} points, x,y each, are needed")
    return tuple(zip(values[::2], values[1::2], strict=True))


def find_image(page: Page, path: Path, images: str | None) -> Path:
    """The image of a page: beside its XML, in the folder above, or in `data.images`.

    Raises:
        Error: It is in none of them, or its name leads elsewhere.
    """
    if not page.image or re.search(r"[/\\\x00]", page.image) or page.image.startswith(".."):
        raise Error(f"{page.source}: the image's name is {page.image!r}; it must be a file's name without folders")
    folders = [path.parent, path.parent.parent, *([Path(images)] if images else [])]
    for folder in folders:
        if (folder / page.image).is_file():
            return folder / page.image
    raise Error(
        f"{page.source}: its image {page.image} is in none of {', '.join(map(str, folders))}; data.images names another folder"
    )


def regions(page: Page) -> list[Polygon]:
    """What of the page belongs to each line: its polygon, or a band along its baseline."""
    levels = sorted(sum(y for _, y in line.baseline) / len(line.baseline) for line in page.lines if line.baseline)
    gaps = [b - a for a, b in itertools.pairwise(levels) if b - a > page.height / 200]
    step = sorted(gaps)[len(gaps) // 2] if gaps else page.height / 40
    out = []
    for line in page.lines:
        if line.polygon:
            out.append(line.polygon)
            continue
        if not line.baseline:
            raise Error(f"{line.source}: line {line.id} has neither a polygon, nor a box, nor a baseline")
        above = [(x, round(y - ABOVE * step)) for x, y in line.baseline]
        below = [(x, round(y + BELOW * step)) for x, y in reversed(line.baseline)]
        out.append((*above, *below))
    return out


def unique(ids: Iterable[tuple[str, str]]) -> None:
    """Refuse an id that stands twice on a page. Takes (id, source)."""
    seen: dict[str, str] = {}
    for id, source in ids:
        if id in seen:
            raise Error(f"{source}: line {id} stands at {seen[id]} already")
        seen[id] = source
