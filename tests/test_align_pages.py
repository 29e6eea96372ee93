"""`hwr align`: synthetic pages in PAGE, and page images whose lines a stand-in finds."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import config, data
from hwr.cli import main
from hwr.data import Line
from hwr.data.formats import page, xml
from hwr.data.formats.shapes import Marked
from hwr.data.formats.xml import children, descendants
from hwr.decoding.transcript import DOUBTFUL, AlignedLine, Alignment
from hwr.images import load
from hwr.pages import align as aligning
from hwr.pages import segment
from hwr.pages.align import AlignedPage, kept, table_of_lines
from hwr.pages.outputs import FORMATS
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.predict import on_page
from hwr.pages.sources import Target
from hwr.recognizer import Character, Prepared

from .conftest import REPOSITORY

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def lines(drawn: Path) -> list[Line]:
    """Training lines of the model, which it reads well."""
    return data.read(config.load(None, [f"data.root={drawn}"]).data).train


@pytest.fixture
def pages(lines: list[Line], tmp_path: Path) -> dict[str, list[Box]]:
    """Two pages as PAGE in `marked/`, their images in `scans/`, their transcripts in `texts/`; the boxes of their lines."""
    for name in ("marked", "scans", "texts"):
        (tmp_path / name).mkdir()
    return {name: _page(tmp_path, name, lines[at]) for name, at in (("p1", slice(0, 5)), ("p2", slice(5, 8)))}


def _page(root: Path, name: str, lines: list[Line]) -> list[Box]:
    images = [load.read(line.image) for line in lines]
    canvas = np.full((sum(len(x) + 30 for x in images) + 30, 60 + max(x.shape[1] for x in images)), 255, np.uint8)
    boxes, top = [], 30
    for x in images:
        canvas[top : top + len(x), 30 : 30 + x.shape[1]] = x
        boxes.append((30, top, 29 + x.shape[1], top + len(x) - 1))
        top += len(x) + 30
    Image.fromarray(canvas).save(root / "scans" / f"{name}.png")
    marked = [Marked(f"l{i}", "", corners(box), (), "") for i, box in enumerate(boxes)]
    xml.write(page.new(f"{name}.png", canvas.shape[::-1], marked), root / "marked" / f"{name}.xml")
    (root / "texts" / f"{name}.txt").write_text("\n".join(" ".join(x.text for x in lines).split(" ", 2)) + "\n")
    return boxes


def corners(box: Box) -> load.Polygon:
    left, top, right, bottom = box
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def hwr(*arguments: object, exit_code: int = 0) -> Any:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == exit_code, f"{done.output}{done.exception!r}"
    return done


def align(root: Path, model: Path, *more: object, pages: str = "marked", exit_code: int = 0) -> Any:
    arguments = ["--checkpoint", model, "--set", f"data.images={root / 'scans'}", *more]
    return hwr("align", root / pages, root / "texts", *arguments, exit_code=exit_code)


def written(path: Path) -> list[tuple[str, float]]:
    """The texts and confidences of the lines of a PAGE file."""
    found = [children(line, "TextEquiv")[0] for line in descendants(xml.parse(path), "TextLine")]
    return [("".join(children(e, "Unicode")[0].itertext()), float(e.get("conf"))) for e in found]


def test_lines_of_page_get_their_texts(
    pages: dict[str, list[Box]], lines: list[Line], model: Path, tmp_path: Path
) -> None:
    done = align(tmp_path, model, "--out", tmp_path / "out", "--json", tmp_path / "scores.json")
    found = {name: written(tmp_path / f"out/{name}.xml") for name in pages}
    assert [text for text, _ in found["p1"] + found["p2"]] == [line.text for line in lines[:8]]
    report = json.loads((tmp_path / "scores.json").read_text())
    assert (report["pages"], report["lines"], report["with_text"]) == (2, 8, 8)
    first = report["details"][0]
    assert Path(first["transcript"]).name == "p1.txt"
    for line, (text, confidence) in zip(first["lines"], found["p1"], strict=True):
        assert (line["text"], line["moved"]) == (text, False)
        assert 0 < line["score"] <= 1
        assert confidence == pytest.approx(line["score"], abs=1e-4)
        assert line["doubtful"] == (line["score"] < DOUBTFUL)
    assert "p1.xml: 5 of 5 lines have text" in done.stdout
    assert f"2 pages: 8 of 8 lines have text, {report['doubtful']} of them doubtful" in done.stdout


def test_a_table_to_train_on(pages: dict[str, list[Box]], lines: list[Line], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "table"
    align(tmp_path, model, "--out", out, "--format", "table")
    dataset = data.read(config.load(None, [f"data.root={out}"]).data)
    found = {x.id: x for x in dataset.lines}
    assert [found[f"p1/l{i}"].text for i in range(5)] == [line.text for line in lines[:5]]
    own, image = load.read(lines[0].image), load.read(found["p1/l0"].image)
    np.testing.assert_array_equal(image, own)
    rows = [json.loads(row) for row in (out / "metadata.jsonl").read_text().splitlines()]
    assert all(0 < row["score"] <= 1 for row in rows)
    least = sorted(row["score"] for row in rows)[3] - 1e-4
    done = align(tmp_path, model, "--out", tmp_path / "good", "--format", "table", "--min-score", least)
    kept = [json.loads(row) for row in (tmp_path / "good/metadata.jsonl").read_text().splitlines()]
    assert {row["id"] for row in kept} == {row["id"] for row in rows if row["score"] >= least}
    assert "below --min-score were left out" in done.stdout
    assert "exists already" in align(tmp_path, model, "--out", out, "--format", "table", exit_code=2).stderr
    # An interrupted run leaves nothing that reads as a smaller table.
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), table_of_lines(tmp_path / "interrupted", {}, "", 0):
        raise KeyboardInterrupt
    assert [path.name for path in set(tmp_path.iterdir()) - before] == [".interrupted.part"]


def test_lines_of_images_are_found(
    pages: dict[str, list[Box]], lines: list[Line], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(path: Path, recognizer: object) -> list[Target]:
        found = [*pages[path.stem], (0, 0, 29, 29)]  # and a patch of paper
        return [Target(path, corners(box), (), f"line{i}", upright=True) for i, box in enumerate(found)]

    monkeypatch.setitem(segment.SEGMENTERS, "kraken", find)
    align(tmp_path, model, "--segmenter", "kraken", "--out", tmp_path / "out", "--format", "alto", pages="scans")
    strings = [children(line, "String") for line in descendants(xml.parse(tmp_path / "out/p1.xml"), "TextLine")]
    assert [" ".join(s.get("CONTENT") for s in line) for line in strings] == [*(x.text for x in lines[:5]), ""]
    assert all(int(s.get("HPOS")) >= 30 for line in strings for s in line)


def test_missing_and_superfluous_texts(pages: dict[str, list[Box]], model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts/p2.txt").rename(tmp_path / "texts/p3.txt")
    done = align(tmp_path, model, "--out", tmp_path / "out", exit_code=1)
    assert "p2.xml: has no transcript p2.txt" in done.stderr
    assert "1 text belongs to no page" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == ["p1.xml"]
    (tmp_path / "texts/p2.txt").write_text(" \n")
    assert "p2.txt: has no text" in align(tmp_path, model, "--out", tmp_path / "out", exit_code=1).stderr
    (tmp_path / "texts/p2.txt").write_text("a book " * 20_000)
    assert "140,000 characters, too many" in align(tmp_path, model, "--out", tmp_path / "out", exit_code=1).stderr
    (tmp_path / "texts/p2.txt").write_text("\fA break between two pages\nand a hy\x02phen from a PDF")
    control = align(tmp_path, model, "--out", tmp_path / "out", exit_code=1).stderr
    assert "p2.txt:2: contains the control character U+0002, which no text may contain" in control
    (tmp_path / "texts/p2.txt").write_text("\x02At the very beginning")
    control = align(tmp_path, model, "--out", tmp_path / "out", exit_code=1).stderr
    assert "p2.txt:1: contains the control character U+0002" in control
    (tmp_path / "texts/p2.txt").write_text("A text about something else entirely, with 100 vegetables & an egg?")
    assert "does this transcript belong to this page?" in align(tmp_path, model, "--out", tmp_path / "out").stdout


def test_one_text_for_one_page(pages: dict[str, list[Box]], lines: list[Line], model: Path, tmp_path: Path) -> None:
    scans = ["--set", f"data.images={tmp_path / 'scans'}", "--checkpoint", model, "--out", tmp_path / "out"]
    text = tmp_path / "transcript.md"
    text.write_text(" ".join(line.text for line in lines[5:8]))
    hwr("align", tmp_path / "marked/p2.xml", text, *scans)
    assert [found for found, _ in written(tmp_path / "out/p2.xml")] == [line.text for line in lines[5:8]]
    assert "is one text, and there are 2 pages" in hwr("align", tmp_path / "marked", text, *scans, exit_code=2).stderr
    gone = hwr("align", tmp_path / "marked", tmp_path / "gone", *scans, exit_code=2)
    assert "gone: no such file" in gone.stderr
    assert "no .txt files" in hwr("align", tmp_path / "marked", tmp_path / "scans", *scans, exit_code=2).stderr
    (tmp_path / "texts/more").mkdir()
    (tmp_path / "texts/more/p1.txt").write_text("again")
    twice = hwr("align", tmp_path / "marked", tmp_path / "texts", *scans, exit_code=2)
    assert "have the same name" in twice.stderr


def test_texts_of_the_pages_of_books(
    lines: list[Line], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(segment.SEGMENTERS, "hwr", lambda path, recognizer: [_whole(path)])
    for name in ("scans/x", "scans/y", "texts"):
        (tmp_path / name).mkdir(parents=True)
    for book, at in (("a", 0), ("b", 2)):
        first, second = (Image.fromarray(load.read(line.image)) for line in lines[at : at + 2])
        first.save(tmp_path / f"scans/{book}.tif", save_all=True, append_images=[second])
        for number in (1, 2):
            (tmp_path / f"texts/{book}-000{number}.txt").write_text(lines[at + number - 1].text)
    align(tmp_path, model, "--out", tmp_path / "out", "--format", "table", pages="scans")
    rows = [json.loads(row) for row in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    names = ["a-0001", "a-0002", "b-0001", "b-0002"]
    assert [(row["id"], row["text"]) for row in rows] == [
        (f"{n}/l", x.text) for n, x in zip(names, lines, strict=False)
    ]
    for name in ("x", "y"):
        Image.fromarray(load.read(lines[0].image)).save(tmp_path / f"scans/{name}/p.png")
    (tmp_path / "texts/p.txt").write_text(lines[0].text)
    done = align(tmp_path, model, "--out", tmp_path / "more", pages="scans", exit_code=2)
    assert "x/p.png and" in done.stderr
    assert "y/p.png have the same name, so it is unclear to which" in done.stderr


def _whole(path: Path) -> Target:
    width, height = load.size(path)
    return Target(path, corners((0, 0, width - 1, height - 1)), (), "l", upright=True)


def test_scores_are_printed_instead_of_the_table(pages: dict[str, list[Box]], model: Path, tmp_path: Path) -> None:
    done = align(tmp_path, model, "--out", tmp_path / "out", "--json", "-")
    assert json.loads(done.stdout)["pages"] == 2
    assert not Path("-").exists()


def test_turned_lines_are_cut_as_they_are_read(lines: list[Line], tmp_path: Path) -> None:
    """A vertical line becomes the same image as the line, and its characters have their place on the page."""
    pixels = load.read(lines[0].image)
    height, width = pixels.shape
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "p.png")  # runs upwards
    region = corners((0, 0, height - 1, width - 1))
    up = ((height - 6, width - 2), (height - 6, 2))
    line = PageLine(text="text", confidence=1.0, id="l", region=region, baseline=up)
    page = PageReading(tmp_path / "p.png", (line,), source=tmp_path / "p.png")
    with table_of_lines(tmp_path / "table", {str(page.source): None}, "", 0) as (_, add):
        add(AlignedPage(page.source, None, page, Alignment((AlignedLine("text"),), (), 4)))
    (row,) = (tmp_path / "table/metadata.jsonl").read_text().splitlines()
    assert np.array_equal(load.read(tmp_path / "table" / json.loads(row)["file_name"]), pixels)
    target = Target(tmp_path / "p.png", region, up)
    (found,) = on_page([Character("x", 10.0, 30.0, 1.0)], target, Prepared(pixels, (height, width)))
    assert (round(found.left), round(found.right)) == (0, height)


def test_inputs_are_not_overwritten(pages: dict[str, list[Box]], model: Path, tmp_path: Path) -> None:
    done = align(tmp_path, model, "--out", tmp_path / "marked", exit_code=2)
    assert "is an input, and would be overwritten" in done.stderr


def test_only_own_results_that_nobody_has_changed_are_overwritten(
    pages: dict[str, list[Box]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "p2.xml").write_text("by hand")
    done = align(tmp_path, model, "--out", out, exit_code=2)
    assert f"{out / 'p2.xml'} exists already, and hwr align did not write it" in done.stderr
    assert [path.name for path in out.iterdir()] == ["p2.xml"]
    (out / "p2.xml").unlink()
    for _ in range(2):
        align(tmp_path, model, "--out", out)
    before = written(out / "p1.xml")
    other = hwr("predict", tmp_path / "marked", "--checkpoint", model, "--format", "page", "--out", out, exit_code=2)
    assert "exists already, and hwr predict did not write it" in other.stderr
    (out / "p1.xml").write_bytes((out / "p1.xml").read_bytes() + b"\n")
    corrected = (out / "p1.xml").read_bytes()
    assert "2 pages (2 of them before)" in align(tmp_path, model, "--out", out).stdout
    done = align(tmp_path, model, "--out", out, "--min-score", 0.1, exit_code=2)
    assert (
        f"{out / 'p1.xml'} was changed since hwr align wrote it, and would be overwritten; move it away" in done.stderr
    )
    assert (out / "p1.xml").read_bytes() == corrected
    (out / "p1.xml").unlink()
    align(tmp_path, model, "--out", out)
    assert written(out / "p1.xml") == before
    # Nor is what somebody corrects meanwhile.
    monkeypatch.setattr(
        aligning, "kept", lambda *arguments: (out / "p2.xml").write_text("by hand") and kept(*arguments)
    )
    done = align(tmp_path, model, "--out", out, "--min-score", 0.1, exit_code=1)
    assert f"{out / 'p2.xml'} was written or changed by somebody else meanwhile, and is kept" in done.stderr
    assert (out / "p2.xml").read_text() == "by hand"


@pytest.mark.parametrize("out", ["scans/aligned", "scans"])
def test_results_in_the_folder_of_the_pages_are_not_read(
    pages: dict[str, list[Box]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.setitem(
        segment.SEGMENTERS,
        "kraken",
        lambda path, recognizer: [Target(path, corners(box), (), f"l{i}") for i, box in enumerate(pages[path.stem])],
    )
    for again in ("", " (2 of them before)"):
        done = align(tmp_path, model, "--segmenter", "kraken", "--out", tmp_path / out, pages="scans")
        assert f"\n2 pages{again}: " in done.stdout


@pytest.mark.parametrize("kind", ["page", "alto", "table", "html"])
def test_a_run_that_was_stopped_continues(
    pages: dict[str, list[Box]],
    lines: list[Line],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    _page(tmp_path, "p3", lines[8:10])
    (tmp_path / "texts/p2.txt").write_text("nothing of this is on the page")
    asked = ["--format", kind, "--min-score", 0.5, "--json", tmp_path / "scores.json"]
    aligned, begun = aligning._aligned, list[str]()

    def run(out: str, *more: object, stop: int = 0) -> Any:
        def stopping(recognizer: Any, job: Any, *rest: Any) -> AlignedPage:
            begun.append(job.source.stem)
            if len(begun) == stop:
                raise KeyboardInterrupt
            return aligned(recognizer, job, *rest)

        begun.clear()
        monkeypatch.setattr(aligning, "_aligned", stopping)
        done = align(tmp_path, model, "--out", tmp_path / out, *asked, *more, exit_code=130 if stop else 0)
        return done, "" if stop else (tmp_path / "scores.json").read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def found(out: str) -> dict[str, bytes]:
        files = [path for path in (tmp_path / out).rglob("*") if path.is_file() and ".hwr" not in path.parts]
        changed = re.compile(rb"<LastChange>.*?<")
        return {str(path.relative_to(tmp_path / out)): changed.sub(b"", path.read_bytes()) for path in files}

    whole, report = run("whole")
    assert begun == ["p1", "p2", "p3"]
    run("out", stop=3)
    again, same = run("out")
    assert begun == ["p3"]
    assert (found("out"), same) == (found("whole"), report)
    assert again.stdout == whole.stdout.replace("3 pages", "3 pages (2 of them before)")
    assert not list(tmp_path.glob(".*"))
    if kind == "table":
        with monkeypatch.context() as patch:
            patch.setattr(aligning.table, "write_rows", full)
            align(tmp_path, model, "--out", tmp_path / "more", *asked, exit_code=2)
        assert run("more")[0].stdout == whole.stdout.replace("3 pages", "3 pages (3 of them before)")
        return
    # What has changed is aligned again.
    run("out")
    assert begun == []
    os.utime(tmp_path / "texts/p1.txt", ns=(1, 1))
    run("out")
    assert begun == ["p1"]
    os.utime(tmp_path / "scans/p3.png", ns=(1, 1))
    (tmp_path / f"out/p2{FORMATS[kind].suffix}").unlink()
    run("out")
    assert begun == ["p2", "p3"]
    run("out", "--min-score", 0.4)
    assert len(begun) == 3


def test_a_table_holds_nothing_that_is_out_of_date(
    pages: dict[str, list[Box]], lines: list[Line], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned = aligning._aligned

    def stopping(recognizer: Any, job: Any, *rest: Any) -> AlignedPage:
        if job.source.stem == "p3":
            raise KeyboardInterrupt
        return aligned(recognizer, job, *rest)

    _page(tmp_path, "p3", lines[8:9])
    with monkeypatch.context() as patch:
        patch.setattr(aligning, "_aligned", stopping)
        align(tmp_path, model, "--out", tmp_path / "out", "--format", "table", exit_code=130)
    (tmp_path / "texts/p1.txt").unlink()
    (tmp_path / "texts/p2.txt").write_text(lines[6].text)
    done = align(tmp_path, model, "--out", tmp_path / "out", "--format", "table", exit_code=1)
    assert "p1.xml: has no transcript p1.txt" in done.stderr
    rows = [json.loads(row) for row in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [lines[6].text, lines[8].text]
    assert len(list((tmp_path / "out/images").iterdir())) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pages_of_strangers_without_their_line_breaks(tmp_path: Path) -> None:
    """At least nine in ten lines of Copiste d'un jour are restored exactly (CC BY 4.0)."""
    source = REPOSITORY.parent / "shared/page-lines/test/copiste-fr"
    if not source.is_dir():
        pytest.skip("no ../shared/page-lines here")
    truth: dict[str, list[str]] = {}
    for path in sorted(source.glob("*.json"))[:2]:
        found = json.loads(path.read_text(encoding="utf-8"))
        truth[path.stem] = [" ".join(line["text"].split()) for line in found["lines"]]
        marked = [
            Marked(f"l{i}", "", tuple((round(x), round(y)) for x, y in line["polygon"]), (), "")
            for i, line in enumerate(found["lines"])
        ]
        xml.write(page.new(f"{path.stem}.webp", tuple(found["size"]), marked), tmp_path / f"{path.stem}.xml")
        (tmp_path / f"{path.stem}.txt").write_text(" ".join(truth[path.stem]), encoding="utf-8")
    hwr("align", tmp_path, tmp_path, "--out", tmp_path / "out", "--set", f"data.images={source}")
    pairs = [
        (text, own)
        for name, texts in truth.items()
        for (text, _), own in zip(written(tmp_path / f"out/{name}.xml"), texts, strict=True)
    ]
    assert sum(text == own for text, own in pairs) >= 0.9 * len(pairs)
