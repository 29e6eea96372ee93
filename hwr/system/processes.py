"""Processes and threads: torchrun's processes, pools of workers, locks between processes."""

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import IO, Any

from hwr import Error

# Number of files from which workers are processes. They take a third of a second to start, but half of the work on an image
# holds Python's global lock, so that two threads are hardly faster than one.
MANY = 500

# torchrun sets all of them; a batch system may set only WORLD_SIZE, for its own purposes.
_OF_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes that torchrun started; (0, 1) without torchrun."""
    if not all(name in os.environ for name in _OF_TORCHRUN):
        return 0, 1
    size = int(os.environ["WORLD_SIZE"])
    return (int(os.environ["RANK"]), size) if size > 1 else (0, 1)


def lock(file: IO[Any] | int) -> bool:
    """Lock an open file, or its descriptor, against other processes until it is closed or this process ends, however it ends.

    On a file system without locks (Lustre and NFS may be mounted so) nothing is locked.

    Returns:
        False if another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _lock_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    return True


def _lock_on_windows(file: IO[Any] | int) -> bool:
    import msvcrt

    try:
        msvcrt.locking(file if isinstance(file, int) else file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


def usable_cores() -> int:
    """CPU cores for this process: those it may run on, divided among torchrun's processes on this machine; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def pool(size: int | None = None, files: int = 0) -> Iterator[Executor]:
    """A pool of workers. Submit module-level functions, with arguments and results that can be pickled.

    Args:
        size: Number of workers; None: `usable_cores()`.
        files: Number of files to decode, if known. For many, the workers are processes; a program other than hwr's command
            line then needs `if __name__ == "__main__":`, as always with Python's multiprocessing.

    Raises:
        Error: A process was killed.
    """
    size = size or usable_cores()
    if files < MANY or size == 1:
        executor: Executor = ThreadPoolExecutor(size)
    else:
        executor = ProcessPoolExecutor(size, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise Error(
            "a process that decodes images was killed, perhaps because memory ran out; lower --workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _begin() -> None:
    """Let the parent end this worker: ignore Ctrl-C, which reaches both, and exit if the parent is killed."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)  # there is one worker per CPU
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
