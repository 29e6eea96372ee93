"""What a folder holds, looked at once, for every format to recognise itself."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.data.formats import xml
from hwr.system import files as all_files


@dataclass(frozen=True)
class Contents:
    """A folder or file whose format is asked for.

    Attributes:
        files: All files in it, in the order of `hwr.system.files.walk`.
        tag: Name of the root element of the first XML file of a known format, or "".
        fault: What is wrong with the first XML file that can't be read, if none is of a known format.
    """

    root: Path
    files: list[str]
    tag: str
    fault: Error | None = None


def look(root: Path, tags: Collection[str]) -> Contents:
    """List a folder, and find the first of its XML files whose root element is one of `tags`.

    Raises:
        Error: The folder can't be listed.
    """
    files = all_files.below(root, unlisted={})  # the format's reader reports folders that can't be listed
    fault: Error | None = None
    for name in files:
        if name.lower().endswith(".xml"):
            try:
                tag = xml.local(xml.parse(Path(name)))
            except Error as error:  # the format's reader lists it with the others
                fault = fault or error
                continue
            if tag in tags:
                return Contents(root, files, tag)
    return Contents(root, files, "", fault)
