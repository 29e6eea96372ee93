"""What PAGE and ALTO share: datasets of pages with marked lines, and the images of pages."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hwr import Error
from hwr.config import Data
from hwr.data import CONTROL, Dataset, Fault, Line, disk, splits, text
from hwr.data.formats import writing, xml
from hwr.data.formats.shapes import Marked, Page, regions
from hwr.images import load
from hwr.images.load import Polygon
from hwr.system.files import below, is_regular, named
from hwr.system.terminal import counted

# Root elements of the XML that exports hold beside pages: METS, and Transkribus' own.
NOT_PAGES = ("mets", "trpDocMetadata")

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
    lines, faults, repaired = list[Line](), list[Fault](), list[str]()
    documents: list[str] = []  # of the lines, whose ids may have slashes
    empty: list[str] = []
    first: dict[Path, Path] = {}
    others: list[str] = []
    pages = 0
    unlisted: dict[str, str] = {}
    for path in (Path(name) for name in below(root, unlisted) if name.lower().endswith(".xml")):
        document = (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix("").as_posix()
        try:
            element = xml.parse(path)
            if (name := xml.local(element)) != tag:
                if name not in NOT_PAGES:
                    others.append(f"{path}:{element.sourceline}: the root element is <{name}>, not <{tag}>")
                continue
            pages += 1
            page = parse(path, element)
            empty += [f"{document}/{line.id}" for line in page.lines if text.blank(line.text)]
            if all(text.blank(line.text) for line in page.lines):
                continue
            image_path, page = with_image(page, path, data.images)
            before = first.setdefault(image_path.resolve(), path)
            if before != path:
                raise Error(f"{path}: its image {image_path} is that of {before} already; exclude one of the two")
        except Error as error:
            faults.append(Fault(document, str(error), document))
            continue
        # A band along a baseline is as high as all lines are apart, also those without text.
        shaped = zip(page.lines, regions(page), strict=True)
        for place, (line, polygon) in enumerate(pair for pair in shaped if not text.blank(pair[0].text)):
            id = f"{document}/{line.id}"
            if line.fault:
                faults.append(Fault(id, line.fault, document))
                continue
            repaired += [line.note] * bool(line.note)
            written = line.text.strip()
            lines.append(Line(id, image_path, written, "", line.source, polygon, line.baseline, page.upright, place))
            documents.append(document)
    faults += disk.unlisted(root, unlisted)
    if others and not pages and not faults:
        raise Error(others[0])
    if empty:
        more = ", …" if empty[5:] else ""
        notes.append(
            f"{counted(len(empty), 'line has no text and is', 'lines have no text and are')} skipped: {', '.join(empty[:5])}{more}"
        )
    if others:
        notes.append(
            f"{counted(len(others), 'XML file is', 'XML files are')} in another format and not read ({others[0]})"
        )
    if repaired:
        notes.append(f"{counted(len(repaired), 'line has', 'lines have')} a damaged outline: {repaired[0]}")
    if not lines and not faults:
        raise Error(f"{root}: no line with text in its pages")
    return splits.split(data, lines, documents, empty, notes, faults=faults)


def write(dataset: Dataset, out: Path, new: Callable[[str, tuple[int, int], Sequence[Marked], bool], Any]) -> None:
    """Write a dataset as one XML file for each image, beside a copy of the image, with lists of its parts.

    Args:
        new: Makes the root element, as `PageFormat.new`.
    """
    of: dict[tuple[Path, bool], list[Line]] = {}
    for line in sorted(dataset.lines, key=lambda line: line.place):  # a page may be in several parts
        of.setdefault((line.image, line.upright or not line.region), []).append(line)
    stems = writing.Names()
    ids: dict[str, str] = {}
    for (path, upright), lines in tqdm(of.items(), "writing", unit="page", disable=None, leave=False):
        stem = _free(path.stem, stems)
        name = f"{stem}{CONTROL.sub('-', path.suffix)}"
        shutil.copyfile(path, out / name)
        used = writing.Names()
        marked = [Marked(_free(x.id.rpartition("/")[2], used), x.text, x.region, x.baseline, x.source) for x in lines]
        ids |= {x.id: f"{stem}/{line.id}" for x, line in zip(lines, marked, strict=True)}
        turned = upright and load.orientation(path) != 1
        xml.write(new(name, load.size(path, upright), marked, turned), out / f"{stem}.xml")
    writing.lists(dataset, out, ids)


def _free(name: str, used: writing.Names) -> str:
    """A name that XML can hold and that is not used yet."""
    return used.free(CONTROL.sub("-", name))


def check_name(path: Path) -> Path:
    """Return the path of an image, or raise an Error if its name can't be written into XML."""
    if CONTROL.search(path.name):  # bytes that are not UTF-8 are surrogates in Python
        raise Error(
            f"{os.fsencode(path)!r}: XML can't hold this file's name; rename it without control characters, in UTF-8"
        )
    return path


