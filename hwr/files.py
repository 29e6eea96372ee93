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

    On any exception the temporary file is removed and `path` is left as it was.

    Raises:
        Error: The file system refused (disk full, no permission, no such folder); names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Error(
            f"{path}: could not be written: {error.strerror or error}. What stood there before is untouched."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
