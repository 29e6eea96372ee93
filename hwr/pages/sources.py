"""Line images, PAGE and ALTO files, page photos -> jobs of lines to read."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from hwr import Error
from hwr.data.formats import PAGE_FORMATS, marked_pages, shapes, xml
from hwr.images import documents, load
from hwr.images.load import Polygon
from hwr.pages.journal import ALIGNED, NAME, Journal, stamp
from hwr.pages.write import IMAGES
from hwr.system.files import below, in_order, read_bytes, real, walk

# A typical page of handwriting.
LINES_PER_PAGE = 30


@dataclass(frozen=True)
class Target:
    """A line to read: an image, or part of one.

    Attributes:
        region: Its polygon in the image; () if it is the whole image.
        id: Its id on the page; "" for a line image.
        error: Why it can't be read, else "".
        upright: Whether `region` refers to the image rotated by its EXIF orientation rather than as stored.
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
        source: The file, or a page of one (`book.pdf/3`).
        image: The image of the page or line.
        targets: Its lines, in order.
        kind: The format of the page's XML, a name in `PAGE_FORMATS`; "" for an image.
        xml: The content of that XML.
        error: Why it can't be read, else "".
        last: Whether it is the last of its file.
        stamp: Of the file, and of the image that XML names, before they were read: see `journal.stamp`.
    """

    source: Path
    image: Path
    targets: list[Target] = field(default_factory=list)
    kind: str = ""
    xml: bytes = b""
    error: str = ""
    last: bool = True
    stamp: tuple[int, ...] = ()


class Found(NamedTuple):
    """What files and folders hold.

    Attributes:
        files: The files to read; paths are strings, because a million Path objects take three times the memory.
        others: Other files in the folders, without the images that are read with their XML.
        twice: The names of XML files that describe an image which an earlier one of the same format describes, too.
        bare: Those of the files to read that are XML which marks no lines.
    """

    files: list[str]
    others: list[str]
    twice: list[str]
    bare: list[str]


def files_in(paths: Iterable[Path], images: str | None = None, out: Path | None = None, beside: str = "") -> Found:
    """List the files to read: the given files, and those of the given folders, page 10 after page 9.

    In a folder, images that a PAGE or ALTO file refers to are skipped. XML that does not describe a page (METS, for example)
    is always skipped, and so is a PDF beside an image of the same name or of its first page, or that `hwr` made of a file
    there, and an ALTO file of an image that a PAGE file describes as well. The pages of a PDF or TIFF count as files. Missing
    files and folders that can't be listed are kept, because reading them reports the error.

    Args:
        images: A further folder with page images, see `data.images`.
        out: The folder of results. In a folder around it, what lies below it is skipped; in itself, what an earlier run
            made of the files there. Or the one file of all pages, which is skipped if an earlier run made it of the folder.
        beside: The suffix of results that are written beside their inputs. In a folder, those of an earlier run are skipped.

    Raises:
        Error: A folder can't be listed or has nothing to read, or no file is left to read.
    """
    found: list[str] = []
    others: list[str] = []
    twice: list[str] = []
    bare: list[str] = []
    for path in paths:
        if path.is_dir():
            here, rest, again, empty = _in_folder(path, images, out, beside)
            if not here:
                suffixes = ", ".join(load.SUFFIXES)
                raise Error(f"{path}: no images ({suffixes}), no PDF, and no PAGE or ALTO files in this folder")
            found += here
            others += rest
            twice += again
            bare += empty
        else:
            look = _look(path, images)
            (others if look.tag in marked_pages.NOT_PAGES else found).append(str(path))
            bare += [str(path)] * look.bare
    found = [page for file in found for page in _pages(file)]
    if others and not found:
        raise Error(f"{others[0]} marks no lines, and there is nothing else to read")
    return Found(found, others, twice, bare)


def _pages(file: str) -> list[str]:
    """The pages of a file; the file itself if it can't be read, which is reported on reading."""
    try:
        return documents.pages(file)
    except Error:
        return [file]


