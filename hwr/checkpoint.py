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
from safetensors.numpy import save_file

from hwr import Error, alphabet, config
from hwr.alphabet import Alphabet
from hwr.atomic import replacing
from hwr.config import Config, decoder_settings

FORMAT = 1


@dataclass(frozen=True)
class Part:
    """Arrays and JSON values that are stored with a network; what they mean, `decoding` knows, and checks."""

    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]
    source: str = "the checkpoint"  # for messages


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        weights: Name (as Gluon names it) -> array.
        config: The config that it was trained with. Keys that name files and folders are neither saved nor loaded.
        alphabet: What it can write.
        scores: What is known of it: epoch, validation loss, cer, wer, on which split, and the names of the folders that it
            was trained on.
        exported: The `.onnx` file that it is; then there are no weights.
        language_model: What `decoding.language_model` stores, or None.
        lexicon: What `decoding.lexicon` stores, or None.
    """

    weights: dict[str, np.ndarray]
    config: Config
    alphabet: Alphabet
    scores: dict[str, Any] = field(default_factory=dict)
    exported: Path | None = None
    language_model: Part | None = None
    lexicon: Part | None = None


# Names of a part's arrays begin with its key and a slash.
_PARTS = {"lm": "language_model", "lexicon": "lexicon"}


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write `.safetensors`.

    Raises:
        Error: No room, no permission; what stood there before is untouched. Or the checkpoint is an exported network.
    """
    if checkpoint.exported:
        raise Error(f"{path}: {checkpoint.exported} is an exported network, which has no weights to save")
    arrays = dict(checkpoint.weights)
    for key, part in _parts(checkpoint).items():
        arrays |= {f"{key}/{name}": array for name, array in part.arrays.items()}
    write_arrays(path, arrays, _about(checkpoint))


def about(checkpoint: Checkpoint) -> str:
    """All but the weights, as JSON: what `load` reads them by. The arrays of a language model are in it, as base64."""
    found = _about(checkpoint)
    for key, part in _parts(checkpoint).items():
        arrays = {name: np.asarray(array, order="C") for name, array in part.arrays.items()}
        found[f"{key}_arrays"] = base64.b64encode(safetensors_bytes(arrays)).decode()
    return json.dumps(found, ensure_ascii=False)


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
    """Read a `.safetensors` checkpoint; `hwr.recognizer.load_checkpoint` reads the other kinds too.

    Raises:
        Error: Missing, truncated, or not such a file; says what is wrong.
    """
    return from_metadata(path, *read_arrays(path))


def from_metadata(
    path: str | Path, arrays: dict[str, np.ndarray], found: Mapping[str, Any], exported: Path | None = None
) -> Checkpoint:
    """The checkpoint that arrays and the metadata of `about` make.

    Args:
        path: For messages.
        arrays: The weights, and those of a language model and a word list, unless they are in the metadata.

    Raises:
        Error: The metadata is incomplete, invalid or a newer version's.
    """
    try:
        if found["format"] > FORMAT:
            raise Error(f"{path}: was written by a newer hwr (format {found['format']}); update hwr")
        root = found["config"].get("data", {}).get("root")  # of a version that kept paths
        settings = config.from_dict(_without_paths(found["config"]), default=f"{path} (its config)")
        letters = Alphabet(found["alphabet"])
        scores = {**({"trained_on": folder_names(root)} if root else {}), **found["scores"]}
        stored = {name: _stored(path, key, arrays, found) for key, name in _PARTS.items() if key in found}
        names = [name for name in arrays if not name.startswith(tuple(f"{key}/" for key in _PARTS))]
        # Weights may be kept in 16 bits; engines take 32.
        weights = {name: arrays[name].astype(np.float32) for name in names}
        loaded = Checkpoint(weights, settings, letters, scores, exported)
        return replace(loaded, language_model=stored.get("language_model"), lexicon=stored.get("lexicon"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Error(f"{path}: not a checkpoint of hwr: its metadata lacks {error}") from error


def _without_paths(tree: dict[str, Any]) -> dict[str, Any]:
    """A config's nested dict without the keys that name files and folders: what a checkpoint keeps of it.

    They mean something only where it was trained. A file from elsewhere must not decide what is read or written here.
    """
    kept = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}

    def drop(section: str, key: str, harmless: Sequence[str] = ()) -> None:
        keys = kept.get(section)
        if isinstance(keys, dict) and not (key in keys and keys[key] in harmless):
            keys.pop(key, None)

    for key in ("root", "lists", "images", "cache"):
        drop("data", key)
    drop("data", "alphabet", alphabet.NAMES)
    drop("train", "init")
    data, model = kept.get("data"), kept.get("model")
    for key in ("train", "val", "test"):  # names of lists, which may be files elsewhere
        names = data.get(key) if isinstance(data, dict) else None
        if isinstance(names, list | tuple) and any("/" in str(name) or "\\" in str(name) for name in names):
            drop("data", key)
    if isinstance(model, dict) and model.get("pretrained", "none") not in ("auto", "none"):
        model["pretrained"] = "none"  # the weights have it all
    return kept


def folder_names(root: Any) -> list[str]:
    """The last parts of the paths in `data.root`, to say what a network was trained on."""
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
        raise Error(f"{path}: the language model or the word list in it is damaged: {error}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and JSON metadata as one `.safetensors`, whole or not at all."""
    with replacing(path) as temporary:
        try:
            # safetensors takes no arrays of strange layout, and writes them wrong if it is given one.
            contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
            save_file(contiguous, temporary, {"hwr": json.dumps(dict(about), ensure_ascii=False)})
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(0, str(error)) from error


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote.

    Raises:
        Error: Missing, truncated or another program's file.
    """
    with _opened(path) as (file, about):
        return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (it is no dict)


def read_about(path: str | Path) -> dict[str, Any]:
    """The metadata alone of what `write_arrays` wrote; Error as `read_arrays`."""
    with _opened(path) as (_, about):
        return about


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    if not Path(path).is_file():
        raise Error(f"{path}: no such file")
    try:
        with safe_open(str(path), "np") as file:
            about = json.loads((file.metadata() or {}).get("hwr", "null"))
            if not isinstance(about, dict):
                raise Error(f"{path}: was not written by hwr (there is no hwr in its metadata)")
            yield file, about
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise Error(f"{path}: not a whole .safetensors file: {error}") from error
