"""Write predictions: one per line as text, TSV or JSON; or as PAGE or ALTO, into a copy of the input XML or a new file."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.marked_pages import Marked, check_name
from hwr.images import load
from hwr.pages.predict import Prediction
from hwr.pages.sources import Job
from hwr.terminal import cell, visible

# Formats with one row per line, and the header of TSV.
BY_LINE = ("txt", "tsv", "json")
HEADER = "image\tline\ttext\tconfidence"


def check_folder(kind: str, out: Path | None) -> None:
    """Check that the output folder exists, or create it for page files.

    Raises:
        Error: The folder does not exist, or is not named although page files need one.
    """
    if kind not in BY_LINE:
        if out is None:
            raise Error(f"--format {kind} writes one file per page; name a folder with --out")
        out.mkdir(parents=True, exist_ok=True)
    elif out is not None and out.is_dir():
        raise Error(f"{out}: is a folder; --format {kind} writes one file: name it with --out")
    elif out is not None and not out.parent.is_dir():
        raise Error(f"{out}: no such folder: {out.parent}")


def check_places(kind: str, out: Path | None, files: Sequence[str]) -> None:
    """Check that no input, and no XML next to a page's image, will be overwritten.

    Raises:
        Error: One would be, or two pages would be written to one file.
    """
    if out is None:
        return
    if kind in BY_LINE:
        if out.exists():  # a file that does not exist is not an input
            _check_overwriting([Path(file) for file in files], [out])
        return
    paths = [Path(file) for file in files]
    places = [place(out, path) for path in paths]
    _check_overwriting(paths, places)
    _check_beside(paths, places)


def _check_overwriting(files: list[Path], places: list[Path]) -> None:
    """Refuse to overwrite an input, or one page with another."""
    read = {path.resolve() for path in files}
    sources: dict[Path, Path] = {}
    for i, path in enumerate(places):
        if path.resolve() in read:
            raise Error(f"--out: {path} is an input and would be overwritten; name another")
        if sources.setdefault(path.resolve(), files[i]) != files[i]:
            raise Error(f"--out: {sources[path.resolve()]} and {files[i]} would both be written to {path}")


def _check_beside(files: list[Path], places: list[Path]) -> None:
    """Refuse to overwrite XML next to a page's image: someone may have written it by hand."""
    for file, path in zip(files, places, strict=True):
        if path.exists() and path.parent.resolve() == file.parent.resolve():
            raise Error(f"--out: {path} exists already, next to {file}, and would be overwritten; name another folder")


def without_text(prediction: Prediction) -> Prediction:
    """The prediction with an empty text."""
    return replace(prediction, text="", characters=())


def shown(path: Path) -> str:
    """A path as text, with bytes that are not UTF-8 replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def row(job: Job, prediction: Prediction, kind: str, characters: bool) -> str:
    """A line's prediction as text, TSV or JSON."""
    name = shown(job.source)
    if kind == "txt":
        return prediction.text or ""
    if kind == "tsv":
        cells = (name, prediction.target.id, prediction.text or "", f"{prediction.confidence:.4f}")
        return "\t".join(map(cell, cells))
    found: dict[str, Any] = {"image": name, "text": prediction.text, "confidence": prediction.confidence}
    if prediction.target.id:
        found["line"] = prediction.target.id
    if characters:
        found["characters"] = [list(character) for character in prediction.characters]
    return visible(json.dumps(found, ensure_ascii=False))


def place(folder: Path, source: Path) -> Path:
    """The output file for a source file."""
    return folder / f"{source.stem}.xml"


def write(folder: Path, kind: str, job: Job, predictions: Sequence[Prediction]) -> Path:
    """Write a page's texts and confidences.

    If the input has the same format, its XML is kept, except for what belonged to the old texts. Otherwise the page is
    new, with its image and lines.

    Args:
        kind: A name in `PAGE_FORMATS`.

    Returns:
        The file, named after the source.

    Raises:
        Error: The file can't be written, or can't contain the image's name.
    """
    path = place(folder, job.source)
    lines = [_line(job, number, prediction) for number, prediction in enumerate(predictions, 1)]
    root = job.root
    if job.kind != kind:
        # Without XML, positions refer to the upright image.
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
