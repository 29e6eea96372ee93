"""Running out of memory as an error that the user can act on, whichever library runs out."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hwr import Error

# What torch's allocators, OpenCV, onnxruntime and numba say, and Python where it has no memory to raise MemoryError. These
# exceptions have no common class.
_SIGNS = (
    "allocate memory",
    "out of memory",
    "insufficient memory",
    "bad_alloc",
    "bad allocation",
    "allocation failed",
    "start new thread",
    "failed to map segment",
    "without exception set",
)


def is_short(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).strip().lower()
    return not isinstance(error, Error) and (text == _PRIMITIVE or any(sign in text for sign in _SIGNS))


_PRIMITIVE = "could not create a primitive"  # oneDNN, in torch on a CPU


@contextmanager
def errors(remedy: str) -> Iterator[None]:
    """Turn a lack of memory into an Error that names the setting to lower."""
    try:
        yield
    except Exception as error:
        if is_short(error):
            raise Error(f"out of memory: lower {remedy}") from error
        raise
