"""What PAGE and ALTO share: pages with marked lines, their images, and the lines cut from them."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hwr import Error
from hwr.config import Data
from hwr.data import CONTROL, Dataset, Line, disk, splits
from hwr.data.formats import writing, xml
from hwr.files import is_regular
from hwr.images import load
from hwr.images.load import Polygon

# Root elements of the XML that exports hold beside pages: METS, and Transkribus' own.
NOT_PAGES = ("mets", "trpDocMetadata")

# A line with a baseline only reaches this far above and below it, in fractions of the usual distance between baselines
# (or of the page's height / 40 if there is no other baseline).
ABOVE, BELOW = 0.75, 0.3


@dataclass(frozen=True)
class Marked:
    """A line of a page, read from its XML or to be written into it.

    Attributes:
        id: Unique on the page.
        text: Its transcription, "" if there is none.
        polygon: Its outline, in pixels of the page; () if only a baseline is known.
        baseline: Points from left to right, or ().
        source: `file:line`.
        fault: What is wrong with its shape, or why it could not be read, or "".
        confidence: Of a predicted text, 0..1.
        characters: Of a predicted text, where they are known: (character, left, right, confidence), in pixels.
    """

    id: str
    text: str
    polygon: Polygon
    baseline: Polygon
    source: str
    fault: str = ""
    confidence: float = 1.0
    characters: Sequence[tuple[str, float, float, float]] = ()


@dataclass(frozen=True)
class Page:
    """A page: the name of its image as the XML gives it, where it says so (`file:line`), and its lines in order.

    Attributes:
        width: Width in pixels, 0 if unknown; `height` too.
        upright: Whether positions refer to the image rotated by its EXIF orientation. From `parse`: whether the file says so;
            from `with_image`: decided.
    """

    image: str
    source: str
    width: int
    height: int
    lines: tuple[Marked, ...]
    upright: bool = False


# --- A dataset of pages ---


def read(data: Data, tag: str, parse: Callable[[Path, Any], Page]) -> Dataset:
    """Read all pages below a folder.

    Args:
        tag: Name of the root element.
        parse: Makes a page from a file and its root element.

    Raises:
        Error: No such folder, or no page in it; a malformed page, a missing image; names file and line.
    """
    root, notes = data.folder, list[str]()
    if not root.exists():
        raise Error(f"data.root: {root}: no such folder")
    if root.is_file() and root.suffix.lower() != ".xml":
        raise Error(f"data.root: {root} is neither an XML file nor a folder of XML files")
    lines: list[Line] = []
    empty: list[str] = []
    first: dict[Path, Path] = {}
    others: list[str] = []
    pages = 0
    for path in (Path(name) for name in disk.files(root) if name.lower().endswith(".xml")):
        element = xml.parse(path)
        if (name := xml.local(element)) != tag:
            if name not in NOT_PAGES:
                others.append(f"{path}:{element.sourceline}: the root element is <{name}>, not <{tag}>")
            continue
        pages += 1
        page = parse(path, element)
        document = (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix("").as_posix()
        empty += [f"{document}/{line.id}" for line in page.lines if not line.text.strip()]
        page = replace(page, lines=tuple(line for line in page.lines if line.text.strip()))
        if not page.lines:
            continue
        image_path, page = with_image(page, path, data.images)
        before = first.setdefault(image_path.resolve(), path)
        if before != path:
            raise Error(f"{path}: its image {image_path} is that of {before} already; keep one of the two")
        for line, polygon in zip(page.lines, regions(page), strict=True):
            if line.fault:
                raise Error(line.fault)
            id = f"{document}/{line.id}"
            lines.append(Line(id, image_path, line.text.strip(), "", line.source, polygon, line.baseline, page.upright))
    if others and not pages:
        raise Error(others[0])
    if empty:
        more = ", …" if empty[5:] else ""
        notes.append(f"{len(empty)} lines have no text and are skipped: {', '.join(empty[:5])}{more}")
    if others:
        notes.append(f"{len(others)} XML files are in another format and are not read ({others[0]})")
    if not lines:
        raise Error(f"{root}: no line with text in its pages")
    return splits.split(data, lines, [line.id.rpartition("/")[0] for line in lines], empty, notes)


def write(dataset: Dataset, out: Path, new: Callable[[str, tuple[int, int], Sequence[Marked], bool], Any]) -> None:
    """Write a dataset as one XML file for each image, beside a copy of the image, with lists of its parts.

    Args:
        new: Makes the root element, as `PageFormat.new`.
    """
    of: dict[tuple[Path, bool], list[Line]] = {}
    for line in writing.lines(dataset):
        of.setdefault((line.image, line.upright or not line.region), []).append(line)
    names: dict[str, Path] = {}
    ids: dict[str, str] = {}
    for (path, upright), lines in tqdm(of.items(), "writing", unit="page", disable=None, leave=False):
        stem = check_name(path).stem
        while names.setdefault(stem, path) != path:
            stem += "_"
        name = f"{stem}{path.suffix}"
        shutil.copyfile(path, out / name)
        marked = [Marked(x.id.rpartition("/")[2], x.text, x.region, x.baseline, x.source) for x in lines]
        ids |= {x.id: f"{stem}/{line.id}" for x, line in zip(lines, marked, strict=True)}
        turned = upright and load.orientation(path) != 1
        xml.write(new(name, load.size(path, upright), marked, turned), out / f"{stem}.xml")
    writing.lists(dataset, out, ids)


def check_name(path: Path) -> Path:
    """Return the path of an image, or raise an Error if its name can't be written into XML."""
    if CONTROL.search(path.name):  # bytes that are not UTF-8 are surrogates in Python
        raise Error(
            f"{os.fsencode(path)!r}: XML can't hold this file's name; rename it without control characters, in UTF-8"
        )
    return path


