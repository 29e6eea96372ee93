"""Something on disk -> lists of lines. One file per format, each with `read(config.data) -> Dataset`."""

import re
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwr import Error

if TYPE_CHECKING:
    from hwr.config import Data


@dataclass(frozen=True)
class Line:
    """One image of handwriting with its transcription.

    Attributes:
        id: Unique within the dataset (IAM: `a01-000u-00`).
        image: The image file.
        text: The transcription, one line of Unicode text (a form's: its lines joined by line feeds).
        writer: The writer's id, or "" where it is unknown.
        source: Where the text was read, `file:line`, for error messages.
        region: The polygon of the image that is this line, (x, y) in pixels; () if it is all of it.
        baseline: Points that the line is written along, from left to right, where they are known.
    """

    id: str
    image: Path
    text: str
    writer: str
    source: str
    region: tuple[tuple[int, int], ...] = ()
    baseline: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Dataset:
    """The lines of a dataset, split.

    Attributes:
        name: Name of the split, as every report shows it: `official`, `aachen` or that of a custom one.
        train: Lines to learn from.
        val: Lines to choose by.
        test: Lines to report on, and for nothing else.
        excluded: Ids left out because the config says so (`data.exclude`).
        empty: Ids left out because they have no text.
        notes: What the reader did that one should know, a sentence each, to be shown to the user.
    """

    name: str
    train: list[Line]
    val: list[Line]
    test: list[Line]
    excluded: list[str]
    notes: list[str]
    empty: list[str] = field(default_factory=list)

    def part(self, split: str) -> list[Line]:
        """The lines of `train`, `val` or `test`."""
        parts: dict[str, list[Line]] = {"train": self.train, "val": self.val, "test": self.test}
        return parts[split]


def read(data: "Data") -> Dataset:
    """Read the dataset, or the several, that the config's `data` record describes.

    The ids and writers of several have their folder's name before them: `letters/a01-000u-00`.

    Raises:
        Error: Something is missing, damaged or not what the config claims; names the file and line or the key.
    """
    if isinstance(data.root, str):
        return _read(data)
    names = [Path(root).resolve().name for root in data.root]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Error(
            f"data.root: {', '.join(twice)}: several folders have this name, by which their lines are told apart"
        )
    if strange := [id for id in data.exclude if id.partition("/")[0] not in names]:
        raise Error(
            f"data.exclude: {strange[0]}: with several roots, write FOLDER/ID; the folders are {', '.join(names)}"
        )
    found = []
    for name, root in zip(names, data.root, strict=True):
        own = tuple(id.partition("/")[2] for id in data.exclude if id.startswith(f"{name}/"))
        found.append(_named(_read(data.model_copy(update={"root": root, "exclude": own})), name))
    return Dataset(
        name=" + ".join(dataset.name for dataset in found),
        train=[line for dataset in found for line in dataset.train],
        val=[line for dataset in found for line in dataset.val],
        test=[line for dataset in found for line in dataset.test],
        excluded=[id for dataset in found for id in dataset.excluded],
        notes=[note for dataset in found for note in dataset.notes],
        empty=[id for dataset in found for id in dataset.empty],
    )


def _named(dataset: Dataset, name: str) -> Dataset:
    def lines(chosen: list[Line]) -> list[Line]:
        return [replace(x, id=f"{name}/{x.id}", writer=f"{name}/{x.writer}" if x.writer else "") for x in chosen]

    return Dataset(
        name=dataset.name,
        train=lines(dataset.train),
        val=lines(dataset.val),
        test=lines(dataset.test),
        excluded=[f"{name}/{id}" for id in dataset.excluded],
        notes=[f"{name}: {note}" for note in dataset.notes],
        empty=[f"{name}/{id}" for id in dataset.empty],
    )


# Control characters, the separators that break lines, halves of UTF-16 pairs.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _read(data: "Data") -> Dataset:
    dataset = _raw(data)
    for line in (*dataset.train, *dataset.val, *dataset.test):
        if data.unit != "form" and (found := CONTROL.search(line.text)):
            raise Error(f"{line.source}: line {line.id}: U+{ord(found[0]):04X} stands in its text, a control character")
        if any(unicodedata.bidirectional(c) in ("R", "AL") for c in line.text):
            # CTC writes from left to right, and would have to learn the text backwards.
            raise Error(f"{line.source}: line {line.id}: text from right to left can't be trained on yet")
    if data.normalise == "none":
        return dataset
    # The one place where text is changed: everything after this sees the same characters.
    form = data.normalise

    def lines(chosen: list[Line]) -> list[Line]:
        return [replace(line, text=unicodedata.normalize(form, line.text)) for line in chosen]

    return replace(dataset, train=lines(dataset.train), val=lines(dataset.val), test=lines(dataset.test))


def _raw(data: "Data") -> Dataset:
    from hwr.data.formats import alto, iam, page, pairs, table

    kind = detect(data.folder) if data.format == "auto" else data.format
    if kind != "iam" and data.unit != "line":
        raise Error(f"data.unit: {kind} has lines only, no {data.unit}s")
    match kind:
        case "iam":
            return iam.read(data)
        case "page":
            return page.read(data)
        case "alto":
            return alto.read(data)
        case "gt":
            return pairs.read(data)
        case "table":
            return table.read(data)
    raise AssertionError(kind)  # the config's check


def detect(root: Path) -> str:
    """The format of a folder or file: iam, page, alto, gt or table.

    A folder in which nothing tells is taken for IAM's, whose reader says what it misses.
    """
    from hwr.data.formats import pages, table, xml

    roots = (pages.local(xml.parse(path)) for path in pages.xml_below(root))
    marked = next((name for name in roots if name == "form" or name in pages.KINDS), "")
    if marked == "form" or (root / "ascii").is_dir():
        return "iam"  # a table may lie beside its folders
    if root.suffix.lower() in table.SUFFIXES or (root.is_dir() and table.tables(root)):
        return "table"
    if marked:
        return pages.KINDS[marked]
    return "gt" if next(root.rglob("*.gt.txt"), None) else "iam"
