"""Read the lines of many files."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from hwr import Error
from hwr.images import direction, load, pieces, prepare
from hwr.images.geometry import Geometry
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.sources import Job, Target
from hwr.recognizer import Character, Prepared, Reading, Recognizer
from hwr.system import processes

# Batches prepared together.
CHUNK = 8

# Jobs per task of a worker.
PART = 4

# Files per process at the beginning of a run of several processes, when it is not known yet whether they are lines or pages.
FIRST = 4


@dataclass(frozen=True)
class Prediction:
    """The prediction for a line.

    Attributes:
        text: The text; None if the image could not be read.
        confidence: See `hwr.recognizer.Reading`; 0 if the image could not be read.
        error: Why the image could not be read, else "".
        characters: The characters of the text, if requested.
    """

    target: Target
    text: str | None
    confidence: float
    error: str = ""
    characters: tuple[Character, ...] = ()


def predict(
    recognizer: Recognizer, jobs: Iterable[Job], pool: Executor | None = None, characters: bool = False
) -> Iterator[tuple[Job, list[Prediction]]]:
    """Read the lines of jobs, in order. A line that can't be read gets a prediction with an error.

    Jobs are read in chunks of several batches, with lines of similar width batched together, so memory does not grow with
    their number.

    Args:
        pool: Workers that decode images, see `processes.pool`; None: threads. Predictions do not depend on it.
        characters: Whether to locate each character; takes a few milliseconds per line.
    """
    if pool is None:
        with processes.pool() as own:
            yield from predict(recognizer, jobs, own, characters)
        return
    # A GPU reads while the next chunk is decoded. On a CPU, doing both at once is slower than one after the other.
    ahead = not recognizer.engine.device.startswith("cpu")
    chunks = _chunks(jobs, CHUNK * recognizer.config.evaluate.batch_size)
    for chunk, prepared in _prepared(chunks, pieces.unsqueezed(recognizer.geometry), pool, ahead):
        lines = [line for found in prepared for line in found]
        readings = iter(recognizer.read_prepared([p for p in lines if isinstance(p, Prepared)], characters))
        for job, found in zip(chunk, prepared, strict=True):
            yield job, [_prediction(*pair, readings) for pair in zip(job.targets, found, strict=True)]


def read_shared(
    recognizer: Recognizer,
    files: Iterable[str],
    jobs: Callable[[Iterable[str]], Iterable[Job]],
    pool: Executor | None = None,
    characters: bool = False,
) -> Iterator[tuple[PageReading, int]]:
    """Read files, in order. The processes of the engine's group share them, and each yields all pages.

    Each file is opened, its lines found, and read by one process.

    Args:
        jobs: Makes the jobs of files, see `sources.jobs`.
        pool: As of `predict`; `characters` too.

    Yields:
        A page, and the number of files that are complete with it.
    """
    group, done = recognizer.engine.group, 0
    if group.size == 1:
        for job, predictions in predict(recognizer, jobs(files), pool, characters):
            done += job.last
            yield reading_of(job, predictions), done
        return
    lines, each, rest = 0, FIRST, iter(files)
    while turn := list(itertools.islice(rest, each * group.size)):
        own = jobs(turn[group.rank * each : (group.rank + 1) * each])
        read = [reading_of(*found) for found in predict(recognizer, own, pool, characters)]
        pages = [page for part in group.all_gather(read) for page in part]
        for number, page in enumerate(pages, 1):
            yield page, done + (len(turn) if number == len(pages) else 0)
        done += len(turn)
        lines += sum(len(page.lines) for page in pages)
        # As many files as fill the chunks of `predict`; the same number in all processes.
        each = max(1, min(CHUNK * recognizer.config.evaluate.batch_size * done // max(lines, 1), 16 * each))


def read_targets(
    recognizer: Recognizer, page: np.ndarray, targets: Sequence[Target], characters: bool = False
) -> list[Prediction]:
    """Read the lines of a page, (H, W) uint8, that is in memory."""
    found: list[Prepared | Error] = []
    for target in targets:
        try:
            found.append(recognizer.prepare(load.cut(page, target.region, target.baseline)))
        except Error as error:
            found.append(error)
    good = [line for line in found if isinstance(line, Prepared)]
    readings = iter(recognizer.read_prepared(good, characters))
    return [_prediction(target, line, readings) for target, line in zip(targets, found, strict=True)]


def reading_of(job: Job, predictions: Sequence[Prediction]) -> PageReading:
    """The page of a job, with its predictions."""
    lines = tuple(
        PageLine(
            text=p.text or "",
            confidence=p.confidence,
            characters=p.characters,
            id=p.target.id,
            region=p.target.region,
            baseline=p.target.baseline,
            error=(p.error or "could not be read") if p.text is None else "",
        )
        for p in predictions
    )
    upright = all(p.target.upright or not p.target.region for p in predictions) if predictions else not job.kind
    return PageReading(job.image, lines, (0, 0), upright, job.source, job.kind, job.xml, job.error)


def _prediction(target: Target, found: Prepared | Error, readings: Iterator[Reading]) -> Prediction:
    """The prediction for a line: the next reading, with characters located on the page, or the line's error."""
    if isinstance(found, Error):
        return Prediction(target, None, 0.0, str(found))
    reading = next(readings)
    characters = on_page(reading.characters, target, found)
    return Prediction(target, reading.text, reading.confidence, "", characters)