class _Look(NamedTuple):
    """The root element of a file, "" if it is not XML or can't be read, the image it refers to, and whether it marks no lines."""

    tag: str
    image: Path | None = None
    bare: bool = False


def _look(path: Path, images: str | None) -> _Look:
    if path.suffix.lower() != ".xml":
        return _Look("")
    try:
        root = xml.parse(path)
        if kind := _kind(root):
            page = PAGE_FORMATS[kind].parse(path, root)
            return _Look(xml.local(root), marked_pages.find_image(page, path, images), not page.lines)
        return _Look(xml.local(root))
    except Error:  # reported on reading; the image of the same name is probably its page
        named = (path.with_suffix(suffix) for suffix in load.EITHER_CASE)
        return _Look("", next((image for image in named if image.is_file()), None))


def image_of(path: Path, images: str | None = None) -> Path | None:
    """The image that a PAGE or ALTO file refers to; None for any other file."""
    return _look(path, images).image


def _in_folder(folder: Path, images: str | None, out: Path | None, beside: str) -> Found:
    """What a folder holds."""
    unlisted: dict[str, str] = {}
    everything = below(folder, unlisted)
    files = _apart(everything, folder, out, beside) if out or beside else everything
    files = _without_copies(files, folder)
    looks = {name: _look(Path(name), images) for name in files if name.lower().endswith(".xml")}
    shown = {os.path.realpath(look.image) for look in looks.values() if look.image}
    copies = _copies(looks)
    # Among pages, unknown XML may be a damaged page, and reading it reports that.
    pages = any(look.tag in ("", *_tags()) for look in looks.values())
    photos = {name for name in files if os.path.splitext(name)[1].lower() in load.SUFFIXES}
    described = {name for name in photos if os.path.realpath(name) in shown}
    stems = {os.path.splitext(name)[0] for name in photos}

    def wanted(name: str) -> bool:
        if look := looks.get(name):
            known = look.tag not in marked_pages.NOT_PAGES and (pages or look.tag in ("", *_tags()))
            return known and name not in copies
        stem, suffix = os.path.splitext(name)
        if suffix.lower() == documents.PDF:
            return stem not in stems and f"{stem}-001" not in stems  # the workbench makes images of its pages
        return name in photos and name not in described

    found = in_order(name for name in files if wanted(name))
    first: dict[str, str] = {}
    chosen = {name: os.path.realpath(look.image) for name in found if (look := looks.get(name)) and look.image}
    twice = [name for name, image in chosen.items() if first.setdefault(image, name) != name]
    bare = [name for name in found if (look := looks.get(name)) and look.bare]
    return Found([*found, *unlisted], sorted(set(everything) - {*found, *described}), twice, bare)


def _apart(files: list[str], folder: Path, out: Path | None, beside: str) -> list[str]:
    """The files of a folder without results.

    These are what lies below `out`, or, if the folder does, what was made of its files; `out` itself, if it is a file that was
    made of them; or what was written beside them.
    """
    parents = {parent: real(parent) for parent in {os.path.dirname(name) for name in files}}
    results = None if out is None else real(out)
    if results is None:
        own = set().union(*(_made(parent, parent, beside) for parent in parents.values()))
    elif results.is_file():
        own = _made(results.parent, folder) & {results}
    elif real(folder).is_relative_to(results):
        own = _made(results, folder)
    else:
        inside = {parent for parent, path in parents.items() if path.is_relative_to(results)}
        return [name for name in files if os.path.dirname(name) not in inside]
    return [name for name in files if parents[os.path.dirname(name)] / os.path.basename(name) not in own]


def _without_copies(files: list[str], folder: Path) -> list[str]:
    """The files of a folder without the PDFs that were made of the others."""
    pdfs = {name for name in files if name.lower().endswith(documents.PDF)}
    results = {real(folder), *(real(os.path.dirname(name)) for name in pdfs)} if pdfs else ()
    made = set().union(*(_made(path, path, documents.PDF) for path in results))
    return [name for name in files if name not in pdfs or real(name) not in made]


