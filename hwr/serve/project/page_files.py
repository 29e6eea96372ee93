"""Which XML files belong to the image of a page."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from hwr import Error
from hwr.data.formats import alto, page, xml
from hwr.system import files


def find(image: Path, listing: Callable[[Path], dict[str, Path]]) -> tuple[Path, Path | None]:
    """The PAGE file of an image, which may not exist yet, and the ALTO file beside the image, if there is one.

    The PAGE file of a.png is a.png.xml or a.xml, beside the image or in a folder `page` beside it, as Transkribus has it.
    An ALTO file is left alone: its page gets a PAGE file in `page`.

    Args:
        listing: `xmls`, best cached: it is called several times for each folder.
    """
    beside, below = image.parent, image.parent / "page"
    alto_file: Path | None = None
    for folder, stem in ((beside, image.name), (below, image.name), (below, image.stem), (beside, image.stem)):
        path = _xml_in(folder, stem, listing)
        if path is None:
            continue
        tag, named = _root_of(path)
        if _is_another(named, image):  # a.xml of a.png is not that of a.jpg
            continue
        if tag == alto.TAG and folder == beside:
            alto_file = alto_file or path
        elif stem == image.stem or tag in ("", page.TAG):  # other programs' notes on an image are called a.png.xml, too
            return path, alto_file
    folder = below if alto_file else beside
    stem = image.stem if _xml_in(folder, image.stem, listing) is None else image.name
    return folder / f"{stem}.xml", alto_file


def any_named_like(image: Path, listing: Callable[[Path], dict[str, Path]]) -> bool:
    """Whether any XML file has the name of an image: quicker than `find`."""
    names = (files.nfc(image.name), files.nfc(image.stem))
    return any(name in listing(folder) for folder in (image.parent, image.parent / "page") for name in names)


def xmls(folder: Path) -> dict[str, Path]:
    """The XML files of a folder by their stems in NFC, whatever the case of `.xml`."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {files.nfc(Path(name).stem): folder / name for name in names if name.lower().endswith(".xml")}


def _xml_in(folder: Path, stem: str, listing: Callable[[Path], dict[str, Path]]) -> Path | None:
    """The XML file of a stem in a folder, or None."""
    for path in (folder / f"{stem}.xml", listing(folder).get(files.nfc(stem))):
        if path is not None and files.is_regular(path):
            return path
    return None


def _root_of(path: Path) -> tuple[str, str]:
    """The name of the root element, and the image that the file names; "" for what can't be read."""
    tag = ""
    try:
        root = xml.parse(path)
        tag = xml.local(root)
        parse = {page.TAG: page.parse, alto.TAG: alto.parse}.get(tag)
        return tag, parse(path, root).image if parse else ""
    except Error:  # reported when the page is read
        return tag, ""


def _is_another(named: str, image: Path) -> bool:
    """Whether an XML file names another image in an image's folder."""
    name = PurePosixPath(named.replace("\\", "/")).name
    if not name or name == image.name:
        return False
    other = files.named(image.parent, name)
    return files.is_regular(other) and not (image.exists() and other.samefile(image))
