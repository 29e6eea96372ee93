"""Write files and folders atomically: a kill at any moment leaves the old content or the new, never half of it."""

import contextlib
import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.system.processes import lock

# Seconds after which a temporary file that no process holds is taken for a killed one's. Some libraries replace the file
# that they write to, which loses the lock on it.
ABANDONED = 60

# Names that are listed for a write, on average, in search of temporary files: listing a folder for each of its files would take
# quadratic time.
LISTED = 100

# Folders whose listings are remembered at most, to bound memory.
REMEMBERED = 10_000

# `.NAME.8 digits.tmp`, or `.new` for a moment; NAME is what the temporary file is for, or its beginning.
_TEMPORARY = re.compile(r"\.(.+)\..{8}\.(?:tmp|new)", re.DOTALL)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file next to `path`; on success flush it to disk and rename it to `path`.

    On any exception the temporary file is removed and `path` stays as it was. The new file gets the permissions of the file
    that it replaces, or those that the umask allows. A link is kept, and its target replaced. A device or a pipe is written
    to directly. Temporary files for `path` that killed processes left are removed.

    Raises:
        Error: The path is a folder, or the file system refuses (disk full, no permission, no such folder); names `path`.
    """
    path = _real(path)
    if path.is_dir():
        raise Error(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        try:
            yield path
        except OSError as error:
            raise Error(f"{path}: could not be written: {error.strerror or error}") from error
        return
    temporary = _temporary(path)
    try:
        _sweep(path, ABANDONED)
        # Querying the umask would change it for a moment, in all threads. Creating a file lets the system apply it.
        with _held(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)):
            mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
            yield temporary
            with open(temporary, "rb+") as file:  # Windows can't flush a read-only handle
                os.fsync(file.fileno())
            temporary.chmod(mode)  # some libraries create files that only the owner may read
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise Error(
            f"{path}: could not be written: {error.strerror or error}.{remedy(error, path.parent)} The previous file is "
            "unchanged."
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def check_folder_of(path: str | Path) -> None:
    """Check that the folder of an output file exists: before the work, not after it.

    Raises:
        Error: It does not.
    """
    if not Path(path).parent.is_dir():
        raise Error(f"{path}: no such folder: {Path(path).parent}")


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # a read-only file system refuses even what is not there
        temporary.unlink()


def remedy(error: OSError, folder: Path) -> str:
    """What to do if a folder can't be written to, as a sentence after a space; "" if that is not the reason."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    return f" Name another folder, or make {folder} writable."


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        Error: A file is there, or the file system refuses; names the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise Error(f"{path} is a file, and a folder is needed; name another folder") from None
    except OSError as error:
        raise Error(
            f"{path}: the folder could not be made: {error.strerror or error}.{remedy(error, path.parent)}"
        ) from error


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary folder next to `path`; on success rename it to `path`.

    On any exception the temporary folder is removed: there is the whole folder or none. Temporary folders for `path` that
    killed processes left are removed.

    Args:
        path: It must not exist, or be an empty folder. Folders above it are created.

    Raises:
        Error: There is something at `path`, or the file system refuses; names `path`.
    """
    path = _real(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Error(f"{path} exists already; choose a new folder, or remove this one")
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path, 0)
        # Locked under another name first: another process that writes to this path removes unlocked temporary folders.
        young = temporary.with_suffix(".new")
        young.mkdir()
        with _held(os.open(young, os.O_RDONLY) if os.name == "posix" else None):
            young.rename(temporary)
            yield temporary
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()  # Windows can't rename onto a folder, even an empty one
            temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise Error(f"{path}: could not be written: {error.strerror or error}. Nothing of it was kept.") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _real(path: str | Path) -> Path:
    """The path with links followed.

    Raises:
        Error: The links lead nowhere.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Error(f"{path}: is a link that leads back to itself; name another file") from None
    except ValueError as error:  # a NUL in the name
        raise Error(f"{path}: can't be a file's name: {error}") from None
    return Path(os.path.realpath(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name[:60]}.{uuid.uuid4().hex[:8]}.tmp")


@contextlib.contextmanager
def _held(descriptor: int | None) -> Iterator[None]:
    """Lock what is being written, so that other processes can tell it from what a killed process left."""
    try:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                lock(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _sweep(path: Path, age: float) -> None:
    """Remove the temporary files and folders for a path that no process holds and that are older than `age` seconds."""
    for name in _found(path):
        leftover = path.parent / name
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime < (ABANDONED if name.endswith(".new") else age):
                continue
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                if not lock(descriptor):
                    continue
            finally:
                os.close(descriptor)
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@dataclass
class _Listing:
    """What a folder held when it was last listed.

    Attributes:
        names: How many names.
        temporary: Temporary files and folders, by the name that they are for.
        writes: Writes to the folder since.
    """

    names: int
    temporary: dict[str, list[str]]
    writes: int = 0


_listings: dict[Path, _Listing] = {}


def _found(path: Path) -> list[str]:
    """The names of temporary files and folders for a path. A folder of more than `LISTED` names is not listed every time."""
    seen = _listings.get(path.parent)
    if seen is None or seen.writes * LISTED >= seen.names:
        if len(_listings) >= REMEMBERED:
            _listings.clear()
        seen = _listings[path.parent] = _list(path.parent)
    seen.writes += 1
    return seen.temporary.pop(path.name[:60], [])


def _list(folder: Path) -> _Listing:
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
    temporary: dict[str, list[str]] = {}
    for name in names:
        if match := _TEMPORARY.fullmatch(name):
            temporary.setdefault(match[1], []).append(name)
    return _Listing(len(names), temporary)
