"""Two commands in one folder: each refuses, or both are safe."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import Error, config, data
from hwr.cli import main
from hwr.config import Data
from hwr.data import synth
from hwr.data.convert import convert
from hwr.pages import archive, resumable_file
from hwr.pages.resumable_file import Partial, alone
from hwr.training import run_folder
from hwr.training.loop import train

from .conftest import TINY_CRNN


def hwr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def both(function: Callable[[], object]) -> list[object]:
    """What two calls at once return or raise."""
    found: list[object] = []

    def call() -> None:
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_predictions_into_one_file(drawn: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "read.jsonl"
    line = next((drawn / "lines").rglob("*.png"))
    first = Partial(out, "model", ["a", "b"])
    first.write(b"one\n", 1)
    done = hwr("predict", line, "--line", "--checkpoint", model, "--json", "--out", out)
    assert (done.exit_code, "another process is writing this file" in done.stderr) == (2, True)
    first.write(b"two\n", 2)
    first.finish()
    assert out.read_bytes() == b"one\ntwo\n"
    assert [path.name for path in tmp_path.iterdir()] == ["read.jsonl"]
    assert hwr("predict", line, "--line", "--checkpoint", model, "--json", "--out", out).exit_code == 0
    assert out.read_text().count("\n") == 1


def test_two_predictions_into_one_file_of_whole_pages(
    drawn: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, out = sorted((drawn / "lines").rglob("*.png"))[:2], tmp_path / "book.hocr"
    command = ("predict", *lines, "--line", "--checkpoint", model, "--format", "hocr", "--out", out)
    out.write_text("old")
    with alone(tmp_path / ".book.hocr.parts.lock", out):
        done = hwr(*command)
    assert (done.exit_code, "another process is writing this file" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["book.hocr"]
    # On a file system without locks, another process may end first, and remove the pages.
    join = archive._join

    def remove_first(out: Path, folder: Path, *arguments: Any) -> None:
        shutil.rmtree(folder)
        join(out, folder, *arguments)

    with monkeypatch.context() as changed:
        changed.setattr(archive, "_join", remove_first)
        done = hwr(*command)
    assert (done.exit_code, "2 of 2 pages are gone from" in done.stderr) == (2, True)
    assert out.read_text() == "old"
    assert hwr(*command).exit_code == 0
    assert out.read_text().count('class="ocr_page"') == 2
    assert [path.name for path in tmp_path.iterdir()] == ["book.hocr"]


def test_a_file_that_is_moved_away_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process ends between the second's opening of the file and its locking."""
    out = tmp_path / "read.txt"
    first = Partial(out, "model", ["a"])
    first.write(b"one\n", 1)
    real = resumable_file.lock

    def ends_first(file: IO[bytes]) -> bool:
        monkeypatch.setattr(resumable_file, "lock", real)
        first.finish()
        return real(file)

    monkeypatch.setattr(resumable_file, "lock", ends_first)
    second = Partial(out, "model", ["a"])
    assert out.read_bytes() == b"one\n"
    second.write(b"two\n", 1)
    second.finish()
    assert out.read_bytes() == b"two\n"


def test_two_predictions_into_one_folder(drawn: Path, model: Path, tmp_path: Path) -> None:
    lines = sorted((drawn / "lines").rglob("*.png"))[:4]
    arguments = ("predict", *lines, "--line", "--checkpoint", model, "--format", "txt", "--out", f"{tmp_path}/out/")
    assert hwr(*arguments).exit_code == 0
    alone = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.txt")}
    for path in (tmp_path / "out").glob("*.txt"):
        path.unlink()
    # CliRunner can't run in threads; a second journal is what a second process has.
    from hwr.pages.journal import Journal, stamp

    other = Journal(tmp_path / "out", "another model")
    other.add(lines[0], tmp_path / "out" / f"{lines[0].stem}.txt", stamp(lines[0]), 1, 0.5, 0, [])
    assert hwr(*arguments).exit_code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.txt")} == alone
    assert len(list((tmp_path / "out/.hwr").glob("*.jsonl"))) == 3


def test_two_trainings(tmp_path: Path, drawn: Path) -> None:
    pytest.importorskip("torch")
    settings = config.load(None, [*TINY_CRNN, "train.epochs=1", f"data.root={drawn}"])
    with run_folder.locked(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(Error, match="another process is training here"):
                train(settings, tmp_path / "run", resume=resume, say=lambda line: None)
    assert train(settings, tmp_path / "run", say=lambda line: None)
    with pytest.raises(Error, match="exists already; resume it"):
        train(settings, tmp_path / "run", say=lambda line: None)


@pytest.mark.parametrize("kind", ["gt", "page", "table", "iam"])
def test_two_conversions(tmp_path: Path, drawn: Path, kind: str) -> None:
    dataset = data.read(Data(root=str(drawn)))
    found = both(lambda: convert(dataset, tmp_path / "out", kind))
    assert sum(isinstance(one, list) for one in found) in (1, 2)
    assert all(isinstance(one, list | Error) for one in found)
    read = data.read(Data(root=str(tmp_path / "out"), format=kind))
    assert len(read.lines) == 44
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_drawings(tmp_path: Path) -> None:
    found = both(lambda: synth.write(tmp_path / "out", 8, 4, 1))
    assert any(not isinstance(one, Exception) for one in found)
    assert all(isinstance(one, Error) for one in found if isinstance(one, Exception))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_workbenches_and_a_prediction(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("starlette")
    from hwr.serve.workbench import Workbench

    Image.fromarray(np.full((60, 200), 230, np.uint8)).save(tmp_path / "a.png")
    overrides = ["engine.device=cpu", "engine.threads=1"]
    bench = Workbench(tmp_path, str(model), overrides)
    try:
        with pytest.raises(Error, match="another hwr serve has opened this folder"):
            Workbench(tmp_path, str(model), overrides)
        # A prediction beside it neither reads the workbench's own files nor replaces a page's.
        done = hwr("predict", tmp_path, "--line", "--checkpoint", model)
        assert (done.exit_code, len(done.stdout.splitlines())) == (0, 1)
        (tmp_path / "a.xml").write_text("<PcGts/>")
        refused = hwr("predict", tmp_path / "a.png", "--line", "--checkpoint", model, "--format", "page")
        assert (refused.exit_code, "would be overwritten" in refused.stderr) == (2, True)
        assert (tmp_path / "a.xml").read_text() == "<PcGts/>"
    finally:
        bench.close()
    Workbench(tmp_path, str(model), overrides).close()