def _made(results: Path, folder: Path, suffix: str = "") -> set[Path]:
    """What a folder of results holds of the files in and below `folder`, in files with a suffix."""
    both = [Journal(results, "", name=name).outputs_of(folder) for name in (NAME, ALIGNED)]
    made = {path: of for found in both for path, of in found.items() if path.name.endswith(suffix)}
    # Beside the XML of a page of a PDF or TIFF lies its image.
    pages = [output for output, source in made.items() if output.suffix == ".xml" and documents.page_of(source)]
    return {*made, *(output.with_suffix(suffix) for output in pages for suffix in IMAGES)}


def _copies(looks: dict[str, _Look]) -> set[str]:
    """The files of pages that a file in another format, earlier in `PAGE_FORMATS`, describes as well."""
    formats: dict[str, set[str]] = {}
    for look in looks.values():
        if look.image:
            formats.setdefault(os.path.realpath(look.image), set()).add(look.tag)
    order = list(_tags())

    def first(image: Path) -> str:
        return min(formats[os.path.realpath(image)], key=lambda tag: order.index(tag) if tag in order else -1)

    return {name for name, look in looks.items() if look.image and look.tag and look.tag != first(look.image)}


def _tags() -> dict[str, str]:
    return {format.TAG: name for name, format in PAGE_FORMATS.items()}


def _kind(root: Any) -> str:
    """The format of a page's XML, or ""."""
    return _tags().get(xml.local(root), "")


def about_lines(files: Sequence[str], pages: bool) -> int:
    """About how many lines the files have: `LINES_PER_PAGE` in page photos and XML, one in any other image."""
    marked = (
        len(files) if pages else sum(file.lower().endswith(".xml") or f"{documents.PDF}/" in file for file in files)
    )
    return len(files) + (LINES_PER_PAGE - 1) * marked


def jobs(
    files: Iterable[str],
    segment: Callable[[Path], list[Target]] | None = None,
    images: str | None = None,
    skip: Callable[[Path], bool] = lambda path: False,
) -> Iterator[Job]:
    """Yield a job for each file, and for each page of a PDF or TIFF. The job of a file that can't be read has an error.

    Args:
        segment: Finds the lines of a page photo; None: each image is a line.
        images: A further folder with page images, see `data.images`.
        skip: Whether a file, or a page of one, need not be read.
    """
    for file in files:
        try:
            pages = documents.pages(file)
        except Error as error:
            yield Job(Path(file), Path(file), error=str(error))
            continue
        for number, path in enumerate(map(Path, pages), 1):
            if not skip(path):
                yield replace(job(path, segment, images), last=number == len(pages))


def job(path: Path, segment: Callable[[Path], list[Target]] | None = None, images: str | None = None) -> Job:
    """The job of a file of one page, or of a page of one; see `jobs`."""
    try:
        if path.is_dir():
            next(walk(path))  # a folder that can't be listed says why
        if path.suffix.lower() == ".xml":
            return _marked(path, images)
        before = stamp(path)
        return Job(path, path, [Target(path)] if segment is None else segment(path), stamp=before)
    except Error as error:
        return Job(path, path, error=str(error))


def _marked(path: Path, images: str | None) -> Job:
    before = stamp(path)
    content = read_bytes(path)
    root = xml.parse_bytes(content, path)
    kind = _kind(root)
    if not kind:
        known = " or ".join(f"<{tag}> ({name})" for tag, name in _tags().items())
        raise Error(f"{path}:{root.sourceline}: the root element is <{xml.local(root)}>, expected {known}")
    picture, page = marked_pages.with_image(PAGE_FORMATS[kind].parse(path, root), path, images)
    targets = [
        Target(picture, region, line.baseline, line.id, line.fault, page.upright)
        for line, region in zip(page.lines, shapes.regions(page), strict=True)
    ]
    return Job(path, picture, targets, kind, content, stamp=(*before, *stamp(picture)))
