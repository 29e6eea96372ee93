"""What the writers of datasets share: names that are free, line images, lists of the parts."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from hwr import Error
from hwr.data import CONTROL, PARTS, Dataset, Line
from hwr.images import load

# Bytes of UTF-8 in a file name, at most: most systems allow 255, with the number of a name in use and a suffix.
MOST_BYTES = 200


class Names:
    """Names that are in use, in whatever case; each that is asked for again gets a number."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}  # with the highest number of each

    def free(self, wanted: str) -> str:
        """The name, or if it is in use, the name with the lowest number that makes it a new one."""
        name, base = wanted, wanted.casefold()
        while name.casefold() in self._used:
            self._used[base] += 1
            name = f"{wanted}~{self._used[base]}"
        self._used[name.casefold()] = 1
        return name


def free_name(wanted: str, default: str, used: Names) -> str:
    """A file name without folders that is not used yet.

    What UTF-8 or XML can't hold becomes a dash, as do slashes and blanks. Of a long name, the first `MOST_BYTES` are kept.
    """
    name = CONTROL.sub("-", re.sub(r"[/\s]", "-", wanted)).lstrip(".-")
    return used.free(name.encode()[:MOST_BYTES].decode("utf-8", "ignore") or default)


def file_names(dataset: Dataset) -> dict[str, str]:
    """Line id -> a file name of its own, without suffix."""
    used = Names()
    return {line.id: free_name(line.id, "line", used) for line in dataset.lines}


def save_images(places: Iterable[tuple[Line, Path]]) -> None:
    """Save the images of lines, cut out as training sees them; each page is decoded once.

    Raises:
        Error: One can't be read.
    """
    of: dict[tuple[Path, bool], list[tuple[Line, Path]]] = {}
    for line, path in places:
        of.setdefault((line.image, line.upright), []).append((line, path))
    for (image, upright), own in tqdm(of.items(), "writing", unit="image", disable=None, leave=False):
        regions, baselines = [line.region for line, _ in own], [line.baseline for line, _ in own]
        cuts = load.read_lines(image, regions, upright, baselines)
        for (_, path), pixels in zip(own, cuts, strict=True):
            save_image(pixels, path)


def save_image(pixels: np.ndarray | Error, path: Path) -> None:
    """Save a line's image, or raise the Error."""
    if isinstance(pixels, Error):
        raise pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lists(dataset: Dataset, out: Path, ids: Mapping[str, str]) -> None:
    """Write lists/{train,val,test}.txt.

    Args:
        ids: Line id -> its id in the new dataset.
    """
    (out / "lists").mkdir()
    for part in PARTS:
        id_list(out / "lists" / f"{part}.txt", [ids[line.id] for line in dataset.part(part)])


def id_list(path: Path, ids: list[str]) -> None:
    """Write a list of ids, one a row."""
    path.write_text("".join(f"{id}\n" for id in ids), encoding="utf-8", newline="\n")
