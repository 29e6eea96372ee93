"""Where predictions are written: checks, and one file for each page."""

import hashlib
import importlib.util
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwr import Error
from hwr.images import documents, exif, load
from hwr.pages.journal import Journals
from hwr.pages.outputs import FORMATS, Format, of_suffix
from hwr.pages.page_reading import PageLine, PageReading
from hwr.system.atomic import check_folder_of, make_folder, replacing
from hwr.system.files import read_bytes, real
from hwr.system.terminal import some

# Suffixes of page images that are written beside XML: black and white ones, and all others, with the quality of JPEG.
IMAGES = (".png", ".jpg")
QUALITY = 92


@dataclass(frozen=True)
class Places:
    """Where the outputs go: to standard output, into one file, into a folder, or beside the inputs.

    Attributes:
        file: The one file.
        folder: The folder with a file for each page. If `file` is set, it holds the pages until they are joined.
        suffix: Of the files of pages.
        roots: The folders that were given. Without `file`, below `folder`, files have the subfolders that they have below these.
    """

    file: Path | None = None
    folder: Path | None = None
    suffix: str = ""
    roots: tuple[Path, ...] = ()

    def of(self, source: Path) -> Path:
        """The file of a page."""
        if self.file is not None and self.folder is not None:  # a name that depends on nothing but the page
            return self.folder / f"{hashlib.sha256(os.fsencode(source)).hexdigest()[:24]}{self.suffix}"
        page = documents.page_of(source)
        beside = source.parent if page is None else page.file.parent
        name = f"{documents.display_name(source)}{self.suffix}"
        if self.folder is None:
            return beside / name
        inside = [beside.relative_to(root) for root in self.roots if beside.is_relative_to(root)]
        return self.folder / min(inside, key=lambda path: len(path.parts), default=Path()) / name


def is_folder(out: str) -> bool:
    """Whether a name given on the command line is a folder whatever the format: it exists, or ends in a slash."""
    return os.path.isdir(out) or out.endswith(("/", os.sep))


def places(kind: str, out: str | None, inputs: Sequence[Path], files: Sequence[str]) -> Places:
    """Decide where the outputs go.

    Args:
        kind: A name in `FORMATS`.
        out: As given on the command line: an existing folder or a name that ends in a slash is a folder; so is any name for
            formats of whole pages, unless it has the format's suffix.
        inputs: The files and folders given.
        files: The files that will be read.

    Raises:
        Error: A folder does not exist; a package is missing that writes the format; a file can't hold several pages.
    """
    format = FORMATS[kind]
    _check_installed(kind, f"--format {kind}")
    roots = tuple(path for path in inputs if path.is_dir())
    if out is None:
        return Places(suffix=format.suffix)
    path = Path(out)
    named = format.rows is not None or path.suffix.lower() in (format.suffix, *format.suffixes)
    if is_folder(out) or not named:
        make_folder(path)
        return Places(folder=path, suffix=format.suffix, roots=roots)
    check_folder_of(out)
    if format.rows is not None:
        return Places(file=path, suffix=format.suffix)
    if format.join is None and (len(files) > 1 or len(documents.pages(files[0])) > 1):
        raise Error(
            f"{out}: a file in the {kind} format holds one page, and there are several; name a folder with --out"
        )
    return Places(path, path.with_name(f".{path.name}.parts"), format.suffix, roots)


def _check_installed(kind: str, asked: str) -> None:
    needs = FORMATS[kind].needs
    if needs and importlib.util.find_spec(needs) is None:
        raise Error(f"{asked} needs {needs}: pip install -e '.[pages]'")


def check(where: Places, format: Format, files: Sequence[str]) -> None:
    """Check that no input will be overwritten, and no page by another.

    Raises:
        Error: One would be.
    """
    paths = [Path(file) for file in files]
    if where.file is not None:
        if where.file.exists():  # a file that does not exist is not an input
            _check_overwriting(paths, [where.file])
    elif where.folder is not None or format.rows is None:
        _check_overwriting(paths, [where.of(path) for path in paths])


