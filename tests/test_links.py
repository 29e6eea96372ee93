"""Links, and folders and files that can't be read: one rule in every command (hwr/system/files.py)."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import Error, config, data
from hwr.cli import main
from hwr.system import files

from .conftest import TINY_CRNN

PAGE = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="{0}"
 imageWidth="200" imageHeight="60"><TextRegion id="r"><TextLine id="l"><Coords points="5,5 195,5 195,55 5,55"/><TextEquiv>
<Unicode>text</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""
ALTO = """<alto><Layout><Page WIDTH="200" HEIGHT="60"><PrintSpace><TextBlock><TextLine ID="l" HPOS="5" VPOS="5" WIDTH="190"
 HEIGHT="50"><String CONTENT="text"/></TextLine></TextBlock></PrintSpace></Page></Layout></alto>"""


def hwr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def line(path: Path, shade: int = 230) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (200, 60), shade).save(path)
    path.with_name(f"{path.stem}.gt.txt").write_text("text\n")
    return path


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lines in folders; some are links to others, inside and outside, and some can't be read."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("a/1", "b/2", "locked/3", ".hidden/4"):
        line(root / f"{name}.png")
    line(outside / "5.png")
    (root / "linked").symlink_to(outside)
    (root / "linked again").symlink_to(outside)
    (root / "b/up").symlink_to(root)
    (outside / "back").symlink_to(root / "a")
    (root / "nowhere").symlink_to(tmp_path / "gone")
    (root / "circle").symlink_to(root / "circle")
    (root / "b/6.png").symlink_to(root / "a/1.png")
    (root / "b/6.gt.txt").write_text("text\n")
    for name, target in (("7", "gone.png"), ("8", "8.png")):
        (root / f"b/{name}.png").symlink_to(target)
        (root / f"b/{name}.gt.txt").write_text("text\n")
    os.mkfifo(root / "b/9.png")
    (root / "b/9.gt.txt").write_text("text\n")
    lock(monkeypatch, root / "locked")
    return root


def lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list a folder, as the system does for others than root."""
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_the_walk(tmp_path: Path) -> None:
    """Sorted, without hidden names; a linked folder is visited once, and a link cycle does no harm."""
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for path in (outside / "o.txt", root / "b/2.txt", root / "b/10.txt", root / "a/1.txt", root / "z.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for hidden in (root / ".hidden/h.txt", root / "b/._2.txt"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.touch()
    (root / "b/up").symlink_to(root)
    (root / "a again").symlink_to(root / "a")
    (root / "a link").symlink_to(root / "b")
    (root / "c").symlink_to(outside)
    (root / "c again").symlink_to(outside)
    (root / "d").symlink_to(root / ".hidden")
    (outside / "back").symlink_to(root)
    (root / "e").symlink_to("e")
    found = [os.path.relpath(name, root) for name in files.below(root)]
    assert found == ["e", "z.txt", "a/1.txt", "b/10.txt", "b/2.txt", "c/o.txt", "d/h.txt"]
    assert files.below(root / "z.txt") == [str(root / "z.txt")]
    assert files.below(root / "gone") == []


def test_files_with_several_names(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b", "c/d")]
    (tmp_path / "b").touch()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "c").symlink_to(".")
    (tmp_path / "d").symlink_to("b")
    assert files.several_names(names) == [(names[0], names[1]), (names[2], names[1])]
    assert files.several_names([names[1], names[1]]) == [(names[1], names[1])]
    assert files.several_names(names[1:2]) == []


READ = ["a/1", "b/2", "b/6", "linked/5"]
FAULTS = {
    "locked": "could not be listed: Permission denied",
    "b/7": "no such file",
    "b/8": "Too many levels of symbolic links",
    "b/9": "only regular files",
}


def test_predict(tree: Path, model: Path) -> None:
    done = hwr("predict", "--checkpoint", model, "--line", "--json", tree)
    assert done.exit_code == 1
    read = [json.loads(row)["image"] for row in done.stdout.splitlines()]
    assert [os.path.relpath(path, tree).removesuffix(".png") for path in read] == READ
    for reason in FAULTS.values():
        assert reason in done.stderr
    assert f"1 file is read more than once ({tree}/b/6.png is {tree}/a/1.png)" in done.stderr
    assert "4 of 8 pages could not be read" in done.stderr
    again = hwr("predict", "--checkpoint", model, "--line", tree / "a", tree / "a/1.png")
    assert "1.png is named twice" in again.stderr
    lonely = hwr("predict", "--checkpoint", model, tree / "locked")
    assert (lonely.exit_code, "could not be listed" in lonely.stderr) == (2, True)


def test_datasets(tree: Path, tmp_path: Path) -> None:
    found = json.loads(hwr("data", "summary", tree, "--json").stdout)
    assert {fault["id"] for fault in found["faults"]} == set(FAULTS)
    for fault in found["faults"]:
        assert FAULTS[fault["id"]] in fault["fault"]
    assert found["lines"] == len(READ)
    assert any("1 image is read again under another name" in note for note in found["notes"])
    refused = hwr("data", "convert", tree, tmp_path / "out", "--to", "gt")
    assert (refused.exit_code, "4 lines or pages can't be read" in refused.stderr) == (2, True)
    excluded = f"data.exclude=[{', '.join(FAULTS)}]"
    done = hwr("data", "convert", tree, tmp_path / "out", "--to", "gt", "--set", excluded)
    assert (done.exit_code, "4 lines in" in done.output) == (0, True)


def test_train_and_evaluate(tree: Path, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "c.yaml").write_text("{}")
    sets = [part for text in (*TINY_CRNN, f"data.root={tree}") for part in ("--set", text)]
    done = hwr("train", "--config", tmp_path / "c.yaml", *sets, "--out", tmp_path / "run")
    assert done.exit_code == 2
    scored = hwr("evaluate", "--checkpoint", model, "--set", f"data.root={tree}", "--split", "all")
    assert scored.exit_code == 2
    for reason in FAULTS.values():
        assert reason in done.stderr
        assert reason in scored.stderr
    skip = ["--set", f"data.root={tree}", "--set", "data.faults=skip", "--split", "all", "--json", "-"]
    report = json.loads(hwr("evaluate", "--checkpoint", model, *skip).stdout)
    assert report["lines"] == len(READ)
    assert any("read again" in note for note in report["notes"])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Two pages: one exported as PAGE and ALTO, one as ALTO only; and a link to the first."""
    root = tmp_path / "pages"
    for name in ("one", "two"):
        line(root / f"{name}.png")
        (root / f"{name}.gt.txt").unlink()
        (root / "alto").mkdir(exist_ok=True)
        (root / f"alto/{name}.xml").write_text(ALTO)
        (root / f"{name}.txt").write_text("text\n")
    (root / "page").mkdir()
    (root / "page/one.xml").write_text(PAGE.format("one.png"))
    return root


def test_a_page_that_is_read_twice_is_reported(exported: Path, model: Path) -> None:
    (exported / "page2").mkdir()
    (exported / "page2/one.xml").write_text(PAGE.format("one.png"))
    done = hwr("predict", "--checkpoint", model, exported)
    assert f"1 image is read again with another XML file ({exported / 'page2/one.xml'})" in done.stderr


def test_a_page_exported_in_two_formats_is_one_page(exported: Path, model: Path, tmp_path: Path) -> None:
    done = hwr("predict", "--checkpoint", model, "--json", exported)
    read = [json.loads(row)["image"] for row in done.stdout.splitlines()]
    assert read == [str(exported / "alto/two.xml"), str(exported / "page/one.xml")]
    assert "skipped 3 other files" in done.stderr
    aligned = hwr("align", exported, exported, "--checkpoint", model, "--out", tmp_path / "t", "--format", "table")
    assert "skipped 3 other files" in aligned.stderr
    assert len(json.loads(hwr("data", "summary", exported, "--json").stdout)["faults"]) == 0
    for kind, number in (("page", 1), ("alto", 2)):
        found = data.read(config.load(None, [f"data.root={exported}", f"data.format={kind}"]).data)
        assert len(found.lines) == number
        assert any("in another format and not read" in note for note in found.notes)
    report = tmp_path / "report.json"
    sets = ["--set", f"data.root={exported}", "--split", "all"]
    pages = hwr("evaluate", "--checkpoint", model, *sets, "--set", "data.format=alto", "--json", report)
    assert pages.exit_code == 0, pages.output
    assert json.loads(report.read_text())["lines"] == 2


def test_align(tree: Path, model: Path, tmp_path: Path) -> None:
    (tree / "a/1.txt").write_text("text")
    done = hwr("align", tree, tree, "--checkpoint", model, "--out", tmp_path / "out", "--format", "table")
    # Transcripts that may be in a folder that can't be listed: their pages would seem to have none.
    assert (done.exit_code, "locked: could not be listed" in done.stderr) == (2, True)


def test_serve(tree: Path) -> None:
    pytest.importorskip("starlette")
    from hwr.serve.project.folder import Project

    project = Project(tree)
    assert list(project.unlisted.values()) == [f"{tree}/locked: could not be listed: Permission denied"]
    pages = {page.name: page for page in project.pages()}
    assert sorted(pages) == sorted(f"{name}.png" for name in (*READ, "b/7", "b/8", "b/9"))
    assert all(bool(pages[f"{name}.png"].error) == (name not in READ) for name in (*READ, "b/7", "b/8", "b/9"))


def test_synth_and_language_models(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("fontTools")
    from hwr.data.synth import corpus, fonts

    with pytest.raises(Error, match="locked: could not be listed"):
        corpus.Corpus([tree])
    with pytest.raises(Error, match="locked: could not be listed"):
        fonts.find(tree)
    texts = tmp_path / "texts"
    (texts / "x").mkdir(parents=True)
    (texts / "x/a.txt").write_text("some text of many words\n")
    (texts / "y").symlink_to("x")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/linked").symlink_to(texts)
    assert len(corpus.Corpus([tmp_path / "top"])._sources[0]) == 1
    for name in ("nowhere", "circle", "b/9.png"):
        done = hwr("lm", "build", "--text", tree / name, "--out", tmp_path / "lm.bin")
        assert (done.exit_code, f"hwr: {tree}/{name}: " in done.stderr) == (2, True)


@pytest.mark.skipif(importlib.util.find_spec("starlette") is None, reason="the extra serve is not installed")
def test_one_module_walks() -> None:
    """Other walks and globs look only into folders that hwr itself fills."""
    own = {"atomic.py", "run_folder.py", "cache.py", "bundled.py", "journal.py", "trunk.py", "files.py"}
    folder = Path(str(files.__file__)).parent
    found = [
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "os.walk(" in (text := path.read_text()) or ".rglob(" in text or "os.listdir(" in text
        if path.name not in own and path.parent.name not in ("serve", "iam_archive")
    ]
    assert found == []
