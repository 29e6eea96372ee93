"""Decoded, resized lines, made once and then memory-mapped."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hwr import Error
from hwr.atomic import replacing
from hwr.config import Config
from hwr.data import Line
from hwr.images import load, prepare

# Part of every key: raise it when `load.read` or `prepare.prepare` changes what comes out.
VERSION = 4


@dataclass(frozen=True)
class Images:
    """Lines of one height, each of its own width, one after the other in memory.

    Attributes:
        pixels: (sum of height * width,) uint8; a memory map where they come from the cache.
        widths: (lines,) int32.
    """

    pixels: np.ndarray
    widths: np.ndarray
    height: int

    def __post_init__(self) -> None:
        starts = np.concatenate([[0], np.cumsum(self.widths, dtype=np.int64) * self.height])
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, images: Sequence[np.ndarray]) -> "Images":
        """From (height, width) uint8 arrays."""
        pixels = np.concatenate([np.zeros(0, np.uint8), *(image.ravel() for image in images)])
        return cls(pixels, np.array([image.shape[1] for image in images], np.int32), len(images[0]))

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, i: int) -> np.ndarray:
        """(height, width) uint8."""
        start, end = self._starts[i : i + 2]  # type: ignore[attr-defined]
        return self.pixels[start:end].reshape(self.height, -1)

    def batch(self, index: np.ndarray, multiple: int = 1) -> np.ndarray:
        """Lines side by side, with white to their right: (N, height, W) uint8, W the widest, rounded up to a multiple."""
        width = -(-int(self.widths[index].max()) // multiple) * multiple
        out = np.full((len(index), self.height, width), 255, np.uint8)
        for row, i in zip(out, index, strict=True):
            row[:, : self.widths[i]] = self[i]
        return out


def folder(config: Config) -> Path:
    """Where prepared lines are kept: `data.cache`, else $HWR_CACHE, else ~/.cache/hwr."""
    base = config.data.cache or os.environ.get("HWR_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwr"


def prepared(lines: Sequence[Line], config: Config, progress: bool = False) -> Images:
    """The lines' pixels as the network takes them, from the cache, or into it first.

    The file's name is a hash of all that went in: every image's path, size and time of change, and how they are prepared.
    So a changed image or setting makes another file; a file is renamed into place when whole, so that two processes may
    build the same one at once and a kill leaves none that is half done. It holds the pixels, then the widths (int32).

    Raises:
        Error: Images that can't be read (the first few by name), or no room to write.
    """
    path = folder(config) / f"lines-{_key(lines, config)}.bin"
    found = _open(path, len(lines), config.image.height)
    if found is None:
        _build(path, lines, config, progress)
        found = _open(path, len(lines), config.image.height)
    if found is None:
        raise Error(
            f"{path}: what was just written there is not what is there now; does another program use the folder?"
        )
    return found


def _open(path: Path, lines: int, height: int) -> Images | None:
    """The file, if it is there and has not been cut or overwritten by something else."""
    try:
        content = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):  # ValueError: it is empty
        return None
    tail = 4 * lines
    if len(content) < tail:
        return None
    widths = np.frombuffer(content[len(content) - tail :].tobytes(), "<i4")
    if widths.min(initial=1) < 1 or int(widths.sum(dtype=np.int64)) * height != len(content) - tail:
        return None
    return Images(content[: len(content) - tail], widths, height)


def _key(lines: Sequence[Line], config: Config) -> str:
    went_in: list[object] = [VERSION, config.model.arch, *config.image.model_dump().values()]
    for line in lines:
        try:
            stat = line.image.stat()
        except OSError as error:
            raise Error(f"{line.image}: {error.strerror} (line {line.id}, {line.source})") from error
        went_in.append([str(line.image.resolve()), stat.st_size, stat.st_mtime_ns, *line.region])
    return hashlib.sha256(json.dumps(went_in).encode()).hexdigest()[:20]


def _build(path: Path, lines: Sequence[Line], config: Config, progress: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
    except OSError as error:
        raise Error(
            f"{path.parent}: can't keep prepared lines here: {error.strerror}; set data.cache=FOLDER"
        ) from error
    broken: list[str] = []

    def prepared_one(line: Line) -> np.ndarray | None:
        try:
            return prepare.prepare(load.read_line(line.image, line.region), config)
        except Error as error:
            broken.append(f"{error} (line {line.id}, {line.source})")
            return None

    bar = tqdm(desc="preparing lines", total=len(lines), unit="line", disable=None if progress else True, leave=False)
    # Written in order and not through a memory map: on a full disk that is an error that can be reported.
    with replacing(path) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        widths = []
        with open(temporary, "wb") as file:
            for start in range(0, len(lines), 256):
                for pixels in pool.map(prepared_one, lines[start : start + 256]):
                    if pixels is not None:
                        file.write(pixels.tobytes())
                        widths.append(pixels.shape[1])
                    bar.update()
            file.write(np.array(widths, "<i4").tobytes())
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