def on_page(characters: Sequence[Character], target: Target, image: Prepared) -> tuple[Character, ...]:
    """The characters of a line's image with their edges on its page."""
    edges = np.array([(c.left, c.right) for c in characters]).reshape(-1, 2)
    placed = direction.on_page(edges, image.size[0], target.region, target.baseline).round(1).tolist()
    return tuple(c._replace(left=left, right=right) for c, (left, right) in zip(characters, placed, strict=True))


def _chunks(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    """Split jobs into chunks of at least `size` lines or jobs."""
    chunk: list[Job] = []
    lines = 0
    for job in jobs:
        chunk.append(job)
        lines += len(job.targets)
        if max(lines, len(chunk)) >= size:
            yield chunk
            chunk, lines = [], 0
    if chunk:
        yield chunk


def _prepared(
    chunks: Iterable[list[Job]], geometry: Geometry, pool: Executor, ahead: bool
) -> Iterator[tuple[list[Job], list[list[Prepared | Error]]]]:
    """Chunks with the prepared lines of their jobs. With `ahead`, the next chunk is prepared in the background."""
    started: deque[tuple[list[Job], list[Future[list[list[Prepared | Error]]]]]] = deque()
    for chunk in chunks:
        targets = [job.targets for job in chunk]
        parts = [targets[i : i + PART] for i in range(0, len(targets), PART)]
        started.append((chunk, [pool.submit(_prepare, part, geometry) for part in parts]))
        if len(started) > ahead:
            yield _finished(*started.popleft())
    while started:
        yield _finished(*started.popleft())


def _finished(
    chunk: list[Job], futures: list[Future[list[list[Prepared | Error]]]]
) -> tuple[list[Job], list[list[Prepared | Error]]]:
    return chunk, [found for future in futures for found in future.result()]


def _prepare(jobs: list[list[Target]], geometry: Geometry) -> list[list[Prepared | Error]]:
    """A worker's task: prepare the lines of some jobs. A line that can't be read becomes an Error."""
    return [prepare_page(targets, geometry) for targets in jobs]


def prepare_page(targets: list[Target], geometry: Geometry) -> list[Prepared | Error]:
    """Prepare the lines of one page, decoding each image once."""
    out: list[Prepared | Error] = []
    for (image, upright), group in itertools.groupby(targets, key=lambda target: (target.image, target.upright)):
        chosen = list(group)
        good = [target for target in chosen if not target.error]
        regions, baselines = [target.region for target in good], [target.baseline for target in good]
        cuts = iter(load.read_lines(image, regions, upright, baselines))
        for target in chosen:
            pixels = Error(target.error) if target.error else next(cuts)
            ready = pixels if isinstance(pixels, Error) else prepare.prepared_or_error(pixels, geometry, legible=True)
            if isinstance(ready, Error):
                out.append(ready if isinstance(pixels, Error) else Error(f"{image}: {ready}"))
            else:
                assert not isinstance(pixels, Error)
                out.append(Prepared(ready, (pixels.shape[0], pixels.shape[1])))
    return out
