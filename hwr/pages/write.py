"""Predictions as PAGE or ALTO: in a copy of the XML that marked the lines, or in a new file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.marked_pages import Marked, check_name
from hwr.images import load
from hwr.pages.predict import Prediction
from hwr.pages.sources import Job


def place(folder: Path, source: Path) -> Path:
    """The file that the predictions for a source file are written to."""
    return folder / f"{source.stem}.xml"


def write(folder: Path, kind: str, job: Job, predictions: Sequence[Prediction]) -> Path:
    """Write a page's texts and confidences.

    If the page was read from the same format, the rest of its XML stays, except for what belonged to the old texts.
    Otherwise the page is new, and has an image and its lines.

    Args:
        kind: A name in `PAGE_FORMATS`.

    Returns:
        The file, named like the source.

    Raises:
        Error: It can't be written, or the image's name can't be written into it.
    """
    path = place(folder, job.source)
    lines = [_line(job, number, prediction) for number, prediction in enumerate(predictions, 1)]
    root = job.root
    if job.kind != kind:
        # In a line image or a photo without XML, positions are those in the upright picture.
        size = load.size(job.image, upright=not job.kind)
        root = PAGE_FORMATS[kind].new(check_name(job.image).name, size, [replace(line, text="") for line in lines])
    PAGE_FORMATS[kind].update(root, lines)
    xml.write(root, path)
    return path


def _line(job: Job, number: int, prediction: Prediction) -> Marked:
    target = prediction.target
    return Marked(
        id=target.id or f"line{number}",
        text=prediction.text or "",
        polygon=target.region,
        baseline=target.baseline,
        source=str(job.source),
        fault=(prediction.error or "could not be read") if prediction.text is None else "",
        confidence=prediction.confidence,
        characters=prediction.characters,
    )
