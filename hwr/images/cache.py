"""The cache of prepared lines, which are memory-mapped."""

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
from hwr.data import Line
from hwr.images import direction, documents, exif, greys, ink, load, polarity, prepare, shading, unlike
from hwr.images.geometry import Geometry
from hwr.system import files
from hwr.system.atomic import replacing
from hwr.system.processes import usable_cores
from hwr.system.terminal import counted

# What decides the pixels of a prepared line; a change of it makes another cache.
CODE = (direction, documents, exif, greys, ink, load, polarity, prepare, shading, unlike)

# Lines submitted at once, to bound memory.
CHUNK = 256
DIGEST = hashlib.sha256().digest_size  # bytes


@dataclass(frozen=True)
class Images:
    """Lines of equal height and various widths, consecutive in memory.

    Attributes:
        pixels: (sum of height * width,) uint8; a memory map if they come from the cache.
        widths: (lines,) int32.
        height: Height of all lines in pixels.
        stored_digest: SHA-256 of the pixels in hexadecimal, if the cache has it; else "".
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
        """SHA-256 of the pixels in hexadecimal."""
        return self.stored_digest or hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, i: int) -> np.ndarray:
        """(height, width) uint8."""
        start, end = self._starts[i : i + 2]  # type: ignore[attr-defined]
        return self.pixels[start:end].reshape(self.height, -1)

    def batch(self, index: np.ndarray, multiple: int = 1) -> np.ndarray:
        """A batch padded with white: (N, height, W) uint8, W the largest width rounded up to a multiple."""
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
    """Preprocess the lines for the network, or take them from the cache.

    The cache file's name is a hash of everything that the pixels depend on: each image's path, size and modification time,
    the geometry, the preprocessing code, and the versions of the libraries it uses. So a changed image or setting gives
    another file. A complete file is renamed into place, so two processes may build the same file at once, and a kill
    leaves no partial file. It contains the pixels, their SHA-256, then the widths (int32).

    Args:
        cache: The folder (`data.cache`); None: see `folder`.
        progress: Whether to show a progress bar.

    Raises:
        Error: Images can't be read (names the first few), or the cache can't be written.
    """
    path = folder(cache) / f"lines-{_key(lines, geometry)}.bin"
    found = _open(path, len(lines), geometry.height)
    if found is None:
        _build(path, lines, geometry, progress)
        found = _open(path, len(lines), geometry.height)
    if found is None:
        raise Error(f"{path} has changed right after it was written; does another program use the folder?")
    return found


def _open(path: Path, lines: int, height: int) -> Images | None:
    """The file's content; None if it does not exist or is damaged."""
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
    code = [inspect.getsource(module) for module in CODE]
    parts: list[object] = [*code, cv2.__version__, PIL.__version__]
    parts += [geometry.height, geometry.width, geometry.any_width, geometry.margin, geometry.straighten]
    parts += [geometry.whole] * geometry.whole  # files of others keep their names
    for line in lines:
        page = documents.page_of(line.image)
        try:
            stat = (page.file if page else line.image).stat()
        except OSError as error:
            raise Error(f"{line.image}: {error.strerror} (line {line.id}, {line.source})") from error
        place = [str(files.real(line.image)), stat.st_size, stat.st_mtime_ns, line.upright]
        parts.append([*place, *line.region, line.baseline])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _build(path: Path, lines: Sequence[Line], geometry: Geometry, progress: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
    except OSError as error:
        raise Error(
            f"{path.parent}: can't cache prepared lines here: {error.strerror}; set data.cache=FOLDER"
        ) from error
    broken: list[str] = []
    digest = hashlib.sha256()

    def prepare_page(chosen: Sequence[Line]) -> list[np.ndarray | Error]:
        """Prepare the lines of one image, decoding it once."""
        regions, baselines = [line.region for line in chosen], [line.baseline for line in chosen]
        cuts = load.read_lines(chosen[0].image, regions, chosen[0].upright, baselines)
        return [cut if isinstance(cut, Error) else prepare.prepared_or_error(cut, geometry) for cut in cuts]

    bar = tqdm(desc="preparing lines", total=len(lines), unit="line", disable=None if progress else True, leave=False)
    # Write sequentially, not through a memory map, where a full disk would kill the process instead of raising an error.
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
                f"{shown}\n{len(broken)} of {counted(len(lines), 'image')} can't be read. Repair them, or exclude them by name: "
                "--set 'data.exclude=[id, …]'"
            )


def _by_image(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Group consecutive lines of the same image."""
    for _, group in itertools.groupby(lines, key=lambda line: (line.image, line.upright)):
        yield list(group)


def _chunks(groups: Iterator[list[Line]]) -> Iterator[list[list[Line]]]:
    """Chunks of groups with about `CHUNK` lines."""
    chunk: list[list[Line]] = []
    for group in groups:
        chunk.append(group)
        if sum(map(len, chunk)) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _sweep(folder: Path) -> None:
    """Remove partial files of killed processes that are more than a day old."""
    for leftover in folder.glob(".lines-*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                leftover.unlink()
