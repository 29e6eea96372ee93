"""The commands `hwr data …`."""

import json
from pathlib import Path

import click

from hwr import Error
from hwr.cli.options import Group, config_option, examples, set_option

FORMATS = ("page", "alto", "iam", "gt", "table", "auto")
_format_option = click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="auto", show_default=True, help="Of what is read."
)


@click.group(cls=Group)
def data() -> None:
    """Look at datasets, and convert them."""


@data.command()
@click.argument("path")
@_format_option
@config_option
@set_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.option("--picture", "picture_path", metavar="FILE", help="Draw the distributions (PNG).")
@examples("""
    hwr data summary exports/ --format page
    hwr data summary data/iam --config configs/iam_line_best.yaml --picture summary.png
    hwr data summary lines.tsv --json > summary.json
""")
def summary(
    path: str,
    kind: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    picture_path: str | None,
) -> None:
    """Count lines, pages, writers and characters, and list the lines that look wrong.

    Suspicious are lines without text, tiny images, images that can't be opened, the same image twice, and texts that are
    too long for the network's time steps (that of --config).
    """
    from hwr import config, data, networks
    from hwr.data.summary import picture, summarise, table
    from hwr.evaluation import report
    from hwr.images.batches import too_long

    if picture_path and not Path(picture_path).parent.is_dir():
        raise Error(f"{picture_path}: there is no folder {Path(picture_path).parent}")
    settings = config.load(config_path, [*overrides, f"data.root={json.dumps(path)}", f"data.format={kind}"])
    dataset = data.read(settings.data)
    geometry = networks.geometry(settings)
    found = summarise(dataset, lambda line, width, height: too_long(line, width, height, geometry))
    click.echo(report.to_json(found) if as_json else table(found))
    if picture_path:
        picture(found, dataset, picture_path)


@data.command()
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@_format_option
@click.option("--to", required=True, type=click.Choice(FORMATS[:-1]), help="Of what is written.")
@set_option
@examples("""
    hwr data convert exports/ data/mine --to iam
    hwr data convert data/iam iam-table --to table
    hwr data convert scans/ pages/ --format gt --to alto --set data.seed=1
""")
def convert(path: str, out: Path, kind: str, to: str, overrides: tuple[str, ...]) -> None:
    """Write a dataset in another format, into a new folder.

    Lines of pages stay on their pages in PAGE and ALTO; elsewhere each gets an image, cut out as training sees it. A table
    (metadata.jsonl, with the images in a folder, as Hugging Face's datasets reads it) has a column for the split; IAM has
    its lists; the others get lists/train.txt, val.txt and test.txt.
    """
    from hwr import config, data
    from hwr.data.convert import convert as run

    settings = config.load(None, [*overrides, f"data.root={json.dumps(path)}", f"data.format={kind}"])
    dataset = data.read(settings.data)
    for note in dataset.notes:
        click.echo(f"note: {note}", err=True)
    run(dataset, out, to)
    total = sum(len(dataset.part(part)) for part in ("train", "val", "test"))
    click.echo(f"{total} lines in {out}" + (f", {len(dataset.empty)} without text left out" if dataset.empty else ""))
