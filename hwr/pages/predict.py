"""`hwr predict`: read one's own images."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Config
from hwr.decoding import decode
from hwr.engines import Engine
from hwr.images import batches, load, prepare, workers
from hwr.images.cache import Images
from hwr.pages.sources import Target

# Batches that are prepared together.
CHUNK = 8

# Lines that a worker is given at once. Of one page there may be more, so that it is decoded but once.
PART = 4


class Prepared(NamedTuple):
    """A line as the network takes it, and the height and width of what was cut out, in pixels."""

    pixels: np.ndarray
    size: tuple[int, int]


class Character(NamedTuple):
    """A character of what was read: where it begins and ends, in pixels of the image, and its probability in 0..1."""

    text: str
    left: float
    right: float
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """What was read of a line.

    Attributes:
        text: The text, or None where the image could not be read.
        confidence: 0..1, see `decode.greedy`; 0 where the image could not be read.
        error: Why it could not be, or "".
        characters: Of the text, where they were asked for.
    """

    target: Target
    text: str | None
    confidence: float
    error: str = ""
    characters: tuple[Character, ...] = ()


def predict(
    engine: Engine,
    alphabet: Alphabet,
    config: Config,
    targets: Iterable[Target],
    pool: Executor | None = None,
    characters: bool = False,
) -> Iterator[Prediction]:
    """Read lines, in their order; a broken one is reported in its place.

    `CHUNK` batches of lines are read at a time, those of like width together. So memory does not grow with their number.
    The processes of the engine's group take turns with the chunks, and each yields all that is read.

    Args:
        pool: What decodes images, see `workers.pool`; None: threads. What is read does not depend on it.
        characters: Whether to say where each character is; costs some milliseconds a line.
    """
    if pool is None:
        with workers.pool() as own:
            yield from predict(engine, alphabet, config, targets, own, characters)
        return
    # A GPU reads while the next chunk is decoded. A CPU would do both at once more slowly than in turn.
    ahead = not engine.device.startswith("cpu")
    group = engine.group
    for chunk, prepared in _prepared(_chunks(targets, config, engine), config, pool, ahead):
        whole = [(target, *found) for target, found in zip(chunk, prepared, strict=True) if isinstance(found, Prepared)]
        read = iter(_read(engine, alphabet, config, whole, characters))
        predictions = [
            next(read) if isinstance(found, Prepared) else Prediction(target, None, 0.0, str(found))
            for target, found in zip(chunk, prepared, strict=True)
        ]
        yield from itertools.chain.from_iterable(group.gather(predictions))


def _chunks(targets: Iterable[Target], config: Config, engine: Engine) -> Iterator[list[Target]]:
    """What this process of the group reads at a time; nothing where only others have still something to read."""
    rest, size = iter(targets), CHUNK * config.evaluate.batch_size
    while True:
        chunks = [list(islice(rest, size)) for _ in range(engine.group.size)]
        if not chunks[0]:
            return
        yield chunks[engine.group.rank]


def _prepared(
    chunks: Iterable[list[Target]], config: Config, pool: Executor, ahead: bool
) -> Iterator[tuple[list[Target], list[Prepared | Error]]]:
    """Chunks, with their lines prepared; with `ahead` the next one is being prepared meanwhile."""
    begun: deque[tuple[list[Target], list[Future[list[Prepared | Error]]]]] = deque()
    for chunk in chunks:
        begun.append((chunk, [pool.submit(_prepare, part, config) for part in _parts(chunk)]))
        if len(begun) > ahead:
            yield _finished(*begun.popleft())
    while begun:
        yield _finished(*begun.popleft())


def _parts(chunk: list[Target]) -> Iterator[list[Target]]:
    """A chunk in pieces of `PART` lines, or more where they are of one page."""
    part: list[Target] = []
    for target in chunk:
        if len(part) >= PART and target.image != part[-1].image:
            yield part
            part = []
        part.append(target)
    if part:
        yield part


def _finished(
    chunk: list[Target], futures: list[Future[list[Prepared | Error]]]
) -> tuple[list[Target], list[Prepared | Error]]:
    return chunk, [found for future in futures for found in future.result()]


def _prepare(targets: list[Target], config: Config) -> list[Prepared | Error]:
    """What a worker does; in place of a line that can't be read there is why."""
    return [_prepare_one(target, config) for target in targets]


def _prepare_one(target: Target, config: Config) -> Prepared | Error:
    if target.error:
        return Error(target.error)
    try:
        pixels = load.read_line(target.image, target.region, target.upright)
        return Prepared(prepare.prepare(pixels, config), (pixels.shape[0], pixels.shape[1]))
    except Error as error:
        return error


def _read(
    engine: Engine,
    alphabet: Alphabet,
    config: Config,
    lines: list[tuple[Target, np.ndarray, tuple[int, int]]],
    characters: bool,
) -> list[Prediction]:
    """What is read of prepared lines, given with the sizes of their images."""
    if not lines:
        return []
    out: list[Prediction | None] = [None] * len(lines)
    none = [np.zeros(0, np.int32)] * len(lines)
    images = Images.of([pixels for _, pixels, _ in lines])
    for batch in batches.reading(images, none, config.evaluate.batch_size, batches.multiple(config)):
        logits = engine.logits(batch)
        found, confidences = decode.texts(logits, alphabet, config)
        for row, i, text, confidence in zip(logits, batch.index.tolist(), found, confidences.tolist(), strict=True):
            target, pixels, size = lines[i]
            own: tuple[Character, ...] = ()
            if characters:
                per_step = batch.images.shape[2] / len(row)
                own = _characters(row, text, alphabet, config, pixels.shape[1], size, per_step, target)
            out[i] = Prediction(target, text, confidence, "", own)
    return [prediction for prediction in out if prediction is not None]


def _characters(
    logits: np.ndarray,
    text: str,
    alphabet: Alphabet,
    config: Config,
    prepared: int,
    size: tuple[int, int],
    per_step: float,
    target: Target,
) -> tuple[Character, ...]:
    """Where the characters of a text are in the image that they were read in.

    Args:
        prepared: Width of the prepared line, in pixels.
        size: Height and width of the line as it was cut out.
        per_step: Pixels of the prepared line that a time step spans.
    """
    label = alphabet.encode(batches.written(text, config))
    if batches.needed(label) > len(logits):  # the spaces at the ends find no room
        label = alphabet.encode(text)
    places, sure = decode.align(logits, label, config.decode.temperature)
    if len(label) > len(text):
        places, sure = places[1:-1], sure[1:-1]
    offset, factor = prepare.columns(*size, prepared, config)
    start = max(0, min(x for x, _ in target.region)) if target.region else 0
    edges = start + np.clip((places * per_step - offset) * factor, 0, size[1])
    return tuple(
        Character(c, round(left, 1), round(right, 1), round(p, 4))
        for c, (left, right), p in zip(text, edges.tolist(), sure.tolist(), strict=True)
    )
