"""A few threads read for everybody: lines of similar width that wait together share a batch, whoever sent them."""

import copy
import itertools
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hwr import Error
from hwr.engines import side_by_side
from hwr.images import batches
from hwr.recognizer import Prepared, Reading, Recognizer
from hwr.system.processes import usable_cores

T = TypeVar("T")

# Batches' worth of waiting lines among which a batch is chosen.
TOGETHER = 4

# What a batch costs beside its pixels, as the width of a line that costs as much: see `batches.similar`. On a GPU, nearly
# everything.
EACH_ON_CPU, EACH_ON_GPU = 400, 100_000

# Lines that may wait; a request beyond them is refused rather than kept in memory.
MOST_WAITING = 20_000

# The priorities: a person waits for the first, a job in the background does not.
NOW, LATER = 0, 1


class Busy(Exception):
    """Too many lines are waiting."""


@dataclass(eq=False)
class _Request:
    """Lines to read, a function that prepares one, or a function to call with the recognizer."""

    lines: Sequence[Prepared] = ()
    characters: bool = False
    prepare: Callable[[Recognizer], Prepared] | None = None
    call: Callable[[Recognizer], Any] | None = None
    future: "Future[Any]" = field(default_factory=Future)
    found: dict[int, Reading] = field(default_factory=dict)


class _Item(NamedTuple):
    """A line of a request, or its function. Items sort by priority, then by age."""

    priority: int
    number: int
    line: int
    request: _Request


class Reader:
    """Reads for all clients and jobs of a server.

    Args:
        recognizer: What reads.
        name: The name of its model.
    """

    def __init__(self, recognizer: Recognizer, name: str) -> None:
        self._current = (recognizer, name)
        self._items: list[_Item] = []
        self._unprepared: deque[_Request] = deque()
        self._numbers = itertools.count()
        self._closed = False
        self._changed = threading.Condition()
        self.waiting = 0  # lines that wait, or are being read
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
        request = _Request(lines, characters)
        if not lines:
            request.future.set_result([])
            return request.future
        self._admit(len(lines))
        return self._put(request, priority)

    def prepare_and_read(self, prepare: Callable[[Recognizer], Prepared], characters: bool) -> "Future[list[Reading]]":
        """Read a line, for a person who waits, that is prepared by a thread that reads.

        Threads that only prepare would share the cores with those that read: lines would come in slowly, and batches be small.

        Raises:
            Busy: Too many lines are waiting.
        """
        self._admit(1)
        request = _Request(characters=characters, prepare=prepare)
        with self._changed:
            self._unprepared.append(request)
            self._changed.notify()
        return request.future

    def _admit(self, lines: int) -> None:
        with self._changed:
            if self.waiting + lines > MOST_WAITING and self.waiting:
                raise Busy(f"{self.waiting} lines are waiting to be read; try again later")
            self.waiting += lines

    def call(self, function: Callable[[Recognizer], T], priority: int = NOW) -> "Future[T]":
        """Call a function with the recognizer, between two batches."""
        return self._put(_Request(call=function), priority)

    def close(self) -> None:
        """End the threads; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=30)
        for request in (*self._unprepared, *(item.request for item in self._items)):
            request.future.cancel()

    def _put(self, request: _Request, priority: int) -> "Future[Any]":
        number = next(self._numbers)
        with self._changed:
            for line in range(max(1, len(request.lines))):
                insort(self._items, _Item(priority, number, line, request))
            self._changed.notify()
        return request.future

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            finally:
                with self._changed:
                    self._busy -= 1

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do; None: the reader is closed."""
        with self._changed:
            while not self._closed:
                if self._unprepared and not self._enough():
                    self._busy += 1
                    return partial(self._prepare, self._unprepared.popleft())
                if not self._items:
                    self._changed.wait()
                elif items := self._take():
                    self._busy += 1
                    working = self._busy
                    if self._items or self._unprepared:  # for another thread, which begins now
                        self._changed.notify()
                        working += 1
                    return partial(self._answer, items, max(1, self._cores // min(working, len(self._threads))))
            return None

    def _enough(self) -> bool:
        """Whether as many lines are prepared as a batch is chosen from."""
        return len(self._items) >= TOGETHER * self.recognizer.config.evaluate.batch_size

    def _prepare(self, request: _Request) -> None:
        assert request.prepare is not None
        try:
            if not request.future.cancelled():
                request.lines = [request.prepare(self.recognizer)]
        except Exception as error:
            self._finish(request, error)
        if request.lines:
            self._put(request, NOW)
        else:
            with self._changed:
                self.waiting -= 1

    def _take(self) -> list[_Item]:
        """Take the oldest item, and if it is a line, those that make the cheapest batch with it."""
        first, recognizer = self._items[0], self.recognizer
        if first.request.call is not None or first.request.future.done():  # cancelled, or failed already
            self._items.pop(0)
            if first.request.call is None:
                self.waiting -= 1
            return [] if first.request.future.done() else [first]
        size = recognizer.config.evaluate.batch_size
        alike = (x for x in self._items if x.request.call is None and x.request.characters == first.request.characters)
        pool = list(itertools.islice(alike, TOGETHER * size))
        each = EACH_ON_CPU if recognizer.engine.device.startswith("cpu") else EACH_ON_GPU
        widths = [x.request.lines[x.line].pixels.shape[-1] for x in pool]
        chosen = next(group for group in batches.similar(widths, size, each) if 0 in group)
        items = [pool[i] for i in chosen]
        taken = {item[:3] for item in items}
        self._items = [item for item in self._items if item[:3] not in taken]
        return items

    def _answer(self, items: Sequence[_Item], cores: int) -> None:
        try:
            self.recognizer.engine.limit_threads(cores)
            self._read_or_call(items)
        finally:
            with self._changed:
                self.waiting -= sum(item.request.call is None for item in items)

    def _read_or_call(self, items: Sequence[_Item]) -> None:
        """Read or call; if a batch fails, each of its requests alone, so that one can't spoil the others."""
        requests = list(dict.fromkeys(item.request for item in items))
        try:
            if requests[0].call is not None:
                found = requests[0].call(self.recognizer)
                self._finish(requests[0], found)
                return
            readings = self._read([item.request.lines[item.line] for item in items], requests[0].characters)
        except Exception as error:
            if len(requests) > 1:
                for request in requests:
                    self._read_or_call([item for item in items if item.request is request])
            else:
                self._finish(requests[0], error)
            return
        for item, reading in zip(items, readings, strict=True):
            with self._changed:
                item.request.found[item.line] = reading
                complete = len(item.request.found) == len(item.request.lines)
            if complete:
                self._finish(item.request, [item.request.found[line] for line in range(len(item.request.lines))])

    def _read(self, lines: Sequence[Prepared], characters: bool) -> list[Reading]:
        recognizer = self.recognizer
        readings = recognizer.read_prepared(lines, characters)
        with self._changed:
            self.batches += 1
            self.lines += len(lines)
        return readings

    def _finish(self, request: _Request, found: Any) -> None:
        """Answer a request, unless it was cancelled or another of its batches has failed."""
        with self._changed:
            if request.future.done() or not request.future.set_running_or_notify_cancel():
                return
            if isinstance(found, Exception):
                request.future.set_exception(found)
                return
            self.requests += request.call is None
            request.future.set_result(found)


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
