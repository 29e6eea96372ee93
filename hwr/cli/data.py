"""The commands `hwr data …`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwr import Error
from hwr.cli.options import Group, Names, config_option, examples, refuse_unused, set_option
from hwr.system.terminal import counted, echo

if TYPE_CHECKING:
    from hwr.config import Config


def _formats() -> list[str]:
    from hwr.data.formats import FORMATS

    return list(FORMATS)


_format_option = click.option(
    "--format",
    "kind",
    type=Names(lambda: ["auto", *_formats()]),
    help="Format of PATH (default: data.format, normally auto).",
)


def _settings(path: str, kind: str | None, config_path: str | None, overrides: tuple[str, ...], *used: str) -> "Config":
    """The config for reading PATH. PATH replaces a config file's data.root, and --format its data.format.

    Raises:
        Error: --set names a second folder, or a format other than --format.
    """
    from hwr import config

    refuse_unused(overrides, "data", *used)
    settings = config.load(config_path, overrides)
    given = config.given(None, overrides).keys("data")
    if "root" in given:
        raise Error(f"--set: data.root is {settings.data.root} but PATH is {path}; give the dataset as PATH only")
    if kind and "format" in given and settings.data.format != kind:
        raise Error(f"--set: data.format is {settings.data.format} but --format is {kind}; give only one")
    chosen = {"root": path, **({"format": kind} if kind else {})}
    return settings.model_copy(update={"data": settings.data.model_copy(update=chosen)})


@click.group(cls=Group)
def data() -> None:
    """Summarise and convert datasets."""


@data.command()
@click.argument("path")
@_format_option
@config_option
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--picture", "picture_path", metavar="FILE", help="Plot the distributions (PNG).")
@examples("""
    hwr data summary exports/ --format page
    hwr data summary data/iam --config configs/iam_line_best.yaml --picture summary.png
    hwr data summary lines.tsv --json > summary.json
""")
def summary(
    path: str,
    kind: str | None,
    config_path: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    picture_path: str | None,
) -> None:
    """Count lines, pages, writers and characters, and list suspicious lines.

    A line is suspicious if it has no text or invisible characters, if its image is tiny, unreadable, blank, inverted or a
    duplicate, or if the network of --config would squeeze its image or has too few time steps for its text. The exit status
    is 1 if lines or pages can't be read at all.
    """
    from hwr import data, networks
    from hwr.data.summary import picture, summarise, table
    from hwr.images.check import faults
    from hwr.system.atomic import check_folder_of
    from hwr.system.json_text import to_json
    from hwr.training.finetune import with_initial_network

    if picture_path:
        check_folder_of(picture_path)
    settings = with_initial_network(_settings(path, kind, config_path, overrides, "image", "model", "train.init"))
    dataset = data.read_all(settings.data)
    geometry = networks.geometry(settings)
    found, shapes = summarise(dataset, lambda line, pixels: faults(line, pixels, geometry))
    echo(to_json(found) if as_json else table(found))
    if picture_path:
        picture(found, dataset, shapes, picture_path)
    if found["faults"]:
        sys.exit(1)


@data.command()
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@_format_option
@click.option("--to", required=True, type=Names(_formats), help="Format of OUT.")
@set_option
@examples("""
    hwr data convert exports/ data/mine --to iam
    hwr data convert data/iam iam-table --to table
    hwr data convert scans/ pages/ --format gt --to alto --set data.seed=1
""")
def convert(path: str, out: Path, kind: str | None, to: str, overrides: tuple[str, ...]) -> None:
    """Write a dataset in another format, into a new folder.

    PAGE and ALTO keep lines on their pages; the other formats get one image per line, cropped as for training. The split
    is stored as a column in a table (metadata.jsonl and a folder of images, as Hugging Face datasets reads it), as IAM's own
    lists in IAM's layout, and as lists/train.txt, val.txt and test.txt in the other formats.
    """
    from hwr import data
    from hwr.data.convert import convert as run

    settings = _settings(path, kind, None, overrides)
    dataset = data.read(settings.data)
    for note in dataset.notes:
        echo(f"note: {note}", err=True)
    for note in run(dataset, out, to):
        echo(f"note: {note}", err=True)
    total = len(dataset.lines)
    echo(
        f"{counted(total, 'line')} in {out}" + (f", {len(dataset.empty)} without text skipped" if dataset.empty else "")
    )
