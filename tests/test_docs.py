"""The documentation builds without warnings, and everything it names exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hwr import config
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
    for name in ("hwr.images.prepare", "hwr.decoding.align.align", "hwr.training.loop.train"):
        assert f'id="{name}"' in reference
    assert len(list(tmp_path.rglob("index.html"))) > 9


PAGES = [REPOSITORY / "README.md", REPOSITORY / "models/hwr-latin.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TOP = [REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md", REPOSITORY / "models/README.md"]


def commands(path: Path) -> list[list[str]]:
    """The words of each `hwr` command in a page's blocks of code."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    rows = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.fullmatch(r"(?:torchrun .* -m |python -m |\$ )?hwr (.*?)(?:\s+>.*)?", row) for row in rows]
    return [shlex.split(match[1], comments=True) for match in found if match and "…" not in match[1]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_configs_in_the_docs_exist(path: Path) -> None:
    keys = {f"{section}.{key}" for section, record in config.to_dict(config.Config()).items() for key in record}
    keys |= {f"model.{key}" for key in config.CRNN.model_fields}
    for words in commands(path):
        command: click.Command = main
        rest = words
        while isinstance(command, click.Group):
            command, rest = command.commands[rest[0]], rest[1:]
        with command.make_context(" ".join(words), rest) as context:  # raises for an unknown option
            for override in context.params.get("overrides") or ():
                assert override.split("=")[0] in keys, (words, override)
    for name in re.findall(r"configs/([a-z_]+\.yaml)", path.read_text()):
        assert (REPOSITORY / "configs" / name).is_file() or path.name == "experiments.md", name


@pytest.mark.parametrize("path", [*PAGES, *TOP], ids=lambda path: path.name)
def test_links_lead_to_files_and_lines_are_at_most_120_characters(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not [row for row in prose.splitlines() if len(row) > 120 and not row.startswith(("|", "!["))]


def test_commands_are_found_in_the_text() -> None:
    found = {words[0] for path in PAGES for words in commands(path)}
    assert {"train", "evaluate", "predict", "data", "lm", "export"} <= found


def test_the_benchmarks_can_be_imported() -> None:
    done = subprocess.run([sys.executable, "scripts/bench", "--help"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "pages" in done.stdout
