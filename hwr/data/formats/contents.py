"""What a folder holds, looked at once, for every format to recognise itself."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hwr.data import disk
from hwr.data.formats import xml


@dataclass(frozen=True)
class Contents:
    """A folder or file whose format is asked for.

    Attributes:
        files: All files in it, in the order of `disk.walk`.
        tag: Name of the root element of the first XML file of a known format, or "".
    """

    root: Path
    files: list[str]
    tag: str


def look(root: Path, tags: Collection[str]) -> Contents:
    """List a folder, and find the first of its XML files whose root element is one of `tags`.

    Raises:
        Error: A folder can't be listed; an XML file before that one is malformed.
    """
    files = disk.files(root)
    found = (xml.local(xml.parse(Path(name))) for name in files if name.lower().endswith(".xml"))
    return Contents(root, files, next((tag for tag in found if tag in tags), ""))
