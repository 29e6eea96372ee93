"""Pages for the tests of the workbench: synthetic lines below each other, with a PAGE file that marks them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hwr import config, data
from hwr.data import Line
from hwr.data.formats import page, xml
from hwr.data.formats.shapes import Marked
from hwr.images import load
from hwr.recognizer import Recognizer
from hwr.serve.project.edits import Found
from hwr.serve.project.page_state import PageState

MARGIN = 20  # pixels around each line


def lines_of(drawn: Path) -> list[Line]:
    """The synthetic lines of the fixture `drawn`, those first that the fixture `model` has learned to read."""
    dataset = data.read(config.load(None, [f"data.root={drawn}"]).data)
    return [*dataset.train, *dataset.val, *dataset.test]


def draw(path: Path, lines: Sequence[Line]) -> list[Found]:
    """Write an image with these lines below each other, and return where they are."""
    cuts = [load.read_line(line.image, line.region) for line in lines]
    height = sum(cut.shape[0] + MARGIN for cut in cuts) + MARGIN
    sheet = np.full((height, max(cut.shape[1] for cut in cuts) + 2 * MARGIN), 255, np.uint8)
    found, top = [], MARGIN
    for cut in cuts:
        bottom, right = top + cut.shape[0], MARGIN + cut.shape[1]
        sheet[top:bottom, MARGIN:right] = cut
        box = ((MARGIN, top), (right - 1, top), (right - 1, bottom - 1), (MARGIN, bottom - 1))
        found.append(Found(box, ((MARGIN, bottom - 12), (right - 1, bottom - 12))))
        top = bottom + MARGIN
    Image.fromarray(sheet).save(path)
    return found


def write(path: Path, lines: Sequence[Line], texts: Sequence[str] | None = None) -> None:
    """`draw`, and a PAGE file beside the image."""
    found = draw(path, lines)
    given = texts if texts is not None else [""] * len(lines)
    marked = [
        Marked(f"l{number}", text, one.polygon, one.baseline, "")
        for number, (one, text) in enumerate(zip(found, given, strict=True), 1)
    ]
    xml.write(page.new(path.name, load.size(path), marked), path.with_suffix(".xml"))


def find(page: PageState, recognizer: Recognizer) -> list[Found]:
    """Find the lines of a page that `draw` made: rows with ink."""
    pixels = load.read(page.image)
    inked = np.flatnonzero((pixels < 200).any(1))
    out = []
    for rows in np.split(inked, np.flatnonzero(np.diff(inked) > MARGIN) + 1):
        top, bottom = max(0, int(rows[0]) - 4), min(len(pixels) - 1, int(rows[-1]) + 4)
        columns = np.flatnonzero((pixels[top:bottom] < 200).any(0))
        left, right = max(0, int(columns[0]) - 4), int(columns[-1]) + 4
        out.append(Found(((left, top), (right, top), (right, bottom), (left, bottom))))
    return out
