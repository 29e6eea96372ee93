"""Large archives: continue where a run stopped, share pages among processes, report what is broken."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import bundled, config
from hwr.cli import main
from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.shapes import Marked
from hwr.images import load
from hwr.pages import archive, plan, resumable_file, write
from hwr.pages.journal import WRITING, Journal, stamp
from hwr.pages.outputs import FORMATS
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.resumable_file import Partial
from hwr.pages.sources import Target, files_in, job

from .test_torch_parallel import TORCHRUN


def hwr(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def scans(drawn: Path, tmp_path: Path) -> Path:
    """Four line images, two of them of the same name in different folders."""
    paths = sorted(drawn.rglob("*.png"))[:4]
    for path, name in zip(paths, ("box1/1.png", "box1/2.png", "box2/1.png", "3.png"), strict=True):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "scans" / name)
    return tmp_path / "scans"


def written(out: Path) -> dict[str, int]:
    """The results in a folder, and when they were written."""
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*.txt")}


def test_finished_pages_are_not_read_again(scans: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["predict", scans, "--line", "--checkpoint", model, "--out", f"{out}/"]
    done = hwr(*command)
    assert done.exit_code == 0, done.stderr
    assert "hwr: 4 pages, 4 lines, mean confidence 0." in done.stderr
    first = written(out)
    assert sorted(first) == ["3.txt", "box1/1.txt", "box1/2.txt", "box2/1.txt"]  # as the inputs
    assert sorted(done.stdout.splitlines()) == sorted(str(out / name) for name in first)
    done = hwr(*command)
    assert re.search(r"4 pages \(4 of them before\), 4 lines, mean confidence 0\.\d\d", done.stderr)
    assert not done.stdout
    assert written(out) == first

    def changed(*more: object) -> set[str]:
        before = written(out)
        assert hwr(*command, *more).exit_code == 0
        return {name for name, when in written(out).items() if when != before.get(name)}

    os.utime(scans / "3.png", ns=(1, 1))  # scanned again
    assert changed() == {"3.txt"}
    (out / "box1/1.txt").unlink()
    assert changed() == {"box1/1.txt"}
    assert changed("--again") == set(first)
    assert changed() == set()
    assert changed("--set", "decode.temperature=2") == set(first)  # another reading
    assert changed("--set", "decode.temperature=2", "--workers", 1) == set()
    other = tmp_path / "other.safetensors"
    shutil.copy(model, other)
    assert changed("--checkpoint", other) == set(first)  # because of the temperature
    assert changed("--checkpoint", other) == set()  # the same model in another file
    # The last row of a journal may be torn, before its file appears.
    for path in (out / ".hwr").iterdir():
        *rows, last, _ = path.read_bytes().splitlines(keepends=True)  # each page is noted twice
        path.write_bytes(b"".join(rows) + last[:-5])
    for path in {out / name for name in first} - Journal(out, "x").outputs:
        path.unlink()
    assert 0 < len(Journal(out, "x").outputs) < 4
    assert 0 < len(changed("--checkpoint", other)) < 4
    assert "--again applies to results in --out" in hwr(*command[:-2], "--again").stderr


@pytest.mark.parametrize("kind", ["page", "alto", "hocr", "html", "txt"])
def test_files_of_others_in_the_folder_are_kept(scans: Path, model: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "gt"
    place = out / f"3{FORMATS[kind].suffix}"
    command = ["predict", scans / "3.png", "--line", "--checkpoint", model, "--format", kind, "--out", f"{out}/"]
    out.mkdir()
    place.write_text("by hand")
    for again in ([], ["--again"]):
        done = hwr(*command, *again)
        assert done.exit_code == 2
        assert f"{place} exists already, and hwr predict did not write it, and would be overwritten" in done.stderr
        assert [path.name for path in out.iterdir()] == [place.name]
        assert place.read_text() == "by hand"
    place.unlink()
    assert hwr(*command).exit_code == 0
    assert hwr(*command, "--again").exit_code == 0
    assert hwr(*command, "--min-confidence", 1).exit_code == 0
    os.utime(place)  # copied or restored
    assert hwr(*command).exit_code == 0
    assert hwr(*command, "--min-confidence", 1).exit_code == 0
    # An earlier result that somebody has corrected is kept, too, unless --again says otherwise.
    place.write_text(corrected := place.read_text() + "\n")
    assert "(1 of them before)" in hwr(*command, "--min-confidence", 1).stderr
    refused = hwr(*command)
    assert f"{place} was changed since hwr predict wrote it, and would be overwritten; move it away" in refused.stderr
    assert (refused.exit_code, place.read_text()) == (2, corrected)
    assert hwr(*command, "--again").exit_code == 0
    assert place.read_text() != corrected
    assert hwr(*command, "--min-confidence", 1).exit_code == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_page_whose_writing_was_killed_is_no_file_of_others(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    command = [
        "predict",
        scans / "3.png",
        "--line",
        "--checkpoint",
        model,
        "--format",
        "page",
        "--out",
        tmp_path / "out",
    ]
    finish = write.write

    def killed(path: Path, *arguments: Any, **more: bool) -> None:
        if moment == "after":
            finish(path, *arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(write, "write", killed)
        assert hwr(*command).exit_code != 0
    assert (tmp_path / "out/3.xml").exists() == (moment == "after")
    done = hwr(*command)
    assert (done.exit_code, "before" in done.stderr) == (0, moment == "after"), done.stderr
    # Corrected later.
    os.utime(tmp_path / "out/3.xml", ns=(later := time.time_ns() + 2 * WRITING, later))
    refused = hwr(*command, "--min-confidence", 1)
    assert ("was changed since hwr predict wrote it" in refused.stderr) == (moment == "after"), refused.stderr


@pytest.mark.parametrize("inside", [False, True])
def test_results_below_the_input_are_not_read(
    scans: Path, model: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.chdir(scans if inside else scans.parent)
    folder, out = (".", "read/") if inside else ("scans", "scans/read")
    command = ["predict", folder, "--line", "--checkpoint", model, "--format", "alto", "--out", out]
    assert "hwr: 4 pages, 4 lines" in hwr(*command).stderr
    again = hwr(*command)
    assert "skipped 4 other files in the folders" in again.stderr
    assert "hwr: 4 pages (4 of them before), 4 lines" in again.stderr
    shutil.copy(scans / "3.png", scans / "4.png")
    more = hwr(*command)
    assert (more.exit_code, "hwr: 5 pages (4 of them before), 5 lines" in more.stderr) == (0, True), more.stderr
    # Files and folders that are named are read.
    read = Path(out)
    assert len(files_in([read], out=read).files) == 5
    assert files_in([read / "3.xml"], out=read).files == [str(read / "3.xml")]


@pytest.mark.parametrize("kind", ["page", "alto", "pdf"])
def test_results_in_the_folder_of_the_inputs_are_not_read(scans: Path, model: Path, kind: str) -> None:
    pages = [Image.open(scans / name) for name in ("box1/1.png", "3.png")]
    pages[0].save(scans / "box2/two.tif", save_all=True, append_images=pages[1:])
    command = ["predict", scans, "--line", "--checkpoint", model, "--format", kind, "--out", scans]
    assert "hwr: 6 pages, 6 lines" in hwr(*command).stderr
    results = {path.name for path in scans.rglob("*") if path.suffix == FORMATS[kind].suffix}
    assert {"two-0001", "two-0002", "3"} < {Path(name).stem for name in results}
    again = hwr(*command)
    assert "hwr: 6 pages (6 of them before), 6 lines" in again.stderr
    shutil.copy(scans / "3.png", scans / "4.png")
    assert "hwr: 7 pages (6 of them before), 7 lines" in hwr(*command).stderr
    # Without --out, XML is a file like others: the lines of images that it marks are read as marked.
    assert len(files_in([scans]).files) == (7 if kind == "pdf" else 9)


@pytest.mark.parametrize("kind", ["page", "alto", "pdf", "hocr", "html"])
def test_results_beside_the_inputs_are_continued(scans: Path, model: Path, tmp_path: Path, kind: str) -> None:
    pages = [Image.open(scans / name) for name in ("box1/1.png", "3.png")]
    pages[0].save(scans / "box2/two.tif", save_all=True, append_images=pages[1:])
    shutil.copy(scans / "3.png", tmp_path / "alone.png")
    suffix = FORMATS[kind].suffix

    def read(*more: object, scans: Path = scans) -> Any:
        command = ["predict", scans, tmp_path / "alone.png", "--line", "--checkpoint", model, "--format", kind]
        return hwr(*command, *more)

    def found() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob(f"*{suffix}")}

    assert "hwr: 7 pages, 7 lines" in read().stderr
    first = found()
    assert len(first) == 7
    # In other formats, PDFs are the only results that could be read, and they are not.
    if kind in ("pdf", "hocr", "html"):
        assert len(files_in([scans]).files) == len(files_in([scans], beside=".xml").files) == 6
    again = read()
    assert "hwr: 7 pages (7 of them before), 7 lines" in again.stderr
    assert found() == first
    # As after a kill: the missing result is written, and a corrected one is kept.
    (scans / f"box2/two-0002{suffix}").unlink()
    (scans / f"3{suffix}").write_text("corrected")
    shutil.copy(scans / "3.png", scans / "4.png")
    again = read()
    assert "hwr: 8 pages (6 of them before), 8 lines" in again.stderr
    assert {path.name for path in found() if path not in first} == {f"4{suffix}"}
    assert (scans / f"3{suffix}").read_text() == "corrected"
    # In a folder that was moved, too; what is not up to date is never replaced.
    moved = scans.rename(tmp_path / "moved")
    assert "hwr: 8 pages (8 of them before), 8 lines" in read(scans=moved).stderr
    before = found()
    refused = read("--min-confidence", 1, scans=moved)
    assert (refused.exit_code, "was written by another model or with other options" in refused.stderr) == (2, True)
    os.utime(moved / "3.png", ns=(1, 1))
    refused = read(scans=moved)
    assert (refused.exit_code, f"{moved / f'3{suffix}'} was written by" in refused.stderr) == (2, True)
    assert found() == before


def test_corrected_results_are_counted(scans: Path, model: Path, tmp_path: Path) -> None:
    command = ["predict", scans, "--line", "--checkpoint", model, "--out", f"{tmp_path / 'out'}/"]
    assert hwr(*command).exit_code == 0
    for name in ("3.txt", "box1/1.txt", "box2/1.txt"):
        (tmp_path / "out" / name).write_text("corrected")
    done = hwr(*command, "--min-confidence", 1)
    first = tmp_path / "out/3.txt"
    assert f"3 results ({first}, …) were changed since hwr predict wrote them" in done.stderr
    assert done.exit_code == 2


@pytest.mark.parametrize("beside", [False, True])
def test_what_somebody_writes_meanwhile_is_kept(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    command = ["predict", scans, "--line", "--checkpoint", model, "--format", "page"]
    place = scans / "3.xml" if beside else tmp_path / "out/3.xml"
    if not beside:
        command += ["--out", tmp_path / "out"]
        assert hwr(*command).exit_code == 0
        command += ["--min-confidence", 1]
    read = load.read_lines

    def correcting(*arguments: Any) -> Any:
        place.write_text("by hand")
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(load, "read_lines", correcting)
        done = hwr(*command)
    assert (done.exit_code, place.read_text()) == (1, "by hand")
    assert f"{place} was written or changed by somebody else meanwhile, and is kept" in done.stderr
    assert "1 of 4 pages could not be read" in done.stderr
    if not beside:
        assert hwr(*command, "--again").exit_code == 0
        assert place.read_text() != "by hand"


def test_one_of_several_folders_takes_no_results(scans: Path, model: Path) -> None:
    (scans / "box1/.hwr").write_text("in the way of the notes")
    done = hwr("predict", scans, "--line", "--checkpoint", model, "--format", "hocr")
    assert (done.exit_code, "2 of 4 pages could not be read, or only in part" in done.stderr) == (1, True)
    assert done.stderr.count("box1/.hwr: could not be written") == 2
    assert sorted(path.name for path in scans.rglob("*.hocr")) == ["1.hocr", "3.hocr"]


def test_a_result_belongs_to_one_input(scans: Path, model: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    for name in ("scans/box1/1.png", "scans/box2/1.png"):  # of one size and time
        shutil.copy(scans / "3.png", tmp_path / name)
        os.utime(tmp_path / name, ns=(1, 1))

    def read(box: Path, *more: object) -> Any:
        return hwr("predict", box / "1.png", "--line", "--checkpoint", model, "--format", "html", "--out", out, *more)

    assert read(scans / "box1").exit_code == 0
    refused = read(scans / "box2")
    assert refused.exit_code == 2
    assert f"{out / '1.html'} is the result of {scans / 'box1/1.png'}, and would be overwritten" in refused.stderr
    assert "overwrite it with --again" in refused.stderr
    assert "(1 of them before)" in read(scans / "box1").stderr
    again = read(scans / "box2", "--again")
    assert (again.exit_code, "before" in again.stderr) == (0, False)
    # The same input under another name, and in another place.
    os.symlink(scans / "box2", other)
    assert "(1 of them before)" in read(other).stderr
    other.unlink()
    (scans / "box2").rename(other)
    assert "(1 of them before)" in read(other).stderr
    # A journal of an earlier version does not name the input.
    for path in (out / ".hwr").iterdir():
        path.write_text(re.sub(r', "source": "[^"]*"', "", path.read_text()))
    assert "(1 of them before)" in read(other).stderr
    assert "(1 of them before)" in read(scans / "box1").stderr


@pytest.mark.parametrize("kind", ["html", "txt"])
def test_broken_pages_are_listed_at_the_end_and_tried_again(
    scans: Path, model: Path, tmp_path: Path, kind: str
) -> None:
    (scans / "box1/2.png").write_bytes(b"no image")
    command = ["predict", scans, "--line", "--checkpoint", model, "--format", kind, "--out", f"{tmp_path / 'out'}/"]
    for _ in range(2):
        done = hwr(*command)
        assert done.exit_code == 1
        assert "1 of 4 pages could not be read, or only in part:\n  " in done.stderr
        assert done.stderr.count("box1/2.png: damaged, or not an image") == 1
        assert len(list(tmp_path.glob(f"out/**/*.{kind}"))) == 3
    assert "(3 of them before)" in done.stderr
    shutil.copy(scans / "3.png", scans / "box1/2.png")
    assert hwr(*command).exit_code == 0


def test_pages_read_in_part_are_listed_again(scans: Path, model: Path, tmp_path: Path) -> None:
    """They are not read again, because nothing has changed, but they are not forgotten."""
    box = ((0, 0), (50, 0), (50, 20), (0, 20))
    marked = [Marked("l1", "", box, (), ""), Marked("l2", "", tuple((x + 90_000, y) for x, y in box), (), "")]
    xml.write(PAGE_FORMATS["page"].new("3.png", load.size(scans / "3.png"), marked), scans / "3.xml")
    command = ["predict", scans / "3.xml", "--checkpoint", model, "--out", f"{tmp_path / 'out'}/"]
    for earlier in (False, True):
        done = hwr(*command)
        assert (done.exit_code, "1 of them before" in done.stderr) == (1, earlier)
        assert "1 of 1 page could not be read, or only in part:\n  " in done.stderr
        assert "line l2 lies outside the page" in done.stderr
        assert ", 1 line, mean confidence 0." in done.stderr


def test_lines_at_the_limit_of_confidence_keep_their_text() -> None:
    lines = (PageLine("at", 0.5), PageLine("below", 0.4999), PageLine("", 0.0, error="no image"))
    page, unsure = archive._sure(PageReading(Path("a.png"), lines), 0.5)
    assert [line.text for line in page.lines] == ["at", "", ""]
    assert (unsure, page.lines[2].error) == (1, "no image")


def test_parts_of_the_files(scans: Path, model: Path, tmp_path: Path) -> None:
    command = ["predict", scans, "--line", "--checkpoint", model]
    everything = hwr(*command).stdout.splitlines()
    assert hwr(*command, "--part", "1/2").stdout.splitlines() == everything[::2]
    assert hwr(*command, "--part", "2/2").stdout.splitlines() == everything[1::2]
    for wrong in ("0/2", "3/2", "1", "1/0", "a/b"):
        assert f"--part: '{wrong}' is not K/N" in hwr(*command, "--part", wrong).stderr
    assert "there are only 4 files" in hwr(*command, "--part", "5/5").stderr
    # Two files for one result are refused, also where they are in different parts.
    shutil.copy(scans / "3.png", scans / "3.jpg")
    for part in ("1/2", "2/2"):
        done = hwr(*command, "--out", f"{tmp_path}/out/", "--part", part)
        assert (done.exit_code, "3.jpg and " in done.stderr, "would both be written" in done.stderr) == (2, True, True)
    (scans / "3.jpg").unlink()
    # In one file, each part would replace those before it.
    for name in ("read.jsonl", "book.hocr"):
        (tmp_path / name).write_text("old")
        kind = "json" if name.endswith("jsonl") else "hocr"
        done = hwr(*command, "--format", kind, "--out", tmp_path / name, "--part", "1/2")
        assert (done.exit_code, "--part writes its own share; name a folder with --out" in done.stderr) == (2, True)
        assert (tmp_path / name).read_text() == "old"


def test_one_file_of_all_pages(scans: Path, model: Path, tmp_path: Path) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf")
    command = ["predict", scans, "--line", "--checkpoint", model]
    texts = hwr(*command).stdout.splitlines()
    out = tmp_path / "book.pdf"
    done = hwr(*command, "--format", "pdf", "--out", out)
    assert done.exit_code == 0, done.stderr
    found = [page.get_textpage().get_text_range().strip() for page in pdfium.PdfDocument(out)]
    assert found == [" ".join(text.split()) for text in texts]
    assert [path.name for path in tmp_path.iterdir() if "book" in path.name] == ["book.pdf"]
    # A broken page is missing, and the others are there; the next run needs to read it alone.
    (scans / "box1/2.png").write_bytes(b"no image")
    assert hwr(*command, "--format", "pdf", "--out", out).exit_code == 1
    assert len(pdfium.PdfDocument(out)) == 3
    refused = hwr(*command, "--format", "page", "--out", tmp_path / "all.xml")
    assert (refused.exit_code, "a file in the page format holds one page, and there are several" in refused.stderr) == (
        2,
        True,
    )
    assert (
        hwr(*command[:1], scans / "3.png", *command[2:], "--format", "page", "--out", tmp_path / "one.xml").exit_code
        == 0
    )
    assert "PcGts" in (tmp_path / "one.xml").read_text()
    os.unlink(scans / "box1/2.png")
    for name in ("1.png", "../box2/1.png", "../3.png"):
        (scans / "box1" / name).write_bytes(b"no image")
    done = hwr(*command, "--format", "hocr", "--out", tmp_path / "none.hocr")
    assert done.exit_code == 2
    assert "not written, because no page could be read: " in done.stderr
    assert "3.png: damaged, or not an image: cannot identify image file (and 2 more reasons)" in done.stderr


@pytest.mark.parametrize("name", ["book.pdf", "book.xml"])
def test_one_file_in_the_folder_of_the_inputs_is_replaced_and_not_read(scans: Path, model: Path, name: str) -> None:
    folder = scans if name.endswith("pdf") else scans / "box2"  # of one page
    own, out = folder / f"own{Path(name).suffix}", folder / name
    command = ["predict", folder, "--line", "--checkpoint", model]
    more = ["--format", "page"] if folder.name == "box2" else []
    first = hwr(*command, *more, "--out", out)
    assert first.exit_code == 0, first.stderr
    size = out.stat().st_size
    out.write_bytes(b"older")
    again = hwr(*command, *more, "--out", out)
    assert (again.exit_code, first.stderr in again.stderr, out.stat().st_size) == (0, True, size)
    # A file that no run has made of the folder is an input.
    out.rename(own)
    refused = hwr(*command, *more, "--out", own)
    assert (refused.exit_code, f"{own} is an input" in refused.stderr) == (2, True)
    assert own.stat().st_size == size


def test_a_page_that_broke_after_a_killed_run_is_missing_in_the_file(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "book.hocr"
    command = ["predict", scans, "--line", "--checkpoint", model, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_join", lambda *arguments: sys.exit(9))
        assert hwr(*command).exit_code == 9
    (scans / "3.png").write_bytes(b"no image")
    done = hwr(*command)
    assert (done.exit_code, "1 of 4 pages could not be read" in done.stderr) == (1, True)
    assert [name in out.read_text() for name in ("box1/1.png", "box1/2.png", "box2/1.png", "3.png")] == [True] * 3 + [
        False
    ]


def test_rows_of_a_killed_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    out, names = tmp_path / "read.tsv", [f"{i}.png" for i in range(5)]

    def noted() -> dict[str, Any]:
        return {"lines": 2}

    file = Partial(out, "model", names)
    file.write(b"header\n", 0, noted)
    file.write(b"a\n", 1, noted)
    file.write(b"b\n", 2, noted)
    file.write(b"half of", 2, noted)  # not complete when it is killed
    file.close()
    assert not out.exists()
    for model, inputs, again, expected in (
        ("other", names, False, 0),
        ("model", names[::-1], False, 0),
        ("model", names, True, 0),
        ("model", [*names, "new.png"], False, 2),
    ):
        copy = tmp_path / str(expected) / model / str(len(inputs)) / inputs[0] / str(again)
        copy.mkdir(parents=True)
        for path in tmp_path.glob(".read*"):
            shutil.copy(path, copy)
        file = Partial(copy / "read.tsv", model, inputs, again)
        assert (file.done, file.noted) == (expected, noted() if expected else {})
        file.write(b"c\n", 5, noted)
        file.finish()
        assert (copy / "read.tsv").read_bytes() == (b"header\na\nb\nc\n" if expected else b"c\n")
        assert [path.name for path in copy.iterdir()] == ["read.tsv"]


def test_rows_of_a_killed_run_are_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that share the files give many rows before their inputs are complete; notes are seldom."""
    file = Partial(tmp_path / "read.txt", "model", ["a", "b"])
    monkeypatch.setattr(resumable_file, "INTERVAL", 1e9)
    file.write(b"a\n", 1)
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    file.write(b"half of b\n", 1)
    file.close()
    file = Partial(tmp_path / "read.txt", "model", ["a", "b"])
    for number, name in enumerate("ab", 1):
        if number > file.done:
            file.write(f"{name}\n".encode(), number)
    file.finish()
    assert (tmp_path / "read.txt").read_text() == "a\nb\n"


