"""Inputs of users with what is right for them, in ../shared/cases: those that no other module tests."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import config, data
from hwr.cli import main

from .conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared/cases"
TEXT = "On 9 January 2027 the doctor lost"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")


def hwr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def lines(root: object, *more: str) -> dict[str, str]:
    found = data.read(config.load(None, [f"data.root={root}", *more]).data)
    return {line.id: line.text for line in found.lines}


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(CASES / name, to / name, copy_function=shutil.copyfile))


def test_convert_to_iam(tmp_path: Path) -> None:
    case = CASES / "convert-to-iam"
    refused = hwr("data", "convert", case, tmp_path / "iam", "--to", "iam")
    assert refused.exit_code == 2
    assert "IAM's layout can't hold the text" in refused.output
    assert not (tmp_path / "iam").exists()
    for kind in ("page", "alto", "gt", "table"):
        done = hwr("data", "convert", case, tmp_path / kind, "--to", kind)
        assert done.exit_code == 0
        assert ("holds no writers: the 3" in done.output) == (kind != "table")
        assert sorted(lines(tmp_path / kind).values()) == sorted(lines(case).values())


def test_empty_line_text_with_words() -> None:
    found = lines(CASES / "empty-line-text-with-words")
    assert len(found) == 4
    assert found["page/l0"] == "The small"


@pytest.mark.parametrize("name", ["1914", "1914-08-03", "12:30", "yes", "null"])
def test_folder_named_1914(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CASES / "folder-named-1914/1914", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(lines(name)) == 4


def test_set_path_with_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / "set-path-with-hash")
    assert "right box 0" in lines("Box #3").values()


@pytest.mark.parametrize("xml", ["<trpDocMetadata/>", "<TEI/>", None])
def test_images_beside_mets(xml: str | None, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    case = copied("images-beside-mets", tmp_path)
    if xml:
        (case / "metadata.xml").write_text(xml)
    done = hwr("predict", case)
    assert done.exit_code == 0
    assert done.stdout == f"{TEXT}\n"
    (case / "a.png").unlink()
    assert hwr("predict", case).exit_code == 2


def test_large_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    case = copied("large-page", tmp_path)
    page = Image.new("L", (10000, 9000), 255)
    with Image.open(case / "line.png") as line:
        page.paste(line, (40, 40))
    page.save(case / "page.png", compress_level=1)
    done = hwr("predict", case / "page.xml")
    assert (done.exit_code, done.output) == (0, f"{TEXT}\n")


def test_names_not_utf8(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    copied("exif-roundtrip", tmp_path)
    case = copied("names-not-utf8", tmp_path)
    subprocess.run(["sh", "make.sh"], cwd=case, check=True)
    assert json.loads(hwr("data", "summary", case / "gt", "--json").stdout)["lines"] == 3
    assert hwr("data", "convert", case / "gt", tmp_path / "page", "--to", "page").exit_code == 0
    assert len(lines(tmp_path / "page")) == 3
    done = hwr("predict", case / "lines", "--format", "page", "--out", case / "out")
    assert done.exit_code == 1
    assert done.output.count("XML can't hold this file's name") == 2
    assert [path.name for path in (case / "out").glob("*.xml")] == ["z.xml"]


def test_unknown_layout() -> None:
    done = hwr("data", "summary", CASES / "unknown-layout")
    assert done.exit_code == 2
    assert "a.txt should be called a.gt.txt" in done.output
    assert "gt: line images with their texts beside them" in done.output
    done = hwr("data", "summary", CASES / "unknown-layout/list.json")
    assert "list.json: no dataset in a known format" in done.output
