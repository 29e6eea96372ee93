"""Write files so that a kill at any moment leaves either the old content or the new, never half of it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from hwr import Error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside `path`; on success flush it to disk and rename it onto `path`.

    On any exception the temporary file is removed and `path` is left as it was. A link stays a link to what is replaced;
    a device or a pipe is not replaced, but written to.

    Raises:
        Error: The file system refused (disk full, no permission, no such folder); names `path`.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # Some writers make files that nobody else may read.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Error(
            f"{path}: could not be written: {error.strerror or error}. What stood there before is untouched."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
