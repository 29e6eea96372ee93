"""`hwr info`: what a checkpoint is, without reading anything with it."""

from pathlib import Path
from typing import Any

from hwr import config
from hwr.checkpoint import Checkpoint


def info(path: str | Path, loaded: Checkpoint) -> dict[str, Any]:
    """What is known of a checkpoint, as JSON values."""
    tree = config.to_dict(loaded.config)
    shown = ("model.", "image.", "decode.", "data.root")
    changed = [text for text in config.differences(config.Config(), loaded.config) if not text.startswith(shown)]
    trained = {name: array for name, array in loaded.weights.items() if "running_" not in name}
    return {
        "file": str(path),
        "megabytes": Path(path).stat().st_size / 1e6,
        "parameters": int(sum(array.size for array in trained.values())),
        "types": sorted({str(array.dtype) for array in trained.values()}),
        "alphabet": loaded.alphabet.characters,
        **{section: tree[section] for section in ("model", "image", "decode")},
        "data": tree["data"]["root"],
        "differs_from_defaults": changed,
        "scores": loaded.scores,
    }


def table(about: dict[str, Any]) -> str:
    """`info` for the screen."""

    def words(record: dict[str, Any]) -> str:
        return ", ".join(f"{key} {value}" for key, value in record.items() if value is not None)

    scores = {key: f"{v:.4g}" if isinstance(v, float) else v for key, v in about["scores"].items() if key != "notes"}
    brought: Any = scores.pop("decode", None)
    rows = [
        ("file", f"{about['file']}, {about['megabytes']:.1f} MB, {about['parameters']:,} parameters"),
        ("network", words(about["model"])),
        ("image", words(about["image"])),
        ("alphabet", f"{len(about['alphabet'])} characters: {about['alphabet']}"),
        ("trained on", about["data"] if isinstance(about["data"], str) else ", ".join(about["data"])),
        ("scores", words(scores) or "none are kept"),
        ("decoder", words(about["decode"])),
    ]
    if brought:
        rows.append(("  on held-out lines", words({key: f"{value:.4g}" for key, value in brought.items()})))
    rows += [("not the default", difference) for difference in about["differs_from_defaults"]]
    return "\n".join(f"{name:<20}{value}" for name, value in rows)
