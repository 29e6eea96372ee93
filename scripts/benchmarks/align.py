"""`scripts/bench align`: how many lines `hwr align` restores when the line breaks of pages are removed."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import hwr
from hwr import Error, data
from hwr.data import Line
from hwr.decoding import greedy, transcript
from hwr.decoding.transcript import AlignedLine
from hwr.pages.predict import prepare_page
from hwr.pages.sources import Target
from hwr.recognizer import Output, Recognizer

from .common import json_option, write

# A page with its lines' texts, as it is aligned: which lines are given, the transcript, and what each given line should get.
Case = tuple[list[int], str, list[str]]


def _removed(texts: list[str], rng: random.Random) -> Case:
    return list(range(len(texts))), " ".join(texts), texts


def _joined(texts: list[str], rng: random.Random) -> Case:
    text = texts[0]
    for line in texts[1:]:
        text = text[:-1] + line if text.endswith("-") else f"{text} {line}"
    return list(range(len(texts))), text, texts


def _missing(texts: list[str], rng: random.Random) -> Case:
    kept = [rng.random() >= 0.05 for _ in texts]
    given = [i for i in range(len(texts)) if rng.random() >= 0.05]
    text = " ".join(line for line, keep in zip(texts, kept, strict=True) if keep)
    return given, text, [texts[i] if kept[i] else "" for i in given]


def _heading(texts: list[str], rng: random.Random) -> Case:
    heading = "Transcription de la page 12, archives départementales"
    return list(range(len(texts))), " ".join([heading, *texts, "(fin de la page)"]), texts


def _columns(texts: list[str], rng: random.Random) -> Case:
    return list(range(len(texts))), " ".join([*texts[::2], *texts[1::2]]), texts


CASES: dict[str, Callable[[list[str], random.Random], Case]] = {
    "line breaks removed": _removed,
    "and hyphens at line ends": _joined,
    "5 % of lines missing on either side": _missing,
    "heading and footer added": _heading,
    "every other line in a second column": _columns,
}


@dataclass(frozen=True)
class _Page:
    texts: list[str]
    outputs: list[Output]
    readings: list[str]


@click.command("align")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--checkpoint", default="hwr-latin", show_default=True)
@click.option("--seed", default=0, show_default=True)
@json_option
def measure_alignment(folders: tuple[Path, ...], checkpoint: str, seed: int, json_path: Path | None) -> None:
    """Align the pages of FOLDERS (PAGE or ALTO with ground truth) with their own texts, and count the lines restored.

    A line counts as restored if its text is exactly its ground truth ("" for a line whose text was taken away). Reported
    lines are those that are doubtful, or have no text.
    """
    model = hwr.load(checkpoint, ["decode.name=greedy"])
    results: dict[str, Any] = {}
    for folder in folders:
        pages = _read(model, folder)
        for name, case in CASES.items():
            found = _aligned(model, pages, case, random.Random(seed))
            results[f"{folder.name}: {name}"] = found
            click.echo(f"{folder.name:<14}{name:<38}" + "  ".join(f"{key} {value}" for key, value in found.items()))
    write(json_path, results)


def _read(model: Recognizer, folder: Path) -> list[_Page]:
    """The network's output for the ground-truth lines of all pages."""
    settings = model.config.data.model_copy(update={"root": str(folder), "images": None})
    dataset = data.read(settings)
    if not dataset.lines:
        raise click.ClickException(f"{folder}: no lines with text")
    of: dict[Path, list[Line]] = {}
    for line in dataset.lines:
        of.setdefault(line.image, []).append(line)
    return [_page(model, image, lines) for image, lines in of.items()]


def _page(model: Recognizer, image: Path, lines: list[Line]) -> _Page:
    lines.sort(key=lambda line: int(line.source.rpartition(":")[2]))
    prepared = prepare_page([Target(image, x.region, upright=x.upright) for x in lines], model.geometry)
    if bad := next((x for x in prepared if isinstance(x, Error)), None):
        raise bad
    outputs = model.outputs([x for x in prepared if not isinstance(x, Error)])
    readings = [greedy.greedy(output.logits[None], model.alphabet)[0][0] for output in outputs]
    return _Page([" ".join(line.text.split()) for line in lines], outputs, readings)


def _aligned(
    model: Recognizer, pages: Sequence[_Page], case: Callable[[list[str], random.Random], Case], rng: random.Random
) -> dict[str, Any]:
    lines, truths = list[AlignedLine](), list[str]()
    start = time.process_time()
    for page in pages:
        given, text, expected = case(page.texts, rng)
        found = transcript.align(
            [page.outputs[i].logits for i in given],
            [page.readings[i] for i in given],
            text,
            model.alphabet,
            model.geometry.edge_spaces,
        )
        lines += found.lines
        truths += expected
    seconds = time.process_time() - start
    right = np.array([line.text == truth for line, truth in zip(lines, truths, strict=True)])
    # A line without text is rightly so if its text was taken away; then it is not counted as reported.
    none = np.array([line.span is None and truth != "" for line, truth in zip(lines, truths, strict=True)])
    reported = none | np.array([line.doubtful for line in lines])
    return {
        "pages": len(pages),
        "lines": len(lines),
        "restored": f"{100 * right.mean():.1f} %",
        "wrong": int((~right).sum()),
        "reported": int(reported.sum()),
        "wrong and reported": int((reported & ~right).sum()),
        "CPU s per page": round(seconds / max(1, len(pages)), 2),
    }
