"""The keys that a user sets, in a config file and with `--set`: their values, and where each was set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwr import Error, bundled
from hwr.config import fields, yaml_lines
from hwr.system import files


@dataclass(frozen=True)
class Given:
    """Only the keys that a config file and `--set` set, not yet checked.

    Attributes:
        tree: Sections and their keys.
        places: Where each key is set, `file:line` or `--set key=value`; `name` stands for all others.
        written: The source text of each value.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)
    written: dict[tuple[str, ...], str] = field(default_factory=dict)
    name: str = "config"

    def keys(self, section: str) -> dict[str, Any]:
        """The keys set in a section, with their values."""
        found = self.tree.get(section)
        return found if isinstance(found, dict) else {}

    def place(self, section: str, key: str) -> str:
        """Where a key is set."""
        return self.places.get((section, key)) or self.places.get((section,), self.name)

    def set(self, record: fields.Record, override: str) -> None:
        """Apply an override such as `train.epochs=2`.

        Args:
            record: The config's type; the type of the key's field determines how the value is parsed, see `fields.parse`.

        Raises:
            Error: The override is not `key=value`, or its value is not valid YAML.
        """
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise Error(f"--set {override}: write it as section.key=value, for example --set train.epochs=2")
        key = tuple(name.split("."))
        try:
            parsed = fields.parse(record, key, value)
        except Error as error:
            raise Error(f"--set {override}: {error}") from error
        branch = self.tree
        for part in key[:-1]:
            if branch.get(part) is None:  # a section without keys is null in YAML
                branch[part] = {}
            branch = branch[part]
            if not isinstance(branch, dict):
                raise Error(f"--set {override}: {part} is a value and has no keys")
        # A whole section, such as image={height: 64}, sets the keys in it.
        set_ = {(*key, inner): each for inner, each in parsed.items()} if isinstance(parsed, dict) else {key: parsed}
        if isinstance(parsed, dict) and isinstance(branch.get(key[-1]), dict):
            branch[key[-1]].update(parsed)
        else:
            branch[key[-1]] = parsed
        for where in set_:
            for noted in (self.places, self.written):
                for old in [place for place in noted if place[: len(where)] == where]:
                    del noted[old]
            self.places[where] = f"--set {override}"


def read(record: fields.Record, path: str | Path | None = None, overrides: Sequence[str] = ()) -> Given:
    """Read a config file and `key=value` overrides.

    Args:
        record: The config's type.
        path: A YAML file, or the name of a bundled recipe such as `lines_cpu`; None: only the overrides.
        overrides: Dotted key and value: `data.root=Box #3`, `data.train=[trainset]`.

    Raises:
        Error: The file does not exist, is not YAML or repeats a key; names file:line or the override.
    """
    found = Given()
    if path is not None:
        path = bundled.recipe(path)
        if not path.exists():
            raise Error(f"{path}: no such config file")
        text = files.read_text(path, yaml_lines.MOST)
        parsed = yaml_lines.read(text, str(path))
        found = Given(parsed.tree, parsed.places, parsed.written, str(path))
    for override in overrides:
        found.set(record, override)
    return found
