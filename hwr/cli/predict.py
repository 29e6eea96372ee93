"""The command `hwr predict`."""

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
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
from hwr.processes import rank_and_world_size
from hwr.terminal import echo, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwr.checkpoint import Checkpoint
    from hwr.config import Config
    from hwr.pages.outputs import Format
    from hwr.pages.predict import Prediction
    from hwr.pages.sources import Job


def _formats() -> list[str]:
    from hwr.pages.outputs import FORMATS

    return list(FORMATS)


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="A .safetensors, .params (Gluon) or exported .onnx file (default: $HWR_MODEL, or hwr-latin, the bundled model).",
)
@config_option
@set_option
@decoder_options
@engine_option
@click.option("--page", "pages", flag_value="page", help="Each image is a page (default: decide by the image).")
@click.option("--line", "pages", flag_value="line", help="Each image is a line (default: decide by the image).")
@click.option(
    "--segmenter",
    type=click.Choice(["rapidocr", "kraken"]),
    help="What finds the lines of pages: rapidocr (extra pages) or kraken (extra kraken) (default: rapidocr).",
)
@click.option(
    "--format",
    "kind",
    type=Names(_formats),
    help="Output format; json is one object per line (default: txt).",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Output file; for formats of whole pages, a folder (default: standard output; for pages, beside the input).",
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
    out: Path | None,
    characters: bool,
    min_confidence: float,
    workers: int | None,
    decoding: list[str],
) -> None:
    """Read line images, page photos, and the lines marked in PAGE or ALTO files.

    Prints the text of each line; JSON and TSV add the image and the confidence (0..1). The other formats are files, one per
    page: pdf (the image with the text in place, invisible, to search and copy), html (the text beside the image), hocr, page
    and alto (for PAGE or ALTO input, a copy with texts and confidences filled in).

    In a folder, reads the PAGE and ALTO files, and every image that none of them refers to. A file that can't be read is
    reported on stderr, the others are still read, and the exit status is 1. With txt, such a file leaves no line; use JSON or
    TSV to see which text belongs to which image.
    """
    from hwr.loading import default_model, settings_for
    from hwr.pages import write
    from hwr.pages.outputs import FORMATS
    from hwr.pages.sources import files_in

    kind = _kind(kind, as_json)
    if segmenter and pages == "line":
        raise Error("--segmenter finds the lines of pages, and --line says that there are none; give only one")
    format = FORMATS[kind]
    if characters and not format.holds_characters:
        names = " or ".join(name for name, other in FORMATS.items() if other.holds_characters)
        raise Error(f"--characters: the {kind} format can't hold characters; choose --format {names}")
    refuse_unused(overrides, "data.images", "data.normalise", *READING)
    write.check_folder(kind, out)
    model = default_model() if checkpoint is None else checkpoint
    loaded, settings = settings_for(model, config_path, with_engine((*overrides, *decoding), engine))
    files, others = files_in(inputs, settings.data.images)
    write.check_places(kind, out, files)
    rank, _ = rank_and_world_size()
    if others and not rank:
        echo(f"hwr: skipped {len(others)} other files in the folders ({others[0]}, …)", err=True)
    with _predictions(
        loaded, settings, files, (pages, segmenter), workers, characters or format.places_words
    ) as predictions:
        broken, unsure = _write_all(predictions, len(files), format, out, characters, min_confidence)
    if unsure:
        echo(f"hwr: left the text of {unsure} lines empty: their confidence is below --min-confidence", err=True)
    if broken:
        echo(f"hwr: {broken} of {len(files)} files could not be read, or only in part", err=True)
        sys.exit(1)


@contextmanager
def _predictions(
    loaded: "Checkpoint",
    settings: "Config",
    files: list[str],
    pages: tuple[str | None, str | None],
    workers: int | None,
    characters: bool,
) -> "Iterator[Iterator[tuple[Job, list[Prediction]]]]":
    """The predictions for the files, while workers decode the images."""
    from hwr.pages.predict import predict as run
    from hwr.pages.segment import chosen
    from hwr.pages.sources import about_lines, jobs
    from hwr.processes import pool
    from hwr.recognizer import Recognizer

    found = jobs(files, chosen(*pages), settings.data.images)
    with pool(workers, len(files)) as decoders:
        yield run(
            Recognizer(loaded, settings, lines=about_lines(files, pages[0] == "page")), found, decoders, characters
        )


def _write_all(
    predictions: "Iterator[tuple[Job, list[Prediction]]]",
    total: int,
    format: "Format",
    out: Path | None,
    characters: bool,
    min_confidence: float,
) -> tuple[int, int]:
    """Print or write predictions as they come; returns the numbers of broken files and of lines left empty."""
    from tqdm import tqdm

    from hwr.atomic import replacing
    from hwr.pages import write
    from hwr.pages.outputs.images import shown
    from hwr.pages.predict import reading_of

    rank, _ = rank_and_world_size()
    to_file = out is not None and format.rows is not None and not rank
    more = {"characters": True} if characters else {}
    broken = unsure = 0
    # No progress bar where the texts themselves go to the terminal.
    silent = True if rank or (format.rows and not to_file and sys.stdout.isatty()) else None
    with ExitStack() as stack:
        file = None
        if out is not None and to_file:
            file = stack.enter_context(open(stack.enter_context(replacing(out)), "wb"))

        def put(rows: bytes) -> None:
            if file is not None:
                file.write(rows)
            elif rows:
                echo(rows.decode().removesuffix("\n"))

        if not rank:
            put(format.header)
        bar = stack.enter_context(tqdm(desc="reading", total=total, unit="file", disable=silent))
        for job, read in predictions:
            bar.update()
            if rank:
                continue  # process 0 writes the predictions of all
            page = reading_of(job, read)
            failed = [job.error] if job.error else [line.error for line in page.lines if line.error]
            few = [x if x.confidence >= min_confidence or x.error else write.without_text(x) for x in page.lines]
            unsure += sum(a is not b for a, b in zip(few, page.lines, strict=True))
            page = replace(page, lines=tuple(few))
            if format.rows is not None:
                put(format.rows([page], **more))
            elif not job.error and (not few or any(not line.error for line in few)):
                path = write.place(out, job.source, format.suffix)
                try:
                    write.write(path, format, page, **more)
                    bar.write(visible(shown(path)), file=sys.stdout)
                except Error as error:
                    failed.append(str(error))
            broken += bool(failed)
            for reason in failed:
                echo(f"hwr: {reason}", err=True)
    return broken, unsure


def _kind(kind: str | None, as_json: bool) -> str:
    if as_json and kind not in (None, "json"):
        raise Error(f"--json and --format {kind} contradict each other; give only one")
    return "json" if as_json else kind or "txt"
