"""Files from clients -> pages of the project. A name never leaves the folder, and one bad file never stops the others."""

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from hwr import Error
from hwr.data.formats import alto, page, page_edit, xml
from hwr.data.formats.xml_edit import Document
from hwr.data.text import folded
from hwr.images import documents, load
from hwr.serve.project import adding, pdfs, tiffs
from hwr.serve.project.adding import Stored
from hwr.serve.project.coordinates import image_size
from hwr.serve.project.folder import Project, page_of_alto
from hwr.serve.project.page_state import PageState
from hwr.system import files
from hwr.system.atomic import replacing

# Files in an archive, and how much larger than the archive they may be together.
MOST_FILES = 2000
MOST_TIMES = 200

# Bytes of all XML files of an upload, which are in memory until its images are there.
MOST_XML = 500_000_000

# What zipfile raises on damaged archives.
_DAMAGED = (
    *(Error, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError),
    *(zlib.error, lzma.LZMAError, struct.error, LookupError),
)

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
class _Image:
    """An image of an upload.

    Attributes:
        name: Its name at the client, without folders.
        folder: Its folder there, see `_folder`.
        path: The image in the project.
    """

    name: str
    folder: PurePosixPath
    path: Path


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

    PAGE and ALTO files belong to the image of the same name: in their folder of an archive, in the folder above, anywhere
    in this upload, or already in the project. A page that has a PAGE file keeps it.
    """
    with _LOCK:
        return _store(project, uploads)


def _store(project: Project, uploads: Iterable[Upload]) -> list[Stored]:
    stored: list[Stored] = []
    pages: list[tuple[str, PurePosixPath, bytes]] = []
    images: dict[str, list[_Image]] = {}  # by their stems
    for name, folder, content in _files(uploads, stored):
        try:
            suffix = PurePosixPath(safe_name(name)).suffix
            if suffix == ".xml":
                left = MOST_XML - sum(len(xml_content) for *_, xml_content in pages)
                pages.append((name, folder, _read(name, content, left)))
            elif suffix == ".pdf":
                stored += [Stored(name, path.name) for path in _store_pdf(project, name, content)]
            elif suffix in documents.TIFF and (bundled := _store_tiff(project, name, content)):
                stored += [Stored(name, path.name) for path in bundled]
            elif suffix in load.SUFFIXES:
                path = _store_image(project, name, content)
                own = PurePosixPath(safe_name(name))
                images.setdefault(own.stem, []).append(_Image(own.name, folder, path))
                stored.append(Stored(name, path.name))
            else:
                known = ", ".join((*load.SUFFIXES, ".pdf", ".xml", ".zip"))
                raise Error(f"{name}: not a kind of file that a page can be; these are {known}")
        except Error as error:
            stored.append(Stored(name, error=str(error)))
    project.scan()
    known_pages = project.pages() if pages else []
    for name, folder, xml_content in pages:
        try:
            stored.append(Stored(name, _store_xml(name, folder, xml_content, images, known_pages).name))
        except Error as error:
            stored.append(Stored(name, error=str(error)))
    return stored


def _files(uploads: Iterable[Upload], refused: list[Stored]) -> Iterator[tuple[str, PurePosixPath, IO[bytes]]]:
    """Names, folders and contents of the files, with archives unpacked."""
    for number, upload in enumerate(uploads, 1):
        if not upload.name.lower().endswith(".zip"):
            yield upload.name, _folder(0, upload.name), upload.file
            continue
        try:
            for name, content in _unpacked(upload, refused):
                yield name, _folder(number, name), content
        except _DAMAGED as error:
            refused.append(Stored(upload.name, error=f"{upload.name}: can't be unpacked: {error}"))


def _folder(archive: int, name: str) -> PurePosixPath:
    """The folder that a file had in the archive of this number; 0 if it was in none."""
    return PurePosixPath(f"{archive}/{_slashes(name)}").parent


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _unpacked(upload: Upload, refused: list[Stored]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, on the disk one after the other. In the project they all lie in one folder."""
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
            with tempfile.TemporaryFile() as content:
                try:
                    with archive.open(member) as file:
                        while part := file.read(1 << 20):
                            content.write(part)
                            if content.tell() > member.file_size:  # the size in the directory may be a lie
                                raise Error("it is larger than the archive says")
                except _DAMAGED as error:
                    reason = f"{member.filename}: can't be unpacked: {error or type(error).__name__}"
                    refused.append(Stored(member.filename, error=reason))
                    continue
                yield member.filename, content


