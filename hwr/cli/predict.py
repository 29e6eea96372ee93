"""The command `hwr predict`."""

import sys
from contextlib import closing
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
from hwr.system.terminal import counted, echo, unicode, visible

if TYPE_CHECKING:
    from hwr.pages.archive import Summary
    from hwr.pages.page_reading import PageReading
    from hwr.pages.plan import Plan


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
@click.option(
    "--again",
    is_flag=True,
    help="Also read pages that an earlier run into --out has read; results that you have corrected are overwritten.",
)
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
    TSV to see which text belongs to which image. A run that writes files continues where it was interrupted.
    """
    from hwr import bundled
    from hwr.loading import default_model, settings_for
    from hwr.pages import archive
    from hwr.pages.plan import plan
    from hwr.pages.sources import about_lines
    from hwr.recognizer import Recognizer
    from hwr.system.processes import pool

    if as_json and kind not in (None, "json"):
        raise Error(f"--json and --format {kind} contradict each other; give only one")
    refuse_unused(overrides, "data.images", "data.normalise", *READING)
    model = default_model() if checkpoint is None else checkpoint
    loaded, settings = settings_for(model, config_path, with_engine((*overrides, *decoding), engine))
    planned = plan(
        inputs,
        bundled.model(model),
        settings,
        out=out,
        format="json" if as_json else kind,
        kind=pages,
        segmenter=segmenter,
        characters=characters,
        min_confidence=min_confidence,
        again=again,
        part=part,
    )
    first = not rank_and_world_size()[0]
    if first:
        say_what_is_read(planned.found)
    recognizer = Recognizer(loaded, settings, lines=about_lines(planned.files, pages == "page"))
    with pool(workers, len(planned.files)) as decoders, closing(_Screen(planned)) as screen:
        summary = archive.read(recognizer, planned, screen, decoders)
    if first:
        _report(summary, table=out is not None or planned.format.rows is None)


class _Screen:
    """Prints rows and messages, and shows a progress bar where the texts themselves do not go to the terminal."""

    def __init__(self, plan: "Plan") -> None:
        from tqdm import tqdm

        rank, size = rank_and_world_size()
        streams = plan.format.rows is not None and plan.where.folder is None
        self._one_file = plan.where.file is not None
        self._prints = streams and not self._one_file
        total = len(plan.files) if streams else len(plan.files[rank::size])
        quiet = True if rank or (self._prints and sys.stdout.isatty()) else None
        self._bar = tqdm(desc="reading", total=total, unit="page", disable=quiet)
        self._broken = 0

    def row(self, rows: bytes) -> None:
        if rows:
            echo(rows.decode().removesuffix("\n"))

    def page(self, page: "PageReading", errors: list[str], path: Path | None) -> None:
        self._bar.total = max(self._bar.total or 0, self._bar.n + 1)  # a TIFF counts as one page until it is opened
        self._bar.update()
        if errors:
            self._broken += 1
            self._bar.set_postfix(broken=self._broken)
        if self._prints:
            for reason in errors:
                echo(f"hwr: {reason}", err=True)
        if path is not None and not self._one_file:
            self._bar.write(visible(unicode(str(path))), file=sys.stdout)

    def kept(self) -> None:
        if not self._bar.disable:
            self._bar.initial += 1  # it took no time
        self._bar.update()

    def say(self, text: str) -> None:
        self._bar.write(f"hwr: {text}", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def _report(summary: "Summary", table: bool) -> None:
    """Print what was read and what could not be read, and end the program with status 1 if there is such."""
    if table:
        earlier = f" ({summary.earlier:,} of them before)" if summary.earlier else ""
        sure = f", mean confidence {summary.mean_confidence:.2f}" if summary.lines else ""
        echo(f"hwr: {counted(summary.pages, 'page')}{earlier}, {counted(summary.lines, 'line')}{sure}", err=True)
    if summary.unsure:
        echo(
            f"hwr: left the text of {counted(summary.unsure, 'line')} empty: confidence below --min-confidence",
            err=True,
        )
    if summary.broken:
        end = ":" if table else ""
        echo(
            f"hwr: {len(summary.broken):,} of {counted(summary.pages, 'page')} could not be read, or only in part{end}",
            err=True,
        )
        for source, reasons in summary.broken if table else ():
            rest = f" (and {counted(len(reasons) - 1, 'more line')})" if reasons[1:] else ""
            echo(f"  {source}: {reasons[0].removeprefix(f'{source}: ')}{rest}", err=True)
        sys.exit(1)
