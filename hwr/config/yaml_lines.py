"""Parse YAML, and record the line of every key."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hwr import Error

# Limits of a config file, far above any real one: bytes, nodes (aliases count as often as they are used), levels, and
# characters of a number. Without them a few lines of YAML make billions of values.
MOST, NODES, DEPTH, DIGITS = 300_000, 200_000, 20, 100

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# `1:30` is 90 in YAML 1.1, and `010` is 8; nobody means that.
_OLD_NUMBER = re.compile(r"[-+]?(?:[0-9_]+(?::[0-9.]+)+|0[0-9_]+)")

# What PyYAML's constructors raise on values such as `2024-13-45` or `!!int ""`; YAMLError comes from its parser.
_FAULTS = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as people write it: `1e-4` is a number (PyYAML wants `1.0e-4`)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
# The resolvers are tried in the order in which they were added, and `7` must stay an int.
for _letter, _resolvers in list(_Loader.yaml_implicit_resolvers.items()):
    _Loader.yaml_implicit_resolvers[_letter] = sorted(_resolvers, key=lambda r: r[0].endswith(":float"))


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as a text: PyYAML writes the text `1e-4` as it is, and `08`."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


@dataclass(frozen=True)
class Mapping:
    """A YAML mapping.

    Attributes:
        tree: The mapping.
        places: The place of each key, `path:line`.
        written: The source text of each value, before YAML turns it into a number or a date.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)
    written: dict[tuple[str, ...], str] = field(default_factory=dict)


def read(text: str, path: str) -> Mapping:
    """Parse a mapping, and record the place of each key.

    Args:
        path: For messages.

    Raises:
        Error: The text is not YAML, or not a mapping, or repeats a key; names the line.
    """
    found = Mapping()
    node, tree = _parsed(text, _Loader, path)
    if node is not None:
        _walk(node, (), path, found)
    if node is None or tree is None:
        return found
    if not isinstance(tree, dict):
        raise Error(f"{path}: a config must be a mapping of sections (data, image, …), this is a {type(tree).__name__}")
    found.tree.update(tree)
    return found


def value(text: str) -> Any:
    """Parse a single value.

    Raises:
        Error: It is not YAML.
    """
    return _value(text, _Loader)


def texts(text: str) -> Any:
    """Parse a list of texts, without turning any into a number, a date or a boolean.

    Raises:
        Error: It is not YAML.
    """
    return _value(text, yaml.BaseLoader)


def dump(tree: dict[str, Any]) -> str:
    """A mapping as YAML, which `read` reads back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _value(text: str, kind: Any) -> Any:
    try:
        return _parsed(text, kind, "the value")[1]
    except Error as error:
        raise Error(
            str(error).replace("the value:1: ", "the value is ").replace("the value: ", "the value is ")
        ) from None


def _parsed(text: str, kind: Any, path: str) -> tuple[yaml.Node | None, Any]:
    """Parse one document: its node and its value, both None if it is empty."""
    try:
        loader = kind(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            _check(node, path)
            return node, loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise Error(f"{place}: not valid YAML: {_first_line(error)}") from error
    except RecursionError:
        raise Error(f"{path}: not valid YAML: nested too deeply") from None
    except _FAULTS as error:
        raise Error(f"{path}: not valid YAML: {error}") from error


def _check(node: yaml.Node, path: str) -> None:
    """Refuse a document that would make far more values than it has characters, or numbers that Python can't handle."""
    todo, number = [(node, 0)], 0
    while todo:
        node, depth = todo.pop()
        number += 1
        line = f"{path}:{node.start_mark.line + 1}"
        if number > NODES:
            raise Error(f"{line}: not valid YAML here: more than {NODES:,} values, counting each alias")
        if depth > DEPTH:
            raise Error(f"{line}: not valid YAML here: nested more than {DEPTH} levels deep")
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > DIGITS and node.tag in _NUMBERS:
                raise Error(f"{line}: a number of {len(node.value):,} characters; put a text in quotes")
            if node.tag in _NUMBERS and _OLD_NUMBER.fullmatch(node.value):
                raise Error(
                    f"{line}: YAML reads {node.value} in base 60 or 8; write the number that you mean, or a text in quotes"
                )
        elif isinstance(node, yaml.SequenceNode):
            todo += ((item, depth + 1) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            todo += ((part, depth + 1) for pair in node.value for part in pair)


def _walk(node: yaml.Node, key: tuple[str, ...], path: str, found: Mapping) -> None:
    """Record the line of every key, and refuse a repeated key (YAML would silently take the last)."""
    if isinstance(node, yaml.ScalarNode):
        found.written[key] = node.value
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*key, str(i)), path, found)
    elif isinstance(node, yaml.MappingNode):
        for name, inner in node.value:
            here = (*key, str(name.value))
            place = f"{path}:{name.start_mark.line + 1}"
            if here in found.places:
                raise Error(f"{place}: {'.'.join(here)} is already set at {found.places[here]}")
            found.places[here] = place
            _walk(inner, here, path, found)


def _first_line(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
