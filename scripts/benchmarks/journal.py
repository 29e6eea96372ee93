"""A journal of a benchmark: results that have been measured, one JSON object a row, so that a killed run can be resumed."""

import hashlib
import json
from pathlib import Path
from typing import Any


class Journal:
    """Results by key; with a file, those of earlier runs as well.

    Args:
        path: The file, which is appended to; None: results are kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        if path and path.is_file():
            for row in path.read_text(encoding="utf-8").splitlines():
                try:
                    said = json.loads(row)
                except ValueError:  # a run was killed while it wrote the row
                    continue
                self.results[said["key"]] = said["result"]

    def get(self, *key: str) -> Any:
        """The result with this key; None if it has not been measured."""
        return self.results.get("|".join(key))

    def add(self, result: Any, *key: str) -> None:
        """Add a result."""
        self.results["|".join(key)] = result
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                # The line feed in front ends a row that a killed run left incomplete.
                file.write("\n" + json.dumps({"key": "|".join(key), "result": result}))


def digest(*paths: Path) -> str:
    """Identifies the contents of files."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(paths))).hexdigest()[
        :16
    ]
