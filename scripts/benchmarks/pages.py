"""Benchmark line finders on pages with marked lines."""

import functools
import importlib.util
import random
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import REPOSITORY, conditions, json_option, write
from benchmarks.journal import Journal, digest
from benchmarks.marked_pages import Marked, counts, pages, rounded
from hwr import Error, bundled
from hwr.evaluation import page_metrics
from hwr.evaluation.page_metrics import PageScore, ScoredLine
from hwr.images import load
from hwr.pages import detector, kraken, segment
from hwr.pages.predict import read_targets
from hwr.pages.sources import Target
from hwr.recognizer import Recognizer
from hwr.recognizer import load as load_model

Finder = Callable[[Path, np.ndarray], list[Target]]

# In the journal, what was read with the ground-truth lines.
GIVEN = "given"


@click.command("pages")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", metavar="FILE", help="The model that reads (default: the bundled model).")
@click.option(
    "--finder",
    "names",
    multiple=True,
    type=click.Choice(["hwr", "rapidocr", "kraken"]),
    help="Line finders (repeatable; default: hwr, and rapidocr and kraken if they are installed).",
)
@click.option(
    "--sample", metavar="N", type=click.IntRange(min=1), help="Take N random pages of each source (default: all)."
)
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--partial", is_flag=True, help="Text may be unmarked on the pages of PAGE and ALTO; JSON files say so.")
@click.option(
    "--journal",
    "journal_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add each page measured to FILE, and do not measure pages again that are there (same model, finder and version).",
)
@json_option
def compare_finders(
    folders: tuple[Path, ...],
    checkpoint: str | None,
    names: tuple[str, ...],
    sample: int | None,
    seed: int,
    partial: bool,
    journal_path: Path | None,
    json_path: Path | None,
) -> None:
    """Page CER with the lines of several finders and with the ground-truth lines, lines found, seconds per page.

    FOLDERS hold PAGE or ALTO with page images, or folders of JSON files (size, lines with polygon and text, boxes of
    unmarked text) beside images of the same name. Each folder below is a source. Found lines that lie in boxes of unmarked
    text are not counted; on pages marked in part, neither are those that touch no marked line.
    """
    about = conditions()
    try:
        model = load_model(checkpoint)
        chosen = defaultdict(list)
        for page in (page for folder in folders for page in pages(folder, partial)):
            chosen[page.source].append(page)
        journal = Journal(journal_path)
        found = {}
        for source, own in chosen.items():
            drawn = sorted(random.Random(seed).sample(range(len(own)), min(sample or len(own), len(own))))
            bench = functools.partial(_page, model, journal, digest(bundled.model(checkpoint or bundled.MODEL)))
            found[source] = _measured(bench, [own[i] for i in drawn], names or _installed())
    except Error as error:
        raise click.ClickException(str(error)) from None
    write(json_path, {"conditions": about, "sources": found})


def _installed() -> list[str]:
    return ["hwr", *(name for name in ("rapidocr", "kraken") if importlib.util.find_spec(name))]


Measured = tuple[list[ScoredLine], np.ndarray]
"""The lines of a page that count, with the text read; and seconds (2, 2): finding and reading; on the wall and of all CPUs."""


def _page(model: Recognizer, journal: Journal, weights: str, name: str, page: Marked) -> Measured:
    """Find and read the lines of a page, unless the journal has them."""
    key = (name, VERSIONS[name](), weights, str(page.image.resolve()), str(page.partial))
    if (kept := journal.get(*key)) is None:
        pixels = load.read(page.image, upright=False)
        find = FINDERS[name](model, page)
        start = _clocks()
        targets = find(page.image, pixels)
        middle = _clocks()
        read = read_targets(model, pixels, targets)
        seconds = np.array([middle - start, _clocks() - middle])
        lines = [(p.target.region, p.text or "") for p in read if name == GIVEN or counts(page, p.target)]
        kept = {"lines": lines, "seconds": seconds.round(4).tolist()}
        journal.add(kept, *key)
    return [ScoredLine(rounded(region), text) for region, text in kept["lines"]], np.array(kept["seconds"])


