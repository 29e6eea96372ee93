"""The lines of a training: corrected ones, divided and written as images with texts; and those that nobody has checked."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.data import unusable
from hwr.data.formats import pairs, writing
from hwr.images import load, prepare
from hwr.images.batches import unwritable
from hwr.recognizer import Recognizer
from hwr.serve.project import held_back
from hwr.serve.project.folder import Project
from hwr.serve.project.page_state import LineState, PageState

# With fewer corrected lines, nothing could be held back to judge the training.
LEAST_LINES = 5

# The share of the lines trained on that choose the best epoch.
VALIDATION = 0.1

# With fewer lines that nobody has checked, self-training has little to learn from.
LEAST_UNCHECKED = 20


@dataclass(frozen=True)
class Lines:
    """A project's corrected lines: to train on, to choose the best epoch by, and held back."""

    train: list[tuple[PageState, LineState]]
    val: list[tuple[PageState, LineState]]
    test: list[tuple[PageState, LineState]]


def corrected(project: Project) -> list[tuple[PageState, LineState]]:
    """The lines with ground truth, page by page."""
    return [
        (page, line)
        for page in project.pages()
        for line in page.lines
        if line.state == "checked" and line.text and line.polygon
    ]


def divide(project: Project) -> Lines:
    """Divide the corrected lines. What was held back stays held back.

    Raises:
        Error: There are too few.
    """
    lines = corrected(project)
    if len(lines) < LEAST_LINES:
        raise Error(f"training needs at least {LEAST_LINES} corrected lines; there are {len(lines)}")
    keys = [(page.id, line.id) for page, line in lines]
    decided = held_back.update(project.hidden, lambda known: held_back.assign(known, keys))
    test = [pair for pair in lines if held_back.is_held_back(decided, pair[0].id, pair[1].id)]
    rest = [pair for pair in lines if not held_back.is_held_back(decided, pair[0].id, pair[1].id)]
    if not test or len(rest) < 3:
        raise Error("too few corrected lines can be held back; correct lines on further pages")
    every = max(2, round(1 / VALIDATION))
    val = rest[every // 2 :: every] or rest[-1:]
    chosen = {id(pair) for pair in val}
    return Lines([pair for pair in rest if id(pair) not in chosen], val, test)


def unchecked(project: Project, most: int) -> list[tuple[PageState, LineState]]:
    """At most `most` lines that nobody has checked, spread evenly over the pages. Those of pages held back are none of them."""
    decided = held_back.update(project.hidden, dict)  # as they are
    lines = [
        (page, line)
        for page in project.pages()
        for line in page.lines
        if line.state != "checked" and line.polygon and not line.fault
        if not held_back.is_held_back(decided, page.id, line.id)
    ]
    most = min(most, len(lines))
    return [lines[i * len(lines) // most] for i in range(most)]


def write(lines: Lines, recognizer: Recognizer, out: Path) -> None:
    """Write lines as images with their texts beside them. Later corrections do not change a training that runs.

    Lines that can't be cut out, or whose texts the network can't write, are named in skipped.json: one of them would
    end the training.

    Raises:
        Error: Too few lines are left.
    """
    skipped: list[str] = []
    for part, chosen in (("train", lines.train), ("val", lines.val), ("test", lines.test)):
        (out / part).mkdir(parents=True)
        by_page: dict[str, list[tuple[PageState, LineState]]] = {}
        for page, line in chosen:
            by_page.setdefault(page.id, []).append((page, line))
        for own in by_page.values():
            cuts = _cut(own)
            for number, ((page, line), cut) in enumerate(zip(own, cuts, strict=True)):
                fault = str(cut) if isinstance(cut, Error) else _fault(recognizer, cut, line.text)
                if fault or isinstance(cut, Error):
                    skipped.append(f"{page.name}: line {line.id}: {fault}")
                    continue
                image = out / part / f"{page.id}-{number:04}.png"
                writing.save_image(cut, image)
                pairs.write_text(image, line.text)
        if not any((out / part).iterdir()):
            raise Error(f"no line is left to train with: {'; '.join(skipped[:3])}")
    (out / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")


def write_unchecked(lines: Sequence[tuple[PageState, LineState]], out: Path) -> None:
    """Write lines as images. Those that can't be cut out can't be read either, and are excluded."""
    if len(lines) < LEAST_UNCHECKED:
        return
    out.mkdir(parents=True)
    for id, group in itertools.groupby(lines, key=lambda pair: pair[0].id):
        own = list(group)
        cuts = _cut(own)
        for number, cut in enumerate(cuts):
            if not isinstance(cut, Error):
                writing.save_image(cut, out / f"{id}-{number:04}.png")


def _cut(own: Sequence[tuple[PageState, LineState]]) -> list[np.ndarray | Error]:
    """The images of lines of one page."""
    regions, baselines = [line.polygon for _, line in own], [line.baseline for _, line in own]
    return load.read_lines(own[0][0].image, regions, True, baselines)


def _fault(recognizer: Recognizer, cut: np.ndarray, text: str) -> str:
    """Why a line can't be trained on, or ""."""
    if fault := unusable(text, "line"):  # the training reads the text again, and an alphabet refuses such characters
        return fault
    width = prepare.prepare(cut, recognizer.geometry).shape[1]  # as training does
    (steps,) = recognizer.geometry.time_steps(np.array([width])).tolist()
    letters = Alphabet(
        recognizer.alphabet.characters + "".join(sorted(set(text) - set(recognizer.alphabet.characters)))
    )
    return unwritable(text, letters, recognizer.geometry, steps) or ""
