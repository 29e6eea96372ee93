"""What a checkpoint is, without reading anything with it."""

from pathlib import Path
from typing import Any

from hwr import bundled, config
from hwr.loading import load_checkpoint, stored_types


def describe(model: str | Path) -> dict[str, Any]:
    """What is known of a checkpoint, as JSON values.

    Args:
        model: The name of a bundled model, or a file.
    """
    path = bundled.model(model)
    loaded = load_checkpoint(path)
    scores = {key: value for key, value in loaded.scores.items() if key != "trained_on"}
    trained_on = loaded.scores.get("trained_on", [])
    tree = config.to_dict(loaded.config)
    shown = ("model.", "image.", "decode.")
    changed = [text for text in config.differences(config.Config(), loaded.config) if not text.startswith(shown)]
    trained = {name: array for name, array in loaded.weights.items() if "running_" not in name}
    return {
        "file": str(path),
        "megabytes": Path(path).stat().st_size / 1e6,
        "parameters": int(sum(array.size for array in trained.values())),
        "types": stored_types(path),
        "alphabet": loaded.alphabet.characters,
        **{section: tree[section] for section in ("model", "image", "decode")},
        "data": trained_on[0] if len(trained_on) == 1 else trained_on,
        "differs_from_defaults": changed,
        "scores": scores,
    }


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
        ("trained on", (data if isinstance(data, str) else ", ".join(data)) or "nothing is known of it"),
        ("scores", words(scores) or "none are kept"),
        ("decoder", words(about["decode"])),
    ]
    if brought:
        rows.append(("  on held-out lines", words({key: f"{value:.4g}" for key, value in brought.items()})))
    rows += [("not the default", difference) for difference in about["differs_from_defaults"]]
    return "\n".join(f"{name:<20}{value}" for name, value in rows)
