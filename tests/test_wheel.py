"""An installed wheel, outside the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

pytest.importorskip("torch")
setuptools = pytest.importorskip("setuptools")
if int(setuptools.__version__.split(".")[0]) < 77:
    pytest.skip("setuptools is older than pyproject.toml needs", allow_module_level=True)

pytestmark = pytest.mark.once


def run(folder: Path, *command: object, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HWR_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed wheel, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("hwr", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "models").mkdir()
    for path in [*(REPOSITORY / "models").glob("hwr-l*.*"), REPOSITORY / "models/README.md"]:
        shutil.copy(path, source / "models")
    (source / "models/mine.safetensors").write_bytes(b"somebody's own")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    offline = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(folder, "-m", "pip", "wheel", source, "--no-build-isolation", "--wheel-dir", folder, *offline)
    (wheel,) = folder.glob("*.whl")
    run(folder, "-m", "pip", "install", wheel, "--target", folder / "site", *offline)
    return folder / "site"


def test_the_wheel_has_the_recipes_and_the_model_and_no_user_files(installed: Path) -> None:
    recipes = {path.name for path in (REPOSITORY / "configs").glob("*.yaml")}
    assert {path.name for path in (installed / "hwr/configs").iterdir()} == recipes
    assert {path.name for path in (installed / "hwr/models").iterdir()} == {
        *("README.md", "hwr-latin.md", "hwr-latin.safetensors", "hwr-lines.md", "hwr-lines.onnx")
    }
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "hwr").rglob("*.py")}
    assert {str(path.relative_to(installed)) for path in (installed / "hwr").rglob("*.py")} == modules
    static = {path.name for path in (REPOSITORY / "hwr/serve/static").iterdir()}
    assert {path.name for path in (installed / "hwr/serve/static").iterdir()} == static
    (found,) = importlib.metadata.distributions(path=[str(installed)])
    assert any(point.value == "hwr.__main__:run" for point in found.entry_points)


def test_type_checkers_see_the_types(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import hwr\nhwr.load().read('a.png').text + 1\nhwr.lode()\n")
    environment = {**os.environ, "MYPYPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", "user.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert '2: error: Unsupported operand types for + ("str" and "int")' in done.stdout
    assert '3: error: Module has no attribute "lode"' in done.stdout
    assert (installed / "hwr/py.typed").is_file()


def test_the_installed_wheel_reads_and_trains_from_any_folder(installed: Path, drawn: Path, tmp_path: Path) -> None:
    def hwr(*arguments: object) -> str:
        return run(tmp_path, "-m", "hwr", *arguments, PYTHONPATH=str(installed), HWR_CACHE=str(tmp_path / "cache"))

    where = run(tmp_path, "-c", "import hwr; print(hwr.__file__)", PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed)
    image = next((drawn / "lines").rglob("*.png"))
    text = hwr("predict", image)
    assert len(text.strip()) > 5
    assert hwr("predict", image, "--checkpoint", "hwr-latin") == text
    small = ["model.stem=4", "model.blocks=[[1, 4]]", "model.pools=[]", "model.hidden=4", "model.layers=1"]
    keys = [f"data.root={drawn}", "train.epochs=1", "engine.device=cpu", "engine.threads=1"]
    sets = [part for key in [*keys, *small] for part in ("--set", key)]
    assert "best epoch 1" in hwr("train", "--config", "lines_cpu", *sets)
    assert (tmp_path / "runs/lines_cpu/best.safetensors").is_file()
    sets = [part for key in keys for part in ("--set", key)]
    assert "initialised from hwr-latin" in hwr("train", "--config", "finetune", *sets)
