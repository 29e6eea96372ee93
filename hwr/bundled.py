"""The bundled recipes and models: a name without a slash means one of them, anything else is a path."""

from pathlib import Path

from hwr import Error

MODEL = "hwr-latin"


def recipe(name: str | Path) -> Path:
    """The config file that `--config` names: `lines_cpu` is a bundled recipe, `./mine.yaml` a file.

    A name that ends in .yaml is a file, with or without a slash.

    Raises:
        Error: No recipe or file has this name.
    """
    path, anywhere = Path(name), isinstance(name, Path) or _has_slash(name)
    folder = _folder("configs")
    recipes = sorted(file.stem for file in folder.glob("*.yaml"))
    if anywhere or path.suffix in (".yaml", ".yml"):
        if path.exists() or (anywhere and path.stem not in recipes):
            return path
        known = path.stem in recipes
        hint = f"for the bundled recipe write {path.stem}" if known else f"the bundled recipes are {_list(recipes)}"
        raise Error(f"{name}: no such config file{'' if anywhere else ' here'}; {hint}")
    if name not in recipes:
        raise Error(
            f"{name}: no bundled recipe has this name (there are {_list(recipes)}). For a file, write its path: ./{name}"
        )
    return folder / f"{name}.yaml"


def model(name: str | Path = MODEL) -> Path:
    """The file of a model: `hwr-latin` is the bundled one; a name with a slash or an extension is a path.

    Raises:
        Error: No bundled model has this name.
    """
    if not is_model_name(name):
        return Path(name)
    folder = _folder("models")
    models = sorted(path.stem for path in folder.glob(f"{MODEL}.safetensors"))
    if name not in models:
        raise Error(
            f"{name}: no bundled model has this name (there is {_list(models)}). For a file, write its path: ./{name}"
        )
    return folder / f"{name}.safetensors"


def line_detector() -> Path:
    """The network that finds the lines of pages, see `models/hwr-lines.md`.

    Raises:
        Error: It is missing.
    """
    path = _folder("models") / "hwr-lines.onnx"
    if not path.is_file():
        raise Error(f"{path}: missing; install hwr again, or name another line finder with --segmenter")
    return path


def is_model_name(name: str | Path) -> bool:
    """Whether `model` treats the name as a bundled model rather than a path."""
    return isinstance(name, str) and not _has_slash(name) and not Path(name).suffix


def _has_slash(name: str) -> bool:
    return "/" in name or "\\" in name


def _folder(name: str) -> Path:
    """`configs` or `models`: inside an installed package, next to the package in a checkout."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"
