"""Parse a value by the type of its field, and explain a value that does not fit."""

import difflib
import itertools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from hwr import Error
from hwr.config import yaml_lines

Record = type[pydantic.BaseModel]
Key = tuple[str, ...]


def parse(record: Record, key: Key, text: str) -> Any:
    """Parse a value given on the command line.

    A text field takes the text verbatim: `Box #3`, `1914` and `yes` need no quotes (a pair around the whole value is
    removed). `null`, or an empty value, is None if the field may be None. If the field may be a list of texts, a value that
    starts with `[` is a list: `[a, b]`. All other fields are parsed as YAML.

    Raises:
        Error: The value is not valid YAML, or empty where a text is required.
    """
    kinds = {kind for annotation in annotations(record, key) for kind in _kinds(annotation)}
    if "list of text" in kinds and text.startswith("["):
        return yaml_lines.texts(text)
    if not kinds & {"text", "list of text"}:
        return yaml_lines.value(text)
    if text in ("", "null") and "null" in kinds:
        return None
    if text == "" and "text" in kinds:
        raise Error("the value is empty")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        inner = yaml_lines.value(text)
        return inner if isinstance(inner, str) else text
    return text


def annotations(record: Record, key: Key) -> Iterator[Any]:
    """The annotations of a key: none if it is unknown, several if several members of a union of records have it."""
    if not key or key[0] not in record.model_fields:
        return
    annotation = record.model_fields[key[0]].annotation
    if len(key) == 1:
        yield annotation
        return
    for inner in records(annotation):
        yield from annotations(inner, key[1:])


def records(annotation: Any) -> list[Record]:
    """The record types that an annotation allows."""
    return [kind for kind in _flat(annotation) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]


def _flat(annotation: Any) -> Iterator[Any]:
    """The types of a union, including unions nested in `Annotated`."""
    if typing.get_origin(annotation) is typing.Annotated:
        yield from _flat(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation


def _kinds(annotation: Any) -> set[str]:
    names = {str: "text", type(None): "null", tuple[str, ...]: "list of text"}
    return {names[kind] for kind in _flat(annotation) if kind in names}


def explain(
    record: Record, errors: Sequence[Any], places: Mapping[Key, str], written: Mapping[Key, str], default: str
) -> str:
    """Turn pydantic's errors into messages that name the place, the key and the remedy, one per line.

    Args:
        places: Where each key is set; `default` is the place of all others.
        written: The source text of each value, where known.
    """
    found: dict[str, None] = {}
    for error in errors:
        key, inner = _location(record, error["loc"])
        several = {kind for annotation in annotations(record, key[:2]) for kind in _kinds(annotation)}
        # For a text-or-list field pydantic reports an error for each alternative: one is enough.
        if {"text", "list of text"} <= several and isinstance(error["input"], str | list | tuple) != (
            error["type"] != "string_type"
        ):
            continue
        found[_message(record, error, key, inner, places, written, default)] = None
    return "\n".join(found)


def _location(record: Record, location: Sequence[Any]) -> tuple[Key, Record | None]:
    """A key of the config, without the parts that pydantic adds: the network's tag, the type of a union's member."""
    parts = [str(part) for part in location]
    inner: Record | None = None
    if len(parts) > 1 and parts[0] in record.model_fields:
        choices = records(record.model_fields[parts[0]].annotation)
        inner = choices[0] if choices else None
        if len(choices) > 1:
            inner = next((c for c in choices if c.model_fields["arch"].annotation.__args__[0] == parts[1]), inner)  # type: ignore[union-attr]
            del parts[1]
    return tuple(
        part for i, part in enumerate(parts) if i < 2 or not (part == "str" or part.startswith("tuple["))
    ), inner


def _message(
    record: Record,
    error: Any,
    location: Key,
    inner: Record | None,
    places: Mapping[Key, str],
    written: Mapping[Key, str],
    default: str,
) -> str:
    # The place of the key, else of the section around it, else (unknown section) of the first key in it.
    within = (place for where, place in places.items() if location and where[: len(location)] == location)
    around = (places[location[:n]] for n in range(len(location), 0, -1) if location[:n] in places)
    place = next(itertools.chain(around, within), default)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key {key}{_did_you_mean(inner or record, location[-1])}"
    if error["type"] == "string_type" and not isinstance(error["input"], str | list | tuple | dict):
        text = written.get(location, str(error["input"]))
        name = location[-1] + ": " if not location[-1].isdigit() else ""
        return f'{place}: {key}: {text} is not a text in YAML; put it in quotes: {name}"{text}"'
    message = (
        error["msg"].replace("valid tuple", "list such as [a, b]").replace("valid dictionary or instance of", "section")
    )
    if error["type"] == "value_error":  # from our own validators, whose messages show the value
        # A contradiction between sections is reported at one of the keys, with which the message begins.
        own = message.removeprefix("Value error, ").partition(":")[0]
        place = place if location else places.get(tuple(own.split(".")), place)
        return f"{place}: {key}{': ' if key else ''}{message.removeprefix('Value error, ')}"
    return f"{place}: {key}: {message}, got {error['input']!r}"


def _did_you_mean(record: Record, name: str) -> str:
    known = list(record.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}"
