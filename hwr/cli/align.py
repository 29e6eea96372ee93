"""The command `hwr align`."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwr import Error
from hwr.cli.options import (
    Command,
    Names,
    config_option,
    engine_option,
    examples,
    refuse_unused,
    set_option,
    with_engine,
)
from hwr.cli.page_options import formats, model_option, say_what_is_read, segmenter_option
from hwr.system.terminal import counted, echo, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwr.pages.align import Results
    from hwr.pages.sources import Job
    from hwr.recognizer import Recognizer

_TABLE = "table"

# How many doubtful lines of a page are named on the screen.
_NAMED = 5


def _formats() -> list[str]:
    return [_TABLE, *formats(whole_pages=True)]


@click.command(cls=Command)
@click.argument("pages", type=click.Path(path_type=Path))
@click.argument("texts", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Output folder.")
@click.option(
    "--format",
    "kind",
    type=Names(_formats),
    default="page",
    show_default=True,
    help="Output format; table: line images with metadata.jsonl, to train on.",
)
@click.option(
    "--min-score",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Leave out the text of lines with a lower score (default: 0, keep all).",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write what was aligned, with all scores, as JSON (-: print it instead of the table).",
)
@segmenter_option
@model_option
@config_option
@set_option
@engine_option
@examples("""
    hwr align scans/ transcripts/ --out aligned/
    hwr align exports/page/ transcripts/ --out lines/ --format table --min-score 0.75
    hwr align letter.jpg letter.txt --out read/ --format pdf --json scores.json