def _measured(
    bench: Callable[[str, Marked], Measured], chosen: list[Marked], names: tuple[str, ...] | list[str]
) -> dict[str, Any]:
    """Measure the finders on the pages of a source, and print their rows."""
    truths = [page.lines for page in chosen]
    best = page_metrics.score(truths, [bench(GIVEN, page)[0] for page in chosen])
    lines = sum(map(len, truths))
    click.echo(
        f"{chosen[0].source}: {len(chosen)} pages, {lines} lines; with their lines: page CER {100 * best.cer:.1f} %"
    )
    out: dict[str, Any] = {"pages": len(chosen), "lines": lines, "given": best.cer}
    for name in names:
        found = [bench(name, page) for page in chosen]
        score = page_metrics.score(truths, [lines for lines, _ in found])
        out[name] = _row(name, score, best, np.mean([seconds for _, seconds in found], axis=0))
    return out


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of all CPUs in this process, since some moment."""
    return np.array([time.perf_counter(), time.process_time()])


def _row(name: str, score: PageScore, best: PageScore, seconds: np.ndarray) -> dict[str, Any]:
    """Print a finder's row. `seconds` a page: finding and reading, each on the wall and of all CPUs."""
    lines, (finding, reading) = score.all_lines, seconds.tolist()
    click.echo(
        f"{name:>12} CER {100 * score.cer:5.1f} % ({score.cer / best.cer:4.2f} times), in the ground truth's order "
        f"{100 * score.in_order.rate:5.1f} % ({score.in_order.rate / best.cer:4.2f} times), bag of words "
        f"{100 * score.bag.rate:5.1f} %; found {lines.found}, split {lines.split}, merged {lines.merged}, missed "
        f"{lines.missed}, extra {lines.extra}; {finding[0]:.2f} + {reading[0]:.2f} s a page "
        f"({finding[1]:.2f} + {reading[1]:.2f} CPU seconds)"
    )
    return {
        "cer": score.cer,
        "ratio": score.cer / best.cer,
        "cer_in_order": score.in_order.rate,
        "bag_of_words": score.bag.rate,
        "similarity": score.similarity,
        **lines._asdict(),
        "seconds_finding": finding,
        "seconds_reading": reading,
    }


# --- Finders ---


def _given(model: Recognizer, page: Marked) -> Finder:
    return lambda path, pixels: [Target(path, line.region) for line in page.lines]


def _ours(model: Recognizer, page: Marked) -> Finder:
    _warm()
    return lambda path, pixels: segment.targets_of(pixels, path, model)


@functools.cache
def _warm() -> None:
    """Load the text detector, so that the first page's time is as the others'."""
    detector.text_map(np.full((64, 64), 255, np.uint8))


def _kraken(model: Recognizer, page: Marked) -> Finder:
    return lambda path, pixels: kraken.lines_of(path)


def _rapidocr(model: Recognizer, page: Marked) -> Finder:
    """rapidocr's own boxes, in its own order, at its default size."""
    engine = _rapidocr_engine()

    def find(path: Path, pixels: np.ndarray) -> list[Target]:
        found = engine(np.dstack([pixels] * 3), use_det=True, use_cls=False, use_rec=False).boxes
        boxes = [] if found is None else [rounded(box.tolist()) for box in found]
        return [Target(path, box, id=f"line{number}", upright=True) for number, box in enumerate(boxes, 1)]

    return find


@functools.cache
def _rapidocr_engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "warning"})


FINDERS: dict[str, Callable[[Recognizer, Marked], Finder]] = {
    GIVEN: _given,
    "hwr": _ours,
    "rapidocr": _rapidocr,
    "kraken": _kraken,
}

# The modules that find lines.
OURS = ("columns", "contrast", "deskew", "detector", "finder", "fragments", "linking", "order", "outlines", "segment")

# What a finder's lines depend on; results of another version are measured again.
VERSIONS: dict[str, Callable[[], str]] = {
    GIVEN: lambda: "",
    "hwr": functools.cache(
        lambda: digest(bundled.line_detector(), *(REPOSITORY / "hwr/pages" / f"{name}.py" for name in OURS))
    ),
    "rapidocr": lambda: metadata.version("rapidocr"),
    "kraken": lambda: metadata.version("kraken"),
}
