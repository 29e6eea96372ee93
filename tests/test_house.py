"""The rules of the house: what may be imported, and what a file may be."""

import subprocess
import sys
from pathlib import Path

import pytest

from hwr import config

from .conftest import REPOSITORY

MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in (REPOSITORY / "hwr").rglob("*.py")
    if not path.name.startswith(("torch", "mxnet.py", "__main__"))
)


def test_only_engines_import_a_tensor_library() -> None:
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in MODULES)
    code += "print([m for m in ('torch', 'mxnet') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert len(MODULES) > 15
    assert out.stdout.strip() == "[]"


def test_the_command_line_imports_nothing_heavy() -> None:
    code = "import hwr.cli, sys; print([m for m in ('numpy', 'cv2', 'pydantic', 'yaml', 'torch') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    config.load(path)


def test_iam_line_says_every_key_at_its_default() -> None:
    import yaml

    path = REPOSITORY / "configs/iam_line.yaml"
    assert config.load(path) == config.Config()
    said = yaml.safe_load(path.read_text())
    assert {s: set(keys) for s, keys in said.items()} == {s: set(k) for s, k in config.to_dict(config.Config()).items()}


def test_iam_line_best_says_every_key_of_its_network() -> None:
    import yaml

    said = yaml.safe_load((REPOSITORY / "configs/iam_line_best.yaml").read_text())["model"]
    assert set(said) == set(config.CRNN.model_fields)


def test_every_key_of_the_reference_has_a_comment() -> None:
    path = REPOSITORY / "configs/iam_line.yaml"
    keys = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.startswith("  ")]
    assert len(keys) > 30
    assert not [f"{path}:{number}" for number, line in keys if "#" not in line]