""")
def align(
    pages: Path,
    texts: Path,
    out: Path,
    kind: str,
    min_score: float,
    json_path: str | None,
    segmenter: str | None,
    checkpoint: str | None,
    config_path: str | None,
    overrides: tuple[str, ...],
    engine: str | None,
) -> None:
    """Give the lines of pages the text of their transcripts, whose line breaks are missing or wrong.

    PAGES is an image, a PDF, a PAGE or ALTO file, or a folder of these; the lines of images are found, those of XML are taken
    as marked. TEXTS is a folder with a text for each page, NAME.txt for NAME.jpg and NAME.xml, BOOK-0003.txt for the third
    page of BOOK.pdf; or the text of a single page.

    Text that is not on the page is left out, and lines that are not in the transcript get no text. Every line has a score
    (0..1), written as its confidence. Lines below 0.75 are listed as doubtful. If a page can't be aligned, the others are, and
    the exit status is 1. In all formats, a run that was interrupted continues: finished pages are aligned again only if they,
    their texts, the model or the options have changed.
    """
    from hwr import bundled
    from hwr.loading import default_model, settings_for
    from hwr.pages import align as aligning
    from hwr.pages.journal import fingerprint
    from hwr.pages.outputs import FORMATS
    from hwr.pages.segment import chosen, network
    from hwr.pages.sources import about_lines, files_in, jobs
    from hwr.pages.write import places
    from hwr.recognizer import Recognizer
    from hwr.system.atomic import check_folder_of

    if json_path:
        check_folder_of(json_path)
    refuse_unused(overrides, "data.images", "data.normalise", "image", "model", "engine", "evaluate.batch_size")
    model = default_model() if checkpoint is None else checkpoint
    greedy = [*with_engine(overrides, engine), "decode.name=greedy"]
    loaded, settings = settings_for(model, config_path, greedy, decodes=False)
    found = files_in([pages], settings.data.images, out)
    say_what_is_read(found)
    files = found.files
    paths, unused = aligning.transcripts(texts, files)
    texts_of = dict(zip(files, paths, strict=True))
    if unused:
        echo(f"hwr: {counted(len(unused), 'text belongs', 'texts belong')} to no page ({some(unused)})", err=True)
    recognizer = Recognizer(loaded, settings, lines=about_lines(files, True))
    read = partial(jobs, segment=chosen("page", segmenter, recognizer), images=settings.data.images)
    model = fingerprint(bundled.model(model), settings, kind, min_score, segmenter, network("page", segmenter))
    with contextlib.ExitStack() as stack:
        if kind == _TABLE:
            results = stack.enter_context(aligning.table_of_lines(out, texts_of, model, min_score))
        else:
            where = places(kind, f"{out}/", [pages], files)
            results = aligning.into_folder(where, FORMATS[kind], texts_of, model, min_score)
        done = _align(recognizer, read, texts_of, results, quiet=json_path == "-")
    _summarise(done, len(results[0]), json_path, min_score)
    if broken := sum(bool(page["errors"]) for page in done):
        echo(f"hwr: {broken} of {len(files)} pages could not be aligned, or only in part", err=True)
        sys.exit(1)


def _align(
    recognizer: "Recognizer",
    read: "Callable[[list[str]], Iterator[Job]]",
    texts: "dict[str, Path | None]",
    results: "Results",
    quiet: bool,
) -> list[dict[str, Any]]:
    """Align pages, write them, and print a row for each, unless `quiet`. Returns all, see `AlignedPage.to_dict`."""
    from tqdm import tqdm

    from hwr.pages import align

    before, add = results
    new = [file for file in texts if file not in before]
    pages, done = align.align(recognizer, read(new), [texts[file] for file in new]), []
    for file in tqdm(texts, desc="aligning", unit="page", disable=None):
        if (found := before.get(file)) is None:
            page = next(pages)
            found = page.to_dict()
            try:
                if found["lines"]:
                    add(page)
            except Error as error:
                found["errors"].append(str(error))
        for reason in found["errors"]:
            echo(f"hwr: {reason}", err=True)
        if found["lines"] and not quiet:
            tqdm.write(_row(found), file=sys.stdout)
        done.append(found)
    return done


def _row(page: dict[str, Any]) -> str:
    """A page in a line of text."""
    from hwr.decoding.transcript import DOUBTFUL
    from hwr.system.terminal import visible

    lines, skipped = page["lines"], sum(map(len, page["skipped"]))
    doubtful = [line for line in lines if line["doubtful"]]
    parts = [f"{sum(bool(line['text']) for line in lines)} of {len(lines)} lines have text"]
    if doubtful:
        named = ", ".join(f"{line['id']} ({line['score']:.2f})" for line in doubtful[:_NAMED])
        parts.append(f"{len(doubtful)} doubtful: {named}" + (", …" if doubtful[_NAMED:] else ""))
    if moved := sum(line["moved"] for line in lines):
        parts.append(f"{moved} in another order than the transcript")
    if skipped:
        parts.append(f"{skipped} of {page['characters']} characters of the transcript are on no line")
    if 2 * sum(line["score"] >= DOUBTFUL for line in lines) < len(lines):
        parts.append("does this transcript belong to this page?")
    return visible(f"{page['page']}: {'; '.join(parts)}")


def _summarise(pages: list[dict[str, Any]], earlier: int, json_path: str | None, min_score: float) -> None:
    """Print the totals, and write the report."""
    from hwr.system.json_text import to_json, write_json

    lines = [line for page in pages for line in page["lines"]]
    texts = [line for line in lines if line["text"]]
    few = sum(line["score"] < min_score for line in texts)
    totals = {
        "pages": len(pages),
        "lines": len(lines),
        "with_text": len(texts),
        "doubtful": sum(line["doubtful"] for line in texts),
        "below_min_score": few,
    }
    if json_path:
        found = {**totals, "min_score": min_score, "details": pages}
        if json_path == "-":
            echo(to_json(found))
            return
        write_json(json_path, found)
    before = f" ({earlier:,} of them before)" if earlier else ""
    echo(
        f"{counted(len(pages), 'page')}{before}: {len(texts)} of {len(lines)} lines have text, {totals['doubtful']} of them doubtful"
        + (f"; {few} below --min-score were left out" if few else "")
    )
