"""A dataset converted from any format into any other and back: what survives, and what is reported as lost."""

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hwr import Error, config, data
from hwr.data import PARTS, Dataset, Line
from hwr.data.convert import convert
from hwr.data.formats import FORMATS, PAGE_FORMATS
from hwr.images import load

# Pieces that formats have changed before: entities, quotes, separators, ends of lines in other places, and what a format uses
# itself. Control characters are refused when a dataset is read.
PIECES = (
    *(
        "a",
        "B",
        "9",
        " ",
        "  ",
        "é",
        "e\u0301",
        "ß",
        "日",
        "\U0001f600",
        "&",
        "<",
        ">",
        "&amp;",
        "&lt;",
        "&amp;lt;",
        "&#65;",
    ),
    *(
        "&eacute;",
        "&",
        ";",
        '"',
        '""',
        "'",
        ",",
        "|",
        "\\",
        "\\n",
        "\\t",
        "]]>",
        "<![CDATA[",
        "<!--",
        "{}",
        "[1]",
        "#",
        "%s",
    ),
    *("\u00a0", "\u00ad", "\u200b", "\u2060", "-", "--", "null", "1e5", "\ufeff", "¬", "\u2019"),
)
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
NAMES = st.text("ab1-_. é&<'\"", min_size=1, max_size=6)
COORDINATES = st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(4, 9), st.integers(3, 6))
LINE = st.tuples(TEXTS, NAMES, st.sampled_from(("w1", "w 2", "")), st.sampled_from(PARTS), COORDINATES, st.booleans())


@functools.cache
def images() -> tuple[Path, ...]:
    """Two pages of grain, so that every cut differs."""
    folder = Path(tempfile.mkdtemp(prefix="hwr-conversions-"))
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (24, 48), np.uint8)).save(folder / f"page {number}.png")
    return tuple(sorted(folder.iterdir()))


def drawn(found: list[tuple[str, str, str, str, tuple[int, int, int, int], bool]]) -> Dataset:
    """A dataset of lines on two pages."""
    lines: dict[str, list[Line]] = {part: [] for part in PARTS}
    for number, (text, name, writer, part, (x, y, width, height), baseline) in enumerate(found):
        region = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
        base = ((x, y + height - 1), (x + width, y + height - 1)) if baseline else ()
        # Each line is told from the others by its text.
        text = f"{number}{text}{number}"
        image = images()[number % 2]
        lines[part].append(Line(f"{image.stem}/{name}{number}", image, text, writer, "x:1", region, base))
    return Dataset("drawn", *lines.values(), [], [])


def read(folder: Path, kind: str) -> Dataset:
    return data.read(config.load(None, [f"data.root={folder}", f"data.format={kind}", "data.normalise=none"]).data)


def each(dataset: Dataset) -> Iterator[tuple[str, Line]]:
    return ((part, line) for part in PARTS for line in dataset.part(part))


def facts(dataset: Dataset, writers: bool) -> dict[str, tuple[str, str, bytes, tuple[int, ...]]]:
    """Text -> part, writer, and the pixels as training sees them."""
    out = {}
    for part, line in each(dataset):
        pixels = load.read_line(line.image, line.region, line.upright, line.baseline)
        out[line.text] = (part, line.writer if writers else "", pixels.tobytes(), pixels.shape)
    return out


def shapes(dataset: Dataset) -> dict[str, tuple[str, object, object]]:
    return {line.text: (line.id.rpartition("/")[2], line.region, line.baseline) for _, line in each(dataset)}


def converted(dataset: Dataset, out: Path, kind: str) -> list[str] | None:
    """What was lost; None if the format can't hold a text, which only IAM's can't."""
    try:
        return convert(dataset, out, kind)
    except Error as error:
        fault = str(error)
    assert (kind, "can't hold the text" in fault) == ("iam", True), fault
    return None


@pytest.mark.parametrize("there", FORMATS)
@pytest.mark.parametrize("back", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(found=st.lists(LINE, min_size=1, max_size=5))
def test_there_and_back(
    there: str, back: str, found: list[tuple[str, str, str, str, tuple[int, int, int, int], bool]]
) -> None:
    dataset = drawn(found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        lost = converted(dataset, path / "0", back)
        if lost is None:
            return
        first = read(path / "0", back)
        assert [note for note in lost if "holds no writers" in note] == lost
        writers = any(line.writer for _, line in each(dataset))
        assert bool(lost) == (writers and not FORMATS[back].KEEPS_WRITERS)
        assert facts(first, not lost) == facts(dataset, not lost)
        if back in PAGE_FORMATS:
            assert shapes(first) == shapes(dataset)
        lost_there = converted(first, path / "1", there)
        if lost_there is None:
            return
        convert(read(path / "1", there), path / "2", back)
        second = read(path / "2", back)
        assert not second.faults
        assert facts(second, not lost_there) == facts(first, not lost_there)
        if back in PAGE_FORMATS and there in PAGE_FORMATS:
            assert shapes(second) == shapes(first)
