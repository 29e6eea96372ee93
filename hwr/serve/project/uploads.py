"""Files from clients -> pages of the project. A name never leaves the folder, and one bad file never stops the others."""

import glob
import io
import lzma
import os
import re
import shutil
import struct
import tempfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hwr import Error
from hwr.data.formats import alto, page, page_edit, xml
from hwr.data.formats.xml_edit import Document
from hwr.images import documents, load
from hwr.serve.project import pdfs, tiffs
from hwr.serve.project.coordinates import image_size
from hwr.serve.project.folder import Project
from hwr.system.atomic import replacing

# Files in an archive, and how much larger than the archive they may be together.
MOST_FILES = 2000
MOST_TIMES = 200

# Names that Windows can't store.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


# Two uploads must not choose the same free name.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Upload:
    """A file from a client: its name there, and its content."""

    name: str
    file: IO[bytes]


@dataclass(frozen=True)
class Stored:
    """What became of a file: its name in the project, or why it was refused."""

    name: str
    stored: str = ""
    error: str = ""


def safe_name(name: str) -> str:
    """A name for a file in the project: the last part of a path, without anything that a file system might object to.

    Raises:
        Error: Nothing is left of it.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    kept = "".join("_" if c in '<>:"|?*' or unicodedata.category(c)[0] == "C" else c for c in last)
    stem, dot, suffix = kept.strip(" .").rpartition(".")
    stem, suffix = (stem, suffix) if dot else (suffix, "")
    stem = stem.strip(" .").encode()[:150].decode("utf-8", "ignore").strip(" .")
    if not stem:
        raise Error(f"{name[:60]!r} is no name for a file")
    found = f"{stem}.{suffix.lower()[:8]}" if suffix else stem
    return f"_{found}" if _RESERVED.match(found) else found


def store(project: Project, uploads: Iterable[Upload]) -> list[Stored]:
    """Add files to the project: images, PDFs, PAGE and ALTO files, and archives of these. A TIFF may hold several pages.

    PAGE and ALTO files belong to the image of the same name, in this upload or already in the project. A page that has a
    PAGE file keeps it.
    """
    with _LOCK:
        return _store(project, uploads)


def _store(project: Project, uploads: Iterable[Upload]) -> list[Stored]:
    stored: list[Stored] = []
    pages: list[tuple[str, bytes]] = []
    names: dict[str, Path] = {}  # stem of a client's image -> the image in the project
    for name, content in _files(uploads, stored):
        try:
            suffix = PurePosixPath(safe_name(name)).suffix
            if suffix == ".xml":
                pages.append((name, _read(content)))
            elif suffix == ".pdf":
                stored += [Stored(name, path.name) for path in _store_pdf(project, name, content)]
            elif suffix in documents.TIFF and (bundled := _store_tiff(project, name, content)):
                stored += [Stored(name, path.name) for path in bundled]
            elif suffix in load.SUFFIXES:
                path = _store_image(project, name, content)
                names[PurePosixPath(safe_name(name)).stem] = path
                stored.append(Stored(name, path.name))
            else:
                known = ", ".join((*load.SUFFIXES, ".pdf", ".xml", ".zip"))
                raise Error(f"{name}: not a kind of file that a page can be; these are {known}")
        except Error as error:
            stored.append(Stored(name, error=str(error)))
    for name, xml_content in pages:
        try:
            stored.append(Stored(name, _store_xml(project, name, xml_content, names).name))
        except Error as error:
            stored.append(Stored(name, error=str(error)))
    project.scan()
    return stored


def _files(uploads: Iterable[Upload], refused: list[Stored]) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of the files, with archives unpacked."""
    for upload in uploads:
        if not upload.name.lower().endswith(".zip"):
            yield upload.name, upload.file
            continue
        try:
            yield from _unpacked(upload, refused)
        except (
            *(Error, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError),
            *(zlib.error, lzma.LZMAError, struct.error, LookupError),
        ) as error:
            refused.append(Stored(upload.name, error=f"{upload.name}: can't be unpacked: {error}"))


