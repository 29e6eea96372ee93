"""YAML as people write it, and the line of every key in it."""

import re
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


def read(text: str, path: str) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """The mapping that a text is, and where each key stands in it, as `path:line`.

    Args:
        path: For messages.

    Raises:
        Error: It is not YAML, no mapping, or a key stands twice; names the line.
    """
    places: dict[tuple[str, ...], str] = {}
    try:
        node = yaml.compose(text, _Loader)
        if node is not None:
            _walk(node, (), path, places)
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise Error(f"{place}: not valid YAML: {_first_line(error)}") from error
    if tree is None:
        return {}, places
    if not isinstance(tree, dict):
        raise Error(f"{path}: a config is a mapping of sections (data, image, …), this is a {type(tree).__name__}")
    return tree, places


def value(text: str) -> Any:
    """What a text is that stands for a single value.

    Raises:
        Error: It is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise Error(f"the value is not YAML: {_first_line(error)}") from error


def _walk(node: yaml.Node, key: tuple[str, ...], path: str, places: dict[tuple[str, ...], str]) -> None:
    """Note the line of every key, and refuse a key that stands twice (YAML would silently take the last)."""
    if not isinstance(node, yaml.MappingNode):
        return
    for name, inner in node.value:
        here = (*key, str(name.value))
        place = f"{path}:{name.start_mark.line + 1}"
        if here in places:
            raise Error(f"{place}: {'.'.join(here)} is already set at {places[here]}")
        places[here] = place
        _walk(inner, here, path, places)


def _first_line(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
