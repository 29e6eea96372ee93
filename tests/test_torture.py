"""scripts/torture in short, and the damaged files that it once found a fault with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

SEEDS = sorted((REPOSITORY / "tests/seeds").glob("*-*"))


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_a_damaged_file_is_refused_or_read(seed: Path, tmp_path: Path) -> None:
    from torturing.fuzz import READERS, check

    name = seed.name.rpartition("-")[0].replace("_", " ")
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    if name.startswith("upload"):
        pytest.importorskip("starlette")
    check(READERS[name], seed.read_bytes(), tmp_path / "files")


def test_changes_depend_on_nothing_else() -> None:
    from torturing.fuzz import changed

    content = b"abc 12 def"
    assert changed(content, [("flip", 0, 0, b"")]) == b"`bc 12 def"
    assert changed(content, [("number", 0, 0, b"1e19")]) == b"abc 1e19 def"
    assert changed(content, [("cut", 3, 0, b"")]) == b"abc"
    assert changed(content, [("insert", 3, 0, b"XY")]) == b"abcXY 12 def"
    assert changed(content, [("drop", 0, 2, b"")]) == b" 12 def"
    assert changed(b"", [("flip", 5, 5, b""), ("number", 1, 1, b"x")]) == b""


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
@pytest.mark.once
def test_the_short_version_finds_nothing() -> None:
    """Kills, damaged and hostile files, a few of each."""
    pytest.importorskip("torch")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "scripts/torture", "--short"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