def _hidden(name: str) -> bool:
    """Whether a file of an archive is none of the user's: __MACOSX, .DS_Store, METS."""
    parts = PurePosixPath(_slashes(name)).parts
    return any(part.startswith((".", "__MACOSX")) and part not in ("..", ".") for part in parts)


def _read(name: str, file: IO[bytes], most: int) -> bytes:
    if file.seek(0, os.SEEK_END) > most:
        raise Error(f"{name}: the XML files of an upload may have {MOST_XML:,} bytes together")
    file.seek(0)
    return file.read()


def copied(content: IO[bytes], path: Path) -> Path:
    """Write the whole content of an upload to a path, and return the path."""
    content.seek(0)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file)
    return path


def _store_image(project: Project, name: str, content: IO[bytes]) -> Path:
    path = adding.free(project.root, safe_name(name))
    with replacing(path) as temporary:
        copied(content, temporary)
        try:
            image_size(temporary)
            load.read(temporary)  # decodes it: a damaged file is refused now
        except Error as error:
            raise Error(str(error).replace(str(temporary), name).replace(temporary.name, name)) from None
    return path


def _store_pdf(project: Project, name: str, content: IO[bytes]) -> list[Path]:
    """Keep a PDF, and add its pages as images: letters.pdf, letters-001.jpg, …"""
    with tempfile.TemporaryDirectory() as folder:
        path = copied(content, Path(folder) / safe_name(name))
        (rendered := Path(folder) / "pages").mkdir()
        pictures = pdfs.render(path, rendered)
        return adding.add_pages(project, adding.free(project.root, path.name), pictures, path)


def _store_tiff(project: Project, name: str, content: IO[bytes]) -> list[Path]:
    """Add the pages of a TIFF as images: letters.tif becomes letters-001.png, … An image of one page gives none."""
    with tempfile.TemporaryDirectory() as folder:
        path = copied(content, Path(folder) / safe_name(name))
        if not tiffs.is_bundle(path):
            return []
        (pages := Path(folder) / "pages").mkdir()
        return adding.add_pages(project, project.root / path.name, tiffs.split(path, pages))


def _store_xml(
    name: str, folder: PurePosixPath, content: bytes, images: Mapping[str, list[_Image]], pages: Sequence[PageState]
) -> Path:
    document = Document(content, Path(name))
    root = document.root
    tag = xml.local(root)
    if tag not in (page.TAG, alto.TAG):
        raise Error(f"{name}: neither PAGE nor ALTO")
    found = (alto if tag == alto.TAG else page).parse(Path(name), root)
    own = _page_of(name, folder, found.image, images, pages)
    if own.xml.exists():
        raise Error(f"{name}: {own.xml.name} exists already and is kept")
    if tag == alto.TAG:
        content = xml.text(page_of_alto(found, own.image))
    else:
        page_edit.set_image(root, own.image.name)
        content = document.content()
    own.xml.parent.mkdir(exist_ok=True)
    with replacing(own.xml) as temporary:
        temporary.write_bytes(content)
    return own.xml


def _page_of(
    name: str, folder: PurePosixPath, named: str, images: Mapping[str, list[_Image]], pages: Sequence[PageState]
) -> PageState:
    """The page that a PAGE or ALTO file of an upload belongs to.

    Args:
        named: The image that the file names.
        images: Those of the upload, by their stems.
        pages: Those of the project, with the upload's.

    Raises:
        Error: There is none, or it is not clear which.
    """
    stem = PurePosixPath(safe_name(name)).stem
    uploaded = images.get(stem, [])
    near = [x for x in uploaded if x.folder == folder] or [x for x in uploaded if x.folder == folder.parent]
    if len(uploaded) > 1 and not near:
        raise Error(
            f"{name}: {len(uploaded)} images have this name, none in its folder or the one above; move it to its image"
        )
    names = {x.path: x.name for x in near or uploaded}
    found = [x for x in pages if x.image in names]
    found = found or [x for x in pages if files.nfc(x.image.stem) == stem and x.revision == "new"]
    if not found:
        raise Error(f"{name}: no image of this name without a PAGE file; upload the image with it")
    if len(found) > 1:  # a.jpg and a.png
        said = folded(PurePosixPath(_slashes(named)).name)
        found = [x for x in found if folded(names.get(x.image, x.image.name)) == said] or found
    if len(found) > 1:
        raise Error(f"{name}: belongs to one of {', '.join(x.name for x in found)}; upload it with that image only")
    return found[0]
