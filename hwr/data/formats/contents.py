"""What a folder holds, looked at once, for every format to recognise itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.data.formats import xml
from hwr.images import load
from hwr.system import files as all_files


@dataclass(frozen=True)
class Contents:
    """A folder or file whose format is asked for.

    Attributes:
        files: All files in it, in the order of `hwr.system.files.walk`.
        tag: Name of the root element of the first XML file of a known format, or "". Of formats that may describe the same
            pages, it is the preferred one of those that there are.
        fault: What is wrong with the first XML file that can't be read, if none is of a known format.
    """

    root: Path
    files: list[str]
    tag: str
    fault: Error | None = None


def look(root: Path, tags: Collection[str], rivals: Sequence[str] = ()) -> Contents:
    """List a folder, and find the first of its XML files whose root element is one of `tags`.

    Args:
        rivals: Those of formats that may describe the same pages, as exports hold them in two formats, the preferred first.

    Raises:
        Error: The folder can't be listed.
    """
    files = all_files.below(root, unlisted={})  # the format's reader reports folders that can't be listed
    fault: Error | None = None
    names = [name for name in files if name.lower().endswith(".xml")]
    for i, name in enumerate(names):
        try:
            tag = xml.local(xml.parse(Path(name)))
        except Error as error:  # the format's reader lists it with the others
            fault = fault or error
            continue
        if tag in tags:
            better = rivals[: rivals.index(tag)] if tag in rivals else ()
            others = (xml.root_tag(Path(other)) for other in names[i + 1 :]) if better else ()
            return Contents(root, files, next((other for other in others if other in better), tag))
    return Contents(root, files, "", fault)


def hint(contents: Contents, tables: Collection[str], pair: str) -> str:
    """What to do with files that are nearly a dataset, to start a message with; or "".

    Args:
        tables: The suffixes of tables.
        pair: The suffix of the text of a line image.
    """
    files = [Path(name) for name in contents.files]
    images = {path.with_suffix("") for path in files if path.suffix.lower() in load.SUFFIXES}
    texts = [path for path in files if path.suffix.lower() == ".txt" and path.with_suffix("") in images]
    if texts:
        return f"{texts[0].name} should be called {texts[0].stem}{pair}; "
    if found := [path for path in files if path.suffix.lower() in tables]:
        several = f" or another of the {len(found)}" if found[1:] else ""
        return f"to read a table, name it: data.root={found[0]}{several}; "
    for path in files:
        match path.suffix.lower():
            case ".xlsx" | ".xls" | ".ods":
                return f"save {path.name} as CSV; "
            case ".zip" | ".tar" | ".tgz" | ".gz" | ".7z" | ".rar":
                return f"unpack {path.name} first; "
    if images:
        return "images without texts, which `hwr predict` reads; "
    return ""
