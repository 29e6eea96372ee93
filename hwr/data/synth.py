"""Drawn handwriting in IAM's own layout: for the demo, for tests and for pre-training.

It is drawn, not written: a model that reads it shows that the program works, and little about real hands.
"""

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from tqdm import tqdm

from hwr import Error
from hwr.atomic import replacing
from hwr.data.formats.iam import LISTS, OFFICIAL
from hwr.data.synth_draw import Hand, draw, make_hand, rng_of
from hwr.data.synth_text import compose, tokens

LINES_PER_FORM = 8
MARGIN = 60  # px, around the lines of a page


def write(root: Path, lines: int, writers: int, seed: int, *, progress: bool = False) -> None:
    """Draw `lines` lines by `writers` writers into the new folder `root`, in IAM's layout, split by writer.

    Writes xml/FORM.xml, lines/PREFIX/FORM/FORM-NN.png (grey, 8 bits), ascii/lines.txt, and, last of all, the four lists
    in largeWriterIndependentTextLineRecognitionTask/: without them the folder is not a dataset, so a broken-off run
    can't be taken for a whole one. Form ids look like `synth0001-000`, never like IAM's own; writer ids like `w0001`.

    The same seed gives the same bytes, with the same versions of NumPy, OpenCV and Hershey-Fonts. A line depends on the
    seed, its writer and its number alone.

    Args:
        root: The folder; it may exist if it is empty.
        lines: How many lines in all, at least one per writer; each writer gets as many as the next, or one more.
        writers: How many writers, at least 4: one for each list. About 80, 5, 5 and 10 % of them go to trainset,
            validationset1, validationset2 and testset.
        seed: At least 0.
        progress: Show a bar, if the output is a terminal.

    Raises:
        Error: A number is out of range; `root` is not an empty folder, or can't be written to.
    """
    if writers < 4:
        raise Error(f"{writers} writers: at least 4 are needed, one each for training, the two validations and testing")
    if lines < writers:
        raise Error(f"{lines} lines by {writers} writers: at least one line per writer is needed")
    if seed < 0:
        raise Error(f"seed {seed}: it must be 0 or more")
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Error(f"{root}: not an empty folder. Give a new one, or remove this first.")
        (root / "xml").mkdir(parents=True)
        rows: list[list[str]] = []  # of lines.txt, by writer
        with tqdm(total=lines, unit="line", disable=None if progress else True) as bar:
            for writer in range(writers):
                hand = make_hand(seed, writer)
                count = lines // writers + (writer < lines % writers)
                rows.append([])
                for first in range(0, count, LINES_PER_FORM):
                    form = _write_form(root, hand, seed, writer, range(count)[first : first + LINES_PER_FORM])
                    rows[-1] += form
                    bar.update(len(form))
        _write_lists(root, rows)
    except OSError as error:
        raise Error(f"{root}: could not be written: {error}") from error


def _write_form(root: Path, hand: Hand, seed: int, writer: int, numbers: range) -> list[str]:
    """Draw a writer's lines of these numbers as one form; returns their rows of lines.txt, which begin with the id."""
    prefix = f"synth{writer + 1:04d}"
    form = f"{prefix}-{numbers[0] // LINES_PER_FORM:03d}"
    folder = root / "lines" / prefix / form
    folder.mkdir(parents=True)
    tree = ElementTree.Element("form", {"id": form, "writer-id": f"w{writer + 1:04d}"})
    part = ElementTree.SubElement(tree, "handwritten-part")
    rows: list[str] = []
    top, widest = MARGIN, 0  # top: where the next line stands on the page, px
    for place, number in enumerate(numbers):
        rng = rng_of(seed, writer, number)
        text = compose(rng)
        drawing = draw(text, hand, rng)
        height, width = drawing.image.shape
        id = f"{form}-{place:02d}"
        (folder / f"{id}.png").write_bytes(cv2.imencode(".png", drawing.image)[1].tobytes())
        line = {"id": id, "text": text, "threshold": str(drawing.threshold), "segmentation": "ok"}
        boxes = drawing.boxes + np.array([MARGIN, top, 0, 0])
        _add_words(ElementTree.SubElement(part, "line", line), id, text, boxes)
        words = "|".join(tokens(text))
        rows.append(f"{id} ok {drawing.threshold} {len(drawing.boxes)} {MARGIN} {top} {width} {height} {words}")
        top, widest = top + height, max(widest, width)
    tree.set("width", str(widest + 2 * MARGIN))
    tree.set("height", str(top + MARGIN))
    ElementTree.indent(tree)
    ElementTree.ElementTree(tree).write(root / "xml" / f"{form}.xml", encoding="UTF-8", xml_declaration=True)
    return rows


def _add_words(line: ElementTree.Element, id: str, text: str, boxes: np.ndarray) -> None:
    done = 0
    for number, token in enumerate(tokens(text)):
        # IAM has the part of speech here; XX is the Penn Treebank's tag for a word whose part is unknown.
        word = ElementTree.SubElement(line, "word", {"id": f"{id}-{number:02d}", "text": token, "tag": "XX"})
        for box in boxes[done : done + len(token)]:
            ElementTree.SubElement(word, "cmp", dict(zip(("x", "y", "width", "height"), map(str, box), strict=True)))
        done += len(token)


def _write_lists(root: Path, rows: list[list[str]]) -> None:
    """Write lines.txt from its rows by writer, and the split lists."""
    header = "# Drawn by `hwr synth`, in IAM's format:\n# line ok threshold components x y w h transcription\n"
    table = header + "".join(f"{row}\n" for writer in rows for row in writer)
    (root / "ascii").mkdir()
    (root / "ascii" / "lines.txt").write_text(table, encoding="utf-8", newline="\n")
    few, tenth = max(1, round(len(rows) / 20)), max(1, round(len(rows) / 10))
    train = len(rows) - 2 * few - tenth
    bounds = [0, train, train + few, train + 2 * few, len(rows)]
    (root / LISTS).mkdir()
    for name, start, end in zip(OFFICIAL, bounds, bounds[1:], strict=False):
        with replacing(root / LISTS / f"{name}.txt") as temporary:
            ids = "".join(f"{row.split()[0]}\n" for writer in rows[start:end] for row in writer)
            temporary.write_text(ids, encoding="utf-8", newline="\n")
