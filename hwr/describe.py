"""Describe a checkpoint without building its network."""

import math
from pathlib import Path
from typing import Any

from hwr import bundled, config, networks
from hwr.checkpoint import Checkpoint, Part
from hwr.config import decoder_settings
from hwr.decoding import language_model, lexicon
from hwr.loading import check_sizes, load_checkpoint, stored_types


def describe(model: str | Path, config_path: str | Path | None = None) -> dict[str, Any]:
    """Everything known about a checkpoint, as JSON values.

    Args:
        model: The name of a bundled model, or a file.
        config_path: The recipe of a bare `.params`, for its image size; None: the original system on IAM lines.

    Raises:
        Error: The file can't be loaded, or is no bare `.params` and has its own config.
    """
    path = bundled.model(model)
    check_sizes(path, config_path)
    loaded = load_checkpoint(path, config.load(config_path) if config_path else None)
    scores = {key: value for key, value in loaded.scores.items() if key != "trained_on"}
    trained_on = loaded.scores.get("trained_on", [])
    tree = config.to_dict(loaded.config)
    shown = ("model.", "image.", "decode.")
    changed = [text for text in config.differences(config.Config(), loaded.config) if not text.startswith(shown)]
    # Of the network, because an exported one's arrays are not read.
    shapes = networks.shapes(loaded.config, loaded.alphabet.classes)
    trained = [shape for name, shape in shapes.items() if "running_" not in name]
    return {
        "file": str(path),
        "megabytes": Path(path).stat().st_size / 1e6,
        "parameters": sum(math.prod(shape) for shape in trained),
        "types": stored_types(path),
        "alphabet": loaded.alphabet.characters,
        **{section: tree[section] for section in ("model", "image")},
        "decode": decoder_settings.as_json(loaded.config.decode.model_dump(), config.DECODER),
        "data": trained_on[0] if len(trained_on) == 1 else trained_on,
        **_stored(loaded),
        "differs_from_defaults": changed,
        "scores": scores,
    }


def _stored(loaded: Checkpoint) -> dict[str, Any]:
    """The language model and word list stored in it, checked."""
    found: dict[str, Any] = {}
    if loaded.language_model:
        part = loaded.language_model
        lm = language_model.from_arrays(part.arrays, part.about)
        found["language_model"] = {
            "order": lm.order,
            "counts": list(lm.counts),
            "characters": lm.characters,
            "megabytes": _size(part),
        }
    if loaded.lexicon:
        words = lexicon.from_arrays(loaded.lexicon.arrays, loaded.alphabet).words
        found["word_list"] = {"words": len(words), "megabytes": _size(loaded.lexicon)}
    return found


def _size(part: Part) -> float:
    return sum(array.nbytes for array in part.arrays.values()) / 1e6


def table(about: dict[str, Any]) -> str:
    """`describe` for the screen."""

    def words(record: dict[str, Any]) -> str:
        return ", ".join(f"{key} {value}" for key, value in record.items() if value is not None)

    scores = {key: f"{v:.4g}" if isinstance(v, float) else v for key, v in about["scores"].items() if key != "notes"}
    brought: Any = scores.pop("decode", None)
    data = about["data"]
    rows = [
        ("file", f"{about['file']}, {about['megabytes']:.1f} MB, {about['parameters']:,} parameters"),
        ("network", words(about["model"])),
        ("image", words(about["image"])),
        ("alphabet", f"{len(about['alphabet'])} characters: {about['alphabet']}"),
        ("trained on", (data if isinstance(data, str) else ", ".join(data)) or "unknown"),
        ("scores", words(scores) or "none"),
        ("decoder", decoder_settings.describe(about["decode"], config.DECODER)),
    ]
    if lm := about.get("language_model"):
        counts = ", ".join(f"{count:,}" for count in lm["counts"])
        known = f"{len(lm['characters'])} characters"
        rows.append(("language model", f"{known}; n-grams of 1 to {lm['order']}: {counts}; {lm['megabytes']:.1f} MB"))
    if listed := about.get("word_list"):
        rows.append(("word list", f"{listed['words']:,} words, {listed['megabytes']:.1f} MB"))
    fitted = about["decode"]["greedy_calibration" if about["decode"]["name"] == "greedy" else "calibration"]
    if fitted:
        rows.append(("confidence", "temperature {:g}, slope {:g}, offset {:g}".format(*fitted)))
    elif about["decode"]["temperature"] != 1:
        rows.append(("confidence", f"temperature {about['decode']['temperature']:g}"))
    if brought:
        rows.append(("  validation lines", words({key: f"{value:.4g}" for key, value in brought.items()})))
    rows += [("not default", difference) for difference in about["differs_from_defaults"]]
    return "\n".join(f"{name:<20}{value}" for name, value in rows)
