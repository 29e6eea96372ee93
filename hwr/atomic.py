"""Write files atomically: a kill at any moment leaves the old content or the new, never half of it."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from hwr import Error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file next to `path`; on success flush it to disk and rename it to `path`.

    On any exception the temporary file is removed and `path` stays as it was. The new file gets the permissions of the file
    that it replaces, or those that the umask allows. A link is kept, and its target replaced. A device or a pipe is written
    to directly.

    Raises:
        Error: The file system refuses (disk full, no permission, no such folder); names `path`.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        # Querying the umask would change it for a moment, in all threads. Creating a file lets the system apply it.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
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
