"""Open files made by a stranger: regular files only, of a sensible size. Every reader opens its files here.

A pipe would block, and a device never ends or does something when it is opened.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from hwr import Error

# Bytes of the largest file that is read as a whole: the texts of ten million lines.
MOST = 1 << 30


def real(path: str | Path) -> Path:
    """The path with links followed; unlike `Path.resolve`, also where they lead in a circle."""
    return Path(os.path.realpath(path))


def is_regular(path: str | Path) -> bool:
    """Whether there is a regular file. A name that no file can have, because it is too long or contains a NUL, is none."""
    return os.path.isfile(path)


def check(path: str | Path) -> None:
    """Check that a path is a regular file, or a link to one, for a library that opens it itself.

    Raises:
        Error: It is something else, or not there.
    """
    open_regular(path).close()


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

    Raises:
        Error: As in `read_bytes`, or it is not UTF-8; names file:line.
    """
    content = read_bytes(path, most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Error(f"{path}:{content.count(10, 0, error.start) + 1}: not UTF-8: {error.reason}") from None
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
