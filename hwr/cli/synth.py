"""`hwr synth`."""

from pathlib import Path

import click

from hwr import Error
from hwr.cli.options import Command, examples


@click.command(cls=Command)
@click.option("--out", required=True, metavar="FOLDER", help="A new folder.")
@click.option("--lines", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--writers", default=40, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--fonts",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Handwriting fonts (.ttf, .otf), there and below.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What to write with them: UTF-8, a paragraph a line; or a folder of .txt. Each --text has the same share.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), help="How many draw at once with --fonts (default: as there are cores)."
)
@examples("""
    hwr synth --out data/drawn --lines 5000 --writers 100
    hwr synth --out data/letters --lines 60000 --writers 1500 --fonts fonts/ --text english.txt --text french.txt
    hwr train --config configs/demo.yaml --set data.root=data/drawn
""")
def synth(
    out: str,
    lines: int,
    writers: int,
    seed: int,
    fonts: Path | None,
    texts: tuple[Path, ...],
    processes: int | None,
) -> None:
    """Draw handwriting, in IAM's layout, split by writer. The same seed gives the same bytes.

    Without --fonts the letters are stroke fonts' and the texts made up. With it, the texts are pieces of the files, in
    the folder's fonts, on papers of many kinds, and photographed or scanned. A line is only written in a font that has
    all its characters; quotes and dashes are drawn as they stand and transcribed as those of ASCII.
    """
    from hwr.data.synth import write
    from hwr.processes import usable_cores

    if processes and fonts is None:
        raise Error("--processes is for --fonts: stroke letters are drawn by one process")
    processes = processes or (usable_cores() if fonts else 1)
    write(Path(out), lines, writers, seed, fonts=fonts, texts=texts, processes=processes, progress=True)
    click.echo(f"{lines} lines by {writers} drawn writers in {out}")
