"""Benchmark how time and memory grow with lines per page and with pages."""

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from PIL import Image

from benchmarks.common import conditions, json_option, write
from hwr.alphabet import Alphabet
from hwr.config import Data
from hwr.data import Dataset, Line, read_all
from hwr.data.convert import convert
from hwr.data.formats import FORMATS, PAGE_FORMATS, xml
from hwr.data.formats.shapes import Marked
from hwr.data.summary import summarise
from hwr.decoding import transcript
from hwr.evaluation import metrics, report_html
from hwr.evaluation.evaluate import Predictions
from hwr.images import cache
from hwr.images.geometry import Geometry
from hwr.pages.outputs import FORMATS as OUTPUTS
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.sources import files_in
from hwr.recognizer import Character

# Height of a line, width of a page in pixels, and the text of a line.
TALL, WIDE, TEXT = 6, 64, "ab cd ef"
ALPHABET = Alphabet("abcdef ")
# Lines per page where pages are counted.
FEW = 3
# A size is skipped if the one before suggests that it takes longer than this, in seconds.
LONGEST = 200.0
# A time below this is mostly overhead, and does not count for the exponent.
SHORTEST = 0.02

Work = Callable[[], object]


class Made(NamedTuple):
    """What is measured: a dataset, its pages as they are read, and the folder of its files."""

    folder: Path
    dataset: Dataset
    pages: list[PageReading]


@click.command("scaling")
@click.option("--lines", multiple=True, default=(100, 1000, 10000), show_default=True, type=click.IntRange(min=1))
@click.option("--pages", multiple=True, default=(10, 100, 1000, 10000), show_default=True, type=click.IntRange(min=1))
@click.option("--only", default="", metavar="TEXT", help="Only works whose name contains this.")
@json_option
def measure_scaling(lines: tuple[int, ...], pages: tuple[int, ...], only: str, json_path: Path | None) -> None:
    """CPU time and memory of every reader and writer, for more and more lines on a page, and for more and more pages.

    Exponent: of a straight line through the logarithms of times and sizes; 1 is linear, 2 quadratic. Times are CPU times of
    a process for each work and size, so other programs matter little.
    """
    about, rows = conditions(), []
    click.echo(about["cpu"])
    for axis, sizes in (("lines", lines), ("pages", pages)):
        found: dict[str, list[tuple[int, float, float]]] = {}
        for size in sorted(sizes):
            with tempfile.TemporaryDirectory() as folder:
                # A list first, because what was found decides what is skipped.
                for name, seconds, megabytes in list(_of_size(Path(folder), axis, size, only, found)):
                    found.setdefault(name, []).append((size, seconds, megabytes))
        click.echo(
            f"\n{axis:<22}" + "".join(f"{f'{size:,}: ms, kB each':>24}" for size in sorted(sizes)) + "   exponent"
        )
        for name, times in found.items():
            cells = [f"{1e3 * seconds / n:>14.3f}{1e3 * megabytes / n:>10.1f}" for n, seconds, megabytes in times]
            cells += [f"{'skipped':>24}"] * (len(sizes) - len(times))
            power = exponent([(n, seconds) for n, seconds, _ in times])
            click.echo(f"{name:<22}{''.join(cells)}{power:>11.2f}")
            rows.append({"work": name, "axis": axis, "exponent": power, "sizes": times})
    write(json_path, {"conditions": about, "rows": rows})


def exponent(times: Sequence[tuple[int, float]]) -> float:
    """The slope of a straight line through the logarithms; NaN if fewer than two times are long enough."""
    usable = [(math.log(n), math.log(seconds)) for n, seconds in times if seconds >= SHORTEST]
    if len(usable) < 2:
        return math.nan
    x, y = np.array(usable).T
    return float(np.polyfit(x, y, 1)[0])


def _of_size(
    folder: Path, axis: str, size: int, only: str, found: dict[str, list[tuple[int, float, float]]]
) -> Iterator[tuple[str, float, float]]:
    """Name, CPU seconds and megabytes of each work at a size, which are also shown at once."""
    made = _made(folder / "made", *((1, size) if axis == "lines" else (size, FEW)))
    for name, work in _works(made, axis).items():
        before = found.get(name, [])
        expected = before[-1][1] * (size / before[-1][0]) ** 2 if before else 0.0
        skipped = bool(found) and name not in found
        if (
            only in name
            and not skipped
            and min(expected, (before[-1][1] * size / before[-1][0]) * 2 if before else 0) < LONGEST
        ):
            seconds, megabytes = _apart(work)
            click.echo(f"{size:,} {axis}, {name}: {seconds:.2f} s, {megabytes:.1f} MB", err=True)
            yield name, seconds, megabytes


def _apart(work: Work) -> tuple[float, float]:
    """CPU seconds and megabytes of a work in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        found: tuple[float, float] | str = ours.recv()
    except EOFError:
        found = "the process was killed"
    process.join()
    if isinstance(found, str):
        raise click.ClickException(found)
    return found


def _measured(work: Work, pipe: Connection) -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, start = _peak(), time.process_time()
        work()
        pipe.send((time.process_time() - start, max(0.0, _peak() - before)))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _peak() -> float:
    """Largest memory of this process, in megabytes."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1e3 for row in rows if row.startswith("VmHWM"))


