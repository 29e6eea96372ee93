"""What was read as PAGE or ALTO: written into a copy of the XML that marked the lines, or into a new one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hwr.datasets import Line, convert
from hwr.datasets.pages import children, descendants, local
from hwr.inputs import Job
from hwr.predict import Character, Prediction


def write(folder: Path, kind: str, job: Job, predictions: Sequence[Prediction]) -> Path:
    """Write a page's texts and confidences.

    Where the job is of the same kind, everything else of its XML stays; but the words and the regions' texts that stood there
    go, for they are of another reading. Otherwise the page is new, and has an image and its lines.

    Args:
        kind: page or alto.

    Returns:
        The file, named as the source is.
    """
    path = folder / f"{job.source.stem}.xml"
    root = job.root if job.kind == kind else _new(kind, job, predictions)
    lines = descendants(root, "TextLine")
    for element, prediction in zip(lines, predictions, strict=True):
        (_into_page if kind == "page" else _into_alto)(element, prediction)
    if kind == "page":
        for region in descendants(root, "TextRegion"):
            for stale in children(region, "TextEquiv"):
                region.remove(stale)
        for changed in descendants(root, "LastChange"):
            changed.text = convert.now()
    convert.write_xml(root, path)
    return path


def _new(kind: str, job: Job, predictions: Sequence[Prediction]) -> Any:
    picture = job.targets[0].image if job.targets else job.source
    with Image.open(picture) as opened:
        size = opened.size
    lines = [
        Line(p.target.id or f"line{i}", picture, "", "", str(job.source), p.target.region, p.target.baseline)
        for i, p in enumerate(predictions, 1)
    ]
    return (convert.page if kind == "page" else convert.alto)(picture.name, size, lines)


def _into_page(element: Any, prediction: Prediction) -> None:
    for child in list(element):
        if local(child) in ("TextEquiv", "Word"):
            element.remove(child)
    if prediction.text is None:
        return
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
