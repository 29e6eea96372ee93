"""`hwr evaluate --pages`: two synthetic pages, and finders that make known mistakes."""

import json
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rapidfuzz.distance import Levenshtein

from hwr import Error, checkpoint, config, data, loading
from hwr.cli import main
from hwr.data import Line
from hwr.data.formats import page, xml
from hwr.data.formats.shapes import Marked
from hwr.evaluation import pages as page_evaluation
from hwr.images import load, orientation
from hwr.pages import segment
from hwr.pages.sources import Target
from hwr.recognizer import Recognizer

Boxes = dict[str, list[tuple[int, int, int, int]]]


@pytest.fixture(scope="module")
def pages(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Boxes]:
    """Two pages of four and three lines in PAGE, and the boxes of their lines."""
    folder = tmp_path_factory.mktemp("pages")
    lines = data.read(config.load(None, [f"data.root={drawn}"]).data).train
    return folder, {name: written(folder, name, lines[at]) for name, at in NAMES.items()}


NAMES = {"p1": slice(0, 4), "p2": slice(4, 7)}


def written(folder: Path, name: str, lines: list[Line]) -> list[tuple[int, int, int, int]]:
    images = [load.read(line.image) for line in lines]
    canvas = np.full((sum(len(x) + 30 for x in images) + 30, 60 + max(x.shape[1] for x in images)), 255, np.uint8)
    boxes, top = [], 30
    for x in images:
        canvas[top : top + len(x), 30 : 30 + x.shape[1]] = x
        boxes.append((30, top, 29 + x.shape[1], top + len(x) - 1))
        top += len(x) + 30
    Image.fromarray(canvas).save(folder / f"{name}.png")
    marked = [
        Marked(f"l{i}", line.text, corners(box), (), "") for i, (line, box) in enumerate(zip(lines, boxes, strict=True))
    ]
    xml.write(page.new(f"{name}.png", canvas.shape[::-1], marked), folder / f"{name}.xml")
    return boxes


def corners(box: tuple[int, int, int, int]) -> load.Polygon:
    left, top, right, bottom = box
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def finder(change: Callable[[Path, list[Any]], list[Any]], boxes: Boxes) -> Callable[..., list[Target]]:
    def lines_of(path: Path, recognizer: object) -> list[Target]:
        found = change(path, list(boxes[path.stem]))
        return [Target(path, corners(box), (), f"line{i}", upright=True) for i, box in enumerate(found)]

    return lines_of


def report(root: Path, model: Path, *more: object, exit_code: int = 0) -> tuple[dict[str, Any], Any]:
    arguments = [
        "evaluate",
        "--checkpoint",
        model,
        "--pages",
        "--set",
        f"data.root={root}",
        "--split",
        "all",
        "--json",
        "-",
        *more,
    ]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == exit_code, f"{done.output}{done.exception!r}"
    return json.loads(done.stdout), done


def test_lines_found_as_they_are_marked(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, boxes = pages
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(lambda path, found: found, boxes))
    found, _ = report(root, model)
    assert (found["pages"], found["lines"], found["lines_found"], found["lines_extra"]) == (2, 7, 7, 0)
    assert {key: found[key] for key in found["ground_truth_lines"]} == found["ground_truth_lines"]
    assert found["cer_ratio"] == 1
    assert found["broken"] == []
    edits = sum(Levenshtein.distance(page["reference"], page["hypothesis"]) for page in found["worst"])
    assert found["cer"] == pytest.approx(edits / found["characters"])
    low, high = found["cer_ci95"]
    assert low <= found["cer"] <= high
    assert 0 < found["similarity"] <= 1


