"""Writer and number -> a line: its text and its image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from hwr import Error
from hwr.data.synth import fonts, hands, paper, scan, strokes, text, writers
from hwr.data.synth.corpus import Corpus, capitals, fold

_TRIES = 40  # texts that are tried before a writer takes another font
_INITIALS = 0.5  # of lines in capitals: every word has a large initial, not only those that have a capital in the text
_CROSSED_OUT = 0.015  # of lines: with a word that is struck out, and not in the text


@dataclass(frozen=True)
class Sample:
    """A drawn line.

    Attributes:
        text: What it says.
        image: (H, W) uint8.
        threshold: Grey level below which is ink.
        boxes: (characters without spaces, 4) int: x, y, width, height in pixels; None where they are not known.
    """

    text: str
    image: np.ndarray
    threshold: int
    boxes: np.ndarray | None = None


class Strokes:
    """Lines of letter skeletons, their texts made up from templates."""

    suffix = ".png"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, writer: int) -> Callable[[int], Sample]:
        """What draws this writer's lines by their number."""
        hand = hands.make_hand(self._seed, writer)

        def line(number: int) -> Sample:
            rng = hands.rng_of(self._seed, writer, number)
            written = text.compose(rng)
            drawing = strokes.draw(written, hand, rng)
            return Sample(written, drawing.image, drawing.threshold, drawing.boxes)

        return line


class Fonts:
    """Lines of text from files, set in handwriting fonts, on paper, and photographed."""

    suffix = ".webp"

    def __init__(self, seed: int, folder: Path, texts: Sequence[Path]) -> None:
        """Raises:
        Error: There are no usable fonts, or no usable text.
        """
        self._seed, self._folder, self._texts = seed, folder, tuple(texts)
        _ = self._fonts, self._corpus  # report errors in them before drawing anything

    # Read once per process, not once per object: other processes get a copy of the object with every job.
    @property
    def _fonts(self) -> list[fonts.Font]:
        return _fonts(self._folder)

    @property
    def _corpus(self) -> Corpus:
        return _corpus(self._texts)

    def of(self, writer: int) -> Callable[[int], Sample]:
        """What draws this writer's lines by their number."""
        hand = writers.make_writer(self._fonts, self._seed, writer)
        rng = hands.rng_of(self._seed, writer, 0, 0)  # not a line's, whose keys are two numbers
        sheet, camera = paper.make_sheet(rng), scan.make_camera(rng)
        if camera.kind == "binary":
            sheet = paper.clean(sheet)

        def line(number: int) -> Sample:
            rng = hands.rng_of(self._seed, writer, number)
            drawn, author = self._text(hand, rng)
            words, struck = drawn.split(" "), None
            if author.font and len(words) > 1 and rng.random() < _CROSSED_OUT:
                struck = int(rng.integers(len(words)))
                words.insert(struck, words[rng.integers(len(words))])
            label = fold(capitals(drawn) if author.capitals else drawn)
            image = scan.photograph(writers.write(" ".join(words), author, rng, struck), sheet, camera, len(label), rng)
            return Sample(label, image, int(cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)[0]) + 1)

        return line

    def _text(self, writer: writers.Writer, rng: np.random.Generator) -> tuple[str, writers.Writer]:
        """A text that the writer can write; if none is found soon, the writer gets another font."""
        for author in chain([writer], self._others(writer, rng)):
            for _ in range(_TRIES):
                piece = self._corpus.piece(rng)
                if author.capitals and rng.random() < _INITIALS:
                    piece = " ".join(capitals(word[0]) + word[1:] for word in piece.split())
                for written in (piece, fold(piece)):
                    if fold(written).strip() and author.can_write(written):
                        return written, author
        raise Error(f"{self._folder}: none of these fonts has all the characters of any text that was tried")

    def _others(self, writer: writers.Writer, rng: np.random.Generator) -> Iterator[writers.Writer]:
        for i in rng.permutation(len(self._fonts)):
            yield writers.with_font(writer, self._fonts[i], rng)


@lru_cache(1)
def _fonts(folder: Path) -> list[fonts.Font]:
    return fonts.find(folder)


@lru_cache(1)
def _corpus(texts: tuple[Path, ...]) -> Corpus:
    return Corpus(texts)
