"""Names of files and folders that are not UTF-8, contain control characters, or lie beyond U+FFFF, in every command."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import config, data
from hwr.cli import main
from hwr.data import CONTROL
from hwr.images import load
from hwr.pages.outputs import FORMATS
from hwr.system import terminal

from .conftest import TINY_CRNN

BAD = {
    "latin-1": b"caf\xe9",
    "control": b"y\x01\x1b[2Jz",
    "line break": b"a\nb\rc\x0b",
    "not in UTF-16": b"\xed\xa0\x80",
}
WIDE = {
    "beyond U+FFFF": "\U0001f600 \U00020000".encode(),
    "combining": "e\u0301 \u212b".encode(),
    "quotes": b"a'b\"c&<d>#$(x)",
}


def hwr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(params=[*BAD, *WIDE])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = os.fsdecode((BAD | WIDE)[request.param])
    try:
        (tmp_path / name).touch()
        (tmp_path / name).unlink()
    except OSError:
        pytest.skip("this file system does not take the name")
    return name


@pytest.fixture
def lines(tmp_path: Path, drawn: Path, name: str) -> Path:
    """Three line images with texts, in a folder; all have the name."""
    root = tmp_path / f"data {name}"
    root.mkdir()
    pictures = sorted((drawn / "lines").rglob("*.png"))[:3]
    for number, picture in enumerate(pictures):
        (root / f"{name}{number}.png").write_bytes(picture.read_bytes())
        (root / f"{name}{number}.gt.txt").write_text(f"text {number}\n")
    return root


def printable(done: Result) -> bool:
    """Whether nothing of the name reached the terminal unescaped. Python's halves of pairs stand for bytes that are not UTF-8."""
    return not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in done.output)


def test_predict_in_every_format(lines: Path, name: str, model: Path, tmp_path: Path) -> None:
    for kind, format in FORMATS.items():
        if kind == "pdf":
            pytest.importorskip("pikepdf")
        out = tmp_path / f"out {kind} {name}"
        arguments = ("predict", lines, "--line", "--checkpoint", model, "--format", kind, "--out", f"{out}/")
        done = hwr(*arguments)
        assert printable(done), kind
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception
        xml = kind in ("page", "alto")
        if xml and name.encode("utf-8", "surrogateescape") in BAD.values():
            assert done.exit_code == 1
            assert done.output.count("XML can't hold this file's name; rename it") >= 3
            continue
        assert done.exit_code == 0, done.output
        assert len(list(out.glob(f"*{format.suffix}"))) == 3
        assert "3 pages (3 of them before)" in hwr(*arguments).stderr  # the journal holds the names
    table = hwr("predict", lines, "--line", "--checkpoint", model, "--format", "tsv").stdout
    assert len(table.splitlines()) == 4
    rows = hwr("predict", lines, "--line", "--checkpoint", model, "--json").stdout.splitlines()
    shown = terminal.unicode(name)
    assert [os.path.basename(json.loads(row)["image"]) for row in rows] == [
        f"{shown}{number}.png" for number in range(3)
    ]


def test_convert_and_back(lines: Path, name: str, tmp_path: Path) -> None:
    texts = ["text 0", "text 1", "text 2"]
    assert json.loads(hwr("data", "summary", lines, "--json").stdout)["lines"] == 3
    for kind in ("gt", "table", "iam", "page", "alto"):
        out = tmp_path / kind
        done = hwr("data", "convert", lines, out, "--to", kind)
        assert (done.exit_code, printable(done)) == (0, True), done.output
        found = data.read(config.load(None, [f"data.root={out}", f"data.format={kind}"]).data)
        assert sorted(line.text for line in found.lines) == texts


