"""The command `hwr synth`."""

from pathlib import Path

import click

from hwr.cli.options import Command, examples


@click.command(cls=Command)
@click.option("--out", required=True, metavar="FOLDER", help="A new folder.")
@click.option("--lines", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--writers", default=40, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@examples("""
    hwr synth --out data/drawn --lines 5000 --writers 100
    hwr train --config configs/demo.yaml --set data.root=data/drawn
""")
def synth(out: str, lines: int, writers: int, seed: int) -> None:
    """Draw handwriting from stroke fonts, in IAM's layout, split by writer. The same seed gives the same bytes."""
    from hwr.data.synth import write

    write(Path(out), lines, writers, seed, progress=True)
    click.echo(f"{lines} lines by {writers} drawn writers in {out}")
