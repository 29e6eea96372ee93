"""Image files -> the lines to read: an image is a line, or a page whose lines a segmenter finds."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hwr import Error, bundled
from hwr.decoding import greedy
from hwr.images import load
from hwr.pages import finder, kraken
from hwr.pages.page_or_line import is_page, surely_line
from hwr.pages.sources import Target
from hwr.recognizer import Recognizer

# Lines are upright if the network is so sure of them. Upside down, 158 validation and training pages reached 0.74 at most, and
# clean synthetic writing 0.77.
SURE = 0.85


def lines_of(path: Path, recognizer: Recognizer | None = None) -> list[Target]:
    """Find the lines of a page with the bundled detector, in reading order.

    Args:
        recognizer: Tells whether the page is upside down; None: it is not.

    Raises:
        Error: onnxruntime is not installed, or the image can't be read.
    """
    return targets_of(load.read(path), path, recognizer)


def targets_of(page: np.ndarray, path: Path, recognizer: Recognizer | None = None) -> list[Target]:
    """`lines_of` for a page of (H, W) uint8 pixels, whose file is `path`."""
    upright = functools.partial(stand, recognizer) if recognizer else None
    return [
        Target(path, line.polygon, line.baseline, f"line{number}", upright=True)
        for number, line in enumerate(finder.find(page, upright), 1)
    ]


def stand(recognizer: Recognizer, lines: Sequence[np.ndarray]) -> bool:
    """Whether lines, (H, W) uint8 each, stand on their feet: the network is as sure of them as of the same upside down.

    If it is `SURE` of the lines as they are, it does not read them upside down.
    """
    try:
        sure = _sureness(recognizer, lines)
        return sure > SURE or sure >= _sureness(recognizer, [np.ascontiguousarray(line[::-1, ::-1]) for line in lines])
    except Error:  # too long for the network, which may read the others
        return True


def _sureness(recognizer: Recognizer, lines: Sequence[np.ndarray]) -> float:
    """The network's mean confidence in what it reads in lines, without a language model: 0..1."""
    outputs = recognizer.outputs([recognizer.prepare(line) for line in lines])
    return float(np.mean([greedy.greedy(x.logits[None], recognizer.alphabet)[1][0] for x in outputs]))


# The line finders, by the names of `--segmenter`; the first is the default.
SEGMENTERS: dict[str, Callable[[Path, Recognizer | None], list[Target]]] = {
    "hwr": lines_of,
    "kraken": lambda path, recognizer: kraken.lines_of(path),
}


def network(kind: str | None = None, segmenter: str | None = None) -> Path | None:
    """The file of the network that `chosen` finds lines with; None if it finds none, or if the network is not ours.

    Raises:
        Error: It is missing.
    """
    ours = kind != "line" and segmenter in (None, next(iter(SEGMENTERS)))
    return bundled.line_detector() if ours else None


def decided(find: Callable[[Path], list[Target]]) -> Callable[[Path], list[Target]]:
    """A function that finds the lines of an image if it is a page, and takes it as one line if it is a line."""

    def targets(path: Path) -> list[Target]:
        line = [Target(path)]
        try:
            size = load.size(path)
        except Error:  # reported on reading
            return line
        if surely_line(*size):
            return line
        try:
            found = find(path)
        except Error as error:
            load.read(path)  # an image that can't be read is no line either, and this says why
            raise Error(f"{error}; or say with --line that each image is a line") from error
        return found if is_page(*size, [target.region for target in found]) else line

    return targets


def chosen(
    kind: str | None = None, segmenter: str | None = None, recognizer: Recognizer | None = None
) -> Callable[[Path], list[Target]] | None:
    """What turns an image into lines to read; None if each image is a line.

    Args:
        kind: "page" or "line", if all images are; None: decide for each.
        segmenter: A name in `SEGMENTERS`; None: the first.
        recognizer: See `lines_of`.
    """
    if kind == "line":
        return None
    segment = SEGMENTERS[segmenter or next(iter(SEGMENTERS))]

    def find(path: Path) -> list[Target]:
        return segment(path, recognizer)

    return find if kind == "page" else decided(find)
