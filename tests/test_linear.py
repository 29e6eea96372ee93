"""Work grows in proportion to lines and pages: it is counted, not timed."""

import fnmatch
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr.config import Data
from hwr.data import Dataset, Fault, Line, splits
from hwr.data.formats import FORMATS, page_edit, shapes, writing, xml
from hwr.data.formats.shapes import Marked, Page
from hwr.decoding import transcript
from hwr.images import load
from hwr.system import atomic


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[None]:
    """Count the calls of a function from now on."""
    calls: list[None] = []
    function: Callable[..., object] = getattr(module, name)

    def call(*arguments: object, **options: object) -> object:
        calls.append(None)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def page_of(baselines: list[tuple[float, int, int]], height: int) -> Page:
    lines = tuple(
        Marked(str(i), "x", (), ((left, round(y)), (right, round(y))), "")
        for i, (y, left, right) in enumerate(baselines)
    )
    return Page("", "", 5000, height, lines, False)


@pytest.mark.parametrize("columns", [1, 7])
def test_the_distance_of_baselines(columns: int) -> None:
    """As if each were compared with each other one, in any order of the file."""
    rng = random.Random(columns)
    places = [
        (float(rng.randrange(2000)), start := 600 * rng.randrange(columns), start + rng.randrange(20, 700))
        for _ in range(120)
    ]
    expected = []
    for one in places:
        level, left, right = one
        found = [
            abs(its - level)
            for its, start, end in places
            if min(right, end) - max(left, start) > 0.3 * min(right - left, end - start) and abs(its - level) > 10
        ]
        expected += [min(found)] if found else []
    assert sorted(shapes._steps(places, 10)) == sorted(expected)


def test_the_place_of_each_baseline_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of([(10.0 * i, 0, 1000) for i in range(300)], 3000)
    calls = counted(monkeypatch, shapes, "_place")
    assert len(shapes.regions(page)) == len(calls) == 300


def test_lines_without_ids_are_named_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(lines: int) -> int:
        row = '<TextLine><Coords points="0,0 9,0 9,9 0,9"/></TextLine>'
        text = f'<PcGts><Page imageFilename="a.png" imageWidth="9" imageHeight="9">{row * lines}</Page></PcGts>'
        calls = counted(monkeypatch, xml, "local")
        passes = counted(monkeypatch, page_edit.itertools, "count")
        document, _, _ = page_edit.parse(text.encode(), Path("a.xml"))
        assert len({line.get("id") for line in xml.descendants(document.root, "TextLine")}) == lines
        assert len(passes) == 1
        monkeypatch.undo()
        return len(calls)

    assert work(200) < 2.1 * work(100)


def test_free_names_are_found_at_once() -> None:
    class Counting(dict[str, int]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            Counting.asked += 1
            return super().__contains__(key)

    names = writing.Names()
    names._used = Counting()
    found = [names.free(wanted) for _ in range(500) for wanted in ("0001", "0001~2", "A", "a")]
    assert len({name.casefold() for name in found}) == len(found)
    assert max(map(len, found)) < 12  # a file name has at most 255 bytes
    assert Counting.asked < 3 * len(found)


def test_patterns_are_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, fnmatch, "translate")
    excluded = splits.excluder(["a/*", "b[1]?", *map(str, range(100))])
    assert [excluded(id) for id in ("a/1", "b[1]2", "b1", "99", "x", *"x" * 500)] == [1, 1, 0, 1, 0, *[0] * 500]
    assert len(calls) == 2


def test_faults_are_not_compared_with_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [Fault(f"p/{i}", "bad", "p") for i in range(300)]
    compared: list[None] = []
    equal = Fault.__eq__
    monkeypatch.setattr(Fault, "__eq__", lambda one, other: compared.append(None) or equal(one, other))
    data = Data(root=str(tmp_path), exclude=("p/1?",))
    lines = [Line(f"q{i}/l", tmp_path / "a.png", "x", "", "") for i in range(3)]
    found = splits.split(data, lines, [line.id for line in lines], [], [], faults=faults)
    assert (len(found.faults), len(found.excluded)) == (290, 10)
    assert len(compared) < 2 * len(faults)


@pytest.mark.parametrize("kind", ["table", "gt", "iam"])
def test_a_page_is_decoded_once_for_all_its_lines(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.full((400, 60), 200, np.uint8)).save(tmp_path / "page.png")
    lines = [
        Line(f"page/{i}", tmp_path / "page.png", f"text {i}", "", "", ((0, 9 * i), (50, 9 * i), (50, 9 * i + 8)))
        for i in range(30)
    ]
    dataset = Dataset("d", lines[:10], lines[10:20], lines[20:], [], [])
    calls = counted(monkeypatch, load, "read")
    (tmp_path / "out").mkdir()
    FORMATS[kind].write(dataset, tmp_path / "out")
    assert len(calls) == 1
    assert len(list((tmp_path / "out").rglob("*.png"))) == 30


def test_lines_out_of_order() -> None:
    """All but a longest increasing sequence."""
    rng = random.Random(0)
    for _ in range(50):
        starts = rng.sample(range(40), rng.randrange(1, 12))
        places = list(enumerate(starts))
        longest: list[int] = []
        for i, start in enumerate(starts):
            longest.append(1 + max((longest[j] for j in range(i) if starts[j] < start), default=0))
        moved = transcript._moved(places)
        kept = [start for i, start in places if i not in moved]
        assert kept == sorted(kept)
        assert len(kept) == max(longest)
    assert transcript._moved([]) == set()


def test_a_folder_is_not_listed_for_each_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []

    def list_names(folder: Path) -> list[str]:
        listed.append(len(names := real(folder)))
        return names

    real = os.listdir
    monkeypatch.setattr(os, "listdir", list_names)
    for i in range(1500):
        with atomic.replacing(tmp_path / f"{i}.txt"):
            pass
    assert len(list(tmp_path.iterdir())) == 1500
    assert sum(listed) < 1500 * 2 * atomic.LISTED


def test_what_killed_processes_left_in_a_large_folder_is_removed(tmp_path: Path) -> None:
    """By the writes to the same file that follow, as soon as the folder is listed again."""
    for i in range(1000):
        (tmp_path / f"{i}").touch()
    left = [tmp_path / ".7.txt.0123abcd.tmp", tmp_path / ".8.txt.0123abcd.tmp"]
    for path in left:
        path.touch()
        os.utime(path, (0, 0))
    with atomic.replacing(tmp_path / "7.txt"):
        pass
    assert [path.exists() for path in left] == [False, True]  # the other file's may be another's to remove
    left[0].touch()
    os.utime(left[0], (0, 0))
    for _ in range(20):
        with atomic.replacing(tmp_path / "7.txt"):
            pass
    assert not left[0].exists()