def _unpacked(upload: Upload, refused: list[Stored]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, in memory one after the other. Their folders are ignored."""
    size = upload.file.seek(0, os.SEEK_END)
    upload.file.seek(0)
    with zipfile.ZipFile(upload.file) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not _hidden(m.filename)]
        if len(members) > MOST_FILES:
            raise Error(f"it holds {len(members)} files; the limit is {MOST_FILES}")
        if sum(member.file_size for member in members) > max(MOST_TIMES * size, 1 << 20):
            raise Error(f"its files are more than {MOST_TIMES} times as large as it")
        for member in members:
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                refused.append(Stored(member.filename, error=f"{member.filename}: a link, which is not followed"))
                continue
            with archive.open(member) as file:
                # The size in the directory may be a lie.
                content = file.read(member.file_size + 1)
            if len(content) > member.file_size:
                raise Error(f"{member.filename} is larger than the archive says")
            yield member.filename, io.BytesIO(content)


def _hidden(name: str) -> bool:
    """Whether a file of an archive is none of the user's: __MACOSX, .DS_Store, METS."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith((".", "__MACOSX")) and part not in ("..", ".") for part in parts)


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _copied(content: IO[bytes], path: Path) -> Path:
    """Write a whole upload to a path, which is returned."""
    content.seek(0)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file)
    return path


def _store_image(project: Project, name: str, content: IO[bytes]) -> Path:
    path = _free(project, safe_name(name))
    with replacing(path) as temporary:
        _copied(content, temporary)
        try:
            image_size(temporary)
            load.read(temporary)  # decodes it: a damaged file is refused now
        except Error as error:
            raise Error(str(error).replace(str(temporary), name).replace(temporary.name, name)) from None
    return path


def _store_pdf(project: Project, name: str, content: IO[bytes]) -> list[Path]:
    """Keep a PDF, and add its pages as images: letters.pdf, letters-001.jpg, …"""
    with tempfile.TemporaryDirectory() as folder:
        path = _copied(content, Path(folder) / safe_name(name))
        (rendered := Path(folder) / "pages").mkdir()
        pictures = pdfs.render(path, rendered)
        kept = _free(project, path.name)
        with replacing(kept) as temporary:
            shutil.copyfile(path, temporary)
        return _add_pages(project, kept, pictures)


def _store_tiff(project: Project, name: str, content: IO[bytes]) -> list[Path]:
    """Add the pages of a TIFF as images: letters.tif becomes letters-001.png, … An image of one page gives none."""
    with tempfile.TemporaryDirectory() as folder:
        path = _copied(content, Path(folder) / safe_name(name))
        if not tiffs.is_bundle(path):
            return []
        (pages := Path(folder) / "pages").mkdir()
        return _add_pages(project, path, tiffs.split(path, pages))


def _add_pages(project: Project, whole: Path, pictures: Sequence[Path]) -> list[Path]:
    out = []
    for number, picture in enumerate(pictures, 1):
        path = _free(project, f"{whole.stem}-{number:03}{picture.suffix}")
        with replacing(path) as temporary:
            shutil.copyfile(picture, temporary)
        out.append(path)
    return out


def add_pdfs(project: Project) -> list[Stored]:
    """Add the pages of the PDFs in the folder that have not been added yet."""
    stored = []
    for pdf in sorted(project.root.glob("*.pdf")):
        if any(project.root.glob(f"{glob.escape(pdf.stem)}-[0-9][0-9][0-9].jpg")):
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                stored += [
                    Stored(pdf.name, path.name) for path in _add_pages(project, pdf, pdfs.render(pdf, Path(folder)))
                ]
        except Error as error:
            stored.append(Stored(pdf.name, error=str(error)))
    project.scan()
    return stored


def _free(project: Project, name: str) -> Path:
    """A path in the project for a new file: neither it nor a PAGE file of its stem exists."""
    stem, suffix = os.path.splitext(name)
    number = 1
    while True:
        path = project.root / (name if number == 1 else f"{stem}-{number}{suffix}")
        if not any(os.path.lexists(p) for p in (path, path.with_suffix(".xml"))):
            return path
        number += 1


def _store_xml(project: Project, name: str, content: bytes, images: dict[str, Path]) -> Path:
    stem = PurePosixPath(safe_name(name)).stem
    document = Document(content, Path(name))
    root = document.root
    image = images.get(stem) or next(
        (found.image for found in project.pages() if found.image.stem == stem and found.revision == "new"), None
    )
    if xml.local(root) not in (page.TAG, alto.TAG):
        raise Error(f"{name}: neither PAGE nor ALTO")
    if image is None:
        raise Error(f"{name}: no image of this name without a PAGE file; upload the image with it")
    path = image.with_suffix(".xml")
    if path.exists():
        raise Error(f"{name}: {path.name} exists already and is kept")
    if xml.local(root) == alto.TAG:
        content = xml.text(_page_of_alto(name, root, image))
    else:
        page.parse(Path(name), root)
        page_edit.set_image(root, image.name)
        content = document.content()
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _page_of_alto(name: str, root: Any, image: Path) -> Any:
    found = alto.parse(Path(name), root)
    width, height, _ = image_size(image)
    size = (found.width, found.height) if found.width and found.height else (width, height)
    return page.new(image.name, size, [line for line in found.lines if line.polygon or line.baseline])
