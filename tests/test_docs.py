"""The documentation builds, without a warning, and names what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwr.cli import main

from .conftest import REPOSITORY


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference/index.html").read_text()
    for name in ("hwr.image.prepare", "hwr.decode.align", "hwr.train.train"):
        assert f'id="{name}"' in reference
    assert len(list(tmp_path.rglob("index.html"))) > 9


def test_commands_and_configs_in_the_text_are_there() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    seen = set()
    for path in pages:
        for command in re.findall(r"^(?:torchrun .* -m )?hwr ([a-z-]+)", path.read_text(), re.MULTILINE):
            assert command in main.commands, (path, command)
            seen.add(command)
        for name in re.findall(r"configs/([a-z_]+\.yaml)", path.read_text()):
            assert (REPOSITORY / "configs" / name).is_file() or path.name == "experiments.md", (path, name)
    assert {"train", "evaluate", "predict", "data", "lm", "export"} <= seen
