"""What the readers of datasets share: one way to read rows, and one message for a missing folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from hwr import Error
from hwr.data import Fault
from hwr.system import files as text_files


def check_folder(root: Path, remedy: str = "") -> None:
    """Refuse a `data.root` that is not a folder.

    Raises:
        Error: It is a file, or not there; ends with the remedy.
    """
    if not root.is_dir():
        problem = "is a file, and a folder is needed" if root.exists() else "no such folder"
        raise Error(f"data.root: {root}: {problem}{remedy}")


def unlisted(root: Path, folders: Mapping[str, str]) -> list[Fault]:
    """The faults of folders below `root` that can't be listed, as `hwr.system.files.walk` names them."""
    ids = {folder: Path(os.path.relpath(folder, root)).as_posix() for folder in folders}
    return [Fault(ids[folder], reason, ids[folder]) for folder, reason in folders.items()]


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The lines of a UTF-8 text file that are not blank, stripped, each with its place (`file:line`).

    Raises:
        Error: Unreadable or not UTF-8.
    """
    rows = enumerate(text_files.read_text(path).split("\n"), start=1)
    return [(row.strip(), f"{path}:{number}") for number, row in rows if row.strip()]