# --- Points ---


def outline(line: Marked, size: tuple[int, int]) -> Polygon:
    """The polygon of a line to be written; the whole image if it has none."""
    width, height = size
    return line.polygon or ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))


def points_text(points: Polygon, between: str = ",") -> str:
    """Points as PAGE writes them, `1,2 3,4`, or with another separator."""
    return " ".join(f"{x}{between}{y}" for x, y in points)


def points(text: str, source: str, least: int) -> Polygon:
    """Read `1,2 3,4` or `1 2 3 4`, as PAGE and ALTO write points.

    Raises:
        Error: Not pairs of numbers, or too few; names the source.
    """
    numbers = re.findall(r"[^\s,]+", text)
    try:
        values = [round(float(number)) for number in numbers]
    except (ValueError, OverflowError):
        raise Error(f"{source}: {text[:60]!r} is not a list of points: x,y x,y …") from None
    if len(values) % 2 or len(values) < 2 * least:
        raise Error(f"{source}: {text[:60]!r} are {len(values)} numbers; at least {least} points, x,y each, are needed")
    return tuple(zip(values[::2], values[1::2], strict=True))


# --- The image of a page ---


def with_image(page: Page, path: Path, images: str | None) -> tuple[Path, Page]:
    """The image of a page, and the page in that image's pixels; the image may have been scaled since.

    If EXIF rotates the image, positions refer to it as viewers show it where the file says so, or where only the rotated
    image has the page's shape; else to the image as stored.

    Raises:
        Error: There is no such image, or it has another shape than the page.
    """
    found = find_image(page, path, images)
    stored, shown = load.size(found, upright=False), load.size(found)
    upright = page.upright or (stored != shown and not _same_shape(page, stored) and _same_shape(page, shown))
    width, height = shown if upright else stored
    page = replace(page, upright=upright)
    if not page.width or not page.height or (page.width, page.height) == (width, height):
        return found, replace(page, width=width, height=height)
    if not _same_shape(page, (width, height)):
        raise Error(f"{page.source}: says {page.width} x {page.height} pixels, and {found} has {width} x {height}")
    x, y = width / page.width, height / page.height

    def scaled(points: Polygon) -> Polygon:
        return tuple((round(a * x), round(b * y)) for a, b in points)

    lines = (replace(line, polygon=scaled(line.polygon), baseline=scaled(line.baseline)) for line in page.lines)
    return found, replace(page, width=width, height=height, lines=tuple(lines))


def _same_shape(page: Page, size: tuple[int, int]) -> bool:
    """Whether an image has the proportions of a page, to a hundredth; a page of unknown size has any."""
    if not page.width or not page.height:
        return True
    return abs(size[0] * page.height / (page.width * size[1]) - 1) <= 0.01


def find_image(page: Page, path: Path, images: str | None) -> Path:
    """Find the image of a page: beside its XML, in the folder above, or in `data.images`.

    A name with folders is tried with and without them. A page that names no image has the one named like its XML.

    Raises:
        Error: It is in none of these folders.
    """
    parts = [part for part in re.split(r"[/\\]", page.image.removeprefix("file:")) if part not in ("", ".", "..")]
    names = list(dict.fromkeys(["/".join(parts), *parts[-1:]])) if parts else [path.stem + s for s in load.SUFFIXES]
    folders = [path.parent, path.parent.parent, *([Path(images)] if images else [])]
    for folder in folders:
        for name in names:
            if is_regular(folder / name):
                return folder / name
    raise Error(
        f"{page.source}: its image {page.image or path.stem} is in none of {', '.join(map(str, folders))}; data.images "
        "names another folder"
    )


# --- The shapes of lines ---


def regions(page: Page) -> list[Polygon]:
    """The outline of each line: its polygon, or a band along its baseline; () if it has a fault."""
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
    """Pixels to the nearest baseline above or below this one in the same column."""
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
    """Mean y, left and right end of a baseline."""
    xs, ys = zip(*line.baseline, strict=True)
    return sum(ys) / len(ys), min(xs), max(xs)


def marked(id: str, text: str, source: str, shape: Callable[[], Polygon], baseline: Callable[[], Polygon]) -> Marked:
    """Make a line from the functions that read its polygon and its baseline; bad points are this line's fault only."""
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
    """Refuse an id that occurs twice on a page. Takes (id, source)."""
    seen: dict[str, str] = {}
    for id, source in ids:
        if id in seen:
            raise Error(f"{source}: line {id} already occurs at {seen[id]}")
        seen[id] = source
