"""The threads that read for all clients of a server."""

import threading
from pathlib import Path

import pytest

from hwr import Error
from hwr.images.load import read
from hwr.recognizer import Prepared, Recognizer, load

from . import serve_pages

pytest.importorskip("torch")

from hwr.serve.reading.reader import LATER, Busy, Reader


@pytest.fixture(scope="module")
def recognizer(model: Path) -> Recognizer:
    return load(model, ["engine.name=torch", "engine.device=cpu", "engine.threads=3", "evaluate.batch_size=4"])


def test_threads_read_what_one_reads(recognizer: Recognizer, drawn: Path) -> None:
    lines = [recognizer.prepare(read(line.image)) for line in serve_pages.lines_of(drawn)[:12]]
    expected = [reading.text for reading in recognizer.read_prepared(lines)]
    reader = Reader(recognizer, "base")
    try:
        waiting = [reader.read([line], number % 2 == 0, LATER * (number % 3)) for number, line in enumerate(lines)]
        waiting.append(reader.read(lines, False))
        found = [reading.text for future in waiting[:-1] for reading in future.result(60)]
        assert found == expected
        assert [reading.text for reading in waiting[-1].result(60)] == expected
    finally:
        reader.close()
    assert (reader.lines, reader.requests, reader.waiting) == (24, 13, 0)


def test_lines_are_prepared_by_the_threads_that_read(recognizer: Recognizer, drawn: Path) -> None:
    lines = [recognizer.prepare(read(line.image)) for line in serve_pages.lines_of(drawn)[:6]]

    def broken(recognizer: Recognizer) -> Prepared:
        raise Error("no image")

    reader = Reader(recognizer, "base")
    try:
        waiting = [reader.prepare_and_read(lambda _, line=line: line, True) for line in lines]
        failed = reader.prepare_and_read(broken, False)
        assert [future.result(60)[0].text for future in waiting] == [r.text for r in recognizer.read_prepared(lines)]
        with pytest.raises(Error, match="no image"):
            failed.result(60)
    finally:
        reader.close()
    assert reader.waiting == 0


def test_a_slow_call_does_not_keep_others_waiting(recognizer: Recognizer, drawn: Path) -> None:
    line = recognizer.prepare(read(serve_pages.lines_of(drawn)[0].image))
    reader, free = Reader(recognizer, "base"), threading.Event()
    try:
        slow = reader.call(lambda _: free.wait(60))
        assert len(reader.read([line], True).result(60)) == 1
        assert not slow.done()
        free.set()
        assert slow.result(60)
    finally:
        free.set()
        reader.close()


def test_one_bad_request_fails_alone(recognizer: Recognizer, drawn: Path) -> None:
    line = recognizer.prepare(read(serve_pages.lines_of(drawn)[0].image))
    reader = Reader(recognizer, "base")
    try:
        bad = line._replace(pixels=line.pixels[0])
        futures = [reader.read(lines, False) for lines in ([line], [bad], [line])]
        assert [future.exception(60) is None for future in futures] == [True, False, True]
    finally:
        reader.close()


def test_too_many_lines_are_refused(recognizer: Recognizer, drawn: Path) -> None:
    line = recognizer.prepare(read(serve_pages.lines_of(drawn)[0].image))
    reader, free = Reader(recognizer, "base"), threading.Event()
    try:
        for _ in range(3):
            reader.call(lambda _: free.wait(60))
        reader.read([line] * 20_000, False)
        with pytest.raises(Busy, match="try again later"):
            reader.read([line], False)
        with pytest.raises(Error, match="try again later"):
            reader.shared().read_prepared([line])
    finally:
        reader._closed = True  # rather than read them
        free.set()
        reader.close()


def test_who_waits_is_served_first_and_lines_of_a_batch_are_read_alike(recognizer: Recognizer, drawn: Path) -> None:
    line = recognizer.prepare(read(serve_pages.lines_of(drawn)[0].image))
    reader, free, busy = Reader(recognizer, "base"), threading.Event(), threading.Semaphore(0)
    try:
        for _ in reader._threads:
            reader.call(lambda _: busy.release() or free.wait(60))
        assert all(busy.acquire(timeout=60) for _ in reader._threads)
        later = [reader.read([line], characters, LATER) for characters in (False, True)]
        now = [reader.read([line], characters) for characters in (True, False)]
        with reader._changed:
            taken = [[item.request.future for item in reader._take()] for _ in range(2)]
        assert taken == [[now[0], later[1]], [now[1], later[0]]]
    finally:
        free.set()
        reader.close()