class Process:
    """One of several that evaluate at the same time; here, a thread."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, sent: dict[tuple[int, int], Any]) -> None:
        self.rank, self.size, self.barrier, self.sent, self.calls = rank, size, barrier, sent, 0

    def all_gather(self, value: Any) -> list[Any]:
        self.calls += 1
        self.sent[self.calls, self.rank] = value
        self.barrier.wait(300)
        return [self.sent[self.calls, rank] for rank in range(self.size)]

    def highest(self, values: list[float]) -> list[float]:
        return [max(each) for each in zip(*self.all_gather(values), strict=True)]


@pytest.mark.parametrize("size", [2, 3])
def test_each_page_is_read_by_one_process(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    root, boxes = pages
    seen: list[str] = []

    def find(path: Path) -> list[Target]:
        seen.append(path.stem)
        return finder(lambda path, found: found[::-1], boxes)(path, None)

    def evaluated(group: Any) -> dict[str, Any]:
        reader = Recognizer(
            *loading.settings_for(model, None, [f"data.root={root}", "engine.name=torch"], dataset=True)
        )
        if group is not None:
            monkeypatch.setattr(reader.engine, "group", group)
        done = page_evaluation.evaluate(reader, find, "all").to_dict()
        return {key: value for key, value in done.items() if not key.startswith("seconds")}

    alone = evaluated(None)
    seen.clear()
    barrier, sent = threading.Barrier(size), dict[tuple[int, int], Any]()
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(evaluated, [Process(rank, size, barrier, sent) for rank in range(size)]))
    assert found == [alone] * size
    assert sorted(seen) == ["p1", "p2"]


def test_a_model_trained_on_the_same_pages_is_noted(
    pages: tuple[Path, Boxes], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, boxes = pages
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(lambda path, found: found, boxes))
    scores = {"trained_on": [root.name], "split_name": f"{root.name}, drawn with seed 1"}
    trained = tmp_path / "trained.safetensors"
    checkpoint.save(trained, replace(checkpoint.load(model), scores=scores))
    found, _ = report(root, trained)
    assert any("its lines may be training lines" in note for note in found["notes"])


def test_lines_in_another_order_split_merged_and_extra(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, boxes = pages

    def change(path: Path, found: list[Any]) -> list[Any]:
        if path.stem == "p1":
            return found[::-1]
        (left, top, right, bottom), two, three = found
        middle = (left + right) // 2
        both = (two[0], two[1], max(two[2], three[2]), three[3])
        return [(left, top, middle, bottom), (middle + 1, top, right, bottom), both, (0, 0, 20, 20)]

    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(change, boxes))
    found, _ = report(root, model)
    counts = [found[f"lines_{key}"] for key in ("found", "split", "merged", "missed", "predicted", "extra")]
    assert counts == [4, 1, 2, 0, 8, 1]
    first = next(page for page in found["worst"] if page["id"] == "p1")
    assert first["found"] == 4
    assert found["cer"] > found["ground_truth_lines"]["cer"]
    assert found["bag_of_words"] <= found["wer"]
    assert first["cer"] > first["cer_in_order"] == first["cer_given"]


def test_the_order_of_lines_does_not_depend_on_line_breaks_in_the_xml(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, boxes = pages
    given = tmp_path / "given"
    given.mkdir()
    for path in root.glob("p1*"):
        shutil.copy(path, given)
    marked = given / "p1.xml"
    texts = re.findall("<Unicode>(.*?)</Unicode>", marked.read_text())
    marked.write_text(re.sub(r">\s+<", "><", marked.read_text()))
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(lambda path, found: found, boxes))
    found, _ = report(given, model)
    assert found["worst"][0]["reference"] == " ".join(texts)
    assert len(texts) == 4
    for kind in ("page", "alto"):
        out = tmp_path / kind
        assert CliRunner().invoke(main, ["data", "convert", str(given), str(out), "--to", kind]).exit_code == 0
        written = data.read(config.load(None, [f"data.root={out}"]).data)
        lines = sorted(written.lines, key=lambda line: line.place)
        assert [line.text for line in lines] == texts


def test_lines_found_on_a_turned_photo_are_compared_on_the_stored_one(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The ground truth refers to the pixels as stored, and finders see the photo upright."""
    root, boxes = pages
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    with Image.open(root / "p1.png") as image:
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(np.asarray(image))))
    stored.save(tmp_path / "p1.png", exif=exif)
    texts = re.findall("<Unicode>(.*?)</Unicode>", (root / "p1.xml").read_text())
    marked = []
    for i, (text, (left, top, right, bottom)) in enumerate(zip(texts, boxes["p1"], strict=True)):
        shapes = (corners((left, top, right, bottom)), ((left, bottom - 9), (right, bottom - 9)))
        marked.append(Marked(f"l{i}", text, *(orientation.as_stored(x, 6, *stored.size) for x in shapes), ""))
    xml.write(page.new("p1.png", stored.size, marked), tmp_path / "p1.xml")
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(lambda path, found: found, boxes))
    found, _ = report(tmp_path, model)
    assert (found["lines"], found["lines_found"], found["lines_extra"]) == (4, 4, 0)
    assert found["cer_in_order"] == found["cer"] == found["ground_truth_lines"]["cer"]


def test_an_image_of_several_pages_is_a_broken_page(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, boxes = pages
    with Image.open(root / "p1.png") as image:
        image.save(tmp_path / "p1.tif", save_all=True, append_images=[image])
    (tmp_path / "p1.xml").write_text((root / "p1.xml").read_text().replace("p1.png", "p1.tif"))
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(lambda path, found: found, boxes))
    _, done = report(tmp_path, model, exit_code=1)
    assert "p1.tif: holds 2 pages" in done.stderr


def test_a_broken_page_counts_and_the_others_are_read(
    pages: tuple[Path, Boxes], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, boxes = pages

    def change(path: Path, found: list[Any]) -> list[Any]:
        if path.stem == "p2":
            raise Error(f"{path}: no lines can be found")
        return found

    monkeypatch.setitem(segment.SEGMENTERS, "hwr", finder(change, boxes))
    written = ["--report", tmp_path / "r.html", "--picture", tmp_path / "r.png"]
    found, done = report(root, model, *written, exit_code=1)
    assert "p2.png: no lines can be found" in done.stderr
    assert len(found["broken"]) == 1
    assert (found["lines_found"], found["lines_missed"]) == (4, 3)
    assert b"p2.png: no lines can be found" in (tmp_path / "r.html").read_bytes()
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.width > 100
    table = hwr_pages(root, model, "--split", "all").stdout
    assert "4 found, 0 split, 0 merged, 3 missed" in table
    monkeypatch.setitem(segment.SEGMENTERS, "kraken", finder(lambda path, found: [], boxes))
    found, _ = report(root, model, "--segmenter", "kraken")
    assert (found["lines_found"], found["lines_missed"], found["cer"], found["similarity"]) == (0, 7, 1, 0)


def hwr_pages(root: Path, model: Path, *more: str) -> Any:
    arguments = ["evaluate", "--checkpoint", str(model), "--pages", "--set", f"data.root={root}"]
    return CliRunner().invoke(main, [*arguments, *more])


def test_parts_of_pages_are_refused(pages: tuple[Path, Boxes], drawn: Path, model: Path) -> None:
    done = hwr_pages(pages[0], model)  # two pages are split by line
    assert done.exit_code == 2
    assert "--split all" in done.stderr
    done = CliRunner().invoke(main, ["evaluate", "--checkpoint", str(model), "--segmenter", "kraken"])
    assert done.exit_code == 2
    assert "--segmenter finds the lines of pages; give --pages as well" in done.stderr
    done = hwr_pages(drawn, model)
    assert done.exit_code == 2
    assert "is a line image; data.root needs to be PAGE or ALTO" in done.stderr
