"""What was read as PAGE or ALTO: written into a copy of the XML that marked the lines, or into a new one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr.data import Line, convert
from hwr.data.formats.pages import children, descendants, local
from hwr.images import load
from hwr.pages.predict import Prediction
from hwr.pages.sources import Job
from hwr.recognizer import Character


def place(folder: Path, source: Path) -> Path:
    """Where what is read of a file is written."""
    return folder / f"{source.stem}.xml"


def write(folder: Path, kind: str, job: Job, predictions: Sequence[Prediction]) -> Path:
    """Write a page's texts and confidences.

    Where the job is of the same kind, everything else of its XML stays; but words, the regions' texts and marks on parts of
    the text go, for they are of another reading. Otherwise the page is new, and has an image and its lines.

    Args:
        kind: page or alto.

    Returns:
        The file, named as the source is.
    """
    path = place(folder, job.source)
    root = job.root if job.kind == kind else _new(kind, job, predictions)
    lines = descendants(root, "TextLine")
    for element, prediction in zip(lines, predictions, strict=True):
        if prediction.text is None:
            continue  # it could not be read: what stands there stays
        (_into_page if kind == "page" else _into_alto)(element, prediction)
    if kind == "page":
        for region in (element for element in root.iter() if local(element).endswith(("Region", "TableCell"))):
            for stale in children(region, "TextEquiv"):
                region.remove(stale)
        for changed in descendants(root, "LastChange"):
            changed.text = convert.now()
    convert.write_xml(root, path)
    return path


def _new(kind: str, job: Job, predictions: Sequence[Prediction]) -> Any:
    # Of a line image or a photo without XML the places are those of the upright picture.
    size = load.size(job.image, upright=not job.kind)
    lines = [
        Line(p.target.id or f"line{i}", job.image, "", "", str(job.source), p.target.region, p.target.baseline)
        for i, p in enumerate(predictions, 1)
    ]
    return (convert.page if kind == "page" else convert.alto)(job.image.name, size, lines)


def _into_page(element: Any, prediction: Prediction) -> None:
    for child in list(element):
        if local(child) in ("TextEquiv", "Word"):
            element.remove(child)
    if element.get("custom"):  # Transkribus keeps there what stands from which character to which
        element.set("custom", re.sub(r"\w+ *\{[^}]*offset:[^}]*\} *", "", element.get("custom")).strip())
    equivalent = convert.sub(element, "TextEquiv", conf=f"{prediction.confidence:.4f}")
    convert.sub(equivalent, "Unicode").text = prediction.text
    # The schema wants it after the line's shape and before its style.
    shape = [i for i, child in enumerate(element) if local(child) in ("AlternativeImage", "Coords", "Baseline")]
    element.insert(max(shape, default=-1) + 1, equivalent)


def _into_alto(element: Any, prediction: Prediction) -> None:
    for child in list(element):
        if local(child) in ("String", "SP", "HYP"):
            element.remove(child)
    box = {key: element.get(key) for key in ("VPOS", "HEIGHT") if element.get(key)}
    for spaces, word, characters in _words(prediction):
        for _ in range(spaces):
            convert.sub(element, "SP")
        place = {}
        if characters:
            left, right = round(characters[0].left), round(characters[-1].right)
            place = {"HPOS": left, "WIDTH": max(1, right - left)}
        sure = min((c.confidence for c in characters), default=prediction.confidence)
        convert.sub(element, "String", CONTENT=word, WC=f"{sure:.4f}", **place, **box)


def _words(prediction: Prediction) -> list[tuple[int, str, list[Character]]]:
    """The words of a text, each with the spaces before it and its characters (none if they were not asked for)."""
    out, place, spaces = [], 0, 0
    for word in (prediction.text or "").split(" "):
        if word:
            out.append((spaces, word, list(prediction.characters[place : place + len(word)])))
            spaces = 0
        spaces += 1
        place += len(word) + 1
    return out
