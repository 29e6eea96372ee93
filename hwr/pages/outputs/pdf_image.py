"""An image file as an image of a PDF: a JPEG as it is, everything else without loss."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from hwr import Error
from hwr.images import exif, load
from hwr.system import files

# Without a credible resolution, the longer side of a page is that of A4, in inches. Cameras and programs write 72 or 96 dots
# per inch without knowing.
LONG_SIDE, CREDIBLE = 297 / 25.4, (100, 4800)

# Files that have lost details already are stored as JPEG of this quality; without loss they would grow tenfold.
LOSSY, QUALITY = ("WEBP", "HEIF", "AVIF"), 90

# The sides of a page, in units of 1/72 inch (ISO 32000-1, annex C).
SHORTEST, LONGEST = 3, 14_400


@dataclass(frozen=True)
class Placed:
    """An image in a PDF.

    Attributes:
        image: The image object.
        size: Width and height of the upright image in pixels.
        dpi: Dots per inch.
        orientation: EXIF's, 1 to 8: how the image must be turned to be upright.
    """

    image: Any
    size: tuple[int, int]
    dpi: float
    orientation: int


def resolution(image: Image.Image) -> float:
    """Dots per inch of an image: as its file says or, where that is missing or not credible, so that it is as long as A4."""
    try:
        dpi = float(image.info.get("dpi", (0, 0))[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        dpi = 0.0
    # inf and nan, which damaged files may hold, are not credible either
    dpi = dpi if CREDIBLE[0] <= dpi <= CREDIBLE[1] else max(image.size) / LONG_SIDE
    least, most = (72 * side / units for side, units in ((max(image.size), LONGEST), (min(image.size), SHORTEST)))
    return min(max(dpi, least), most)


def add(pdf: Any, path: Path, upright: bool = True) -> Placed:
    """Add an image to a pikepdf document.

    Args:
        upright: Whether to apply the EXIF orientation.

    Raises:
        Error: The file can't be read.
    """
    with load.decoding(str(path)), load.opened(path) as image:
        (width, height), orientation = exif.stored(image)
        dpi = resolution(image)
        if max(image.size) * SHORTEST > min(image.size) * LONGEST:
            raise Error(f"{path}: an image of {width} x {height} pixels is too long for a page of a PDF")
        if image.format == "TIFF":  # Pillow turns it itself
            image, orientation = exif.turned(image, upright), 1
            width, height = image.size
        elif not upright:
            orientation = 1
        found = _encoded(pdf, path, image)
    return Placed(found, (height, width) if orientation >= 5 else (width, height), dpi, orientation)


def matrix(placed: Placed) -> tuple[float, ...]:
    """The transformation of PDF's unit square to a page of the image's size in pixels, origin at the lower left."""
    w, h = placed.size
    return {
        1: (w, 0, 0, h, 0, 0),
        2: (-w, 0, 0, h, w, 0),
        3: (-w, 0, 0, -h, w, h),
        4: (w, 0, 0, -h, 0, h),
        5: (0, -h, -w, 0, w, h),
        6: (0, -h, w, 0, 0, h),
        7: (0, h, w, 0, 0, 0),
        8: (0, h, -w, 0, w, 0),
    }[placed.orientation]


def _encoded(pdf: Any, path: Path, image: Image.Image) -> Any:
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB", "CMYK"):
        return _jpeg(pdf, files.read_bytes(path), image)
    if image.format in LOSSY and image.mode in ("L", "RGB"):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY, icc_profile=image.info.get("icc_profile"))
        return _jpeg(pdf, out.getvalue(), image)
    if image.mode == "1":
        return _fax(pdf, image)
    return _lossless(pdf, load.plain_of(image, upright=False, name=str(path)))


def _jpeg(pdf: Any, content: bytes, image: Image.Image) -> Any:
    """A JPEG, not encoded again."""
    from pikepdf import Array, Name

    out = _stream(pdf, content, image, 8)
    out.ColorSpace = _colours(pdf, image)
    out.Filter = Name.DCTDecode
    if image.mode == "CMYK" and "adobe" in image.info:  # Adobe's are inverted
        out.Decode = Array([1, 0] * 4)
    return out


def _lossless(pdf: Any, image: Image.Image) -> Any:
    """Pixels as PNG compresses them, which PDF understands."""
    from pikepdf import Dictionary, Name

    file = io.BytesIO()
    image.save(file, "PNG", icc_profile=None)
    content, data, at = file.getvalue(), b"", 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += length + 12
    out = _stream(pdf, data, image, 8)
    out.ColorSpace = _colours(pdf, image)
    out.Filter = Name.FlateDecode
    bands = len(image.getbands())
    out.DecodeParms = Dictionary(Predictor=15, Colors=bands, BitsPerComponent=8, Columns=image.width)
    return out


def _fax(pdf: Any, image: Image.Image) -> Any:
    """Black and white pixels in CCITT group 4, as scanners compress them."""
    from pikepdf import Dictionary, Name

    file = io.BytesIO()
    # Paper is the colour that the code keeps short: its white, which PDF decodes to 1.
    image = ImageOps.invert(image.convert("L")).convert("1", dither=Image.Dither.NONE)
    image.save(file, "TIFF", compression="group4", tiffinfo={278: image.height})  # one strip
    with Image.open(file) as tiff:
        tags = tiff.tag_v2  # type: ignore[attr-defined]
        (start,), (length,) = tags[273], tags[279]
    out = _stream(pdf, file.getvalue()[start : start + length], image, 1)
    out.ColorSpace = Name.DeviceGray
    out.Filter = Name.CCITTFaxDecode
    out.DecodeParms = Dictionary(K=-1, Columns=image.width, Rows=image.height, BlackIs1=False)
    return out


def _stream(pdf: Any, content: bytes, image: Image.Image, bits: int) -> Any:
    from pikepdf import Dictionary, Name, Stream

    about = Dictionary(
        Type=Name.XObject, Subtype=Name.Image, Width=image.width, Height=image.height, BitsPerComponent=bits
    )
    return Stream(pdf, content, about)


def _colours(pdf: Any, image: Image.Image) -> Any:
    """The colour space: the image's own profile, or the usual one of its channels."""
    from pikepdf import Array, Name, Stream

    bands = len(image.getbands())
    plain = {1: Name.DeviceGray, 3: Name.DeviceRGB, 4: Name.DeviceCMYK}[bands]
    profile = image.info.get("icc_profile") or b""
    # Bytes 16 to 19 of a profile name its colours; a profile of other colours than the pixels' would make the PDF invalid.
    if profile[16:20] != {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}[bands]:
        return plain
    stream = Stream(pdf, profile)
    stream.N = bands
    stream.Alternate = plain
    return Array([Name.ICCBased, stream])
