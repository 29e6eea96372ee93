"""The processes beside this one: those that torchrun started, and those that would train in the same folder."""

import os
from typing import IO, Any

# torchrun sets them all; a batch system may set WORLD_SIZE alone, for its own purposes.
_OF_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and the number of processes that torchrun started with it: (0, 1) without torchrun."""
    if not all(name in os.environ for name in _OF_TORCHRUN):
        return 0, 1
    size = int(os.environ["WORLD_SIZE"])
    return (int(os.environ["RANK"]), size) if size > 1 else (0, 1)


def lock(file: IO[Any]) -> bool:
    """Lock an open file against other processes until it is closed, or this process ends in whichever way.

    Returns:
        Whether it is locked now; False if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _lock_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_on_windows(file: IO[Any]) -> bool:
    import msvcrt

    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
