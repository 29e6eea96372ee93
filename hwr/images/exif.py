"""The EXIF orientation of an opened image. TIFF is special: Pillow turns its pixels itself, on decoding."""

from PIL import Image, ImageOps

# A key of `Image.info`, see `turned`.
WHITE_IS_ZERO = "white is zero"

# The orientation tag; values from 5 on swap width and height.
ORIENTATION = 0x0112

# From the upright image back to the stored one.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(image: Image.Image) -> tuple[tuple[int, int], int]:
    """Width and height of an image as stored, in pixels, and its orientation, 1 to 8 (1: upright); before it is decoded."""
    turn = image.getexif().get(ORIENTATION, 1)
    width, height = image.size
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if (tags.get(256), tags.get(257)) == (height, width):  # the size as shown, in newer versions of Pillow
        width, height = height, width
    return (width, height), turn if turn in _BACK else 1


def turned(image: Image.Image, upright: bool) -> Image.Image:
    """An image, not decoded yet, with its orientation applied or as stored; decodes it.

    Its `info` says if white is zero, which Pillow respects in images of 8 bits only.
    """
    # TIFF's PhotometricInterpretation, which a turned image has no more.
    inverted = image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(262) == 0
    if upright:
        out = ImageOps.exif_transpose(image)
    else:
        _, turn = stored(image)
        image.load()
        out = image.transpose(_BACK[turn]) if image.format == "TIFF" and turn != 1 else image
    if inverted:
        out.info[WHITE_IS_ZERO] = True
    return out
