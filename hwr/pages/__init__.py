"""Page photos, PAGE and ALTO files -> predictions in reading order -> files of many formats."""

from pathlib import Path

from hwr import Error
from hwr.pages.predict import predict as predict_jobs
from hwr.pages.predict import reading_of
from hwr.pages.record import PageLine, PageReading
from hwr.pages.segment import lines_of
from hwr.pages.sources import jobs
from hwr.recognizer import Recognizer

__all__ = ["PageLine", "PageReading", "read_page"]


def read_page(recognizer: Recognizer, path: str | Path, characters: bool = False) -> PageReading:
    """Read a page.

    Args:
        path: A photo, whose lines are found, or a PAGE or ALTO file that marks them.
        characters: Whether to locate each character.

    Raises:
        Error: The page can't be read, or the extra `pages` is not installed. A line that can't be read has an `error` instead.
    """
    found = predict_jobs(recognizer, jobs([str(path)], lines_of, recognizer.config.data.images), characters=characters)
    for job, predictions in found:
        if job.error:
            raise Error(job.error)
        return reading_of(job, predictions)
    raise AssertionError(path)  # there is one job per file