def test_train_evaluate_and_export(lines: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("HWR_CACHE", str(tmp_path / f"cache {name}"))
    (tmp_path / "c.yaml").write_text("{}")
    run = tmp_path / f"run {name}"
    chosen = [*TINY_CRNN, "train.batch_size=1", "train.epochs=1"]
    sets = [part for text in chosen for part in ("--set", text)]
    # YAML can't hold bytes that are not UTF-8, so a link names the data.
    (tmp_path / "link").symlink_to(lines)
    if terminal.unicode(str(lines)) != str(lines):
        refused = hwr("train", "--config", tmp_path / "c.yaml", *sets, "--set", f"data.root={lines}", "--out", run)
        assert (refused.exit_code, "a name that is not UTF-8" in refused.stderr) == (2, True)
    done = hwr("train", "--config", tmp_path / "c.yaml", *sets, "--set", f"data.root={tmp_path}/link", "--out", run)
    assert (done.exit_code, printable(done)) == (0, True), done.output
    best = run / "best.safetensors"
    evaluate = (
        "evaluate",
        "--checkpoint",
        best,
        "--split",
        "all",
        "--report",
        tmp_path / f"{name}.html",
        "--json",
        "-",
    )
    scored = hwr(*evaluate, "--set", f"data.root={tmp_path}/link")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["lines"] == 3
    assert (tmp_path / f"{name}.html").exists()
    pytest.importorskip("onnxruntime")
    onnx = tmp_path / f"{name}.onnx"
    exported = hwr("export", best, "--format", "onnx", "--out", onnx)
    if terminal.unicode(name) != name:
        assert (exported.exit_code, "not UTF-8; name another file" in exported.stderr) == (2, True)
        onnx = best
        exported = hwr("export", best, "--format", "safetensors", "--out", tmp_path / f"{name}.safetensors")
    assert (exported.exit_code, printable(exported)) == (0, True), exported.output
    read = hwr("predict", lines, "--line", "--checkpoint", onnx)
    assert (read.exit_code, len(read.stdout.splitlines())) == (0, 3)


def test_language_models(name: str, tmp_path: Path) -> None:
    text = tmp_path / f"{name}.txt"
    text.write_text("some text\nmore text\n")
    for suffix in (".bin", ".arpa"):
        done = hwr("lm", "build", "--text", text, "--out", tmp_path / f"{name}{suffix}")
        assert (done.exit_code, printable(done)) == (0, True), done.output
        again = hwr(
            "lm",
            "build",
            "--text",
            text,
            "--add-to",
            tmp_path / f"{name}{suffix}",
            "--share",
            0.3,
            "--out",
            tmp_path / "x.bin",
        )
        assert again.exit_code == 0, again.output


def test_align_and_pages(name: str, model: Path, tmp_path: Path, drawn: Path) -> None:
    pages = tmp_path / name
    pages.mkdir()
    picture = next((drawn / "lines").rglob("*.png"))
    width, height = load.size(picture)
    (pages / f"{name}.png").write_bytes(picture.read_bytes())
    # The XML names no image, so it is the one with the name of the XML.
    (pages / f"{name}.xml").write_text(
        f"""<PcGts><Page imageFilename="" imageWidth="{width}" imageHeight="{height}"><TextRegion id="r"><TextLine id="l">
        <Coords points="0,0 {width},0 {width},{height} 0,{height}"/></TextLine></TextRegion></Page></PcGts>"""
    )
    (pages / f"{name}.txt").write_text("the text")
    done = hwr("align", pages, pages, "--checkpoint", model, "--format", "table", "--out", tmp_path / "t")
    assert printable(done)
    assert (tmp_path / "t/metadata.jsonl").exists(), done.output
    read = hwr("predict", pages, "--checkpoint", model)
    assert (read.exit_code, len(read.stdout.splitlines())) == (0, 1), read.output


def test_pages_of_the_workbench(name: str, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    from hwr.serve.project.folder import Project

    for number in range(2):
        Image.fromarray(np.full((40, 90), 230, np.uint8)).save(tmp_path / f"{name}{number}.png")
    (tmp_path / os.fsdecode(b"\xe8.png")).write_bytes((tmp_path / f"{name}0.png").read_bytes())
    (tmp_path / os.fsdecode(b"\xe9.png")).write_bytes((tmp_path / f"{name}0.png").read_bytes())
    pages = Project(tmp_path).pages()
    assert len({page.id for page in pages}) == 4
    assert all(bool(page.error) == bool(CONTROL.search(page.image.name)) for page in pages)
    json.dumps([page.name for page in pages]).encode()
