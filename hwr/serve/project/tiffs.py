"""A TIFF with several pages -> one image for each."""

from pathlib import Path

from PIL import Image, ImageOps

from hwr import Error
from hwr.images import documents, load
from hwr.serve.project.coordinates import MOST_PIXELS

MOST_FRAMES = 500


def is_bundle(path: Path) -> bool:
    """Whether a file is a TIFF with more than one page. False for a damaged one, which its reader reports."""
    if path.suffix.lower() not in documents.TIFF:
        return False
    try:
        with load.opened(path) as image:
            return documents.frames(image) != [1]
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return False


def split(path: Path, folder: Path) -> list[Path]:
    """Write the pages of a TIFF as upright PNG files into an existing folder: without loss, but 16 bits become 8.

    Raises:
        Error: A page is damaged or too large, or there are too many.
    """
    out: list[Path] = []
    try:
        with load.opened(path) as image:
            numbers = documents.frames(image)
            if len(numbers) > MOST_FRAMES:
                raise Error(f"{path.name}: has {len(numbers)} pages; the limit is {MOST_FRAMES}. Split it")
            for number in numbers:
                documents.seek(image, number)
                if image.width * image.height > MOST_PIXELS:
                    size = f"{image.width} x {image.height}"
                    raise Error(f"{path.name}: page {number}: {size} pixels are too many; the limit is {MOST_PIXELS:,}")
                out.append(folder / f"{number:04}.png")
                _plain(image).save(out[-1], dpi=_dpi(image))
    except Error:
        raise
    except Exception as error:
        reason = str(error).replace(str(path), path.name)
        raise Error(f"{path.name}: page {len(out) or 1}: damaged: {reason}") from error
    return out


def _plain(image: Image.Image) -> Image.Image:
    """A page in a mode that PNG has, turned upright."""
    if image.mode.startswith("I"):
        return load.plain_of(image)  # Pillow does not know where white is zero
    upright = ImageOps.exif_transpose(image)
    return upright if upright.mode in ("1", "L", "LA", "RGB", "RGBA", "P") else upright.convert("RGB")


def _dpi(image: Image.Image) -> tuple[float, float]:
    x, y = (float(value) for value in image.info.get("dpi", (0, 0)))
    return (x, y) if 0 < x < 10_000 and 0 < y < 10_000 else (300.0, 300.0)
