"""Something on disk -> lists of lines. One file per format, each with `read(config.data) -> Dataset`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    """

    id: str
    image: Path
    text: str
    writer: str
    source: str


@dataclass(frozen=True)
class Dataset:
    """The lines of a dataset, split.

    Attributes:
        name: Name of the split, as every report shows it: `official`, `aachen` or that of a custom one.
        train: Lines to learn from.
        val: Lines to choose by.
        test: Lines to report on, and for nothing else.
        excluded: Ids left out because the config says so (`data.exclude`).
        notes: What the reader did that one should know, a sentence each, to be shown to the user.
    """

    name: str
    train: list[Line]
    val: list[Line]
    test: list[Line]
    excluded: list[str]
    notes: list[str]

    def part(self, split: str) -> list[Line]:
        """The lines of `train`, `val` or `test`."""
        parts: dict[str, list[Line]] = {"train": self.train, "val": self.val, "test": self.test}
        return parts[split]


def read(data: "Data") -> Dataset:
    """Read the dataset that the config's `data` record describes.

    Raises:
        Error: Something is missing, damaged or not what the config claims; names the file and line or the key.
    """
    match data.format:
        case "iam":
            from hwr.datasets import iam

            return iam.read(data)
