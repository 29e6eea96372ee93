"""Load a checkpoint and determine the config to use with it. No other module decides this."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hwr import Error, bundled, checkpoint, config, gluon_params, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config, Data, decoder_settings, fields
from hwr.config.source import Given
from hwr.system import signature

# Keys of `model` that affect only how training starts, not the network itself.
_NOT_OF_THE_NETWORK = ("pretrained",)


def default_model() -> Path:
    """The default model for reading: $HWR_MODEL, a file or the name of a bundled model, else the bundled model.

    Raises:
        Error: The file does not exist.
    """
    named = os.environ.get("HWR_MODEL")
    path = bundled.model(named) if named else bundled.model()
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise Error(f"HWR_MODEL: {path}: {what}" if named else f"{path}: the bundled model is missing")
    return path


def settings_for(
    model: str | Path,
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    dataset: bool = False,
    decodes: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Checkpoint, Config]:
    """Load a checkpoint, and determine the config to use with it.

    Keys set in the config file and the overrides are obeyed or refused: the network, its image size and the text
    normalisation belong to the checkpoint. Without a config file, all other keys come from the checkpoint, except the device
    and the number of threads, which depend on this machine. With a config file, the checkpoint provides the decoder, and
    `Config()` the rest. A bare `.params` provides only the network's sizes.

    Args:
        model: The name of a bundled model, or a `.safetensors`, `.params` or `.onnx` file.
        config_path: A YAML file, or the name of a bundled recipe.
        dataset: The caller will read a dataset. Without a config file, unset `data` keys then come from the run folder that
            contains the checkpoint, see `run_config`.
        decodes: The caller will decode text, so the decoder's language model must be stored in the checkpoint or named.
        note: Receives messages for the user.

    Raises:
        Error: The checkpoint can't be loaded; the config is invalid or contradicts the checkpoint; no dataset is named.
    """
    path = bundled.model(model)
    given = config.given(config_path, overrides)
    if path.suffix == ".params":
        asked = config.over(given)
        loaded = load_checkpoint(path, asked)
        settings = loaded.config
    else:
        loaded = load_checkpoint(path)
        if decodes:
            decoder_settings.own(loaded.config.decode.model_dump(), given.keys("decode"), str(path))
        _refuse_other_keys(given, loaded.config)
        settings = asked = config.over(given, _base(loaded.config, alone=config_path is None))
        if settings.data.normalise != loaded.config.data.normalise:
            raise Error(
                f"{given.place('data', 'normalise')}: data.normalise belongs to the checkpoint and can't be changed: it is "
                f"{loaded.config.data.normalise}, not {settings.data.normalise}"
            )
    _refuse_other_values(given, asked, loaded.config)
    if path.suffix == ".onnx":
        _refuse_other_engines(path, given)
    if dataset and config_path is None and (run := run_config(path)):
        note(f"unset data keys come from {run}")
        return loaded, settings.model_copy(update={"data": _data_of(run, given, loaded, path.suffix == ".params")})
    if dataset and "root" not in given.keys("data"):
        check_root(settings.data, str(path))
    return loaded, settings


def run_config(path: Path) -> Path | None:
    """The config.yaml of the run folder that contains a checkpoint, if this user's `hwr` wrote it and nobody changed it.

    It names the folders of the data, which a file that came with a checkpoint from elsewhere must not do.
    """
    beside = path.with_name("config.yaml")
    return beside if beside.is_file() and signature.is_signed(beside) else None


def check_root(data: Data, name: str) -> None:
    """Refuse to look for lines in a folder that nobody named and that is not there.

    Args:
        name: Of the checkpoint.
    """
    if data.root == Data().root and not Path(str(data.root)).exists():
        beside = Path(name).with_name("config.yaml")
        raise Error(
            f"{name}: a checkpoint does not store where its data is; name the folder with --set data.root=FOLDER, "
            "in Python with evaluate(model, FOLDER)"
            + (
                f". {beside} was changed, or written elsewhere, so the paths in it are not used unless you ask for them "
                f"with --config {beside}"
                if beside.is_file() and run_config(Path(name)) is None
                else ""
            )
        )


def check_sizes(path: str | Path, config_path: str | Path | None) -> None:
    """Refuse a config that is to give the image size of a checkpoint which stores its own."""
    if config_path is not None and not str(path).endswith(".params"):
        raise Error(f"--config gives a bare .params its image size; {path} has its own")


def _refuse_other_engines(path: Path, given: Given) -> None:
    for key, allowed in (("name", ("onnx", "auto")), ("precision", ("fp32", "auto"))):
        if (value := given.keys("engine").get(key)) is not None and value not in allowed:
            raise Error(
                f"{given.place('engine', key)}: {path} is an exported network, which runs on onnxruntime in fp32; leave "
                f"engine.{key} out"
            )


def load_checkpoint(path: str | Path, fallback: Config | None = None) -> Checkpoint:
    """Read a checkpoint of any kind.

    Args:
        path: A `.safetensors` of hwr, a Gluon `.params`, or an `.onnx` from `hwr export`.
        fallback: The config for a bare `.params` (default: the original system on IAM lines). Its `model` sizes are
            replaced by those of the arrays; the alphabet is the original one.

    Raises:
        Error: The file is missing, truncated or of another kind.
    """
    path = Path(path)
    if path.suffix == ".params":
        return _from_gluon(path, fallback or Config())
    if path.suffix == ".onnx":
        from hwr.engines import onnx

        return checkpoint.from_metadata(path, {}, onnx.metadata(path), exported=path)
    loaded = checkpoint.load(path)
    try:
        networks.check(loaded.weights, networks.shapes(loaded.config, loaded.alphabet.classes))
    except Error as error:
        raise Error(f"{path}: {error}") from None
    return loaded


def _from_gluon(path: Path, config: Config) -> Checkpoint:
    weights = {name: array.astype(np.float32) for name, array in gluon_params.read(path).items()}
    try:
        settings, classes = networks.from_gluon(weights, config)
    except Error as error:
        raise Error(f"{path}: {error}") from None
    alphabet = Alphabet(ORIGINAL)
    if classes != alphabet.classes:
        raise Error(
            f"{path}: has {classes} outputs, but a bare .params must use the original alphabet, which needs "
            f"{alphabet.classes} with the blank; .safetensors checkpoints store their alphabet"
        )
    return Checkpoint(weights, settings, alphabet)


def stored_types(path: str | Path) -> list[str]:
    """The NumPy dtypes of the parameters in a file; empty for an `.onnx`."""
    path = Path(path)
    if path.suffix == ".onnx":
        return []
    arrays = gluon_params.read(path) if path.suffix == ".params" else checkpoint.read_arrays(path)[0]
    return sorted({str(array.dtype) for name, array in arrays.items() if "running_" not in name and "/" not in name})


def _base(own: Config, alone: bool) -> Config:
    """Values of unset keys. The stored engine, device and threads suited the training, not this machine and task."""
    if not alone:
        kept = {"model": own.model, "image": own.image, "decode": own.decode}
        return Config().model_copy(update={**kept, "data": Data(normalise=own.data.normalise)})
    precision = "auto" if own.engine.precision == "bf16" else own.engine.precision
    engine = own.engine.model_copy(update={"name": "auto", "device": "auto", "threads": None, "precision": precision})
    return own.model_copy(update={"engine": engine})


def _data_of(run: Path, given: Given, loaded: Checkpoint, bare: bool) -> Data:
    """The data section of a run's config, overridden by the keys that are set; text is normalised as in training."""
    found = config.given(run)
    keys = {**found.keys("data"), **given.keys("data")}
    if not bare:
        keys["normalise"] = loaded.config.data.normalise
    places = {**found.places, **given.places}
    return config.over(Given({"data": keys}, places, found.written, str(run))).data


def _refuse_other_keys(given: Given, own: Config) -> None:
    """Refuse keys of other architectures here: validation would only call them unknown."""
    keys, arch = given.keys("model"), own.model.arch
    if keys.get("arch", arch) != arch:
        raise Error(_refusal(given, "model", "arch", arch, keys["arch"]))
    networks = fields.records(Config.model_fields["model"].annotation)
    elsewhere = {key for network in networks for key in network.model_fields} - set(type(own.model).model_fields)
    for key in sorted(elsewhere & set(keys)):
        raise Error(_refusal(given, "model", key, f"absent (model.arch is {arch})", keys[key]))


def _refuse_other_values(given: Given, asked: Config, own: Config) -> None:
    for section in ("model", "image"):
        here, there = (getattr(settings, section) for settings in (asked, own))
        for key in given.keys(section):
            if key not in _NOT_OF_THE_NETWORK and getattr(here, key) != getattr(there, key):
                raise Error(_refusal(given, section, key, getattr(there, key), getattr(here, key)))


def _refusal(given: Given, section: str, key: str, own: object, asked: object) -> str:
    return (
        f"{given.place(section, key)}: the network belongs to the checkpoint and can't be changed: {section}.{key} is "
        f"{own}, not {asked}"
    )
