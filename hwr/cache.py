"""Decoded, resized lines, made once and then memory-mapped."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hwr import Error, image
from hwr.config import Config
from hwr.datasets import Line
from hwr.files import replacing

# Part of every key: raise it when `image.read` or `image.fit` changes what comes out.
VERSION = 1


def folder(config: Config) -> Path:
    """Where prepared lines are kept: `data.cache`, else $HWR_CACHE, else ~/.cache/hwr."""
    base = config.data.cache or os.environ.get("HWR_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwr"


def prepared(lines: Sequence[Line], config: Config, progress: bool = False) -> np.ndarray:
    """The lines' pixels as the network takes them, from the cache, or into it first.

    The file's name is a hash of all that went in: every image's path, size and time of change, and the target size. So
    a changed image or setting makes another file; a file is renamed into place when whole, so that two processes may
    build the same one at once and a kill leaves none that is half done.

    Returns:
        (len(lines), height, width) uint8, memory-mapped, read-only.

    Raises:
        Error: Images that can't be read (the first few by name), or no room to write.
    """
    size = config.image.height, config.image.width
    path = folder(config) / f"lines-{_key(lines, size)}.npy"
    if not _whole(path, (len(lines), *size)):
        _build(path, lines, size, progress)
    return np.load(path, mmap_mode="r")


def _whole(path: Path, shape: tuple[int, int, int]) -> bool:
    """Whether the file is there and has not been cut or overwritten by something else."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _key(lines: Sequence[Line], size: tuple[int, int]) -> str:
    went_in: list[object] = [VERSION, *size]
    for line in lines:
        try:
            stat = line.image.stat()
        except OSError as error:
            raise Error(f"{line.image}: {error.strerror} (line {line.id}, {line.source})") from error
        went_in.append([str(line.image.resolve()), stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(went_in).encode()).hexdigest()[:20]


def _build(path: Path, lines: Sequence[Line], size: tuple[int, int], progress: bool) -> None:
    height, width = size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
    except OSError as error:
        raise Error(
            f"{path.parent}: can't keep prepared lines here: {error.strerror}; set data.cache=FOLDER"
        ) from error
    broken: list[str] = []

    def prepare(line: Line) -> bytes:
        try:
            return image.fit(image.read(line.image), height, width).tobytes()
        except Error as error:
            broken.append(f"{error} (line {line.id}, {line.source})")
            return b""

    bar = tqdm(desc="preparing lines", total=len(lines), unit="line", disable=None if progress else True, leave=False)
    # Written in order and not through a memory map: on a full disk that is an error that can be reported.
    with replacing(path) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        with open(temporary, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(lines), height, width)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(lines), 256):
                for pixels in pool.map(prepare, lines[start : start + 256]):
                    file.write(pixels)
                    bar.update()
        if broken:
            shown = "\n".join(sorted(broken)[:5])
            raise Error(
                f"{shown}\n{len(broken)} of {len(lines)} images can't be read. Mend them, or leave them out by name: "
                "--set 'data.exclude=[id, …]'"
            )


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written more than a day ago."""
    for leftover in folder.glob(".lines-*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                leftover.unlink()
