"""Threads or processes that decode images while the rest of the program does something else."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from hwr import Error

# From so many files on, processes. They take a third of a second to start, but half of the work on an image is done by
# Python itself, for which threads wait for each other: two are hardly faster than one.
MANY = 500


def usable_cores() -> int:
    """The cores that this process may run on, shared with torchrun's other processes on this machine; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def pool(size: int | None = None, files: int = 0) -> Iterator[Executor]:
    """What to submit work to: functions of modules, and arguments and results that can be pickled.

    Args:
        size: How many workers; None: as many as there are CPUs, shared with torchrun's other processes.
        files: How many there are to decode, if it is known. For many the workers are processes; a program that is not hwr's
            own command line then needs `if __name__ == "__main__":`, as always with Python's multiprocessing.

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
            "a process that decodes images was killed, for want of memory? --workers says how many there are"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _begin() -> None:
    """A worker ends when the program says so, not by the Ctrl-C that both hear; and with it, should that be killed."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)  # there are as many of us as CPUs
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
