"""The formats of datasets. A format is a module that recognises, reads and writes it, and a row of the table here.

Formats of marked pages also make a page from one file and write predictions into it. Nothing outside this folder knows
what a format's files look like.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset, splits
from hwr.data.formats import alto, iam, page, pairs, table
from hwr.data.formats.contents import Contents, hint, look
from hwr.data.formats.shapes import Marked, Page


class Format(Protocol):
    """What the module of a format has."""

    LAYOUT: str
    """What the format looks like on disk, for messages."""
    TAG: str
    """The root element of its XML; "" if it has none."""
    UNITS: tuple[str, ...]
    """The values of `data.unit` that it has."""
    USES: tuple[str, ...]
    """The keys of `data` that it uses and not all formats do."""
    KEEPS_WRITERS: bool
    """Whether a dataset written in it keeps its writers."""

    def detect(self, contents: Contents) -> bool:
        """Whether a folder or file is in this format."""

    def read(self, data: Data) -> Dataset:
        """Read the dataset at `data.root`, split as the config says."""

    def write(self, dataset: Dataset, out: Path) -> None:
        """Write a dataset into an existing, empty folder."""


class PageFormat(Format, Protocol):
    """What the module of a format of marked pages has as well."""

    def parse(self, path: Path, root: Any) -> Page:
        """Make a page from a file's root element; `path` is for messages."""

    def new(self, image: str, size: tuple[int, int], lines: Sequence[Marked], turned: bool = False) -> Any:
        """Make the root element of a page.

        Args:
            image: The name of its image; `size`: width and height in pixels.
            turned: Whether EXIF rotates the image and positions refer to the rotated image; the file then says so.
        """

    def update(self, root: Any, lines: Sequence[Marked]) -> None:
        """Put predicted texts into a page, given one line for each of its lines."""


PAGE_FORMATS: dict[str, PageFormat] = {"page": page, "alto": alto}

# In the order in which they are asked: a table may lie beside IAM's folders, and texts beside pages.
FORMATS: dict[str, Format] = {"iam": iam, "table": table, **PAGE_FORMATS, "gt": pairs}


def detect(root: Path) -> str:
    """Find the name of the format of a folder or file.

    Raises:
        Error: It does not exist, or is in no format that is read; names those that are.
    """
    if not root.exists() and not table.named_like_one(root):
        named = "" if root.is_absolute() else f" in {Path.cwd()}"
        raise Error(
            f"data.root: {root}: no such folder or file{named}. Name your dataset with --set data.root=PATH; without one, "
            f"`hwr synth --out {root}` draws handwriting, and `hwr iam download --root {root}` gets IAM (registration is free)"
        )
    tags = {format.TAG for format in FORMATS.values()} - {""}
    contents = look(root, tags, [format.TAG for format in PAGE_FORMATS.values()])
    for name, format in FORMATS.items():
        if format.detect(contents):
            return name
    if contents.fault:
        raise contents.fault
    layouts = "".join(f"\n  {name}: {format.LAYOUT}" for name, format in FORMATS.items())
    raise Error(
        f"data.root: {root}: {hint(contents, table.SUFFIXES, pairs.SUFFIX)}no dataset in a known format. The formats are:{layouts}"
    )


def read(data: Data) -> Dataset:
    """Read the dataset at `data.root`, which is one folder or file, in the format `data.format`.

    Raises:
        Error: As the format's `read`; the format has no such `data.unit`.
    """
    name = detect(data.folder) if data.format == "auto" else data.format
    format = FORMATS[name]
    if data.unit not in format.UNITS:
        raise Error(f"data.unit: {name} has lines only, no {data.unit}s")
    dataset = format.read(data)
    others = {key for other in FORMATS.values() for key in other.USES} - {*format.USES}
    splits.note_unused(data, sorted(others), f"in the {name} format", dataset.notes)
    return dataset
