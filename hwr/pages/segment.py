"""Image files -> the lines to read: an image is a line, or a page whose lines a segmenter finds."""

from collections.abc import Callable
from pathlib import Path

from hwr import Error
from hwr.images import load
from hwr.pages import finder, kraken
from hwr.pages.kind import is_page, surely_line
from hwr.pages.sources import Target


def lines_of(path: Path) -> list[Target]:
    """Find the lines of a page with rapidocr's text detector, in reading order.

    Raises:
        Error: rapidocr or onnxruntime is not installed, or the image can't be read.
    """
    return [
        Target(path, line.polygon, line.baseline, f"line{number}", upright=True)
        for number, line in enumerate(finder.find(load.read(path)), 1)
    ]


# The line finders, by the names of `--segmenter`; the first is the default.
SEGMENTERS: dict[str, Callable[[Path], list[Target]]] = {"rapidocr": lines_of, "kraken": kraken.lines_of}


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
            raise Error(f"{error}; or say with --line that each image is a line") from error
        return found if is_page(*size, [target.region for target in found]) else line

    return targets


def chosen(kind: str | None = None, segmenter: str | None = None) -> Callable[[Path], list[Target]] | None:
    """What turns an image into lines to read; None if each image is a line.

    Args:
        kind: "page" or "line", if all images are; None: decide for each.
        segmenter: A name in `SEGMENTERS`; None: the first.
    """
    if kind == "line":
        return None
    find = SEGMENTERS[segmenter or next(iter(SEGMENTERS))]
    return find if kind == "page" else decided(find)
