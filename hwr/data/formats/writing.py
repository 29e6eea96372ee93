"""What the writers of datasets share: names that are free, line images, lists of the parts."""

import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from hwr.data import CONTROL, PARTS, Dataset, Line
from hwr.images import load


def lines(dataset: Dataset) -> list[Line]:
    """All lines: train, val, test."""
    return [line for part in PARTS for line in dataset.part(part)]


def free_name(wanted: str, default: str, used: set[str]) -> str:
    """A file name without folders that is not in `used` yet, in whatever case; it is added there.

    What UTF-8 or XML can't hold becomes a dash, as do slashes and blanks.
    """
    base = name = CONTROL.sub("-", re.sub(r"[/\s]", "-", wanted)).lstrip(".-") or default
    number = 1
    while name.casefold() in used:
        number += 1
        name = f"{base}~{number}"
    used.add(name.casefold())
    return name


def file_names(dataset: Dataset) -> dict[str, str]:
    """Line id -> a file name of its own, without suffix."""
    used: set[str] = set()
    return {line.id: free_name(line.id, "line", used) for line in lines(dataset)}


def save_image(line: Line, path: Path) -> None:
    """Save a line's image, cut out as training sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(load.read_line(line.image, line.region, line.upright, line.baseline)).save(path)


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
    path.write_text("".join(f"{id}\n" for id in ids), encoding="utf-8")
