"""Drawn handwriting in IAM's own layout: for the demo, for tests and for pre-training.

It is drawn, not written: a model that reads it shows that the program works, and little about real hands.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from hwr import Error
from hwr.data.formats import writing, xml
from hwr.data.formats.iam import LISTS, OFFICIAL
from hwr.data.formats.iam_forms import new_form
from hwr.data.synth.lines import Fonts, Sample, Strokes
from hwr.data.synth.relaid import Relaid
from hwr.data.synth.text import tokens
from hwr.system.atomic import new_folder
from hwr.system.processes import MANY, pool

Source = Strokes | Fonts | Relaid

LINES_PER_FORM = 8
MARGIN = 60  # px, around the lines of a page


def write(
    root: Path,
    lines: int,
    writers: int,
    seed: int,
    *,
    fonts: Path | None = None,
    texts: Sequence[Path] = (),
    ink: Sequence[Path] = (),
    processes: int = 1,
    progress: bool = False,
) -> dict[str, str]:
    """Draw `lines` lines by `writers` writers into the new folder `root`, in IAM's layout, split by writer.

    Writes xml/FORM.xml, lines/PREFIX/FORM/FORM-NN.png (grey, 8 bits; .webp with fonts), ascii/lines.txt, and, last of all,
    the four lists in largeWriterIndependentTextLineRecognitionTask/. The folder appears when all is written. Form ids look like `synth0001-000`, never like IAM's own; writer ids like
    `w0001`.

    The same seed gives the same bytes, with the same versions of NumPy, OpenCV, Pillow and Hershey-Fonts, and the same fonts
    and texts. A line depends on the seed, its writer and its number alone, not on the number of processes.

    Args:
        root: The folder; it may exist if it is empty.
        lines: How many lines in all, at least one per writer; each writer gets as many as the next, or one more.
        writers: How many writers, at least 4: one for each list. About 80, 5, 5 and 10 % of them go to trainset,
            validationset1, validationset2 and testset.
        seed: At least 0.
        fonts: A folder with handwriting fonts (.ttf, .otf), searched with all below it; None: letters of strokes, whose texts
            are made up.
        texts: With fonts, what to write: UTF-8 files of a paragraph a line, or folders of .txt files. All have the same share
            of the lines, whatever their size; one that is named twice has twice the share.
        ink: Datasets whose training lines' ink is used instead of fonts. Each drawn writer has the hand of one of theirs, in
            turn, so with more writers than there are hands, a hand recurs in several lists.
        processes: How many draw at once. With more than one, a program that is not hwr's own command line needs
            `if __name__ == "__main__":`, as always with Python's multiprocessing.
        progress: Show a bar, if the output is a terminal.

    Returns:
        With `ink`, the lines of the datasets that could not be used, by id, and why.

    Raises:
        Error: A number is out of range; `root` is not an empty folder, or can't be written to; fonts without text or text
            without fonts, or these can't be used.
    """
    if writers < 4:
        raise Error(f"{writers} writers: at least 4 are needed, one each for training, the two validations and testing")
    if lines < writers:
        raise Error(f"{lines} lines by {writers} writers: at least one line per writer is needed")
    if seed < 0:
        raise Error(f"seed {seed}: it must be 0 or more")
    source = _source(seed, fonts, texts, ink)
    with new_folder(root) as folder:
        (folder / "xml").mkdir()
        rows: list[list[str]] = []  # of lines.txt, by writer
        skipped: dict[str, str] = {}
        jobs = [(folder, source, writer, lines // writers + (writer < lines % writers)) for writer in range(writers)]
        with tqdm(total=lines, unit="line", disable=None if progress else True) as bar, _mapping(processes) as mapped:
            for found, faults in mapped(_write_writer, jobs):
                rows.append(found)
                skipped |= faults
                bar.update(len(found))
        _write_lists(folder, rows)
    return skipped


def _source(seed: int, fonts: Path | None, texts: Sequence[Path], ink: Sequence[Path]) -> Source:
    if ink:
        if fonts or texts:
            raise Error("--ink can't be combined with --fonts and --text: the lines have their own letters and texts")
        return Relaid(seed, ink)
    if fonts is None:
        if texts:
            raise Error(f"--text {texts[0]}: needs --fonts, a folder of handwriting fonts to write it with")
        return Strokes(seed)
    return Fonts(seed, fonts, texts)


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterable[tuple[list[str], dict[str, str]]]]]:
    """`map`, in this process or over several."""
    if processes == 1:
        yield map
        return
    with pool(processes, files=MANY) as executor:
        yield executor.map


def _write_writer(job: tuple[Path, Source, int, int]) -> tuple[list[str], dict[str, str]]:
    """Draw all lines of a writer; returns their rows of lines.txt, and the lines that could not be used."""
    root, source, writer, count = job
    line = source.of(writer)
    rows: list[str] = []
    for first in range(0, count, LINES_PER_FORM):
        rows += _write_form(root, line, source.suffix, writer, range(count)[first : first + LINES_PER_FORM])
    return rows, source.skipped(writer) if isinstance(source, Relaid) else {}


def _write_form(root: Path, draw: Callable[[int], Sample], suffix: str, writer: int, numbers: range) -> list[str]:
    """Draw a writer's lines of these numbers as one form; returns their rows of lines.txt, which start with the id."""
    prefix = f"synth{writer + 1:04d}"
    form = f"{prefix}-{numbers[0] // LINES_PER_FORM:03d}"
    folder = root / "lines" / prefix / form
    folder.mkdir(parents=True)
    tree, part = new_form(form, f"w{writer + 1:04d}")
    rows: list[str] = []
    top, widest = MARGIN, 0  # top: where the next line stands on the page, px
    for place, number in enumerate(numbers):
        sample = draw(number)
        text = sample.text
        height, width = sample.image.shape
        id = f"{form}-{place:02d}"
        quality = [cv2.IMWRITE_WEBP_QUALITY, 90] if suffix == ".webp" else []
        (folder / f"{id}{suffix}").write_bytes(cv2.imencode(suffix, sample.image, quality)[1].tobytes())
        element = xml.add(part, "line", id=id, text=text, threshold=sample.threshold, segmentation="ok")
        count = len(text.replace(" ", ""))
        if sample.boxes is not None:
            _add_words(element, id, text, sample.boxes + np.array([MARGIN, top, 0, 0]))
            count = len(sample.boxes)
        words = "|".join(tokens(text))
        rows.append(f"{id} ok {sample.threshold} {count} {MARGIN} {top} {width} {height} {words}")
        top, widest = top + height, max(widest, width)
    tree.set("width", str(widest + 2 * MARGIN))
    tree.set("height", str(top + MARGIN))
    (root / "xml" / f"{form}.xml").write_bytes(xml.text(tree))
    return rows


def _add_words(line: Any, id: str, text: str, boxes: np.ndarray) -> None:
    done = 0
    for number, token in enumerate(tokens(text)):
        # IAM has the part of speech here; XX is the Penn Treebank's tag for a word whose part is unknown.
        word = xml.add(line, "word", id=f"{id}-{number:02d}", text=token, tag="XX")
        for x, y, width, height in boxes[done : done + len(token)]:
            xml.add(word, "cmp", x=x, y=y, width=width, height=height)
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
        ids = [row.split()[0] for writer in rows[start:end] for row in writer]
        writing.id_list(root / LISTS / f"{name}.txt", ids)
