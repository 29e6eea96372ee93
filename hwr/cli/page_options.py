"""What `hwr predict` and `hwr align` share: options for reading pages, and what they say about the files that they find."""

from typing import TYPE_CHECKING

import click

from hwr.system.terminal import counted, echo, some

if TYPE_CHECKING:
    from hwr.pages.sources import Found

model_option = click.option(
    "--checkpoint",
    metavar="FILE",
    help="A .safetensors, .params (Gluon) or exported .onnx file (default: $HWR_MODEL, or hwr-latin, the bundled model).",
)
# The names of `hwr.pages.segment.SEGMENTERS`, whose import is slow.
segmenters = click.Choice(["hwr", "kraken"])
segmenter_option = click.option(
    "--segmenter",
    type=segmenters,
    help="What finds the lines of pages: hwr (extra read or pages) or kraken (extra kraken) (default: hwr).",
)


def formats(whole_pages: bool = False) -> list[str]:
    """The output formats, or those of whole pages only."""
    from hwr.pages.outputs import FORMATS

    return [name for name, format in FORMATS.items() if not whole_pages or format.rows is None]


def say_what_is_read(found: "Found") -> None:
    """Report on stderr what is read more than once, and what is not read, or has nothing to read."""
    from hwr.system.files import several_names

    files, others = found.files, found.others
    if others:
        echo(f"hwr: skipped {counted(len(others), 'other file')} in the folders ({some(others)})", err=True)
    if twice := several_names(files):
        named = [f"{name} is {'named twice' if name == first else first}" for name, first in twice]
        echo(f"hwr: {counted(len(twice), 'file is', 'files are')} read more than once ({some(named)})", err=True)
    if found.twice:
        echo(
            f"hwr: {counted(len(found.twice), 'image is', 'images are')} read again with another XML file ({some(found.twice)})",
            err=True,
        )
    if found.bare:
        echo(
            f"hwr: {counted(len(found.bare), 'PAGE or ALTO file marks', 'PAGE or ALTO files mark')} no lines, so nothing is read "
            f"there; where it is removed, the lines of the image are found ({some(found.bare)})",
            err=True,
        )
