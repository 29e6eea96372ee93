"""The project's rules: imports, configs, where architectures are named."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwr import config

from .conftest import REPOSITORY

MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in (REPOSITORY / "hwr").rglob("*.py")
    if not path.name.startswith(("torch", "mxnet.py", "__main__"))
    # The workbench's extra is not in every environment.
    and ("serve" not in path.parts or importlib.util.find_spec("starlette"))
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


def test_iam_line_has_every_key_at_its_default() -> None:
    import yaml

    path = REPOSITORY / "configs/iam_line.yaml"
    assert config.load(path) == config.Config()
    said = yaml.safe_load(path.read_text())
    assert {s: set(keys) for s, keys in said.items()} == {s: set(k) for s, k in config.to_dict(config.Config()).items()}


def test_iam_line_best_has_every_key_of_its_network() -> None:
    import yaml

    said = yaml.safe_load((REPOSITORY / "configs/iam_line_best.yaml").read_text())["model"]
    assert set(said) == set(config.CRNN.model_fields)


def test_every_key_of_the_reference_has_a_comment() -> None:
    path = REPOSITORY / "configs/iam_line.yaml"
    keys = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.startswith("  ")]
    assert len(keys) > 30
    assert not [f"{path}:{number}" for number, line in keys if "#" not in line]


# Layers from top to base: a module imports only from its own layer and those below.
LAYERS = [
    ["hwr.cli", "hwr.__main__"],
    ["hwr.serve.run"],
    ["hwr.serve.api"],
    ["hwr.serve.workbench"],
    ["hwr.serve.training"],
    ["hwr.serve.reading"],
    ["hwr.serve.jobs"],
    ["hwr.serve.project"],
    ["hwr.serve"],
    ["hwr.training"],
    ["hwr.evaluation", "hwr.pages", "hwr.describe"],
    ["hwr.recognizer", "hwr.former"],
    ["hwr.loading"],
    ["hwr.engines"],
    ["hwr.networks", "hwr.decoding"],
    ["hwr.images"],
    ["hwr.data"],
    # `images.load` only decodes files.
    ["hwr.checkpoint", "hwr.alphabet", "hwr.config", "hwr.images.load", "hwr.images.documents"],
    ["hwr.images.direction", "hwr.images.exif", "hwr.images.greys"],
    ["hwr.gluon_params", "hwr.bundled", "hwr.system"],
    ["hwr"],
]
# `Recognizer.read_page` imports the layer above it.
UPWARDS = {("hwr.recognizer", "hwr.pages")}


def _layer(module: str) -> int:
    found = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or (name != "hwr" and module.startswith(f"{name}."))
    ]
    assert found, f"{module} is in no layer"
    return max(found)[1]


def _imports(path: Path) -> Iterator[str]:
    """Modules of hwr that a file imports, at any level."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "hwr")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hwr":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _is_module(inner) else str(node.module)


def _is_module(name: str) -> bool:
    path = REPOSITORY / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_imports_point_down() -> None:
    seen, wrong = 0, []
    for path in (REPOSITORY / "hwr").rglob("*.py"):
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        if module == "hwr":
            continue  # it imports its API on demand
        for imported in _imports(path):
            seen += 1
            if _layer(imported) < _layer(module) and (module, imported) not in UPWARDS:
                wrong.append(f"{module} imports {imported}")
    assert seen > 200
    assert not wrong


def test_only_networks_and_the_config_name_an_architecture() -> None:
    """Only code counts: docstrings and comments may mention the original system."""
    wrong = []
    for path in (REPOSITORY / "hwr").rglob("*.py"):
        place = path.relative_to(REPOSITORY / "hwr").as_posix()
        if place.startswith("networks/") or place.startswith("config/"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # The original system's alphabet is named `original`, too.
        names = {"crnn", "CRNN", "Original"} | (set() if place == "alphabet.py" else {"original"})
        for node in ast.walk(tree):
            used = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)
            if isinstance(used, str) and used in names:
                wrong.append(f"{place}:{node.lineno}: {used}")  # type: ignore[attr-defined]
    assert not wrong
