"""Who learns, who chooses, who is tested: from lists, from a column, or drawn with a seed. A writer is never in two parts."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hwr import Error
from hwr.config import Data
from hwr.datasets import Dataset, Line
from hwr.datasets.iam_forms import read_rows

PARTS = ("train", "val", "test")
# What a column may call them.
NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
NAMES |= {"test": "test", "testing": "test", "eval": "test"}


def split(
    data: Data,
    lines: Sequence[Line],
    documents: Sequence[str],
    empty: Sequence[str],
    notes: list[str],
    column: Sequence[str] | None = None,
) -> Dataset:
    """Split lines as `data.lists` says; else as their own column does; else drawn.

    Drawn are writers where every line's is known, or else documents (pages), so that lines of one are in one part: in the
    order of the hashes of (data.seed, name), which one more page leaves as it is, until each part has its share.

    Args:
        documents: (lines,) what each was cut from.
        empty: Ids that were left out, for they have no text.
        column: (lines,) what each line's own column says, or None.

    Raises:
        Error: A list names what is not there; a column says something else; a part is empty that should not be.
    """
    excluded = [line.id for line in lines if line.id in data.exclude]
    if strange := sorted(set(data.exclude) - {line.id for line in lines} - set(documents)):
        raise Error(f"data.exclude: {strange[0]} is not the id of a line or a document in {data.folder}")
    excluded += [x.id for x, document in zip(lines, documents, strict=True) if document in data.exclude]
    kept = [i for i, line in enumerate(lines) if line.id not in set(excluded)]
    if data.lists is not None:
        parts = _listed(data, lines, documents)
        name = data.folder.resolve().name
    elif column is not None and any(column):
        parts = [_named(value, lines[i]) for i, value in enumerate(column)]
        name = data.folder.resolve().name
    else:
        by_writer = all(line.writer for line in lines) and len({line.writer for line in lines}) > 2
        groups = [line.writer for line in lines] if by_writer else list(documents)
        if len(set(groups)) < 3:
            groups = [line.id for line in lines]
            notes.append(
                "There are fewer than three documents: the parts are drawn by line, so they share writers and pages"
            )
        drawn = _drawn(data, groups)
        parts = [drawn[group] for group in groups]
        name = f"{data.folder.resolve().name}, drawn with seed {data.seed}"
    if data.split != "auto":
        name = data.split
    found = {part: [lines[i] for i in kept if parts[i] == part] for part in PARTS}
    _note_shared(found, notes)
    return Dataset(name, found["train"], found["val"], found["test"], excluded, notes, list(empty))


def _named(value: str, line: Line) -> str:
    part = NAMES.get(value.strip().lower())
    if part is None:
        raise Error(f"{line.source}: the split of {line.id} is {value!r}; it is train, val or test")
    return part


def _drawn(data: Data, groups: Sequence[str]) -> dict[str, str]:
    """Group -> part: the first in the order of their hashes are for testing, then for choosing, as many as their share."""
    sizes = Counter(groups)

    def place(group: str) -> str:
        return hashlib.sha256(f"{data.seed}\0{group}".encode()).hexdigest()

    shares = {"test": data.test_share * len(groups), "val": data.val_share * len(groups)}
    out: dict[str, str] = {}
    for group in sorted(sizes, key=place):
        part = next((part for part, share in shares.items() if share > 0), "train")
        out[group] = part
        if part in shares:
            shares[part] -= sizes[group]
    return out


def _listed(data: Data, lines: Sequence[Line], documents: Sequence[str]) -> list[str]:
    """The part of every line, from lists of ids of lines or documents; "" of those in no list."""
    folders = [Path(str(data.lists)), data.folder / str(data.lists)]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise Error(f"data.lists: {' or '.join(map(str, folders))}: no such folder")
    of: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(data, part):
            path = next((p for p in (folder / name, folder / f"{name}.txt") if p.is_file()), None)
            if path is None:
                raise Error(f"data.{part}: {folder} has no list {name} or {name}.txt")
            for id, place in read_rows(path):
                if of.get(id, part) != part:
                    raise Error(f"{place}: {id} is in data.{of[id]} already")
                if id not in set(documents) and id not in {line.id for line in lines}:
                    raise Error(f"{place}: {data.folder} has no line and no document {id}")
                of[id] = part
    return [of.get(line.id) or of.get(document, "") for line, document in zip(lines, documents, strict=True)]


def _note_shared(found: dict[str, list[Line]], notes: list[str]) -> None:
    writers = {part: {line.writer for line in lines if line.writer} for part, lines in found.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(writers[one] & writers[other]):
            notes.append(f"{len(both)} writers are in {one} and in {other} ({', '.join(both[:3])}, …)")
