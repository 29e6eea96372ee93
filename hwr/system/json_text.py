"""Values -> standard JSON, as all commands print and write it."""

import json
import math
from pathlib import Path
from typing import Any

from hwr.system.atomic import replacing
from hwr.system.terminal import visible


def write_json(path: str | Path, value: Any) -> None:
    """Write `to_json` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(value) + "\n", encoding="utf-8")


def to_json(value: Any) -> str:
    """Standard JSON, indented; NaN (no lines to average over) becomes null. Control characters are escaped."""
    return visible(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """The value with NaN and infinity replaced by null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