def test_rows_that_never_reached_the_disk_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash of the system the note may be there, and a part of the rows not."""
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    part, synced, fsync = tmp_path / ".read.txt.part", list[bool](), os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda file: synced.append(os.fstat(file).st_ino == part.stat().st_ino) or fsync(file)
        )
        file = Partial(tmp_path / "read.txt", "model", ["a", "b"])
        file.write(b"first\n", 1)
    assert synced == [True, False]  # the rows, and then the note that they are there
    file.close()
    os.truncate(part, 3)
    file = Partial(tmp_path / "read.txt", "model", ["a", "b"])
    assert file.done == 0
    file.write(b"again\n", 2)
    file.finish()
    assert (tmp_path / "read.txt").read_bytes() == b"again\n"


def test_rows_of_another_model_are_not_taken_for_those_of_an_earlier_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with another model was stopped before its first note."""
    out = tmp_path / "read.txt"
    for model, interval in (("first", -1), ("second", 1e9)):
        monkeypatch.setattr(resumable_file, "INTERVAL", interval)
        file = Partial(out, model, ["a", "b"])
        file.write(f"{model}\n".encode(), 1)
        file.close()
    file = Partial(out, "first", ["a", "b"])
    assert file.done == 0
    file.close()


def test_results_of_other_choices_are_not_those_asked_for(scans: Path, model: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    settings, found = config.load(None, [f"decode.words={words}"]), set()
    some: tuple[dict[str, Any], ...] = ({}, {"characters": True}, {"min_confidence": 0.5}, {"kind": "line"})
    for text in ("a\n", "b\n"):
        words.write_text(text)
        found |= {plan.plan([scans], model, settings, f"{tmp_path}/out/", "json", **more).model for more in some}
    assert len(found) == 2 * len(some)


@pytest.mark.parametrize(
    ("choices", "counts"),
    [({}, True), ({"kind": "page"}, True), ({"kind": "line"}, False), ({"segmenter": "kraken"}, False)],
)
def test_the_network_that_finds_lines_is_part_of_the_model(
    choices: dict[str, str],
    counts: bool,
    scans: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, found = tmp_path / "lines.onnx", set()
    monkeypatch.setattr(bundled, "line_detector", lambda: network)
    for content in ("a", "b"):
        network.write_text(content)
        found.add(plan.plan([scans], model, config.load(None), f"{tmp_path}/out/", "json", **choices).model)
    assert len(found) == (2 if counts else 1)


def test_the_latest_row_of_a_page_counts_whichever_file_it_is_in(tmp_path: Path) -> None:
    source, out = tmp_path / "a.png", tmp_path / "out"
    out.mkdir()
    for path in (source, out / "a.txt"):
        path.touch()
    for model in ("old", "new"):
        journal = Journal(out, model)
        journal.add(source, out / "a.txt", stamp(source), 1, 0.5, 0, [])
    old, new = sorted((out / ".hwr").iterdir(), key=lambda path: json.loads(path.read_text())["time"])
    for names in (("1.jsonl", "2.jsonl"), ("2.jsonl", "1.jsonl")):
        old, new = (path.rename(path.with_suffix(".moved")) for path in (old, new))
        old, new = (path.rename(path.with_name(name)) for path, name in zip((old, new), names, strict=True))
        assert Journal(out, "old").finished(source, out / "a.txt") is None
        entry = Journal(out, "new").finished(source, out / "a.txt")
        assert entry is not None
        assert (entry.model, entry.lines) == ("new", 1)


def test_rows_of_changed_inputs_are_read_again(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    names = [str(scans / name) for name in ("3.png", "box1/1.png", "box1/2.png")]
    file = Partial(tmp_path / "read.txt", "model", names)
    for done in (1, 2):
        file.write(b"row\n", done)
    file.close()
    for changed, expected in ((2, 2), (1, 0)):  # the third was not read yet
        os.utime(names[changed], ns=(1, 1))
        file = Partial(tmp_path / "read.txt", "model", names)
        assert file.done == expected
        file.close()


@pytest.mark.parametrize("out", ["out", "read.tsv"])
@pytest.mark.parametrize("kind", ["image", "XML"])
def test_an_input_that_changes_while_it_is_read_is_read_again(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, kind: str
) -> None:
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    if kind == "XML":
        assert hwr("predict", scans, "--line", "--checkpoint", model, "--format", "page", "--out", scans).exit_code == 0
    command = ["predict", scans, "--checkpoint", model, "--out", tmp_path / out, *([] if kind == "XML" else ["--line"])]
    read = load.read_lines

    def changing(image: Path, *arguments: Any) -> Any:
        found = read(image, *arguments)
        os.utime(image, ns=(1, 1))  # scanned again, after it was opened and before it is noted
        return found

    with monkeypatch.context() as patch:
        patch.setattr(load, "read_lines", changing)
        patch.setattr(Partial, "finish", Partial.close)  # as if it was killed just before
        assert hwr(*command).exit_code == 0
    done = hwr(*command).stderr
    assert "before" not in done, done


def test_a_page_that_changes_while_its_lines_are_found_is_read_again(scans: Path) -> None:
    page = scans / "3.png"
    before = stamp(page)

    def find(path: Path) -> list[Target]:
        os.utime(path, ns=(1, 1))
        return [Target(path)]

    assert job(page, find).stamp == before != stamp(page)


@pytest.mark.parametrize("out", ["out", "read.tsv"])
def test_a_changed_image_of_xml_is_read_again(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.setattr(resumable_file, "INTERVAL", -1)
    monkeypatch.setattr(Partial, "finish", Partial.close)  # as if it was killed just before
    assert hwr("predict", scans, "--line", "--checkpoint", model, "--format", "page", "--out", scans).exit_code == 0
    kind = "tsv" if out.endswith("tsv") else "alto"
    command = ["predict", scans, "--checkpoint", model, "--format", kind, "--out", tmp_path / out]
    assert hwr(*command).exit_code == 0
    assert "4 pages (4 of them before)" in hwr(*command).stderr
    os.utime(scans / "box2/1.png", ns=(1, 1))
    done = hwr(*command).stderr
    assert ("before" not in done) if kind == "tsv" else ("4 pages (3 of them before)" in done), done


@pytest.mark.once
def test_a_killed_run_continues(drawn: Path, model: Path, tmp_path: Path) -> None:
    """Into a folder, and into one file."""
    images = sorted(drawn.rglob("*.png"))
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(300):
        os.symlink(images[i % len(images)], scans / f"{i:04}.png")
    command = ["predict", scans, "--line", "--checkpoint", model, "--decoder", "greedy", "--workers", "1", "--json"]
    folder, file = tmp_path / "folder", tmp_path / "read.jsonl"
    folder.mkdir()
    code = "from hwr.pages import resumable_file; resumable_file.INTERVAL = 0; from hwr.cli import main; main({!r})"

    def started(out: Path, progress: Any) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", code.format([*map(str, command), "--out", str(out)])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not progress():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()

    started(folder, lambda: len(list(folder.glob("*.jsonl"))) > 20)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert len(before) < 300
    done = hwr(*command, "--out", folder)
    assert done.exit_code == 0, done.stderr
    (earlier,) = re.findall(r"300 pages \((\d+) of them before\)", done.stderr)
    assert len(before) - 1 <= int(earlier) <= len(before)  # the last one may not have been noted
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert sum(before[name] == after[name] for name in before) == int(earlier)
    shutil.rmtree(folder)
    started(file, lambda: (tmp_path / ".read.jsonl.part.json").is_file())
    assert not file.exists()
    done = hwr(*command, "--out", file)
    assert done.exit_code == 0, done.stderr
    (earlier,) = re.findall(r"continuing after ([\d,]+) of 300 files", done.stderr)
    assert int(earlier) >= 1
    names = [json.loads(row)["image"] for row in file.read_text().splitlines()]
    assert names == [str(scans / f"{i:04}.png") for i in range(300)]
    assert [path.name for path in tmp_path.glob(".read*")] == []


@pytest.mark.once
def test_each_page_is_read_by_one_of_two_processes(scans: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (scans / "box1/2.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["predict", scans, "--line", "--checkpoint", model, "--format", "hocr", "--out", out]
    done = subprocess.run([*TORCHRUN, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert "hwr: 4 pages, 3 lines, mean confidence 0." in done.stderr, done.stderr
    assert done.stderr.count("box1/2.png: damaged, or not an image") == 1
    journals = [
        {json.loads(row)["output"] for row in path.read_text().splitlines()} for path in (out / ".hwr").iterdir()
    ]
    assert len(journals) == 2
    assert sorted(row for rows in journals for row in rows) == ["3.hocr", "box1/1.hocr", "box2/1.hocr"]
    again = hwr(*command)
    assert "(3 of them before)" in again.stderr
