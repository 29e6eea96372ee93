"""Find and open files made by a stranger. Every command walks folders and opens files here, so all follow one rule.

Folders are searched with their subfolders, in alphabetical order; hidden names are skipped. Links are followed. A folder is
read once, under its own name if it has one below the top; a file is read under each of its names, and a note says so
(`several_names`). What can't be listed or opened is reported, and the rest is read.

Only regular files of a sensible size are opened: a pipe would block, and a device never ends or does something when it is
opened.
"""

import codecs
import functools
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hwr import Error

# Bytes of the largest file that is read as a whole: the texts of ten million lines.
MOST = 1 << 30


def real(path: str | Path) -> Path:
    """The path with links followed; unlike `Path.resolve`, also where they lead in a circle."""
    return Path(os.path.realpath(path))


def checked_path(value: object, what: str) -> Path:
    """A path that a program gives to the Python API. An empty text would be the current folder.

    Raises:
        Error: It is no path; names the argument.
    """
    if not isinstance(value, str | Path) or value == "":
        raise Error(f"{what} must be a path, not {value!r}")
    return Path(value)


def is_regular(path: str | Path) -> bool:
    """Whether there is a regular file. A name that no file can have, because it is too long or contains a NUL, is none."""
    return os.path.isfile(path)


def nfc(name: str) -> str:
    """A name in Unicode's composed form: macOS decomposes accents in the names of files, other systems and texts do not."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def named(folder: Path, name: str) -> Path:
    """The file or folder below `folder` that a text calls `name`, in the normal form that it has there."""
    found = folder / name
    if name.isascii() or os.path.lexists(found):
        return found
    there = folder
    for part in Path(name).parts:
        there = there / (
            part if part.isascii() or os.path.lexists(there / part) else _by_nfc(there).get(nfc(part), part)
        )
    return there


def _by_nfc(folder: Path) -> dict[str, str]:
    """The names in a folder, by their NFC."""
    try:
        return _kept_names(str(folder), os.stat(folder).st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=32)
def _kept_names(folder: str, changed: int) -> dict[str, str]:
    return {nfc(name): name for name in sorted(os.listdir(folder)) if not name.isascii()}


def check(path: str | Path) -> None:
    """Check that a path is a regular file, or a link to one, for a library that opens it itself.

    Raises:
        Error: It is something else, or not there.
    """
    open_regular(path).close()


def walk(root: str | Path, unlisted: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from `root` down with the names of its files; both sorted, hidden names skipped.

    Links to folders are followed. A folder is visited once, under its own name if it lies below `root`, so links that
    lead back end no walk and double no file. Links that lead nowhere count as files, and so do pipes and devices: opening
    them is an error.

    Args:
        unlisted: Receives the folders that can't be listed, each with the reason; None: they are an error.

    Raises:
        Error: `root` can't be listed, or any folder if `unlisted` is None.
    """
    top = os.path.realpath(root)
    todo, seen = [(str(root), top)], {top}
    while todo:
        folder, place = todo.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            reason = f"{folder}: could not be listed: {error.strerror or error}"
            if unlisted is None or folder == str(root):
                raise Error(reason) from error
            unlisted[folder] = reason
            continue
        names, below = [], []
        for entry in found:
            if not _is_folder(entry):
                names.append(entry.name)
                continue
            link = entry.is_symlink()
            target = os.path.realpath(entry.path) if link else os.path.join(place, entry.name)
            if target not in seen and not (link and _visible_below(target, top)):
                seen.add(target)
                below.append((entry.path, target))
        todo += reversed(below)
        yield folder, names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle, or into a folder that can't be searched
        return False


def _visible_below(path: str, top: str) -> bool:
    """Whether the walk reaches a folder by its own name."""
    inside = os.path.relpath(path, top)
    return not any(part.startswith(".") for part in inside.split(os.sep))


def below(root: str | Path, unlisted: dict[str, str] | None = None) -> list[str]:
    """All files below a folder in the order of `walk`; a file is its only one.

    Raises:
        Error: As in `walk`.
    """
    if not os.path.isdir(root):
        return [str(root)] if os.path.lexists(root) else []
    return [os.path.join(folder, name) for folder, names in walk(root, unlisted) for name in names]


def natural(name: str) -> str:
    """A key that sorts names as people do: page 10 comes after page 9, and capitals make no difference.

    Args:
        name: At most 999 digits in a row.
    """
    return re.sub("[0-9]+", lambda digits: f"{len(digits[0].lstrip('0')):03}{digits[0].lstrip('0')}", name.casefold())


def in_order(paths: Iterable[str]) -> list[str]:
    """Sort files as people do (`natural`), those of a folder before those of its folders."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(path)
    places = sorted(folders, key=lambda folder: natural(folder.replace(os.sep, "\0")))
    # Folder by folder: the keys of a million names take more memory than the names.
    return [
        path for place in places for path in sorted(folders[place], key=lambda path: natural(os.path.basename(path)))
    ]


def several_names(paths: Iterable[str]) -> list[tuple[str, str]]:
    """The files that are named more than once, through links or repeated names: each further name, with the first one."""
    chosen = list(paths)
    counted = len(set(chosen)) < len(chosen)
    if not counted and not any(os.path.islink(path) for path in chosen):
        return []
    folders: dict[str, str] = {}
    first: dict[str, str] = {}
    out = []
    # Names that are no links come first: they are a file's own.
    for path in sorted(chosen, key=os.path.islink):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        target = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], name)
        if target in first:
            out.append((path, first[target]))
        first.setdefault(target, path)
    return out


def open_regular(path: str | Path, most: int | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        most: The largest size in bytes; None: any.

    Raises:
        Error: It is a folder, a pipe or a device; it is missing or unreadable; it is larger.
    """
    try:
        _check(path, os.stat(path), most)  # before opening, which may move a device
        # Without O_NONBLOCK, opening a pipe waits for its writer. It changes nothing for a regular file.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except FileNotFoundError:
        raise Error(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: the name contains a NUL
        raise Error(f"{path}: could not be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        _check(path, os.fstat(file.fileno()), most)  # the same file as before?
    except Error:
        file.close()
        raise
    return file


def _check(path: str | Path, found: os.stat_result, most: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise Error(f"{path}: is a folder, and a file is needed")
    if not stat.S_ISREG(found.st_mode):
        raise Error(f"{path}: is a pipe, a device or a socket; only regular files are read")
    if most is not None and found.st_size > most:
        raise Error(f"{path}: has {found.st_size:,} bytes; at most {most:,} are read")


def read_bytes(path: str | Path, most: int = MOST) -> bytes:
    """The content of a regular file.

    Raises:
        Error: As in `open_regular`, or reading fails.
    """
    with open_regular(path, most) as file:
        try:
            return file.read()
        except OSError as error:
            raise Error(f"{path}: could not be read: {error.strerror or error}") from error


def read_text(path: str | Path, most: int = MOST) -> str:
    """The text of a regular UTF-8 file, without a byte order mark; line breaks of any kind become line feeds.

    UTF-16 with a byte order mark is read, too: Windows' programs call it Unicode.

    Raises:
        Error: As in `read_bytes`, or it is not UTF-8; names file:line.
    """
    content = read_bytes(path, most)
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise Error(f"{path}: damaged UTF-16: {error.reason}") from None
        raise Error(
            f"{path}:{content.count(10, 0, error.start) + 1}: not UTF-8: {error.reason}; save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
