"""Parse YAML, and record the line of every key."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hwr import Error


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
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), path, found)
            tree = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise Error(f"{place}: not valid YAML: {_first_line(error)}") from error
    finally:
        loader.dispose()
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
    return _parsed(text, _Loader)


def texts(text: str) -> Any:
    """Parse a list of texts, without turning any into a number, a date or a boolean.

    Raises:
        Error: It is not YAML.
    """
    return _parsed(text, yaml.BaseLoader)


def _parsed(text: str, loader: Any) -> Any:
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise Error(f"the value is not valid YAML: {_first_line(error)}") from error


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
