"""`hwr predict`: read one's own images."""

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hwr import Error, batches, decode, image
from hwr.alphabet import Alphabet
from hwr.cache import Images
from hwr.config import Config
from hwr.engines import Engine

# Batches that are prepared together.
CHUNK = 8


@dataclass(frozen=True)
class Prediction:
    """What was read in an image.

    Attributes:
        image: Its path.
        text: The text, or None where the image could not be read.
        confidence: 0..1, see `decode.greedy`; 0 where the image could not be read.
        error: Why it could not be, or "".
    """

    image: Path
    text: str | None
    confidence: float
    error: str = ""


def images_in(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Files as they are (also those that are not there: reading will say so); folders as the images in them, sorted.

    Returns:
        The images, and the other files in the folders.

    Raises:
        Error: A folder can't be listed, or has, with its sub-folders, no images.
    """

    def refuse(error: OSError) -> None:
        raise Error(f"{error.filename}: could not be listed: {error.strerror}")

    images: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        before = len(images)
        seen: set[str] = set()  # a link may lead back to where it stands
        for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
            seen.add(os.path.realpath(folder))
            folders[:] = sorted(f for f in folders if os.path.realpath(os.path.join(folder, f)) not in seen)
            for name in sorted(names):
                if not name.startswith("."):
                    (images if Path(name).suffix.lower() in image.SUFFIXES else others).append(Path(folder, name))
        if len(images) == before:
            raise Error(f"{path}: no images in this folder (looked for {', '.join(image.SUFFIXES)})")
    return images, others


def predict(
    engine: Engine, alphabet: Alphabet, config: Config, paths: Iterable[Path], workers: int | None = None
) -> Iterator[Prediction]:
    """Read images, in their order; a broken one is reported in its place.

    `CHUNK` batches of images are read at a time, those of like width together; the next ones are decoded meanwhile. So
    memory does not grow with the number of images. The processes of the engine's group take turns with the chunks, and each
    yields all that is read.

    Args:
        workers: Threads that decode images; None: as many as there are CPUs. What is read does not depend on it.
    """

    def prepare(path: Path) -> np.ndarray | Error:
        try:
            return image.prepare(image.read(path), config)
        except Error as error:
            return error

    rest, group = iter(paths), engine.group
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:

        def begin() -> list[tuple[Path, Future[np.ndarray | Error]]] | None:
            """The next chunk of this process, its images being decoded; None once no process has any."""
            size = CHUNK * config.evaluate.batch_size
            chunks = [list(islice(rest, size)) for _ in range(group.size)]
            return [(path, pool.submit(prepare, path)) for path in chunks[group.rank]] if chunks[0] else None

        chunk = begin()
        while chunk is not None:
            following = begin()
            prepared = [(path, future.result()) for path, future in chunk]
            whole = [pixels for _, pixels in prepared if isinstance(pixels, np.ndarray)]
            texts = iter(_read(engine, alphabet, config, whole))
            found = [
                Prediction(path, None, 0.0, str(pixels))
                if isinstance(pixels, Error)
                else Prediction(path, *next(texts))
                for path, pixels in prepared
            ]
            yield from itertools.chain.from_iterable(group.gather(found))
            chunk = following


def _read(engine: Engine, alphabet: Alphabet, config: Config, images: list[np.ndarray]) -> list[tuple[str, float]]:
    """Text and confidence of each prepared line."""
    out = [("", 0.0)] * len(images)
    if images:
        none = [np.zeros(0, np.int32)] * len(images)
        for batch in batches.reading(Images.of(images), none, config.evaluate.batch_size, batches.multiple(config)):
            found, confidences = decode.texts(engine.logits(batch), alphabet, config)
            for i, text, confidence in zip(batch.index.tolist(), found, confidences.tolist(), strict=True):
                out[i] = text, confidence
    return out
