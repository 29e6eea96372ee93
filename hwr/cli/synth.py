"""`hwr synth`."""

import sys
from pathlib import Path

import click

from hwr import Error
from hwr.cli.options import Command, examples
from hwr.system.terminal import counted, echo


@click.command(cls=Command)
@click.option("--out", required=True, metavar="FOLDER", help="Folder to create.")
@click.option("--lines", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--writers", default=40, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--fonts",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder with handwriting fonts (.ttf, .otf), searched recursively.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Text to write with the fonts: a UTF-8 file with one paragraph per line, or a folder of .txt; repeatable, in equal shares.",
)
@click.option(
    "--ink",
    multiple=True,
    metavar="DATASET",
    type=click.Path(path_type=Path),
    help="Instead of fonts: real lines whose ink is joined to new lines and put on other paper; repeatable.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Processes that draw in parallel with --fonts or --ink (default: one per CPU core).",
)
@examples("""
    hwr synth --out data/drawn --lines 5000 --writers 100
    hwr synth --out data/letters --lines 60000 --writers 1500 --fonts fonts/ --text english.txt --text french.txt
    hwr synth --out data/relaid --lines 20000 --writers 700 --ink data/unipen
    hwr train --config configs/demo.yaml --set data.root=data/drawn
""")
def synth(
    out: str,
    lines: int,
    writers: int,
    seed: int,
    fonts: Path | None,
    texts: tuple[Path, ...],
    ink: tuple[Path, ...],
    processes: int | None,
) -> None:
    """Draw synthetic handwriting in IAM's layout, split by writer. The same seed gives the same bytes.

    Without --fonts, letters come from built-in stroke fonts and texts are made up. With --fonts, lines are taken from the
    --text files, set in the folder's fonts on many kinds of paper, and look photographed or scanned. A line is only written
    in a font that has all its characters. Typographic quotes and dashes are drawn as they are and transcribed in ASCII.

    With --ink, hands and words are those of a dataset's training lines; it suits lines without paper best, such as pen
    trajectories. One to six lines of one writer are joined and get another pen, another paper and another camera. Lines
    without ink are named and not used, and the exit status is 1.
    """
    from hwr.data import SHOWN
    from hwr.data.synth import write
    from hwr.system.processes import usable_cores

    if processes and not (fonts or ink):
        raise Error("--processes needs --fonts or --ink: a single process draws the stroke fonts")
    processes = processes or (usable_cores() if fonts or ink else 1)
    skipped = write(
        Path(out), lines, writers, seed, fonts=fonts, texts=texts, ink=ink, processes=processes, progress=True
    )
    echo(f"{lines} lines by {writers} drawn writers in {out}")
    if skipped:
        for reason in list(skipped.values())[:SHOWN]:
            echo(f"hwr: {reason}", err=True)
        more_of_them = f", of which {SHOWN} are named" if len(skipped) > SHOWN else ""
        echo(f"hwr: {counted(len(skipped), 'line')} of --ink could not be used{more_of_them}", err=True)
        sys.exit(1)
