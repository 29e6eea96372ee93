"""Page photos, PAGE and ALTO files -> predictions in reading order -> files of many formats."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hwr import Error
from hwr.images import documents
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.predict import predict as predict_jobs
from hwr.pages.predict import read_targets, reading_of
from hwr.pages.segment import SEGMENTERS, chosen, lines_of, targets_of
from hwr.pages.sources import Job, files_in, jobs
from hwr.pages.sources import job as job_of
from hwr.recognizer import Recognizer, pixels_of
from hwr.system.files import checked_path

__all__ = ["PageLine", "PageReading", "read_files", "read_page"]


def read_page(
    recognizer: Recognizer, image: str | Path | bytes | np.ndarray | Image.Image, characters: bool = False
) -> PageReading:
    """Read a page.

    Args:
        image: A photo, whose lines are found: a path, the bytes of a file, (H, W) or (H, W, 3) uint8 pixels, or a Pillow
            image; a page of a PDF or TIFF is `book.pdf/3`. Or the path of a PAGE or ALTO file, which marks them.
        characters: Whether to locate each character.

    Raises:
        Error: The page can't be read, the file has several, or onnxruntime is not installed. A line that can't be read
            has an `error` instead.
    """
    if not isinstance(image, str | Path):
        return _read_pixels(recognizer, pixels_of(image), characters)
    (path, *others) = documents.pages(checked_path(image, "an image"))
    if others:
        raise Error(f"{image}: has {1 + len(others)} pages; name one of them, {path}, or read all with read_files")
    find = partial(lines_of, recognizer=recognizer)
    job = job_of(Path(path), find, recognizer.config.data.images)
    if job.error:
        raise Error(job.error)
    ((job, predictions),) = predict_jobs(recognizer, [job], characters=characters)
    return reading_of(job, predictions)


def read_files(
    recognizer: Recognizer,
    paths: str | Path | Iterable[str | Path],
    characters: bool = False,
    kind: str | None = None,
    segmenter: str | None = None,
) -> Iterator[PageReading]:
    """Read files and folders as `hwr predict` does, in batches over many pages. Of all pages, only the names are in memory.

    Files in folders that are no pages are skipped, and so are METS files and an image that a PAGE or ALTO file describes.

    Args:
        paths: Images, PDFs, multi-page TIFFs, PAGE and ALTO files, and folders of these.
        characters: Whether to locate each character.
        kind: "page" or "line", if every image is one; None: decide by the image.
        segmenter: What finds the lines of pages, `hwr` or `kraken`; None: the first.

    Returns:
        The pages, in order, as they are read. `errors` of a page says why it could not be read, or only in part.

    Raises:
        Error: At once: there is nothing to read, or an argument has no meaning.
    """
    if kind not in (None, "page", "line"):
        raise Error(f"kind must be 'page', 'line' or None, not {kind!r}")
    if segmenter not in (None, *SEGMENTERS):
        raise Error(f"segmenter must be one of {', '.join(SEGMENTERS)}, not {segmenter!r}")
    if segmenter is not None and kind == "line":
        raise Error("segmenter finds the lines of pages, and kind says that there are none")
    images = recognizer.config.data.images
    inputs = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
    for path in inputs:
        if not isinstance(path, str | Path):
            raise Error(f"read_files needs paths, not {type(path).__name__}; read pixels with read or read_page")
    files = files_in([checked_path(path, "read_files: each of paths") for path in inputs], images).files
    if not files:
        raise Error("there is nothing to read: no paths were given")
    found = predict_jobs(recognizer, jobs(files, chosen(kind, segmenter, recognizer), images), characters=characters)
    return (reading_of(*page) for page in found)


def _read_pixels(recognizer: Recognizer, page: np.ndarray, characters: bool) -> PageReading:
    """Read a page, (H, W) uint8."""
    job = Job(Path(), Path(), targets_of(page, Path(), recognizer))
    found = reading_of(job, read_targets(recognizer, page, job.targets, characters))
    return replace(found, size=(page.shape[1], page.shape[0]))
