"""A model on disk: weights, config, alphabet and scores in one `.safetensors` file."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as safetensors_arrays
from safetensors.numpy import save as safetensors_bytes

from hwr import Error, alphabet, config
from hwr.alphabet import Alphabet
from hwr.config import Config, decoder_settings
from hwr.system import files
from hwr.system.atomic import replacing
from hwr.system.terminal import unicode

FORMAT = 2  # of checkpoints and .bin language models; since 2, a language model's arrays of bytes are deflated


@dataclass(frozen=True)
class Part:
    """Arrays and JSON values stored with a network. `decoding` interprets and checks them."""

    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]
    source: str = "the checkpoint"  # for messages


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        weights: Name (in Gluon's naming) -> array.
        config: The training config. Keys that name files and folders are neither saved nor loaded.
        alphabet: The characters that it can write.
        scores: Epoch, validation loss, CER and WER, the split, and the names of the folders that it was trained on.
        exported: The `.onnx` file, if it is an exported network; then there are no weights.
        language_model: As stored by `decoding.language_model`, or None.
        lexicon: As stored by `decoding.lexicon`, or None.
    """

    weights: dict[str, np.ndarray]
    config: Config
    alphabet: Alphabet
    scores: dict[str, Any] = field(default_factory=dict)
    exported: Path | None = None
    language_model: Part | None = None
    lexicon: Part | None = None


# The names of a part's arrays start with its key and a slash.
_PARTS = {"lm": "language_model", "lexicon": "lexicon"}


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write `.safetensors`.

    Raises:
        Error: The file can't be written (a previous file is unchanged), or the checkpoint is an exported network.
    """
    if checkpoint.exported:
        raise Error(f"{path}: {checkpoint.exported} is an exported network, which has no weights to save")
    arrays = dict(checkpoint.weights)
    for key, part in _parts(checkpoint).items():
        arrays |= {f"{key}/{name}": array for name, array in part.arrays.items()}
    write_arrays(path, arrays, _about(checkpoint))


def about(checkpoint: Checkpoint) -> str:
    """Everything but the weights, as JSON, including the arrays of a language model as base64."""
    found = _about(checkpoint)
    for key, part in _parts(checkpoint).items():
        arrays = {name: np.asarray(array, order="C") for name, array in part.arrays.items()}
        found[f"{key}_arrays"] = base64.b64encode(safetensors_bytes(arrays)).decode()
    return unicode(json.dumps(found, ensure_ascii=False))


def _parts(checkpoint: Checkpoint) -> dict[str, Part]:
    return {key: part for key, name in _PARTS.items() if (part := getattr(checkpoint, name)) is not None}


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    tree = config.to_dict(checkpoint.config)
    tree["decode"] = decoder_settings.without_paths(tree["decode"], config.DECODER)
    return {
        "format": FORMAT,
        "config": _without_paths(tree),
        "alphabet": checkpoint.alphabet.characters,
        "scores": checkpoint.scores,
        **{key: dict(part.about) for key, part in _parts(checkpoint).items()},
    }


def load(path: str | Path) -> Checkpoint:
    """Read a `.safetensors` checkpoint; `hwr.loading.load_checkpoint` also reads the other kinds.

    Raises:
        Error: The file is missing, truncated, or of another kind.
    """
    return from_metadata(path, *read_arrays(path))


def from_metadata(
    path: str | Path, arrays: dict[str, np.ndarray], found: Mapping[str, Any], exported: Path | None = None
) -> Checkpoint:
    """Build a checkpoint from arrays and the metadata of `about`.

    Args:
        path: For messages.
        arrays: The weights, and the arrays of a language model and a word list unless the metadata has them.

    Raises:
        Error: The metadata is incomplete, invalid or from a newer version.
    """
    try:
        check_format(path, found["format"])
        root = found["config"].get("data", {}).get("root")  # only in files of a version that stored paths
        settings = config.from_dict(_without_paths(found["config"]), default=f"{path} (its config)")
        letters = _alphabet(path, found["alphabet"])
        scores = _scores(path, {**({"trained_on": folder_names(root)} if root else {}), **found["scores"]})
        stored = {name: _stored(path, key, arrays, found) for key, name in _PARTS.items() if key in found}
        names = [name for name in arrays if not name.startswith(tuple(f"{key}/" for key in _PARTS))]
        # Weights may be stored in 16 bits; engines take 32.
        weights = {name: arrays[name].astype(np.float32) for name in names}
        loaded = Checkpoint(weights, settings, letters, scores, exported)
        return replace(loaded, language_model=stored.get("language_model"), lexicon=stored.get("lexicon"))
    except KeyError as error:
        raise Error(f"{path}: not a checkpoint of hwr: its metadata lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise Error(f"{path}: not a checkpoint of hwr, or damaged: {error}") from error


def check_format(path: str | Path, number: Any) -> None:
    """Refuse the file of a newer version, or a format that is no number."""
    if not isinstance(number, int) or number < 1:
        raise Error(f"{path}: its metadata is damaged: its format is {str(number)[:60]!r}")
    if number > FORMAT:
        raise Error(f"{path}: was written by a newer hwr (format {number}); update hwr")


def _alphabet(path: str | Path, characters: Any) -> Alphabet:
    try:
        return Alphabet(characters if isinstance(characters, str) else "")
    except Error as error:
        raise Error(f"{path}: its metadata is damaged: {error}") from None


def _scores(path: str | Path, found: dict[str, Any]) -> dict[str, Any]:
    """The scores, if those that others rely on have the right types."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)

    def numbers(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(item, int | float | None) for item in value.values())

    def text(value: Any) -> bool:
        return value is None or isinstance(value, str)

    kinds = {"trained_on": texts, "notes": texts, "decode": numbers, "split_name": text}
    for key, fits in kinds.items():
        if key in found and not fits(found[key]):
            raise Error(f"{path}: its metadata is damaged: scores.{key} is {str(found[key])[:60]!r}")
    return found


