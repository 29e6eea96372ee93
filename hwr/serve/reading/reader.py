"""A few threads read for everybody: lines that wait together are read in the same batches."""

import copy
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hwr import Error
from hwr.engines import side_by_side
from hwr.recognizer import Prepared, Reading, Recognizer
from hwr.system.processes import usable_cores

T = TypeVar("T")

# Batches' worth of lines that are read in one go. More would make a short request wait longer behind a long one.
TOGETHER = 4

# Lines that may wait; a request beyond them is refused rather than kept in memory.
MOST_WAITING = 20_000

# The priorities: a person waits for the first, a job in the background does not.
NOW, LATER = 0, 1


class Busy(Exception):
    """Too many lines are waiting."""


@dataclass(order=True)
class _Request:
    """Lines to read, or a function to call with the recognizer."""

    priority: int
    number: int
    lines: Sequence[Prepared] = field(compare=False, default=())
    characters: bool = field(compare=False, default=False)
    call: Callable[[Recognizer], Any] | None = field(compare=False, default=None)
    future: "Future[Any]" = field(compare=False, default_factory=Future)


class Reader:
    """Reads for all clients and jobs of a server.

    Args:
        recognizer: What reads.
        name: The name of its model.
    """

    def __init__(self, recognizer: Recognizer, name: str) -> None:
        self._current = (recognizer, name)
        self._queue: queue.PriorityQueue[_Request] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._closed = False
        self._waiting = 0
        self._lock = threading.Lock()
        self.batches = 0  # read so far, and the lines and requests in them, for statistics
        self.lines = 0
        self.requests = 0
        self._cores = recognizer.config.engine.threads or usable_cores()
        self._busy = 0
        recognizer.engine.limit_threads(self._cores)
        self._threads = [
            threading.Thread(target=self._run, name=f"hwr reader {number}", daemon=True)
            for number in range(min(recognizer.engine.side_by_side, side_by_side.MOST))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def recognizer(self) -> Recognizer:
        """What reads now."""
        return self._current[0]

    @property
    def name(self) -> str:
        """The name of its model."""
        return self._current[1]

    @property
    def waiting(self) -> int:
        """Lines that wait."""
        return self._waiting

    def use(self, recognizer: Recognizer, name: str) -> None:
        """Read with another recognizer from the next batch on."""
        self._current = (recognizer, name)

    def shared(self, priority: int = NOW) -> Recognizer:
        """A recognizer like the present one, which reads in this reader's batches."""
        return _Shared(self, self.recognizer, priority)

    def read(self, lines: Sequence[Prepared], characters: bool, priority: int = NOW) -> "Future[list[Reading]]":
        """Read prepared lines.

        Raises:
            Busy: Too many lines are waiting.
        """
        with self._lock:
            if self._waiting + len(lines) > MOST_WAITING and self._waiting:
                raise Busy(f"{self._waiting} lines are waiting to be read; try again later")
            self._waiting += len(lines)
        return self._put(_Request(priority, next(self._numbers), lines, characters))

    def call(self, function: Callable[[Recognizer], T], priority: int = NOW) -> "Future[T]":
        """Call a function with the recognizer, between two batches."""
        return self._put(_Request(priority, next(self._numbers), call=function))

    def close(self) -> None:
        """End the threads; what still waits is cancelled."""
        self._closed = True
        self._wake()
        for thread in self._threads:
            thread.join(timeout=30)
        while not self._queue.empty():
            self._queue.get().future.cancel()

    def _put(self, request: _Request) -> "Future[Any]":
        self._queue.put(request)
        return request.future

    def _run(self) -> None:
        while not self._closed:
            requests = self._next()
            with self._lock:
                self._busy += 1
                cores = max(1, self._cores // self._busy)
            try:
                self.recognizer.engine.limit_threads(cores)
                self._read(requests)
            finally:
                with self._lock:
                    self._busy -= 1
                    self._waiting -= sum(len(request.lines) for request in requests)
        self._wake()  # another thread, whose request this one may have taken

    def _wake(self) -> None:
        self._put(_Request(-1, next(self._numbers), call=lambda recognizer: None))

    def _next(self) -> list[_Request]:
        """Wait for a request: a function to call, or lines with all others that wait, up to a limit."""
        requests = [self._queue.get()]
        limit = TOGETHER * self.recognizer.config.evaluate.batch_size
        with suppress(queue.Empty):
            while requests[0].call is None and sum(len(request.lines) for request in requests) < limit:
                request = self._queue.get_nowait()
                if request.call is not None:  # may take long: for another thread, or for later
                    self._queue.put(request)
                    break
                requests.append(request)
        return requests

    def _read(self, requests: Sequence[_Request]) -> None:
        if requests[0].call is not None:
            _answer(requests, lambda r: [r[0].call(self.recognizer)])  # type: ignore[misc]
            return
        for characters in (False, True):
            if chosen := [request for request in requests if request.characters == characters]:
                _answer(chosen, self._read_together)

    def _read_together(self, requests: Sequence[_Request]) -> list[list[Reading]]:
        recognizer = self.recognizer
        lines = [line for request in requests for line in request.lines]
        readings = iter(recognizer.read_prepared(lines, requests[0].characters))
        with self._lock:
            self.batches += -(-len(lines) // recognizer.config.evaluate.batch_size)
            self.lines += len(lines)
            self.requests += len(requests)
        return [list(itertools.islice(readings, len(request.lines))) for request in requests]


def _answer(requests: Sequence[_Request], read: Callable[[Sequence[_Request]], list[Any]]) -> None:
    """Answer requests together; if that fails, each alone, so that one can't spoil the others."""
    try:
        found = read(requests)
    except Exception as error:
        if len(requests) > 1:
            for request in requests:
                _answer([request], read)
        elif not requests[0].future.cancelled():
            requests[0].future.set_exception(error)
        return
    for request, answer in zip(requests, found, strict=True):
        if request.future.set_running_or_notify_cancel():
            request.future.set_result(answer)


class _Shared(Recognizer):
    """Reads in the batches of a reader."""

    def __init__(self, reader: Reader, recognizer: Recognizer, priority: int) -> None:
        self.__dict__.update(copy.copy(recognizer).__dict__)
        self._reader, self._priority = reader, priority

    def read_prepared(self, lines: Sequence[Prepared], characters: bool = False) -> list[Reading]:
        """See `Recognizer.read_prepared`."""
        try:
            return self._reader.read(lines, characters, self._priority).result()
        except Busy as error:
            raise Error(str(error)) from None