# --- The image of a page ---


def with_image(page: Page, path: Path, images: str | None) -> tuple[Path, Page]:
    """The image of a page, and the page in that image's pixels; the image may have been scaled since.

    Raises:
        Error: There is no such image, or it has another shape than the page.
    """
    found = find_image(page, path, images)
    stored, shown = load.size(found, upright=False), load.size(found)
    upright = is_upright(page, stored, shown)
    width, height = shown if upright else stored
    return found, _on_image(_scaled(replace(page, upright=upright), found, width, height))


def is_upright(page: Page, stored: tuple[int, int], shown: tuple[int, int]) -> bool:
    """Whether a page's positions refer to its image as viewers show it, turned by EXIF, and not to the image as stored.

    They do where the file says so, or where only the turned image has the page's shape.
    """
    return page.upright or (not _same_shape(page, stored) and _same_shape(page, shown))


def check_shape(page: Page, image: Path, size: tuple[int, int]) -> None:
    """Refuse an image of another shape than its page.

    Raises:
        Error: It has another.
    """
    if not _same_shape(page, size):
        raise Error(f"{page.source}: says {page.width} x {page.height} pixels, and {image} has {size[0]} x {size[1]}")


def _scaled(page: Page, found: Path, width: int, height: int) -> Page:
    """A page in the pixels of its image."""
    if not page.width or not page.height or (page.width, page.height) == (width, height):
        return replace(page, width=width, height=height)
    check_shape(page, found, (width, height))
    x, y = width / page.width, height / page.height

    def scaled(points: Polygon) -> Polygon:
        return tuple((round(a * x), round(b * y)) for a, b in points)

    lines = (replace(line, polygon=scaled(line.polygon), baseline=scaled(line.baseline)) for line in page.lines)
    return replace(page, width=width, height=height, lines=tuple(lines))


def _on_image(page: Page) -> Page:
    """A page without outlines that lie outside its image. A line that has no baseline there either has a fault."""

    def on(points: Polygon) -> bool:
        xs, ys = zip(*points, strict=True)
        return min(xs) < page.width - 1 and min(ys) < page.height - 1 and max(xs) > 0 and max(ys) > 0

    def checked(line: Marked) -> Marked:
        if line.fault or all(on(points) for points in (line.polygon, line.baseline) if points):
            return line
        what = f"{line.source}: line {line.id} lies outside the page of {page.width} x {page.height} pixels"
        if line.polygon and on(line.polygon):
            return replace(line, baseline=())
        if line.baseline and on(line.baseline):
            return replace(line, polygon=(), note=f"{what}; it is cut along its baseline")
        return replace(line, fault=what)

    return replace(page, lines=tuple(checked(line) for line in page.lines))


def _same_shape(page: Page, size: tuple[int, int]) -> bool:
    """Whether an image has the proportions of a page, to a hundredth; a page of unknown size has any."""
    if not page.width or not page.height:
        return True
    return abs(size[0] * page.height / (page.width * size[1]) - 1) <= 0.01


def find_image(page: Page, path: Path, images: str | None) -> Path:
    """Find the image of a page: beside its XML, in the folder above, or in `data.images`.

    A name with folders is tried with and without them, and `a.JPG` is `a.jpg` if there is no `a.JPG`, as on Windows. A page
    that names no image has the one named like its XML.

    Raises:
        Error: It is in none of these folders.
    """
    parts = [part for part in re.split(r"[/\\]", page.image.removeprefix("file:")) if part not in ("", ".", "..")]
    names = list(dict.fromkeys(["/".join(parts), *parts[-1:]])) if parts else [path.stem + s for s in load.EITHER_CASE]
    above = path.parent / ".." if path.parent.name in ("", "..") else path.parent.parent
    folders = [path.parent, above, *([Path(images)] if images else [])]
    stems = [os.path.splitext(name) for name in names]
    either = [f"{stem}{end}" for stem, suffix in stems for end in (suffix.lower(), suffix.upper())]
    for folder, name in (*product(folders, names), *product(folders, either)):
        if is_regular(image := named(folder, name)):
            return image
    raise Error(
        f"{page.source}: its image {page.image or path.stem} is in none of {', '.join(map(str, folders))}; data.images "
        "names another folder"
    )
