"""Prepared lines, made once and then memory-mapped."""

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from hwr import Error
from hwr.atomic import replacing
from hwr.data import Line
from hwr.images import load, prepare
from hwr.images.geometry import Geometry
from hwr.processes import usable_cores

# Lines that are submitted at once: bounds the memory.
CHUNK = 256
DIGEST = hashlib.sha256().digest_size  # bytes


@dataclass(frozen=True)
class Images:
    """Lines of one height, each of its own width, one after the other in memory.

    Attributes:
        pixels: (sum of height * width,) uint8; a memory map where they come from the cache.
        widths: (lines,) int32.
        stored_digest: SHA-256 of the pixels, in hexadecimal, where the cache has it; "" else.
    """

    pixels: np.ndarray
    widths: np.ndarray
    height: int
    stored_digest: str = ""

    def __post_init__(self) -> None:
        starts = np.concatenate([[0], np.cumsum(self.widths, dtype=np.int64) * self.height])
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, images: Sequence[np.ndarray]) -> "Images":
        """From (height, width) uint8 arrays."""
        pixels = np.concatenate([np.zeros(0, np.uint8), *(image.ravel() for image in images)])
        return cls(pixels, np.array([image.shape[1] for image in images], np.int32), len(images[0]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the pixels, in hexadecimal."""
        return self.stored_digest or hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

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


def folder(chosen: str | None) -> Path:
    """Where prepared lines are kept: `data.cache`, else $HWR_CACHE, else ~/.cache/hwr."""
    base = chosen or os.environ.get("HWR_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwr"


def prepared(lines: Sequence[Line], geometry: Geometry, cache: str | None = None, progress: bool = False) -> Images:
    """The lines' pixels as the network takes them, from the cache, or into it first.

    The file's name is a hash of everything that the pixels depend on: every image's path, size and time of change, the
    geometry, the code that prepares lines, and the versions of the libraries that it calls. So a changed image or setting
    makes another file. A file is renamed into place when whole, so that two processes may build the same one at once and
    a kill leaves none that is half done. It holds the pixels, their SHA-256, then the widths (int32).

    Args:
        cache: The folder (`data.cache`); None: see `folder`.
        progress: Show a bar.

    Raises:
        Error: Images that can't be read (the first few by name), or no room to write.
    """
    path = folder(cache) / f"lines-{_key(lines, geometry)}.bin"
    found = _open(path, len(lines), geometry.height)
    if found is None:
        _build(path, lines, geometry, progress)
        found = _open(path, len(lines), geometry.height)
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
    end = len(content) - 4 * lines - DIGEST
    if end < 0:
        return None
    widths = np.frombuffer(content[end + DIGEST :].tobytes(), "<i4")
    if widths.min(initial=1) < 1 or int(widths.sum(dtype=np.int64)) * height != end:
        return None
    return Images(content[:end], widths, height, content[end : end + DIGEST].tobytes().hex())


def _key(lines: Sequence[Line], geometry: Geometry) -> str:
    parts: list[object] = [inspect.getsource(load), inspect.getsource(prepare), cv2.__version__, PIL.__version__]
    parts += [geometry.height, geometry.width, geometry.any_width, geometry.margin, geometry.straighten]
    for line in lines:
        try:
            stat = line.image.stat()
        except OSError as error:
            raise Error(f"{line.image}: {error.strerror} (line {line.id}, {line.source})") from error
        parts.append([str(line.image.resolve()), stat.st_size, stat.st_mtime_ns, *line.region])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _build(path: Path, lines: Sequence[Line], geometry: Geometry, progress: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
    except OSError as error:
        raise Error(
            f"{path.parent}: can't keep prepared lines here: {error.strerror}; set data.cache=FOLDER"
        ) from error
    broken: list[str] = []
    digest = hashlib.sha256()

    def prepare_page(chosen: Sequence[Line]) -> list[np.ndarray | Error]:
        """Lines of one image, which is decoded once."""
        cuts = load.read_lines(chosen[0].image, [line.region for line in chosen])
        return [cut if isinstance(cut, Error) else prepare.prepare(cut, geometry) for cut in cuts]

    bar = tqdm(desc="preparing lines", total=len(lines), unit="line", disable=None if progress else True, leave=False)
    # Written in order and not through a memory map: on a full disk that is an error that can be reported.
    with replacing(path) as temporary, ThreadPoolExecutor(usable_cores()) as pool, bar:
        widths = []
        with open(temporary, "wb") as file:
            for chunk in _chunks(_by_image(lines)):
                for chosen, found in zip(chunk, pool.map(prepare_page, chunk), strict=True):
                    for line, pixels in zip(chosen, found, strict=True):
                        if isinstance(pixels, Error):
                            broken.append(f"{pixels} (line {line.id}, {line.source})")
                            continue
                        content = pixels.tobytes()
                        digest.update(content)
                        file.write(content)
                        widths.append(pixels.shape[1])
                    bar.update(len(chosen))
            file.write(digest.digest())
            file.write(np.array(widths, "<i4").tobytes())
        if broken:
            shown = "\n".join(sorted(broken)[:5])
            raise Error(
                f"{shown}\n{len(broken)} of {len(lines)} images can't be read. Repair them, or exclude them by name: "
                "--set 'data.exclude=[id, …]'"
            )


def _by_image(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines in their order, those of one image together where they follow each other."""
    for _, group in itertools.groupby(lines, key=lambda line: line.image):
        yield list(group)


def _chunks(groups: Iterator[list[Line]]) -> Iterator[list[list[Line]]]:
    """Groups, some at a time: about `CHUNK` lines."""
    chunk: list[list[Line]] = []
    for group in groups:
        chunk.append(group)
        if sum(map(len, chunk)) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written more than a day ago."""
    for leftover in folder.glob(".lines-*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                leftover.unlink()
