"""Read the lines of files, many at a time."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from hwr import Error
from hwr.images import load, prepare, workers
from hwr.images.geometry import Geometry
from hwr.pages.sources import Target
from hwr.recognizer import Character, Prepared, Reading, Recognizer

# Batches that are prepared together.
CHUNK = 8

# Lines that a worker is given at once. Of one page there may be more, so that it is decoded but once.
PART = 4


@dataclass(frozen=True)
class Prediction:
    """The prediction for a line.

    Attributes:
        text: The text, or None where the image could not be read.
        confidence: See `hwr.recognizer.Reading`; 0 where the image could not be read.
        error: Why it could not be, or "".
        characters: Of the text, where they were asked for.
    """

    target: Target
    text: str | None
    confidence: float
    error: str = ""
    characters: tuple[Character, ...] = ()


def predict(
    recognizer: Recognizer, targets: Iterable[Target], pool: Executor | None = None, characters: bool = False
) -> Iterator[Prediction]:
    """Read lines, in their order; a broken one is reported in its place.

    `CHUNK` batches of lines are read at a time, those of like width together, and no page is divided. So memory does not
    grow with their number. The processes of the engine's group take turns with the chunks, and each yields everything.

    Args:
        pool: Decodes images, see `workers.pool`; None: threads. The predictions do not depend on it.
        characters: Whether to say where each character is; costs some milliseconds a line.
    """
    if pool is None:
        with workers.pool() as own:
            yield from predict(recognizer, targets, own, characters)
        return
    # A GPU reads while the next chunk is decoded. A CPU would do both at once more slowly than in turn.
    ahead = not recognizer.engine.device.startswith("cpu")
    group, size = recognizer.engine.group, CHUNK * recognizer.config.evaluate.batch_size
    chunks = _shared(_chunks(targets, size), group.rank, group.size)
    for chunk, prepared in _prepared(chunks, recognizer.geometry, pool, ahead):
        readings = iter(recognizer.read_prepared([p for p in prepared if isinstance(p, Prepared)], characters))
        predictions = [
            _placed(target, next(readings))
            if isinstance(found, Prepared)
            else Prediction(target, None, 0.0, str(found))
            for target, found in zip(chunk, prepared, strict=True)
        ]
        yield from itertools.chain.from_iterable(group.all_gather(predictions))


def _placed(target: Target, reading: Reading) -> Prediction:
    """A reading of a line that was cut out, with its characters' places on the page."""
    start = max(0, min(x for x, _ in target.region)) if target.region else 0
    characters = tuple(c._replace(left=c.left + start, right=c.right + start) for c in reading.characters)
    return Prediction(target, reading.text, reading.confidence, "", characters)


def _chunks(targets: Iterable[Target], size: int) -> Iterator[list[Target]]:
    """Targets, at least so many at a time: those of one image stay together."""
    chunk: list[Target] = []
    for group in _by_page(targets):
        chunk += group
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _by_page(targets: Iterable[Target]) -> Iterator[list[Target]]:
    """Targets that follow each other on one page together; an image that is a line is alone."""
    page: list[Target] = []
    for target in targets:
        if page and not (target.region and target.image == page[0].image):
            yield page
            page = []
        page.append(target)
        if not target.region:
            yield page
            page = []
    if page:
        yield page


def _shared(chunks: Iterator[list[Target]], rank: int, size: int) -> Iterator[list[Target]]:
    """The share of one process; an empty chunk where only others still have something to read."""
    while turn := list(itertools.islice(chunks, size)):
        yield turn[rank] if rank < len(turn) else []


def _prepared(
    chunks: Iterable[list[Target]], geometry: Geometry, pool: Executor, ahead: bool
) -> Iterator[tuple[list[Target], list[Prepared | Error]]]:
    """Chunks, with their lines prepared; with `ahead` the next one is being prepared meanwhile."""
    started: deque[tuple[list[Target], list[Future[list[Prepared | Error]]]]] = deque()
    for chunk in chunks:
        started.append((chunk, [pool.submit(_prepare, part, geometry) for part in _parts(chunk)]))
        if len(started) > ahead:
            yield _finished(*started.popleft())
    while started:
        yield _finished(*started.popleft())


def _parts(chunk: list[Target]) -> Iterator[list[Target]]:
    """A chunk in pieces of `PART` lines, or more where they are of one image."""
    part: list[Target] = []
    for group in _by_page(chunk):
        part += group
        if len(part) >= PART:
            yield part
            part = []
    if part:
        yield part


def _finished(
    chunk: list[Target], futures: list[Future[list[Prepared | Error]]]
) -> tuple[list[Target], list[Prepared | Error]]:
    return chunk, [found for future in futures for found in future.result()]


def _prepare(targets: list[Target], geometry: Geometry) -> list[Prepared | Error]:
    """What a worker does; in place of a line that can't be read there is why."""
    out: list[Prepared | Error] = []
    for (image, upright), group in itertools.groupby(targets, key=lambda target: (target.image, target.upright)):
        chosen = list(group)
        cuts = iter(load.read_lines(image, [target.region for target in chosen if not target.error], upright))
        for target in chosen:
            pixels = Error(target.error) if target.error else next(cuts)
            if isinstance(pixels, Error):
                out.append(pixels)
            else:
                out.append(Prepared(prepare.prepare(pixels, geometry), (pixels.shape[0], pixels.shape[1])))
    return out
