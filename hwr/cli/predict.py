"""The command `hwr predict`."""

import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwr import Error
from hwr.cli.options import Command, config_option, decoder_options, engine_option, examples, set_option, with_engine
from hwr.processes import rank_and_world_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwr.checkpoint import Checkpoint
    from hwr.config import Config
    from hwr.pages.predict import Prediction
    from hwr.pages.sources import Job


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="A .safetensors of hwr, a bare Gluon .params or an exported .onnx (default: $HWR_MODEL, or hwr-latin, the bundled model).",
)
@config_option
@set_option
@decoder_options
@engine_option
@click.option("--page", "pages", is_flag=True, help="The images are pages: find their lines first (with kraken).")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["txt", "tsv", "json", "page", "alto"]),
    help="Of what is written; json is an object a line (default: txt).",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file, or a folder for page and alto (default: the screen).",
)
@click.option("--characters", is_flag=True, help="Say where each character is, and how sure (json, alto).")
@click.option(
    "--min-confidence", default=0.0, type=click.FloatRange(0, 1), help="Leave the text of less sure lines empty."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Decode images in so many threads, or processes where there are many (default: one per CPU).",
)
@examples("""
    hwr predict line.png
    hwr predict --checkpoint runs/iam_line/best.safetensors scans/ more/*.jpg --json > read.jsonl
    hwr predict exports/*.xml --format page --out read/
    hwr predict --page photo.jpg --format alto --out read/ --min-confidence 0.5
""")
def predict(
    inputs: tuple[Path, ...],
    checkpoint: str | None,
    config_path: str | None,
    overrides: tuple[str, ...],
    engine: str | None,
    pages: bool,
    kind: str | None,
    as_json: bool,
    out: Path | None,
    characters: bool,
    min_confidence: float,
    workers: int | None,
    decoding: list[str],
) -> None:
    """Read lines: images of lines, the lines that PAGE or ALTO files mark, or (--page) those of page photos.

    Prints the text of each line on a line of its own; JSON and TSV also tell whose it is and how sure (0..1). With
    --format page or alto a file for each page goes into --out: a copy of the XML that was given with the texts and
    confidences put in, or a new one.

    Of folders, PAGE and ALTO files are read, and all images except those that they mark. What can't be read is reported
    on stderr and the rest is done; then the exit status is 1, and JSON and TSV tell which text is whose.
    """
    from hwr.loading import default_model, settings_for
    from hwr.pages import write
    from hwr.pages.sources import files_in

    kind = _kind(kind, as_json)
    if characters and kind not in ("json", "alto"):
        raise Error(f"--characters: a {kind} file has no room for them; choose --format json or alto")
    write.check_folder(kind, out)
    model = default_model() if checkpoint is None else checkpoint
    loaded, settings = settings_for(model, config_path, with_engine((*overrides, *decoding), engine))
    files, others = files_in(inputs, settings.data.images)
    write.check_places(kind, out, files)
    rank, _ = rank_and_world_size()
    if others and not rank:
        click.echo(f"hwr: {len(others)} other files in the folders are not read ({others[0]}, …)", err=True)
    with _predictions(loaded, settings, files, pages, workers, characters or kind == "alto") as predictions:
        broken, unsure = _write_all(predictions, len(files), kind, out, characters, min_confidence)
    if unsure:
        click.echo(f"hwr: the text of {unsure} lines is left empty: their confidence is below the limit", err=True)
    if broken:
        click.echo(f"hwr: {broken} of {len(files)} files could not be read, or not completely", err=True)
        sys.exit(1)


@contextmanager
def _predictions(
    loaded: "Checkpoint", settings: "Config", files: list[str], pages: bool, workers: int | None, characters: bool
) -> "Iterator[Iterator[tuple[Job, list[Prediction]]]]":
    """The files' predictions, with the workers that decode their images."""
    from hwr.pages.predict import predict as run
    from hwr.pages.segment import lines_of
    from hwr.pages.sources import jobs
    from hwr.processes import pool
    from hwr.recognizer import Recognizer

    found = jobs(files, lines_of if pages else None, settings.data.images)
    with pool(workers, len(files)) as decoders:
        yield run(Recognizer(loaded, settings), found, decoders, characters)


def _write_all(
    predictions: "Iterator[tuple[Job, list[Prediction]]]",
    total: int,
    kind: str,
    out: Path | None,
    characters: bool,
    min_confidence: float,
) -> tuple[int, int]:
    """Print or write predictions as they come; returns the numbers of broken files and of lines left empty."""
    from tqdm import tqdm

    from hwr.atomic import replacing
    from hwr.pages import write

    rank, _ = rank_and_world_size()
    by_line = kind in write.BY_LINE
    to_file = out is not None and by_line and not rank
    broken = unsure = 0
    # A bar on the terminal, unless the texts themselves appear there.
    silent = True if rank or (by_line and not to_file and sys.stdout.isatty()) else None
    with ExitStack() as stack:
        file = None
        if out is not None and to_file:
            file = stack.enter_context(open(stack.enter_context(replacing(out)), "w", encoding="utf-8"))
        if kind == "tsv" and not rank:
            click.echo(write.HEADER, file)
        bar = stack.enter_context(tqdm(desc="reading", total=total, unit="file", disable=silent))
        for job, read in predictions:
            bar.update()
            if rank:
                continue  # process 0 writes what all have read
            failed = [job.error] if job.error else [p.error for p in read if p.text is None]
            few = [write.without_text(p) if p.text and p.confidence < min_confidence else p for p in read]
            unsure += sum(a is not b for a, b in zip(few, read, strict=True))
            if by_line:
                for prediction in few:
                    if prediction.text is not None:
                        click.echo(write.row(job, prediction, kind, characters), file)
            elif not job.error and (not few or any(p.text is not None for p in few)):
                assert out is not None
                try:
                    bar.write(write.shown(write.write(out, kind, job, few)), file=sys.stdout)
                except Error as error:
                    failed.append(str(error))
            broken += bool(failed)
            for reason in failed:
                click.echo(f"hwr: {reason}", err=True)
    return broken, unsure


def _kind(kind: str | None, as_json: bool) -> str:
    if as_json and kind not in (None, "json"):
        raise Error(f"--json and --format {kind} contradict each other; give one of them")
    return "json" if as_json else kind or "txt"
