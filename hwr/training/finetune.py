"""Fine-tuning: initialise from a checkpoint, with its alphabet, a new one, or the union of both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, alphabet, bundled, config, networks
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config, Data
from hwr.config.source import Given
from hwr.engines import Trainer
from hwr.loading import load_checkpoint


def fine_tuning_config(given: Given) -> Config:
    """The config for fine-tuning a checkpoint, or for training from scratch if `train.init` is not set.

    The network and the image size come from the checkpoint. Keys of `model` and `image` that are set override them, if the
    weights allow it.

    Raises:
        Error: The checkpoint can't be read; the config is invalid; the weights do not fit the network that it asks for.
    """
    init = given.keys("train").get("init")
    if not isinstance(init, str):
        return config.over(given)
    path = bundled.model(init)
    loaded = load_checkpoint(path, config.over(given) if path.suffix == ".params" else None)
    own = loaded.config
    arch = given.keys("model").get("arch", own.model.arch)
    if arch != own.model.arch:
        raise Error(
            f"{given.place('model', 'arch')}: the network differs from the checkpoint's: model.arch is "
            f"{own.model.arch} in {init}"
        )
    # The network, its line images and the normal form of its texts are the checkpoint's.
    kept = {"model": own.model, "image": own.image, "data": Data(normalise=own.data.normalise)}
    settings = config.over(given, Config().model_copy(update=kept))
    if loaded.exported or _shapes(settings, loaded) == {name: array.shape for name, array in _kept(loaded).items()}:
        return settings
    asked = {
        f"{section}.{key}": given.place(section, key) for section in ("model", "image") for key in given.keys(section)
    }
    changes = [text for text in config.differences(own, settings) if text.split(":")[0] in asked]
    raise Error(
        f"{init}: the network differs from the checkpoint's, so its weights do not fit. These keys differ:\n  "
        + "\n  ".join(f"{asked[text.split(':')[0]]}: {text}" for text in changes)
    )


def with_initial_network(settings: Config) -> Config:
    """The config with the network, the image size and the normal form of `train.init`, as far as it sets none itself.

    A config that sets `image`, or more of `model` than its kind, keeps its network.

    So `Config.load("finetune", …)` fine-tunes the checkpoint's network, as `hwr train --config finetune` does.

    Raises:
        Error: The checkpoint can't be read, or the other settings do not suit its network.
    """
    if settings.train.init is None or "image" in settings.model_fields_set:
        return settings
    if "model" in settings.model_fields_set and settings.model.model_fields_set - {"arch"}:
        return settings
    path = bundled.model(settings.train.init)
    own = load_checkpoint(path, settings if path.suffix == ".params" else None).config
    if "model" in settings.model_fields_set and settings.model.arch != own.model.arch:
        return settings  # `load` says what differs
    changes: dict[str, Any] = {"model": own.model, "image": own.image}
    if "normalise" not in settings.data.model_fields_set:
        changes["data"] = settings.data.model_copy(update={"normalise": own.data.normalise})
    # Checked again: what suits one network may not suit the other.
    return config.from_dict(config.to_dict(settings.model_copy(update=changes)))


def _shapes(settings: Config, loaded: Checkpoint) -> dict[str, tuple[int, ...]]:
    training_only = networks.spec(settings).TRAINING_ONLY
    shapes = networks.shapes(settings, loaded.alphabet.classes)
    return {name: shape for name, shape in shapes.items() if name not in training_only}


def _kept(loaded: Checkpoint) -> dict[str, np.ndarray]:
    training_only = networks.spec(loaded.config).TRAINING_ONLY
    return {name: array for name, array in loaded.weights.items() if name not in training_only}


def start(settings: Config, texts: Sequence[str], kept: Path | None = None) -> tuple[Alphabet, Checkpoint | None]:
    """The alphabet to train with, and the checkpoint to initialise from if `train.init` names one.

    `train.charset` selects the alphabet: the checkpoint's (keep), the checkpoint's plus all other characters of the
    training texts (union), or `data.alphabet` (new).

    Args:
        kept: A copy of the checkpoint, which is used instead of it.

    Raises:
        Error: The checkpoint can't be read or trained, or `data.alphabet` contradicts `train.charset`;
            a setting applies to fine-tuning only.
    """
    if settings.train.init is None:
        for key in ("anchor", "freeze_norm", "add_texts"):
            if getattr(settings.train, key):
                raise Error(f"train.{key}: applies to fine-tuning only; drop it, or set train.init")
        return alphabet.resolve(settings.data.alphabet, texts), None
    path = kept or bundled.model(settings.train.init)
    loaded = load_checkpoint(path, settings if path.suffix == ".params" else None)
    if loaded.exported:
        raise Error(f"{settings.train.init}: an exported network can't be trained; initialise from its .safetensors")
    known = loaded.alphabet.characters
    match settings.train.charset:
        case "keep":
            letters = loaded.alphabet
        case "union":
            letters = Alphabet(known + "".join(sorted(set().union(*texts) - set(known))))
        case "new":
            return alphabet.resolve(settings.data.alphabet, texts), loaded
    asked = settings.data.alphabet
    if asked != "auto" and set(alphabet.resolve(asked, texts).characters) != set(letters.characters):
        raise Error(
            f"data.alphabet: {asked} differs from the alphabet that --charset {settings.train.charset} determines; "
            "choose --charset new, or leave data.alphabet at auto"
        )
    return letters, loaded


def load(engine: Trainer, loaded: Checkpoint, letters: Alphabet) -> None:
    """Load the checkpoint's weights into a new engine. New characters keep their initial values.

    Raises:
        Error: The checkpoint's network is not the engine's.
    """
    fresh, spec = engine.weights(), networks.spec(loaded.config)
    weights = dict(loaded.weights)
    old = {character: i for i, character in enumerate(loaded.alphabet.characters)}
    rows = [(i, old[character]) for i, character in enumerate(letters.characters) if character in old]
    rows.append((letters.blank, loaded.alphabet.blank))
    target, source = np.array(rows).T
    for name in set(spec.HEADS) & fresh.keys() & weights.keys():
        rest = fresh[name].shape[1:]
        head = fresh[name].reshape(-1, letters.classes, *rest)  # (frames, C, …)
        trained = weights[name].reshape(-1, loaded.alphabet.classes, *weights[name].shape[1:])
        if len(head) != len(trained) or trained.shape[2:] != rest:
            break  # `engine.load` reports the mismatch
        head[:, target] = trained[:, source]
        weights[name] = head.reshape(fresh[name].shape)
    for name in spec.TRAINING_ONLY:  # may be missing from a checkpoint for reading only
        if name in fresh:
            weights.setdefault(name, fresh[name])
        else:
            weights.pop(name, None)
    try:
        engine.load(weights)
    except Error as error:
        raise Error(f"train.init: the network differs from the checkpoint's: {error}") from None
