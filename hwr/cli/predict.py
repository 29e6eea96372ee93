"""The command `hwr predict`."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwr import Error
from hwr.cli.options import Command, config_option, decoder_options, engine_option, examples, set_option, with_engine
from hwr.processes import rank_and_world_size

if TYPE_CHECKING:
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
    from tqdm import tqdm

    from hwr.atomic import replacing
    from hwr.loading import default_model, settings_for
    from hwr.pages.predict import predict as run
    from hwr.pages.segment import lines_of
    from hwr.pages.sources import files_in, jobs
    from hwr.pages.write import place, write
    from hwr.processes import pool
    from hwr.recognizer import Recognizer

    kind = _kind(kind, as_json)
    if characters and kind not in ("json", "alto"):
        raise Error(f"--characters: a {kind} file has no room for them; choose --format json or alto")
    rank, _ = rank_and_world_size()
    _check(kind, out)
    model = default_model() if checkpoint is None else checkpoint
    loaded, settings = settings_for(model, config_path, with_engine((*overrides, *decoding), engine))
    files, others = files_in(inputs, settings.data.images)
    if out is not None and kind in ("page", "alto"):
        paths = [Path(file) for file in files]
        places = [place(out, path) for path in paths]
        _check_places(paths, places)
        _check_beside(paths, places)
    elif out is not None and out.exists():  # what is not there is not read either
        _check_places([Path(file) for file in files], [out])
    if others and not rank:
        click.echo(f"hwr: {len(others)} other files in the folders are not read ({others[0]}, …)", err=True)
    to_file = out is not None and kind in ("txt", "tsv", "json") and not rank
    broken = unsure = 0
    # A bar on the terminal, unless the texts themselves appear there.
    silent = True if rank or (not to_file and kind in ("txt", "tsv", "json") and sys.stdout.isatty()) else None
    with ExitStack() as stack:
        predictions = run(
            Recognizer(loaded, settings),
            jobs(files, lines_of if pages else None, settings.data.images),
            stack.enter_context(pool(workers, len(files))),
            characters or kind == "alto",
        )
        file = None
        if out is not None and to_file:
            file = stack.enter_context(open(stack.enter_context(replacing(out)), "w", encoding="utf-8"))
        if kind == "tsv" and not rank:
            click.echo("image\tline\ttext\tconfidence", file)
        with tqdm(desc="reading", total=len(files), unit="file", disable=silent) as bar:
            for job, read in predictions:
                bar.update()
                if rank:
                    continue  # process 0 tells what all have read
                failed = [job.error] if job.error else [p.error for p in read if p.text is None]
                broken += bool(failed)
                for error in failed:
                    click.echo(f"hwr: {error}", err=True)
                few = [_without_text(p) if p.text and p.confidence < min_confidence else p for p in read]
                unsure += sum(a is not b for a, b in zip(few, read, strict=True))
                if kind in ("page", "alto"):
                    if not job.error and (not few or any(p.text is not None for p in few)):
                        assert out is not None
                        try:
                            bar.write(_shown(write(out, kind, job, few)), file=sys.stdout)
                        except Error as error:
                            broken += not failed
                            click.echo(f"hwr: {error}", err=True)
                    continue
                for prediction in few:
                    if prediction.text is not None:
                        click.echo(_line(job, prediction, kind, characters), file)
    if unsure:
        click.echo(f"hwr: the text of {unsure} lines is left empty, for they were read with less confidence", err=True)
    if broken:
        click.echo(f"hwr: {broken} of {len(files)} files could not be read, or not whole", err=True)
        sys.exit(1)


def _kind(kind: str | None, as_json: bool) -> str:
    if as_json and kind not in (None, "json"):
        raise Error(f"--json and --format {kind} contradict each other; give one of them")
    return "json" if as_json else kind or "txt"


def _check(kind: str, out: Path | None) -> None:
    if kind in ("page", "alto"):
        if out is None:
            raise Error(f"--format {kind} writes a file for each page: name a folder with --out")
        out.mkdir(parents=True, exist_ok=True)
    elif out is not None and not out.parent.is_dir():
        raise Error(f"{out}: there is no folder {out.parent}")


def _check_places(files: list[Path], places: list[Path]) -> None:
    """Refuse to write over what is read, or one page over another."""
    read = {path.resolve() for path in files}
    of: dict[Path, Path] = {}
    for i, path in enumerate(places):
        if path.resolve() in read:
            raise Error(f"--out: {path} would be written over what is read")
        if of.setdefault(path.resolve(), files[i]) != files[i]:
            raise Error(f"--out: {of[path.resolve()]} and {files[i]} would both become {path}")


def _check_beside(files: list[Path], places: list[Path]) -> None:
    """Refuse to write over the XML that lies beside a page's image, for somebody may have made it by hand."""
    for file, path in zip(files, places, strict=True):
        if path.exists() and path.parent.resolve() == file.parent.resolve():
            raise Error(f"--out: {path} is there already, beside {file}, and would be replaced; name another folder")


def _without_text(prediction: "Prediction") -> "Prediction":
    from dataclasses import replace

    return replace(prediction, text="", characters=())


def _shown(path: Path) -> str:
    """A path as text; what is not UTF-8 in it is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def _line(job: "Job", prediction: "Prediction", kind: str, characters: bool) -> str:
    """What is told of a line."""
    name = _shown(job.source)
    if kind == "txt":
        return prediction.text or ""
    if kind == "tsv":
        cells = (name, prediction.target.id, prediction.text or "", f"{prediction.confidence:.4f}")
        return "\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells)
    found: dict[str, Any] = {"image": name, "text": prediction.text, "confidence": prediction.confidence}
    if prediction.target.id:
        found["line"] = prediction.target.id
    if characters:
        found["characters"] = [list(character) for character in prediction.characters]
    return json.dumps(found, ensure_ascii=False)
