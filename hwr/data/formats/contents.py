"""What a folder holds, looked at once, for every format to recognise itself."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hwr.data.formats import xml
from hwr.system import files as all_files


@dataclass(frozen=True)
class Contents:
    """A folder or file whose format is asked for.

    Attributes:
        files: All files in it, in the order of `hwr.system.files.walk`.
        tag: Name of the root element of the first XML file of a known format, or "".
    """

    root: Path
    files: list[str]
    tag: str


def look(root: Path, tags: Collection[str]) -> Contents:
    """List a folder, and find the first of its XML files whose root element is one of `tags`.

    Raises:
        Error: The folder can't be listed; an XML file before that one is malformed.
    """
    files = all_files.below(root, unlisted={})  # the format's reader reports folders that can't be listed
    found = (xml.local(xml.parse(Path(name))) for name in files if name.lower().endswith(".xml"))
    return Contents(root, files, next((tag for tag in found if tag in tags), ""))
