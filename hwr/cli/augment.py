"""The command `hwr augment`."""

import click

from hwr.cli.options import Command, config_option, examples, refuse_unused, set_option
from hwr.system.terminal import echo


@click.command(cls=Command)
@config_option
@set_option
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="train", show_default=True)
@click.option("--out", required=True, metavar="FILE", help="Image to write (PNG).")
@click.option(
    "--lines", default=6, show_default=True, type=click.IntRange(min=1), help="Number of lines, spread over the split."
)
@click.option("--times", default=5, show_default=True, type=click.IntRange(min=1), help="Augmented versions per line.")
@examples("""
    hwr augment --config configs/lines_cpu.yaml --set data.root=/data/mine --out sheet.png
    hwr augment --config configs/iam_line.yaml --set augment.shear=0.3 --out sheet.png
""")
def augment(config_path: str | None, overrides: tuple[str, ...], split: str, out: str, lines: int, times: int) -> None:
    """Draw lines as the network sees them, each followed by augmented versions."""
    from hwr import config, data, networks
    from hwr.images import cache
    from hwr.images.contact_sheet import spread, write
    from hwr.system.atomic import check_folder_of
    from hwr.training.finetune import with_initial_network

    check_folder_of(out)
    refuse_unused(overrides, "data", "image", "augment", "model", "train.seed", "train.init")
    settings = with_initial_network(config.load(config_path, list(overrides)))
    geometry = networks.geometry(settings)
    chosen = spread(data.lines_of(data.read(settings.data), split, settings.data), lines)
    images = cache.prepared(chosen, geometry, settings.data.cache, progress=True)
    write(out, chosen, images, geometry, settings.augment, settings.train.seed, times)
    echo(out)
