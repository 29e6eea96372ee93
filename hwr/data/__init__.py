"""Data on disk -> a dataset of lines."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwr import Error
from hwr.system import files, terminal

if TYPE_CHECKING:
    from hwr.config import Data


PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Line:
    """One image of handwriting with its transcription.

    Attributes:
        id: Unique within the dataset (IAM: `a01-000u-00`).
        image: The image file.
        text: The transcription, one line of Unicode text (of a form: its lines joined by line feeds).
        writer: The writer's id, or "" if unknown.
        source: Where the text was read, `file:line`, for error messages.
        region: The outline of the line in the image, (x, y) in pixels; () if it is the whole image.
        baseline: Points along the baseline, from left to right, if they are known.
        upright: Whether positions refer to the image rotated by its EXIF orientation rather than as stored.
        place: Its number among the lines of its page, in reading order.
    """

    id: str
    image: Path
    text: str
    writer: str
    source: str
    region: tuple[tuple[int, int], ...] = ()
    baseline: tuple[tuple[int, int], ...] = ()
    upright: bool = False
    place: int = 0


@dataclass(frozen=True)
class Fault:
    """A line or a document that can't be read.

    Attributes:
        id: Its id, which `data.exclude` may name.
        message: What is wrong, and where.
        document: The id of the page or folder that it belongs to.
    """

    id: str
    message: str
    document: str = ""


@dataclass(frozen=True)
class Dataset:
    """The lines of a dataset, split.

    Attributes:
        name: Name of the split, as every report shows it: `official`, `aachen` or a custom name.
        train: Training lines.
        val: Validation lines.
        test: Test lines, for reporting only.
        excluded: Ids excluded by the config (`data.exclude`).
        empty: Ids skipped because they have no text.
        notes: What the user should know of how the data were read, a sentence each.
        faults: Lines and documents that can't be read.
    """

    name: str
    train: list[Line]
    val: list[Line]
    test: list[Line]
    excluded: list[str]
    notes: list[str]
    empty: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def lines(self) -> list[Line]:
        """All lines: train, val, test."""
        return [*self.train, *self.val, *self.test]

    def part(self, split: str) -> list[Line]:
        """The lines of `train`, `val` or `test`."""
        parts: dict[str, list[Line]] = {"train": self.train, "val": self.val, "test": self.test}
        return parts[split]


# Faults shown in a message.
SHOWN = 20


def read(data: "Data") -> Dataset:
    """Read the dataset or datasets that the config's `data` section describes.

    With several roots, ids and writers start with the folder's name: `letters/a01-000u-00`. Lines that can't be read are an
    error, which lists all of them, or (`data.faults: skip`) a note.

    Raises:
        Error: Data are missing, damaged or not as the config says; names the file and line or the key.
    """
    found = read_all(data)
    if not found.faults:
        return found
    if data.faults == "skip" and found.lines:
        note = f"{_counted(found.faults)} can't be read and {'are' if found.faults[1:] else 'is'} skipped:\n{listed(found.faults)}"
        return replace(found, notes=[*found.notes, note], faults=[])
    raise Error(
        f"{listed(found.faults)}\n{_counted(found.faults)} can't be read. Repair what is listed, exclude it by id or "
        "pattern (--set 'data.exclude=[ID, PAGE/*]'), or skip it (--set data.faults=skip)"
    )


def lines_of(dataset: Dataset, split: str, settings: "Data") -> list[Line]:
    """The lines (or words) of a split, or of `all` splits, each once.

    Raises:
        Error: There is no such split, it is empty, or its lines are whole forms, which a line recogniser can't read.
    """
    if split not in (*PARTS, "all"):
        raise Error(f"{split}: no such split; it is {', '.join(PARTS)} or all")
    if settings.unit == "form":
        raise Error("data.unit: a recogniser reads line or word images, not whole forms; set data.unit=line")
    lines = list(dict.fromkeys(dataset.lines)) if split == "all" else dataset.part(split)  # some in val and in test
    if not lines:
        remedy = (
            f"data.{split} names its lists, or another data.seed draws another one; --split all reads all lines"
            if split != "all"
            else ""
        )
        raise Error(f"the {split} split of {dataset.name} has no lines" + (f"; {remedy}" if remedy else ""))
    return lines


def _counted(faults: Sequence[Fault]) -> str:
    return terminal.counted(len(faults), "line or page", "lines or pages")


def listed(faults: Sequence[Fault]) -> str:
    """Faults for a message, a line each."""
    rows = [fault.message if fault.id in fault.message else f"{fault.id}: {fault.message}" for fault in faults[:SHOWN]]
    more = f"… and {len(faults) - SHOWN} more; `hwr data summary --json` lists all"
    return "\n".join([*rows, more] if len(faults) > SHOWN else rows)


def read_all(data: "Data") -> Dataset:
    """`read`, with the lines that can't be read in the dataset's `faults`."""
    if isinstance(data.root, str):
        return _read(data)
    names = [files.nfc(Path(root).resolve().name) for root in data.root]
    exclude = [files.nfc(id) for id in data.exclude]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Error(
            f"data.root: {', '.join(twice)}: several folders have this name, which should tell their lines apart"
        )
    from hwr.data.splits import DAMAGED_IN_IAM

    damaged = tuple(id for id in exclude if id in DAMAGED_IN_IAM)  # of a recipe, for whichever folder is IAM
    if strange := [id for id in exclude if id not in damaged and id.partition("/")[0] not in names]:
        raise Error(
            f"data.exclude: {strange[0]}: with several roots, write FOLDER/ID; the folders are {', '.join(names)}"
        )
    found = []
    for name, root in zip(names, data.root, strict=True):
        own = tuple(id.partition("/")[2] for id in exclude if id.startswith(f"{name}/"))
        found.append(_named(_read(data.model_copy(update={"root": root, "exclude": (*damaged, *own)})), name))
    return Dataset(
        name=" + ".join(dataset.name for dataset in found),
        train=[line for dataset in found for line in dataset.train],
        val=[line for dataset in found for line in dataset.val],
        test=[line for dataset in found for line in dataset.test],
        excluded=[id for dataset in found for id in dataset.excluded],
        notes=[*(note for dataset in found for note in dataset.notes), *_shared_images(found)],
        empty=[id for dataset in found for id in dataset.empty],
        faults=[fault for dataset in found for fault in dataset.faults],
    )


def _shared_images(datasets: Sequence[Dataset]) -> list[str]:
    """A note on images that are in several datasets: each is split by itself, so a test line may be a training line, too."""
    images = (image for each in datasets for image in {files.real(line.image) for line in each.lines})
    twice = sorted(str(image) for image, number in Counter(images).items() if number > 1)
    if not twice:
        return []
    what = "images are in several folders of data.root, which are split each by itself, so they may be in several parts"
    return [f"{len(twice)} {what} ({terminal.some(twice, 3)})"]


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
        faults=[replace(x, id=f"{name}/{x.id}", document=f"{name}/{x.document}") for x in dataset.faults],
    )


# Characters that no text may contain.
CONTROL = terminal.CONTROL


def _read(data: "Data") -> Dataset:
    from hwr.data import formats

    dataset = formats.read(data)
    faults = list(dataset.faults)
    # Text is changed here only: everything after this sees the same characters.
    form = data.normalise

    def lines(chosen: list[Line]) -> list[Line]:
        good = []
        for line in chosen:
            if fault := unusable(line.text, data.unit):
                faults.append(Fault(line.id, f"{line.source}: line {line.id}: {fault}"))
            else:
                good.append(line if form == "none" else replace(line, text=unicodedata.normalize(form, line.text)))
        return good

    train, val, test = (lines(dataset.part(part)) for part in PARTS)
    faults = list(dict.fromkeys(faults))  # an id may be in val and in test
    notes = [*dataset.notes, *_several_names([*train, *val, *test])]
    return replace(dataset, train=train, val=val, test=test, faults=faults, notes=notes)


def _several_names(lines: Sequence[Line]) -> list[str]:
    """A note on image files that are read under more than one name."""
    twice = files.several_names(dict.fromkeys(str(line.image) for line in lines))
    if not twice:
        return []
    return [
        f"{terminal.counted(len(twice), 'image is', 'images are')} read again under another name: {twice[0][0]} is {twice[0][1]}"
    ]


def unusable(text: str, unit: str) -> str:
    """Why a text can't be trained on or evaluated; "" if it can.

    Args:
        unit: What it is the text of, as `data.unit`.
    """
    if unit != "form" and (found := CONTROL.search(text)):
        return f"its text contains the control character U+{ord(found[0]):04X}"
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        # CTC reads from left to right and would have to learn the text backwards.
        return "text from right to left can't be trained on yet"
    return ""
