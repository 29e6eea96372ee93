"""`hwr predict`: read one's own images."""

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from hwr import Error, batches, decode, image
from hwr.alphabet import Alphabet
from hwr.cache import Images
from hwr.config import Config
from hwr.engines import Engine
from hwr.inputs import Target

# Batches that are prepared together.
CHUNK = 8


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
    workers: int | None = None,
    characters: bool = False,
) -> Iterator[Prediction]:
    """Read lines, in their order; a broken one is reported in its place.

    `CHUNK` batches of lines are read at a time, those of like width together; the next ones are decoded meanwhile. So
    memory does not grow with their number. The processes of the engine's group take turns with the chunks, and each
    yields all that is read.

    Args:
        workers: Threads that decode images; None: as many as there are CPUs. What is read does not depend on it.
        characters: Whether to say where each character is; costs some milliseconds a line.
    """

    def prepare(target: Target) -> tuple[np.ndarray, tuple[int, int]] | Error:
        if target.error:
            return Error(target.error)
        try:
            pixels = image.read_line(target.image, target.region, target.upright)
            return image.prepare(pixels, config), (pixels.shape[0], pixels.shape[1])
        except Error as error:
            return error

    rest, group = iter(targets), engine.group
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:

        def begin() -> list[tuple[Target, Future[tuple[np.ndarray, tuple[int, int]] | Error]]] | None:
            """The next chunk of this process, its images being decoded; None once no process has any."""
            size = CHUNK * config.evaluate.batch_size
            chunks = [list(islice(rest, size)) for _ in range(group.size)]
            return [(target, pool.submit(prepare, target)) for target in chunks[group.rank]] if chunks[0] else None

        chunk = begin()
        while chunk is not None:
            following = begin()
            prepared = [(target, future.result()) for target, future in chunk]
            whole = [(target, *found) for target, found in prepared if not isinstance(found, Error)]
            read = iter(_read(engine, alphabet, config, whole, characters))
            predictions = [
                Prediction(target, None, 0.0, str(found)) if isinstance(found, Error) else next(read)
                for target, found in prepared
            ]
            yield from itertools.chain.from_iterable(group.gather(predictions))
            chunk = following


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
    offset, factor = image.columns(*size, prepared, config)
    start = max(0, min(x for x, _ in target.region)) if target.region else 0
    edges = start + np.clip((places * per_step - offset) * factor, 0, size[1])
    return tuple(
        Character(c, round(left, 1), round(right, 1), round(p, 4))
        for c, (left, right), p in zip(text, edges.tolist(), sure.tolist(), strict=True)
    )
