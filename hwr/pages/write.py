"""Where predictions are written: checks, and one file for each page."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps

from hwr import Error
from hwr.atomic import replacing
from hwr.files import real
from hwr.images import documents, load
from hwr.pages.outputs import FORMATS, Format
from hwr.pages.record import PageLine, PageReading

# JPEG quality of page images that are written beside XML.
QUALITY = 92


def check_folder(kind: str, out: Path | None) -> None:
    """Check that the output folder exists, or create it for page files.

    Raises:
        Error: The folder does not exist, or a package is missing that writes the format.
    """
    needs = FORMATS[kind].needs
    if needs and importlib.util.find_spec(needs) is None:
        raise Error(f"--format {kind} needs {needs}: pip install -e '.[pages]'")
    if FORMATS[kind].rows is None:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
    elif out is not None and out.is_dir():
        raise Error(f"{out}: is a folder; --format {kind} writes one file: name it with --out")
    elif out is not None and not out.parent.is_dir():
        raise Error(f"{out}: no such folder: {out.parent}")


def check_places(kind: str, out: Path | None, files: Sequence[str]) -> None:
    """Check that no input, and no file next to a page's image, will be overwritten.

    Raises:
        Error: One would be, or two pages would be written to one file.
    """
    if FORMATS[kind].rows is not None:
        if out is not None and out.exists():  # a file that does not exist is not an input
            _check_overwriting([Path(file) for file in files], [out])
        return
    paths = [Path(file) for file in files]
    places = [place(out, path, FORMATS[kind].suffix) for path in paths]
    _check_overwriting(paths, places)
    _check_beside(paths, places)


def _check_overwriting(files: list[Path], places: list[Path]) -> None:
    """Refuse to overwrite an input, or one page with another."""
    read = {real(path) for path in files}
    sources: dict[Path, Path] = {}
    for i, path in enumerate(places):
        if real(path) in read:
            raise Error(f"{path} is an input, and would be overwritten; name another place with --out")
        if sources.setdefault(real(path), files[i]) != files[i]:
            raise Error(f"--out: {sources[real(path)]} and {files[i]} would both be written to {path}")


def _check_beside(files: list[Path], places: list[Path]) -> None:
    """Refuse to overwrite a file next to a page's image: someone may have made it by hand."""
    for file, path in zip(files, places, strict=True):
        if path.exists() and real(path.parent) == real(file.parent):
            raise Error(
                f"{path} exists already, next to {file}, and would be overwritten; name another folder with --out"
            )


def without_text(line: PageLine) -> PageLine:
    """The line with an empty text."""
    return replace(line, text="", characters=())


def place(folder: Path | None, source: Path, suffix: str) -> Path:
    """The output file for a source file; beside it if no folder is given."""
    page = documents.page_of(source)
    beside = source.parent if page is None else page.file.parent
    return (folder or beside) / f"{documents.display_name(source)}{suffix}"


def write(path: Path, format: Format, page: PageReading, **more: bool) -> None:
    """Write a page.

    Args:
        more: Further arguments of the format's `write`.

    Raises:
        Error: The file can't be written, or can't hold the page.
    """
    if format.names_image and documents.page_of(page.image):
        page = replace(page, image=_image(page, path))
    content = format.write([page], **more)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _image(page: PageReading, path: Path) -> Path:
    """Write the image of a page of a PDF or TIFF beside a file that names it.

    Black and white pages become PNG, all others JPEG.
    """
    with load.opened(page.image) as image:
        pixels = ImageOps.exif_transpose(image) if page.upright else image
        bits = image.mode == "1"
        out = path.with_suffix(".png" if bits else ".jpg")
        if not bits and pixels.mode not in ("L", "RGB"):
            pixels = Image.fromarray(load.grey_of(pixels, upright=False, name=str(page.image)))
        pixels.info.pop("exif", None)
        with replacing(out) as temporary:
            pixels.save(temporary, "PNG" if bits else "JPEG", **({} if bits else {"quality": QUALITY}))
    return out
