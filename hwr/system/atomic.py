"""Write files and folders atomically: a kill at any moment leaves the old content or the new, never half of it."""

import contextlib
import errno
import glob
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from hwr import Error
from hwr.system.processes import lock

# Seconds after which a temporary file that no process holds is taken for a killed one's. Some libraries replace the file
# that they write to, which loses the lock on it.
ABANDONED = 60


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file next to `path`; on success flush it to disk and rename it to `path`.

    On any exception the temporary file is removed and `path` stays as it was. The new file gets the permissions of the file
    that it replaces, or those that the umask allows. A link is kept, and its target replaced. A device or a pipe is written
    to directly. Temporary files for `path` that killed processes left are removed.

    Raises:
        Error: The file system refuses (disk full, no permission, no such folder); names `path`.
    """
    path = _real(path)
    if path.exists() and not path.is_file():
        yield path
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
        temporary.unlink(missing_ok=True)
        raise Error(
            f"{path}: could not be written: {error.strerror or error}. The previous file is unchanged."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    start = f".{glob.escape(path.name[:60])}.????????"
    names = [(name, age) for name in glob.glob(f"{start}.tmp", root_dir=path.parent)]
    names += [(name, ABANDONED) for name in glob.glob(f"{start}.new", root_dir=path.parent)]
    for name, least in names:
        leftover = path.parent / name
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime < least:
                continue
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                if not lock(descriptor):
                    continue
            finally:
                os.close(descriptor)
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
