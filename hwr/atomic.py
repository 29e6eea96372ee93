"""Write files so that a kill at any moment leaves either the old content or the new, never half of it."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from hwr import Error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file beside `path`; on success flush it to disk and rename it onto `path`.

    On any exception the temporary file is removed and `path` is left as it was. The new file has the permissions of the
    one that it replaces, or else those that the umask allows. A link stays a link to what is replaced; a device or a pipe is
    not replaced, but written to.

    Raises:
        Error: The file system refused (disk full, no permission, no such folder); names `path`.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        # Asking for the umask would change it for a moment, in all threads: let the system apply it to a new file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
        yield temporary
        with open(temporary, "rb+") as file:  # Windows flushes no handle that only reads
            os.fsync(file.fileno())
        temporary.chmod(mode)  # some writers make files that nobody else may read
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Error(
            f"{path}: could not be written: {error.strerror or error}. What stood there before is untouched."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