def check_existing(
    where: Places, format: Format, files: Sequence[str], journals: Journals, command: str, again: bool = False
) -> None:
    """Check that nothing will be overwritten but earlier, unchanged results of the same pages, and beside the inputs nothing.

    Args:
        journals: They know what was written.
        command: Whose results they know.
        again: Whether the command has the option --again, to overwrite them.

    Raises:
        Error: A file would be.
    """
    if where.file is not None or (where.folder is None and format.rows is not None):
        return
    remedy = "name another folder with --out"
    overwrite = ", or overwrite it with --again" if again and where.folder is not None else ""
    existing: dict[Path, Path] = {}
    changed: list[Path] = []
    for source in map(Path, files):
        path = where.of(source)
        if there := next((file for file in (path, *_beside(path, format, source)) if file.exists()), None):
            existing[source] = there
    # A page is noted before its file appears, so a journal that is read now knows what other processes have just written.
    for source, there in existing.items():
        path, page = where.of(source), documents.page_of(source)
        known = journals.of(path)
        if other := known.other(source, path):
            raise Error(f"{path} is the result of {other}, and would be overwritten; {remedy}{overwrite}")
        beside = page.file if page else source
        near = real(path.parent) == real(beside.parent)
        if path not in known.outputs:
            place = f"next to {beside}" if near else f"and {command} did not write it"
            raise Error(f"{there} exists already, {place}, and would be overwritten; {remedy}")
        if not path.exists() or journals.finished(source, path):
            continue
        if where.folder is None:  # beside the inputs, results are corrected
            raise Error(
                f"{path} was written by another model or with other options, or {beside} has changed since, and it would be "
                "overwritten; remove it, or name a folder with --out"
            )
        if known.changed(path):
            changed.append(path)
    if changed:
        one = len(changed) == 1
        which, them = (
            (f"{changed[0]} was", "it") if one else (f"{len(changed):,} results ({some(changed)}) were", "them")
        )
        raise Error(
            f"{which} changed since {command} wrote {them}, and would be overwritten; move {them} away, or {remedy}{overwrite}"
        )


def _beside(path: Path, format: Format, source: Path) -> list[Path]:
    """The files one of which is written beside a result: the image of a page of a PDF or TIFF beside XML, which names it."""
    return [path.with_suffix(suffix) for suffix in IMAGES] if format.names_image and documents.page_of(source) else []


def _check_overwriting(files: list[Path], outputs: list[Path]) -> None:
    """Refuse to overwrite an input, or one page with another."""
    read = _files_of(files)
    sources: dict[Path, Path] = {}
    for i, path in enumerate(outputs):
        place = real(path)
        if place in read:
            raise Error(f"{path} is an input, and would be overwritten; name another place with --out")
        if sources.setdefault(place, files[i]) != files[i]:
            raise Error(f"--out: {sources[place]} and {files[i]} would both be written to {path}")


def _files_of(inputs: list[Path]) -> set[Path]:
    """The inputs, and the files of which they are pages."""
    return {real(path) for path in inputs} | {real(page.file) for path in inputs if (page := documents.page_of(path))}


def without_text(line: PageLine) -> PageLine:
    """The line with an empty text."""
    return replace(line, text="", characters=())


def save(page: PageReading, path: Path, kind: str | None, characters: bool) -> None:
    """Write a page that was read by the Python API, see `PageReading.save`."""
    fitting = of_suffix(path) if kind is None else [kind]
    if len(fitting) != 1 or fitting[0] not in tuple(FORMATS):
        names = ", ".join(fitting if fitting[1:] else FORMATS)
        raise Error(f"{path}: give the format of the file, one of {names}")
    kind, format = fitting[0], FORMATS[fitting[0]]
    _check_installed(kind, f"{path}: the {kind} format")
    if characters and not format.holds_characters:
        raise Error(f"{path}: the {kind} format can't hold characters")
    if characters and page.text.strip() and not any(line.characters for line in page.lines):
        raise Error(f"{path}: the characters of this page were not located; read it with characters=True")
    if format.rows is None and page.image == Path():
        raise Error(
            f"{path}: the {kind} format refers to the page's image, and this page was read from pixels, not a file"
        )
    if page.image != Path() and real(path) in _files_of([page.source, page.image]):
        raise Error(f"{path}: the page was read from this file; name another one")
    there = [file for file in _beside(path, format, page.image) if file.exists()]
    if there and [(file.suffix, read_bytes(file)) for file in there] != [_encoded(page)]:
        raise Error(f"{there[0]} exists already, and the page's image would replace it; name another file")
    write(path, format, page, **({"characters": True} if characters else {}))


def write(path: Path, format: Format, page: PageReading, **more: bool) -> None:
    """Write a page.

    Args:
        more: Further arguments of the format's `write`.

    Raises:
        Error: The file can't be written, or can't hold the page.
    """
    make_folder(path.parent)
    if format.names_image and documents.page_of(page.image):
        page = replace(page, image=_image(page, path))
    content = format.write([page], **more)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _image(page: PageReading, path: Path) -> Path:
    """Write the image of a page of a PDF or TIFF beside a file that names it."""
    suffix, content = _encoded(page)
    out = path.with_suffix(suffix)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return out


def _encoded(page: PageReading) -> tuple[str, bytes]:
    """Suffix and content of a page's image: PNG if it is black and white, else JPEG."""
    with load.opened(page.image) as image:
        bits = image.mode == "1"
        pixels = exif.turned(image, page.upright) if bits else load.plain_of(image, page.upright, str(page.image))
        pixels.info.pop("exif", None)
        out = io.BytesIO()
        pixels.save(out, "PNG" if bits else "JPEG", **({} if bits else {"quality": QUALITY}))
    return IMAGES[0 if bits else 1], out.getvalue()
