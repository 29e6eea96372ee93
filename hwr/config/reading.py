"""Config files and overrides -> a checked `Config`, and back."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hwr import Error
from hwr.config import decoder_settings, fields, yaml_lines
from hwr.config.records import DECODER, RENAMED, Config
from hwr.config.source import Given, read
from hwr.system.files import checked_path


class RenamedKey(FutureWarning):
    """A key or an option is given under its old name."""


def given(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Given:
    """The keys that a config file and overrides set, not yet checked: see `hwr.config.source.read`.

    A single override may be given as it is.

    Raises:
        Error: As in `source.read`; or an argument has another type.
    """
    if path is not None:
        checked_path(path, "a config")
    texts = [overrides] if isinstance(overrides, str) or not isinstance(overrides, Iterable) else list(overrides)
    if not all(isinstance(text, str) for text in texts):
        raise Error(f"overrides must be texts such as ['train.epochs=2'], not {overrides!r}")
    found = _renamed(read(Config, path))
    file = dict(found.keys("decode"))
    return _overridden(found, file, texts)


def _overridden(found: Given, decoder: Mapping[str, Any], overrides: Sequence[str]) -> Given:
    """Apply overrides. They also drop decoder settings that they make useless."""
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, name = key.partition(".")
        new = RENAMED.get((section, name))
        if new:
            _warn(f"--set {text}", key, ".".join(new))
        found.set(Config, f"{'.'.join(new)}{equals}{value}" if new else text)
    found = _renamed(found, whole=False)  # for decode={…}
    later = {
        key: value for key, value in found.keys("decode").items() if found.place("decode", key).startswith("--set")
    }
    if later:
        found.tree["decode"] = decoder_settings.merge(decoder, later, DECODER)
    return found


def _renamed(found: Given, whole: bool = True) -> Given:
    """Move renamed keys to their new names, and warn about those that the user wrote.

    Args:
        whole: All keys are from one source: if one is old, an older version wrote all of them.

    Raises:
        Error: A key is set under both names.
    """
    tree = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in found.tree.items()}
    places, written = dict(found.places), dict(found.written)
    old = [key for key in RENAMED if isinstance(tree.get(key[0]), dict) and key[1] in tree[key[0]]]
    for key in old:
        new, section = RENAMED[key], tree[key[0]]
        if new[1] in section:
            place = found.place(*key)
            raise Error(f"{place}: {'.'.join(key)} is the old name of {'.'.join(new)}; set only one of them")
        if key in places or key[:1] in places:
            _warn(found.place(*key), ".".join(key), ".".join(new))
        section[new[1]] = section.pop(key[1])
        for noted in (places, written):
            if key in noted:
                noted[new] = noted.pop(key)
    if whole and any(section == "decode" for section, _ in old):
        tree["decode"] = decoder_settings.from_old(tree["decode"], strict=bool(places))
    return Given(tree, places, written, found.name)


def _warn(place: str, old: str, new: str) -> None:
    warnings.warn(f"{place}: {old} is now called {new}; the old name will be removed", RenamedKey, 3)


def over(found: Given, base: Config | None = None) -> Config:
    """The config with the keys that are set; all others come from `base` (default: `Config()`).

    Raises:
        Error: An unknown key, or a value of the wrong type or out of range; names file:line or the override.
    """
    for key, text in _texts(found.tree):
        if _IMPOSSIBLE.search(text):
            place = found.place(*key[:2]) if len(key) > 1 else found.name
            raise Error(f"{place}: {'.'.join(key)}: {text!r} contains a character that no text and no path can contain")
    merged = to_dict(base) if base is not None else {}
    for name, section in found.tree.items():
        under = merged.get(name)
        if name == "decode" and isinstance(section, dict) and isinstance(under, dict):
            merged[name] = decoder_settings.merge(under, section, DECODER)
        else:
            merged[name] = {**under, **section} if isinstance(section, dict) and isinstance(under, dict) else section
    try:
        return Config.model_validate(_tuples(merged))
    except ValidationError as error:
        raise Error(fields.explain(Config, error.errors(), found.places, found.written, found.name)) from None


# NUL, and halves of UTF-16 pairs other than those by which Python writes the bytes of a path that are not UTF-8.
_IMPOSSIBLE = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")


def _texts(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts in a tree, each with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*key, str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply `key=value` overrides, and check the result: see `given`.

    Args:
        path: The file; None starts from the defaults, the original system.

    Raises:
        Error: As in `given`; also for an unknown key, or a value of the wrong type or out of range.
    """
    return over(given(path, overrides))


def override(tree: dict[str, Any], overrides: Sequence[str]) -> Config:
    """Apply `key=value` overrides to a nested dict, and check it like `from_dict`."""
    found = _renamed(Given(tree))
    return over(_overridden(found, dict(found.keys("decode")), overrides))


def from_dict(tree: dict[str, Any], default: str = "config") -> Config:
    """Check a nested dict (as parsed from YAML or JSON) and make it a Config.

    Args:
        tree: Sections and their keys.
        default: What to call its source in messages.
    """
    return over(_renamed(Given(tree, name=default)))


def to_dict(config: Config) -> dict[str, Any]:
    """The config as a nested dict of JSON values, which `from_dict` reads back."""
    return config.model_dump(mode="json")


def dump(config: Config) -> str:
    """The config as YAML, with every key."""
    return yaml_lines.dump(to_dict(config))


def differences(a: Config, b: Config) -> list[str]:
    """The keys in which two configs differ, each as `train.lr: 0.0001 -> 0.001`."""
    one, other = to_dict(a), to_dict(b)
    return [
        f"{section}.{key}: {one[section].get(key, 'absent')} -> {other[section].get(key, 'absent')}"
        for section in one
        for key in {**one[section], **other[section]}  # different networks have different keys
        if one[section].get(key, ...) != other[section].get(key, ...)
    ]


def _tuples(value: Any) -> Any:
    """Turn YAML's lists into tuples: strict validation accepts only tuples, and a frozen record must not hold a list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
