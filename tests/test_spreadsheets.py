"""Tables as spreadsheets and other programs save them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from hwr.cli import main

from .conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared/cases"
QUOTED = "cells are in quotes, as spreadsheets save them"
SAID = 'He said "hi", twice'

# Name, content -> the texts, and the beginning of a note.
SAVED: dict[str, tuple[str, str, list[str], str]] = {
    "Excel, CSV": ("a.csv", '\ufeffimage,text\r\na.png,"He said ""hi"", twice"\r\n', [SAID], ""),
    "Excel in a country of decimal commas": (
        "a.csv",
        "image;text\r\na.png;hi, there\r\n",
        ["hi, there"],
        "cells are separated",
    ),
    "with Excel's first line": ("a.csv", "sep=;\nimage;text\na.png;hi\n", ["hi"], "cells are separated by semicolons"),
    "Excel, tabs": (
        "a.tsv",
        '\ufeffimage\ttext\r\na.png\t"He said ""hi"", twice"\r\nb.png\tx\r\n',
        [SAID, "x"],
        QUOTED,
    ),
    "only commas need quotes": ("a.tsv", 'image\ttext\na.png\t"hi, you"\nb.png\tx\n', ["hi, you", "x"], QUOTED),
    "commas elsewhere do not": (
        "a.tsv",
        'image\ttext\na.png\t"hi, you"\nb.png\tx, y\n',
        ['"hi, you"', "x, y"],
        "1 cell is",
    ),
    "a quoted sentence": (
        "a.tsv",
        'image\ttext\na.png\t"whole"\nb.png\tx\n',
        ['"whole"', "x"],
        "1 cell is in quotes",
    ),
    "ordinary quotes": ("a.tsv", 'image\ttext\na.png\tHe said "hi"\n', ['He said "hi"'], ""),
    "all cells in quotes": ("a.tsv", '"image"\t"text"\n"a.png"\t"hi"\n', ["hi"], QUOTED),
    "all cells in quotes, CSV": ("a.csv", '"image","text"\n"a.png","hi"\n', ["hi"], ""),
    "capitals and spaces in the header": ("a.csv", " Image , Text\na.png,hi\n", ["hi"], ""),
    "tabs under another name": ("a.csv", "image\ttext\na.png\thi, you\n", ["hi, you"], "cells are separated by tabs"),
    "commas under another name": (
        "a.tsv",
        'image,text\na.png,"hi, you"\n',
        ["hi, you"],
        "cells are separated by commas",
    ),
    "rows without an end": ("a.csv", "image,text\ra.png,hi\r", ["hi"], ""),
    "empty columns": ("a.csv", "image,text,,\na.png,hi,,\n", ["hi"], ""),
    "paths of Windows": ("a.csv", "image,text\n.\\a.png,hi\n", ["hi"], ""),
}


def summary(folder: Path, name: str, content: bytes) -> tuple[int, dict[str, list[str]] | str]:
    for image in ("a.png", "b.png"):
        Image.new("L", (80, 30), 230).save(folder / image)
    (folder / name).write_bytes(content)
    done = CliRunner().invoke(main, ["data", "summary", str(folder), "--json"])
    return done.exit_code, json.loads(done.stdout) if done.exit_code < 2 else done.output


def texts(folder: Path) -> list[str]:
    from hwr import config, data

    found = data.read(config.load(None, [f"data.root={folder}"]).data)
    return [line.text for line in sorted(found.lines, key=lambda line: line.source)]


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_are_read_as_they_were_saved(tmp_path: Path, kind: str, encoding: str) -> None:
    name, content, expected, note = SAVED[kind]
    encoded = content.encode() if encoding == "utf-8" else content.lstrip("\ufeff").encode("utf-16")
    status, found = summary(tmp_path, name, encoded)
    assert status == 0, found
    assert texts(tmp_path) == expected
    assert isinstance(found, dict)
    mine = [text.partition(f"{name}: ")[2] for text in found["notes"] if f"{name}: " in text]
    assert [text.startswith(note) for text in mine] == ([True] if note else [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "image,text,text\na.png,x,y\n", "a.csv:1: has several columns text"),
        ("a.csv", "a.png,hi\n", "a.csv:1: has no column image"),
        ("a.csv", "", "a.csv:1: has no column image"),
    ],
)
def test_ambiguous_headers_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    status, found = summary(tmp_path, name, content.encode())
    assert status == 2
    assert message in str(found)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("a.tsv", 'a.png\t"a\tb"', "control character U+0009"),
        ("a.csv", 'a.png,"a\nb"', "control character U+000A"),
        ("a.csv", "a.png,hi,more", "different numbers of cells"),
        ("a.csv", "sub\\..\\..\\x.png,hi", "no such image"),
        ("a.csv", "../x.png,hi", "must lead from"),
        ("a.csv", 'a.png,"a"b', "what follows is not read"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, row: str, message: str) -> None:
    between = "," if name.endswith(".csv") else "\t"
    content = f"image{between}text\nb.png{between}good\n{row}\n"
    status, found = summary(tmp_path, name, content.encode())
    assert status == 1
    assert isinstance(found, dict)
    (fault,) = found["faults"]
    assert message in str(fault)
    assert f"{name}:{3 + row.count(chr(10))}" in str(fault)
    assert found["lines"] == 1


def test_the_case() -> None:
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    assert texts(CASES / "tsv-from-excel") == [SAID]
