"""What PAGE and ALTO have in common: pages with marked lines, their images, and lines cut from them."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset, Line, splits
from hwr.data.formats import xml
from hwr.images import load
from hwr.images.load import Polygon

# Root elements: of pages, and what each is called here; of what else lies in an export (METS; Transkribus' own).
KINDS = {"PcGts": "page", "alto": "alto"}
NOT_PAGES = ("mets", "trpDocMetadata")

# A line that is marked by its baseline alone reaches so far above and below it, in fractions of the usual distance to the
# next baseline (or of the page's height / 40 where there is no other).
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
        fault: What is wrong with its shape, or "".
    """

    id: str
    text: str
    polygon: Polygon
    baseline: Polygon
    source: str
    fault: str = ""


@dataclass(frozen=True)
class Page:
    """A page: its image's name as the XML has it, where that stands, and its lines in their order.

    Attributes:
        width: In pixels, 0 where it is not said; as `height`.
    """

    image: str
    source: str
    width: int
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
    first: dict[Path, Path] = {}
    others: list[Path] = []
    for path in xml_below(root):
        element = xml.parse(path)
        name = local(element)
        if name in NOT_PAGES or (name != root_tag and name in KINDS):
            others += [path] if name in KINDS else []
            continue
        if name != root_tag:
            raise Error(f"{path}:{element.sourceline}: the root element is <{name}>, not <{root_tag}>")
        page = parse(path, element)
        document = (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix("").as_posix()
        empty += [f"{document}/{line.id}" for line in page.lines if not line.text.strip()]
        page = replace(page, lines=tuple(line for line in page.lines if line.text.strip()))
        if not page.lines:
            continue
        image_path, page = with_image(page, path, data.images)
        before = first.setdefault(image_path.resolve(), path)
        if before != path:
            raise Error(f"{path}: its image {image_path} is that of {before} already; which of the two is to be read?")
        for line, polygon in zip(page.lines, regions(page), strict=True):
            if line.fault:
                raise Error(line.fault)
            id = f"{document}/{line.id}"
            lines.append(Line(id, image_path, line.text.strip(), "", line.source, polygon, line.baseline))
    if empty:
        more = ", …" if empty[5:] else ""
        notes.append(f"{len(empty)} lines have no text and are left out: {', '.join(empty[:5])}{more}")
    if others:
        notes.append(f"{len(others)} files are of the other format and are not read ({others[0]}, …)")
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


def with_image(page: Page, path: Path, images: str | None) -> tuple[Path, Page]:
    """A page's image, and the page in that image's pixels: one that was saved smaller or larger is no obstacle.

    Raises:
        Error: There is no such image, or it is not of the page's shape.
    """
    found = find_image(page, path, images)
    width, height = load.size(found, upright=False)
    if not page.width or not page.height or (page.width, page.height) == (width, height):
        return found, replace(page, width=width, height=height)
    x, y = width / page.width, height / page.height
    if abs(x / y - 1) > 0.01:
        raise Error(f"{page.source}: says {page.width} x {page.height} pixels, and {found} has {width} x {height}")

    def scaled(points: Polygon) -> Polygon:
        return tuple((round(a * x), round(b * y)) for a, b in points)

    lines = (replace(line, polygon=scaled(line.polygon), baseline=scaled(line.baseline)) for line in page.lines)
    return found, replace(page, width=width, height=height, lines=tuple(lines))


def find_image(page: Page, path: Path, images: str | None) -> Path:
    """The image of a page: beside its XML, in the folder above, or in `data.images`.

    A name with folders is looked for there with them, and without. Where there is none, it is that of the XML.

    Raises:
        Error: It is in none of them.
    """
    parts = [part for part in re.split(r"[/\\]", page.image.removeprefix("file:")) if part not in ("", ".", "..")]
    names = list(dict.fromkeys(["/".join(parts), *parts[-1:]])) if parts else [path.stem + s for s in load.SUFFIXES]
    folders = [path.parent, path.parent.parent, *([Path(images)] if images else [])]
    for folder in folders:
        for name in names:
            if "\x00" not in name and (folder / name).is_file():
                return folder / name
    raise Error(
        f"{page.source}: its image {page.image or path.stem} is in none of {', '.join(map(str, folders))}; data.images "
        "names another folder"
    )


def regions(page: Page) -> list[Polygon]:
    """What of the page belongs to each line: its polygon, or a band along its baseline; () of one with a fault."""
    steps = [step for line in page.lines if line.baseline and (step := _step(line, page)) is not None]
    usual = sorted(steps)[len(steps) // 2] if steps else page.height / 40
    out: list[Polygon] = []
    for line in page.lines:
        if line.polygon or not line.baseline:
            out.append(line.polygon)
            continue
        above = [(x, round(y - ABOVE * usual)) for x, y in line.baseline]
        below = [(x, round(y + BELOW * usual)) for x, y in reversed(line.baseline)]
        out.append((*above, *below))
    return out


def _step(line: Marked, page: Page) -> float | None:
    """Pixels to the nearest baseline that is above or below this one in the same column."""
    level, left, right = _place(line)
    found = []
    for other in page.lines:
        if other is not line and other.baseline:
            its, start, end = _place(other)
            shared = min(right, end) - max(left, start)
            if shared > 0.3 * min(right - left, end - start) and abs(its - level) > page.height / 200:
                found.append(abs(its - level))
    return min(found, default=None)


def _place(line: Marked) -> tuple[float, int, int]:
    """Mean height, left and right end of a baseline."""
    xs, ys = zip(*line.baseline, strict=True)
    return sum(ys) / len(ys), min(xs), max(xs)


def marked(id: str, text: str, source: str, shape: Callable[[], Polygon], baseline: Callable[[], Polygon]) -> Marked:
    """A line from what reads its polygon and its baseline: a bad one is the fault of this line alone."""
    polygon: Polygon = ()
    along: Polygon = ()
    fault = ""
    try:
        along = baseline()
    except Error as error:
        fault = str(error)
    try:
        polygon = shape()
        fault = "" if polygon else fault  # the polygon is enough
    except Error as error:
        fault = str(error)
    if not polygon and not along and not fault:
        fault = f"{source}: line {id} has neither a polygon, nor a box, nor a baseline"
    return Marked(id, text, polygon, along, source, fault)


def unique(ids: Iterable[tuple[str, str]]) -> None:
    """Refuse an id that stands twice on a page. Takes (id, source)."""
    seen: dict[str, str] = {}
    for id, source in ids:
        if id in seen:
            raise Error(f"{source}: line {id} stands at {seen[id]} already")
        seen[id] = source
