"""What `hwr predict` is given: line images, PAGE or ALTO files, page photos -> jobs of lines to read."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data.formats import alto, page, pages, xml
from hwr.images import load
from hwr.images.load import Polygon


@dataclass(frozen=True)
class Target:
    """A line to read: an image, or a polygon of one.

    Attributes:
        id: Its id on its page; "" of a line image.
        error: Why it can't be read, or "".
        upright: Whether `region` is of the page as its orientation tag turns it.
    """

    image: Path
    region: Polygon = ()
    baseline: Polygon = ()
    id: str = ""
    error: str = ""
    upright: bool = False


@dataclass(frozen=True)
class Job:
    """A file to read.

    Attributes:
        source: The file.
        image: Of the page, or of the line.
        targets: Its lines, in their order.
        kind: page or alto; "" of an image.
        root: The root element of PAGE or ALTO.
        error: Why it can't be read, or "".
    """

    source: Path
    image: Path
    targets: list[Target] = field(default_factory=list)
    kind: str = ""
    root: Any = None
    error: str = ""


def files_in(paths: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Files as they are (also those that are not there: reading will say so); folders as what can be read in them, sorted.

    In a folder that has PAGE or ALTO these are read, and not the images beside them, which are pages. Strings, of which a
    million take a third of the memory that paths take.

    Returns:
        The files, and the others in the folders.

    Raises:
        Error: A folder can't be listed, or has, with its sub-folders, nothing to read.
    """

    def refuse(error: OSError) -> None:
        raise Error(f"{error.filename}: could not be listed: {error.strerror}")

    found: list[str] = []
    others: list[str] = []
    for path in paths:
        if not path.is_dir():
            found.append(str(path))
            continue
        images: list[str] = []
        documents: list[str] = []
        seen: set[str] = set()  # a link may lead back to where it stands
        for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
            seen.add(os.path.realpath(folder))
            folders[:] = sorted(f for f in folders if os.path.realpath(os.path.join(folder, f)) not in seen)
            for name in sorted(names):
                if name.startswith("."):
                    continue
                suffix = os.path.splitext(name)[1].lower()
                kind = images if suffix in load.SUFFIXES else documents if suffix == ".xml" else others
                kind.append(os.path.join(folder, name))
        if not images and not documents:
            raise Error(
                f"{path}: no images in this folder (looked for {', '.join(load.SUFFIXES)}), nor PAGE or ALTO XML"
            )
        found += documents or images
        others += images if documents else []
    return found, others


def jobs(
    files: Iterable[str], segment: Callable[[Path], list[Target]] | None = None, images: str | None = None
) -> Iterator[Job]:
    """A job for each file; one that can't be read has an error.

    Args:
        segment: Finds the lines of a page photo; None: an image is a line.
        images: Another folder with page images, as `data.images`.
    """
    for path in map(Path, files):
        try:
            if path.suffix.lower() == ".xml":
                if job := _marked(path, images):
                    yield job
            elif segment is not None:
                yield Job(path, path, segment(path))
            else:
                yield Job(path, path, [Target(path)])
        except Error as error:
            yield Job(path, path, error=str(error))


def _marked(path: Path, images: str | None) -> Job | None:
    """A page's job; None for what lies beside pages in an export."""
    root = xml.parse(path)
    match pages.local(root):
        case "PcGts":
            kind, found = "page", page.parse(path, root)
        case "alto":
            kind, found = "alto", alto.parse(path, root)
        case name if name in pages.NOT_PAGES:
            return None
        case name:
            raise Error(f"{path}:{root.sourceline}: the root element is <{name}>, neither PAGE's PcGts nor alto")
    picture, found = pages.with_image(found, path, images)
    targets = [
        Target(picture, region, line.baseline, line.id, line.fault)
        for line, region in zip(found.lines, pages.regions(found), strict=True)
    ]
    return Job(path, picture, targets, kind, root)
