"""Page photos, PAGE and ALTO files -> predictions in reading order -> files of many formats."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hwr import Error
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.predict import predict as predict_jobs
from hwr.pages.predict import read_targets, reading_of
from hwr.pages.segment import lines_of, targets_of
from hwr.pages.sources import Job, jobs
from hwr.recognizer import Recognizer, pixels_of

__all__ = ["PageLine", "PageReading", "read_page"]


def read_page(
    recognizer: Recognizer, image: str | Path | bytes | np.ndarray | Image.Image, characters: bool = False
) -> PageReading:
    """Read a page.

    Args:
        image: A photo, whose lines are found: a path, the bytes of a file, (H, W) or (H, W, 3) uint8 pixels, or a Pillow
            image. Or the path of a PAGE or ALTO file, which marks them.
        characters: Whether to locate each character.

    Raises:
        Error: The page can't be read, or the extra `pages` is not installed. A line that can't be read has an `error` instead.
    """
    if not isinstance(image, str | Path):
        return _read_pixels(recognizer, pixels_of(image), characters)
    find = partial(lines_of, recognizer=recognizer)
    found = predict_jobs(recognizer, jobs([str(image)], find, recognizer.config.data.images), characters=characters)
    for job, predictions in found:
        if job.error:
            raise Error(job.error)
        return reading_of(job, predictions)
    raise AssertionError(image)  # there is at least one job per file


def _read_pixels(recognizer: Recognizer, page: np.ndarray, characters: bool) -> PageReading:
    """Read a page, (H, W) uint8."""
    job = Job(Path(), Path(), targets_of(page, Path(), recognizer))
    found = reading_of(job, read_targets(recognizer, page, job.targets, characters))
    return replace(found, size=(page.shape[1], page.shape[0]))
