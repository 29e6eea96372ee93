"""Fine-tuning: the config, the alphabet, the weights and the language model of a run that starts from a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, alphabet, bundled, config, decoding, networks
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint, Part
from hwr.config import DECODER, Config, Data, Decode, decoder_settings
from hwr.config.source import Given
from hwr.decoding import Decoder, language_model, mix
from hwr.engines import Trainer
from hwr.loading import load_checkpoint
from hwr.training import run_folder
from hwr.training.run_folder import Language


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
    own = load_checkpoint(bundled.model(settings.train.init), settings).config
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
    loaded = load_checkpoint(kept or bundled.model(settings.train.init), settings)
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


def language(
    config: Config,
    out: Path,
    decoder: Decoder,
    start: Checkpoint | None,
    texts: Sequence[str],
    say: Callable[[str], None],
) -> Language:
    """The decoder of the checkpoint that the run starts from, with what the config says of one; or the config's alone.

    It is the config's alone in a run from scratch, or if the config names a language model or a word list. A language
    model helps a fine-tuned network as it helped before. The validation lines are read without it all the same: they
    judge the network.
    """
    plain = Decode()
    asked = {key: value for key, value in config.decode.model_dump().items() if value != getattr(plain, key)}
    if config.train.init and not asked.keys() & {"lm", "words"}:
        last, share = out / "last.safetensors", config.train.add_texts
        if start is None and last.exists():
            start, share = load_checkpoint(last, config), 0.0  # resumed; its language model knows the texts already
        elif start is None:
            start = load_checkpoint(run_folder.initial(out) or bundled.model(config.train.init), config)
        return _with_decoder(_kept_language(start, decoder.alphabet, texts, share, say), asked)
    changes, model, lexicon = decoding.stored(decoder, config.decode)
    return Language(config.decode.model_copy(update=changes), model, lexicon)


def _with_decoder(language: Language, asked: Mapping[str, Any]) -> Language:
    """The language with other settings of the decoder."""
    if not asked:
        return language
    own = {key: value for key, value in language.decode.model_dump().items() if value is not None}
    settings = Decode(**decoder_settings.merge(own, asked, DECODER))
    return Language(settings, language.model if settings.lm else None, language.lexicon if settings.words else None)


def _kept_language(
    start: Checkpoint, letters: Alphabet, texts: Sequence[str], share: float, say: Callable[[str], None]
) -> Language:
    """The decoder of a checkpoint, as far as it suits the characters that the network writes now.

    Args:
        texts: Added to the language model with weight `share`, 0..1.
    """
    decode, model, lexicon = start.config.decode, start.language_model, start.lexicon
    if share and (model is None or lexicon is not None):
        say(
            "note: train.add_texts has no effect: the checkpoint "
            + ("has a word list" if lexicon else "has no language model")
        )
    if model is None and lexicon is None:
        return Language(decode)
    old = set(start.alphabet.characters)
    new = [c for c in letters.characters if c not in old]
    if model is not None and lexicon is None and share and texts:
        mixed = mix.add(language_model.from_arrays(model.arrays, model.about), texts, share).lm
        say(f"the training texts have a share of {share:g} in the checkpoint's language model")
        return Language(decode, Part(*language_model.to_arrays(mixed)))
    if new:
        say(
            f"note: the language model of the checkpoint is not kept, for it was made without {''.join(new)}; build one with "
            "hwr lm build, and store it with hwr lm tune"
        )
        return Language(Decode(temperature=decode.temperature, greedy_calibration=decode.greedy_calibration))
    say("the checkpoint's language model is kept; the validation lines are read without it")
    return Language(decode, model, lexicon)
