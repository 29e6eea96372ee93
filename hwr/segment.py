"""Where the lines of a page photo are, by kraken's segmenter, which comes with a trained model."""

from pathlib import Path

from PIL import Image, ImageOps

from hwr import Error
from hwr.inputs import Target


def lines_of(path: Path) -> list[Target]:
    """The lines of a page, in reading order.

    Raises:
        Error: kraken is not installed, or the image can't be read.
    """
    try:
        from kraken import blla
    except ImportError as error:
        raise Error(f"--page finds lines by kraken: pip install 'hwr[pages]' ({error})") from error
    try:
        with Image.open(path) as opened:
            # In kraken's pixels as in ours: it does not mind a camera's orientation tag.
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise Error(f"{path}: is damaged or not an image: {error}") from error
    found = blla.segment(picture)
    out = []
    for number, line in enumerate(found.lines, 1):
        boundary = tuple((round(x), round(y)) for x, y in line.boundary or [])
        baseline = tuple((round(x), round(y)) for x, y in line.baseline or [])
        if len(boundary) > 2:
            out.append(Target(path, boundary, baseline, f"line{number}"))
    return out
