"""Unpack one of IAM's archives into its folder, trusting nothing in it."""

import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hwr import Error

MARKER = ".complete"  # in a folder: its archive is wholly unpacked

_CHUNK = 1 << 16  # bytes
# Well above IAM's size (115,320 word files), and well below a harmful one.
_MAX_FILES = 200_000
_MAX_FILE_BYTES = 256 << 20
_MAX_BYTES = 20 << 30

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)

_Members = Generator[tuple[str, int, IO[bytes]], None, None]  # of each file: name, size, content


def unpack(archive: Path, folder: Path, *, progress: bool = False) -> None:
    """Unpack a .tgz or .zip into `folder`; existing files stay unless the archive contains them too.

    A top folder in the archive with the name of `folder` is dropped. Files go into a temporary folder next to it first, and
    a marker says that `folder` is complete, so an interrupted unpacking starts again.

    Raises:
        Error: The archive is damaged (it is then deleted, to be downloaded again), or has links, devices, paths that lead
            out of the folder, or absurd sizes (it is then kept for inspection).
    """
    from tqdm import tqdm

    real = folder.resolve()  # a link to another disk is followed: files are moved within one disk only
    temporary = real.with_name(f".unpacking-{real.name}")
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    count = total = 0
    try:
        with contextlib.closing(members(archive)) as contents:
            bar = tqdm(contents, desc=f"unpack {archive.name}", unit="file", disable=None if progress else True)
            for name, size, source in bar:
                count, total = count + 1, total + size
                if count > _MAX_FILES or size > _MAX_FILE_BYTES or total > _MAX_BYTES:
                    raise Error(f"{archive}: {name}: larger than IAM can be (file {count:,}, {total:,} bytes): refused")
                _write_member(source, size, temporary / _inner_path(archive, name, folder.name), archive)
        if not count:
            raise Error(f"{archive}: contains no files; delete it and run it again")
        with writing(folder):
            (temporary / MARKER).write_text(f"{archive.name}: {count} files\n", encoding="utf-8")
            _merge(temporary, real)
    # Python's readers of archives raise all of these on damaged ones; what writing raises is an Error already.
    except (*_DAMAGED, ValueError, RuntimeError, LookupError, struct.error) as error:
        archive.unlink(missing_ok=True)
        raise Error(f"{archive}: damaged ({error}), so it was deleted; run it again to download it again") from error
    except OSError as error:
        raise Error(f"{archive}: could not be read: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _inner_path(archive: Path, name: str, folder: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\x00-\x1f]", name):
        raise Error(f"{archive}: {name!r} would be written outside the folder: refused")
    own_top = len(path.parts) > 1 and path.parts[0].lower() == folder.lower()
    return PurePosixPath(*path.parts[1:]) if own_top else path


def _tar_members(archive: Path) -> _Members:
    with gzip.open(archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.isdir():
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None:
                    raise Error(f"{archive}: {member.name!r} is a link or a device: refused")
                yield member.name, member.size, source
        # tarfile stops at a header that it can't read: the end of the stream has the checksum of it all.
        while stream.read(_CHUNK):
            pass


def _zip_members(archive: Path) -> _Members:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if info.flag_bits & 1 or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                raise Error(f"{archive}: {info.filename!r} is a link, a device or encrypted: refused")
            with file.open(info) as source:
                yield info.filename, info.file_size, source


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """A file system's refusal (disk full, no permission) as an Error that names the place."""
    try:
        yield
    except gzip.BadGzipFile:  # an OSError too, but about the archive that is read
        raise
    except OSError as error:
        raise Error(
            f"{place}: could not be written: {error.strerror or error}. The download is kept; fix this and run it again"
        ) from error


def _write_member(source: IO[bytes], size: int, path: Path, archive: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while chunk := _read(source, archive):
                size -= len(chunk)
                if size < 0:
                    raise Error(f"{archive}: {path.name} is longer than it says: refused")
                file.write(chunk)
    if size:
        raise EOFError(f"{path.name} is cut short")


def _read(source: IO[bytes], archive: Path) -> bytes:
    try:
        return source.read(_CHUNK)
    except gzip.BadGzipFile:
        raise
    except OSError as error:  # not of the file that is being written
        raise Error(f"{archive}: could not be read: {error.strerror or error}") from error


def _merge(source: Path, folder: Path) -> None:
    """Put the unpacked files into `folder`: by one rename where there is no such folder, the marker last otherwise."""
    if not folder.exists():
        source.rename(folder)
        return
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != MARKER)
    for path in [*files, source / MARKER]:
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
