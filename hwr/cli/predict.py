"""The command `hwr predict`."""

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwr import Error
from hwr.cli.options import (
    READING,
    Command,
    Names,
    config_option,
    decoder_options,
    engine_option,
    examples,
    refuse_unused,
    set_option,
    with_engine,
)
from hwr.cli.page_options import formats, model_option, say_what_is_read, segmenter_option
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import echo, visible

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from hwr.pages.archive import Summary, Task
    from hwr.pages.page_reading import PageReading
    from hwr.recognizer import Recognizer


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@config_option
@set_option
@decoder_options
@engine_option
@click.option("--page", "pages", flag_value="page", help="Each image is a page (default: decide by the image).")
@click.option("--line", "pages", flag_value="line", help="Each image is a line (default: decide by the image).")
@segmenter_option
@click.option(
    "--format",
    "kind",
    type=Names(formats),
    help="Output format; json is one object per line (default: that of the suffix of a file in --out, or txt).",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option(
    "--out",
    metavar="PATH",
    help="A file for all pages (book.pdf, read.jsonl), or a folder with a file for each (default: standard output; "
    "for formats of whole pages, a file beside each input).",
)
@click.option("--again", is_flag=True, help="Also read pages that an earlier run into --out has read.")
@click.option(
    "--part",
    metavar="K/N",
    help="Read every Nth file, beginning with the Kth: one of N processes or machines. One file in --out is refused.",
)
@click.option(
    "--characters", is_flag=True, help="Add the position and confidence of each character (json, alto, hocr)."
)
@click.option(
    "--min-confidence",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Leave the text of lines below this confidence empty.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads (for many images: processes) that decode images (default: one per CPU core).",
)
@examples("""
    hwr predict line.png
    hwr predict --checkpoint runs/iam_line/best.safetensors scans/ more/*.jpg --json > read.jsonl
    hwr predict exports/*.xml --format page --out read/
    hwr predict photo.jpg --format pdf
    hwr predict scans/ --format alto --out read/ --min-confidence 0.5
    hwr predict book.pdf --out searchable.pdf
""")
def predict(
    inputs: tuple[Path, ...],
    checkpoint: str | None,
    config_path: str | None,
    overrides: tuple[str, ...],
    engine: str | None,
    pages: str | None,
    segmenter: str | None,
    kind: str | None,
    as_json: bool,
    out: str | None,
    again: bool,
    part: str | None,
    characters: bool,
    min_confidence: float,
    workers: int | None,
    decoding: list[str],
) -> None:
    """Read line images, page photos, and the lines marked in PAGE or ALTO files.

    Prints the text of each line; JSON and TSV add the image and the confidence (0..1). The other formats are files: pdf (the
    image with the text in place, invisible, to search and copy), html (the text beside the image), hocr, page and alto (for
    PAGE or ALTO input, a copy with texts and confidences filled in).

    In a folder, reads the PAGE and ALTO files, the PDFs, and every image that no XML refers to. A page that can't be read is
    reported on stderr, the others are still read, and the exit status is 1. With txt, such a page leaves no line; use JSON or
    TSV to see which text belongs to which image. A run into --out that was interrupted continues where it stopped.
    """
    from hwr import bundled
    from hwr.loading import default_model, settings_for
    from hwr.pages import write
    from hwr.pages.archive import Task
    from hwr.pages.journal import Journal, fingerprint
    from hwr.pages.outputs import FORMATS
    from hwr.pages.segment import chosen
    from hwr.pages.sources import about_lines, files_in
    from hwr.recognizer import Recognizer
    from hwr.system.processes import pool

    kind = _kind(kind, as_json, out)
    if segmenter and pages == "line":
        raise Error("--segmenter finds the lines of pages, and --line says that there are none; give only one")
    format = FORMATS[kind]
    if characters and not format.holds_characters:
        names = " or ".join(name for name, other in FORMATS.items() if other.holds_characters)
        raise Error(f"--characters: the {kind} format can't hold characters; choose --format {names}")
    if again and out is None:
        raise Error("--again applies to results in --out, which is not given")
    refuse_unused(overrides, "data.images", "data.normalise", *READING)
    model = default_model() if checkpoint is None else checkpoint
    loaded, settings = settings_for(model, config_path, with_engine((*overrides, *decoding), engine))
    found = files_in(inputs, settings.data.images, None if out is None else Path(out))
    files = _part(found.files, part)
    where = write.places(kind, out, inputs, found.files)
    if part is not None and where.file is not None:
        raise Error("--part writes its own share; name a folder with --out")
    write.check(where, format, found.files)  # also those of the other parts
    write.check_existing(where, format, files, partial(Journal, where.folder, "", again) if where.folder else None)
    rank, _ = rank_and_world_size()
    if not rank:
        say_what_is_read(found._replace(files=files))
    reads = ""
    if out is not None:
        reads = fingerprint(bundled.model(model), settings, kind, characters, min_confidence, pages, segmenter)
    recognizer = Recognizer(loaded, settings, lines=about_lines(files, pages == "page"))
    find = chosen(pages, segmenter, recognizer)
    task = Task(files, find, settings.data.images, format, where, characters, min_confidence, reads, again)
    with pool(workers, len(files)) as decoders:
        summary = _read(recognizer, task, decoders)
    if not rank:
        _report(summary, table=out is not None or format.rows is None)


def _part(files: list[str], part: str | None) -> list[str]:
    """The files of --part K/N."""
    if part is None:
        return files
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise Error(f"--part: {part!r} is not K/N with K from 1 to N, such as 2/10")
    chosen = files[int(found[1]) - 1 :: int(found[2])]
    if not chosen:
        raise Error(f"--part {part}: there are only {len(files)} files")
    return chosen


def _read(recognizer: "Recognizer", task: "Task", pool: "Executor") -> "Summary":
    """Read everything, with a progress bar where the texts themselves do not go to the terminal."""
    from tqdm import tqdm

    from hwr.pages import archive
    from hwr.pages.outputs.images import shown

    rank, size = rank_and_world_size()
    rows = task.format.rows is not None
    streams = rows and task.where.folder is None
    total = len(task.files) if streams else len(task.files[rank::size])
    quiet = True if rank or (streams and task.where.file is None and sys.stdout.isatty()) else None
    broken = 0
    with tqdm(desc="reading", total=total, unit="page", disable=quiet) as bar:

        def told(page: "PageReading", errors: list[str], path: Path | None) -> None:
            nonlocal broken
            bar.total = max(bar.total or 0, bar.n + 1)  # a TIFF counts as one page until it is opened
            bar.update()
            if errors:
                broken += 1
                bar.set_postfix(broken=broken)
            if streams and task.where.file is None:
                for reason in errors:
                    echo(f"hwr: {reason}", err=True)
            if path is not None and task.where.file is None:
                bar.write(visible(shown(path)), file=sys.stdout)

        def kept() -> None:
            if not bar.disable:
                bar.initial += 1  # it took no time
            bar.update()

        if streams and task.where.file is None:
            put = lambda found: echo(found.decode().removesuffix("\n")) if found else None  # noqa: E731
            return archive.rows(recognizer, task, put, told, pool)
        if streams:
            say = lambda text: bar.write(f"hwr: {text}", file=sys.stderr)  # noqa: E731
            return archive.one_file(recognizer, task, told, say, pool)
        return archive.each_page(recognizer, task, told, kept, pool)


def _report(summary: "Summary", table: bool) -> None:
    """Print what was read and what could not be read, and end the program with status 1 if there is such."""
    if table:
        earlier = f" ({summary.earlier:,} of them before)" if summary.earlier else ""
        sure = f", mean confidence {summary.mean_confidence:.2f}" if summary.lines else ""
        echo(f"hwr: {_count(summary.pages, 'page')}{earlier}, {_count(summary.lines, 'line')}{sure}", err=True)
    if summary.unsure:
        echo(
            f"hwr: left the text of {summary.unsure} lines empty: their confidence is below --min-confidence", err=True
        )
    if summary.broken:
        end = ":" if table else ""
        echo(f"hwr: {len(summary.broken)} of {summary.pages} pages could not be read, or only in part{end}", err=True)
        for source, reasons in summary.broken if table else ():
            rest = f" (and {len(reasons) - 1} more lines)" if reasons[1:] else ""
            echo(f"  {source}: {reasons[0].removeprefix(f'{source}: ')}{rest}", err=True)
        sys.exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _kind(kind: str | None, as_json: bool, out: str | None) -> str:
    """The format: as given, or that of the file's suffix."""
    from hwr.pages.outputs import of_suffix
    from hwr.pages.write import is_folder

    if as_json and kind not in (None, "json"):
        raise Error(f"--json and --format {kind} contradict each other; give only one")
    if as_json or kind is not None or out is None or is_folder(out):
        return "json" if as_json else kind or "txt"
    fitting = of_suffix(Path(out))
    if fitting[1:]:
        raise Error(f"--out {out}: {Path(out).suffix.lower()} may be {' or '.join(fitting)}; choose with --format")
    return fitting[0] if fitting else "txt"