def _made(folder: Path, pages: int, lines: int) -> Made:
    """Pages with lines of 6 x 60 pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    all_lines, readings = list[Line](), []
    for number in range(pages):
        image = folder / f"{number:05}.png"
        pixels = np.full((TALL * lines + 4, WIDE), 230, np.uint8)
        pixels[2::TALL, 4:40] = rng.integers(0, 90, (len(range(2, len(pixels), TALL)), 36))
        Image.fromarray(pixels).save(image)
        boxes = [((2, y), (62, y), (62, y + TALL - 1), (2, y + TALL - 1)) for y in range(0, TALL * lines, TALL)]
        all_lines += [
            Line(f"{image.stem}/l{i}", image, TEXT, f"w{number % 50}", f"{image}:{i}", box, (box[3], box[2]))
            for i, box in enumerate(boxes)
        ]
        characters = tuple(Character(c, 2.0 + 7 * k, 8.0 + 7 * k, 0.9) for k, c in enumerate(TEXT))
        own = (PageLine(TEXT, 0.9, characters, f"l{i}", box, (box[3], box[2])) for i, box in enumerate(boxes))
        readings.append(PageReading(image, tuple(own), (WIDE, len(pixels)), True, image))
    part = max(1, len(all_lines) // 10)
    dataset = Dataset("made", all_lines[2 * part :], all_lines[:part], all_lines[part : 2 * part], [], [])
    return Made(folder, dataset, readings)


def _works(made: Made, axis: str) -> dict[str, Work]:
    """Every work, by name; what it reads is written here."""
    folder, dataset, pages = made.folder.parent, made.dataset, made.pages
    lines = dataset.lines
    texts = [line.text for line in lines]
    out: dict[str, Work] = {}
    for kind in FORMATS:
        written = folder / f"as-{kind}"
        convert(dataset, written, kind)
        out[f"convert to {kind}"] = lambda kind=kind: convert(dataset, folder / f"again-{kind}", kind)  # type: ignore[misc]
        settings = Data(root=str(written), split="made", text="xml" if kind == "iam" else Data().text)
        out[f"read {kind}"] = lambda settings=settings: read_all(settings)  # type: ignore[misc]
    for kind, format in OUTPUTS.items():
        if kind in PAGE_FORMATS and len(pages) > 1:
            out[f"output {kind}"] = lambda format=format: [format.write([page]) for page in pages]  # type: ignore[misc]
        else:
            out[f"output {kind}"] = lambda format=format: format.write(pages)  # type: ignore[misc]
        if format.join and axis == "pages":
            parts = [folder / f"part-{kind}-{number:05}{format.suffix}" for number in range(len(pages))]
            out[f"join {kind}"] = lambda format=format, parts=parts: _joined(format, pages, parts)  # type: ignore[misc]
    for kind, marked in PAGE_FORMATS.items():
        files = sorted((folder / f"as-{kind}").glob("*.xml"))
        out[f"update {kind}"] = lambda marked=marked, files=files: [_updated(marked, file) for file in files]  # type: ignore[misc]
    predictions = Predictions(texts, np.full(len(texts), 0.9), np.zeros(len(texts)), np.ones(len(texts), bool), 1.0)
    geometry = Geometry(16, 200, None, (2, 2), 1, 0)
    return out | {
        "list a folder": lambda: files_in([folder / "as-page"]),
        "summary": lambda: summarise(dataset, lambda line, pixels: ()),
        "prepare the cache": lambda: cache.prepared(lines, geometry, str(folder / "cache")),
        "score": lambda: metrics.score(texts, texts[::-1], [line.writer for line in lines]).cer_interval(100),
        "HTML report": lambda: report_html.write(folder / "report.html", {}, predictions, lines),
        "align": lambda: [_aligned(len(page.lines)) for page in pages],
        "scan a project": lambda: _scanned(folder / "as-page"),
    }


def _joined(format: Any, pages: Sequence[PageReading], parts: Sequence[Path]) -> None:
    for page, part in zip(pages, parts, strict=True):
        part.write_bytes(format.write([page]))
    format.join(parts, parts[0].with_name(f"joined{format.suffix}"))


def _updated(format: Any, file: Path) -> bytes:
    root = xml.parse(file)
    lines: Sequence[Marked] = format.parse(file, root).lines
    format.update(root, lines)
    return xml.text(root)


def _aligned(lines: int) -> object:
    """Align a page whose lines read as they should, and differ."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdef"), 8)) for _ in range(lines)]
    logits = []
    for text in texts:
        own = np.zeros((2 * len(text) + 1, ALPHABET.classes), np.float32)
        own[:, -1] = 8
        own[1::2, -1] = 0
        own[np.arange(1, 2 * len(text), 2), ALPHABET.encode(text)] = 8
        logits.append(own)
    return transcript.align(logits, texts, " ".join(texts), ALPHABET, False)


def _scanned(folder: Path) -> object:
    from hwr.serve.project.folder import Project

    return Project(folder).pages()
