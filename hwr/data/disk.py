"""What every reader of folders and text files shares: one walk, and one way to read rows."""

import os
from collections.abc import Iterator
from pathlib import Path

from hwr import Error
from hwr import files as text_files


def walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from `root` down with the names of its files; both sorted, hidden names skipped.

    Links to folders are followed. A folder is visited once, under its own name if it lies below `root`, so links that
    lead back end no walk and double no file.

    Raises:
        Error: A folder can't be listed; names it.
    """

    def refuse(error: OSError) -> None:
        raise Error(f"{error.filename}: could not be listed: {error.strerror}")

    top = os.path.realpath(root)
    real = {str(root): top}
    seen = {top}
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        place, kept = real.pop(folder), []
        for name in sorted(folders):
            path = os.path.join(folder, name)
            link = os.path.islink(path)
            target = os.path.realpath(path) if link else os.path.join(place, name)
            if name.startswith(".") or target in seen or (link and _visible_below(target, top)):
                continue
            seen.add(target)
            real[path] = target
            kept.append(name)
        folders[:] = kept
        yield folder, sorted(name for name in names if not name.startswith("."))


def _visible_below(path: str, top: str) -> bool:
    """Whether the walk reaches a folder by its own name."""
    inside = os.path.relpath(path, top)
    return not any(part.startswith(".") for part in inside.split(os.sep))


def files(root: Path) -> list[str]:
    """All files below a folder in the order of `walk`; a file is its only one.

    Raises:
        Error: A folder can't be listed; names it.
    """
    if not root.is_dir():
        return [str(root)] if root.exists() else []
    return [os.path.join(folder, name) for folder, names in walk(root) for name in names]


def check_folder(root: Path, remedy: str = "") -> None:
    """Refuse a `data.root` that is not a folder.

    Raises:
        Error: It is a file, or not there; ends with the remedy.
    """
    if not root.is_dir():
        problem = "is a file, and a folder is needed" if root.exists() else "no such folder"
        raise Error(f"data.root: {root}: {problem}{remedy}")


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The lines of a UTF-8 text file that are not blank, stripped, each with its place (`file:line`).

    Raises:
        Error: Unreadable or not UTF-8.
    """
    rows = enumerate(text_files.read_text(path).split("\n"), start=1)
    return [(row.strip(), f"{path}:{number}") for number, row in rows if row.strip()]