def _without_paths(tree: dict[str, Any]) -> dict[str, Any]:
    """A config's nested dict without the keys that name files and folders: the part that a checkpoint keeps.

    Paths are meaningful only on the machine where it was trained, and must not decide what is read or written here.
    """
    kept = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}

    def drop(section: str, key: str, harmless: Sequence[str] = ()) -> None:
        keys = kept.get(section)
        if isinstance(keys, dict) and not (key in keys and keys[key] in harmless):
            keys.pop(key, None)

    if isinstance(kept.get("data"), dict) and kept["data"].get("lists") is not None:
        for key in ("split", "train", "val", "test"):  # the names of these lists, and of the split that they make
            drop("data", key)
    for key in ("root", "lists", "images", "cache"):
        drop("data", key)
    drop("data", "alphabet", alphabet.NAMES)
    drop("train", "init")
    kept.pop("self_training", None)  # without the lines that it names, its other keys say nothing
    data, model = kept.get("data"), kept.get("model")
    for key in ("train", "val", "test"):  # names of lists, which may be paths
        names = data.get(key) if isinstance(data, dict) else None
        if isinstance(names, list | tuple) and any("/" in str(name) or "\\" in str(name) for name in names):
            drop("data", key)
    if isinstance(model, dict) and model.get("pretrained", "none") not in ("auto", "none"):
        model["pretrained"] = "none"  # the weights already include it
    return kept


def folder_names(root: Any) -> list[str]:
    """The last components of the paths in `data.root`, which say what a network was trained on."""
    return [Path(str(path)).name or str(path) for path in ([root] if isinstance(root, str) else root)]


def _stored(path: str | Path, key: str, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any]) -> Part:
    if f"{key}_arrays" in found:
        return Part(_unpacked(path, found[f"{key}_arrays"]), dict(found[key]), str(path))
    own = {name.removeprefix(f"{key}/"): array for name, array in arrays.items() if name.startswith(f"{key}/")}
    return Part(own, dict(found[key]), str(path))


def _unpacked(path: str | Path, text: Any) -> dict[str, np.ndarray]:
    try:
        return dict(safetensors_arrays(base64.b64decode(text, validate=True)))
    except (SafetensorError, ValueError, TypeError) as error:
        raise Error(f"{path}: its language model or word list is damaged: {error}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and JSON metadata as one `.safetensors` file, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content(arrays, about))


def content(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> bytes:
    """Arrays and JSON metadata as the bytes of a `.safetensors` file."""
    # safetensors silently writes arrays that are not contiguous wrongly. Its `save_file` would write another temporary file of
    # its own beside this one, which nobody removes after a kill.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors_bytes(contiguous, {"hwr": unicode(json.dumps(dict(about), ensure_ascii=False))})


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote.

    Raises:
        Error: The file is missing, truncated or another program's.
    """
    with _opened(path) as (file, about):
        return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (not a dict)


def read_about(path: str | Path) -> dict[str, Any]:
    """Only the metadata of what `write_arrays` wrote; raises Error like `read_arrays`."""
    with _opened(path) as (_, about):
        return about


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    files.check(path)
    try:
        with safe_open(str(path), "np") as file:
            about = files.parse_json((file.metadata() or {}).get("hwr", "null"))
            if not isinstance(about, dict):
                raise Error(f"{path}: was not written by hwr (no hwr entry in its metadata)")
            yield file, about
    # safetensors raises KeyError and AttributeError for types that NumPy lacks.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        named = str(path).endswith(".safetensors")
        kinds = "" if named else " (checkpoints are .safetensors, .params or .onnx files, and named so)"
        raise Error(f"{path}: not a complete .safetensors file{kinds}: {error}") from error
