"""The commands `hwr evaluate` and `hwr export-typo`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwr import Error, bundled
from hwr.cli.options import (
    Command,
    checkpoint_option,
    config_option,
    decoder_options,
    engine_option,
    examples,
    load,
    set_option,
)
from hwr.cli.page_options import segmenters
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import echo

if TYPE_CHECKING:
    from hwr.recognizer import Recognizer


@click.command(cls=Command)
@checkpoint_option
@config_option
@set_option
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), default="test", show_default=True)
@click.option(
    "--pages",
    "pages",
    is_flag=True,
    help="Find the lines of the pages as well, and score page texts and lines; needs PAGE or ALTO.",
)
@click.option(
    "--segmenter",
    type=segmenters,
    help="With --pages: hwr (extra read or pages) or kraken (extra kraken) finds the lines (default: hwr).",
)
@decoder_options
@engine_option
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the full report as JSON (-: print it instead of the table)."
)
@click.option("--picture", "picture_path", metavar="FILE", help="Draw lines with their predictions (PNG).")
@click.option(
    "--report",
    "page_path",
    metavar="FILE",
    help="Write a web page that shows every line with its errors marked (HTML).",
)
@examples("""
    hwr evaluate --checkpoint runs/iam_line/best.safetensors --report report.html
    hwr evaluate --checkpoint models/handwriting_line8.params --set data.root=data/iam --json report.json
    hwr evaluate --checkpoint runs/iam_line/best.safetensors --lm iam.arpa --lm-weight 0.6 --length-bonus 1
    hwr evaluate --checkpoint hwr-latin --set data.root=exports/ --split all --pages --report pages.html
""")
def evaluate(
    checkpoint: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    split: str,
    pages: bool,
    segmenter: str | None,
    engine: str | None,
    json_path: str | None,
    picture_path: str | None,
    page_path: str | None,
    decoding: list[str],
) -> None:
    """Read a split and score the predictions: CER with its confidence interval, WER, loss, the worst lines.

    With --pages, lines are found as `hwr predict --page` finds them, and compared with the ground-truth lines: page CER,
    bag-of-words error, similarity, lines found, split and merged. If a page can't be read, the exit status is 1.
    """
    from hwr.evaluation import report
    from hwr.recognizer import Recognizer
    from hwr.system import json_text
    from hwr.system.atomic import check_folder_of

    written = [path for path in (json_path, picture_path, page_path) if path]
    for path in written:
        check_folder_of(path)
        if Path(path).is_dir():
            raise Error(f"{path}: is a folder; name a file")
        if written.count(path) > 1:
            raise Error(f"{path}: is named for two outputs; give each a file of its own")
    if segmenter and not pages:
        raise Error("--segmenter finds the lines of pages; give --pages as well")
    loaded, settings = load(checkpoint, config_path, (*overrides, *decoding), engine)
    model = Recognizer(loaded, settings)
    if pages:
        _pages(model, segmenter, split, checkpoint, json_path, picture_path, page_path)
        return
    from hwr.evaluation import report_html
    from hwr.evaluation.evaluate import evaluate as run

    result = run(model, split=split, checkpoint=checkpoint)
    if rank_and_world_size()[0]:
        return  # process 0 holds the results of all
    if json_path == "-":
        echo(json_text.to_json(result.to_dict()))
    else:
        echo(report.table(result.to_dict()))
        if json_path:
            json_text.write_json(json_path, result.to_dict())
    if picture_path:
        report.write_picture(picture_path, result.lines, result.predictions.texts)
    if page_path:
        history = bundled.model(checkpoint).with_name("history.csv")
        report_html.write(page_path, result.to_dict(), result.predictions, result.lines, history)


def _pages(
    model: "Recognizer",
    segmenter: str | None,
    split: str,
    checkpoint: str,
    json_path: str | None,
    picture_path: str | None,
    page_path: str | None,
) -> None:
    """Evaluate pages, and print or write the report."""
    from hwr.evaluation import page_views
    from hwr.evaluation.pages import evaluate as run
    from hwr.pages.segment import chosen
    from hwr.system import json_text

    find = chosen("page", segmenter, model)
    assert find is not None
    result = run(model, find, split=split, checkpoint=checkpoint)
    if rank_and_world_size()[0]:
        return
    found = result.to_dict()
    if json_path == "-":
        echo(json_text.to_json(found))
    else:
        echo(page_views.table(found))
        if json_path:
            json_text.write_json(json_path, found)
    if picture_path:
        page_views.write_picture(picture_path, result.pages)
    if page_path:
        page_views.write_html(page_path, result)
    for error in result.broken:
        echo(f"hwr: {error}", err=True)
    if result.broken:
        sys.exit(1)


@click.command("export-typo", cls=Command)
@checkpoint_option
@config_option
@set_option
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Split to read."
)
@decoder_options
@click.option(
    "--n-best",
    type=click.IntRange(min=1),
    metavar="K",
    help="Also write the K best hypotheses of each line, with scores.",
)
@engine_option
@click.option("--out", required=True, metavar="FOLDER", help="Output folder.")
@examples("""
    hwr export-typo --checkpoint runs/iam_line/best.safetensors --out typo
    hwr export-typo --checkpoint models/handwriting_line8.params --split test --out typo
""")
def export_typo(
    checkpoint: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    split: str,
    n_best: int | None,
    engine: str | None,
    out: str,
    decoding: list[str],
) -> None:
    """Write training data for a spelling corrector.

    validating.json has the [reference, prediction] pairs of the split, text_train.txt the training texts, one per line.
    With --n-best, validating_nbest.json has {"reference", "readings": [[text, score], …]} for each line, best reading
    first. A score is the natural logarithm of the network's probability plus the contribution of the language model.
    """
    from hwr.evaluation.export_typo import export_typo as run
    from hwr.recognizer import Recognizer

    loaded, settings = load(checkpoint, config_path, (*overrides, *decoding), engine)
    notes, paths = run(Recognizer(loaded, settings), split, out, n_best)
    for note in notes:
        echo(f"note: {note}", err=True)
    for path in paths:
        echo(path)
