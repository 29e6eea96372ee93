"""The types of a record's fields: how to read a value for one, and how to explain a value that does not fit."""

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
    """The value that `text`, given on the command line, has for a key.

    For a text field the text is the value, verbatim: `Box #3`, `1914` and `yes` need no quotes (a pair around the whole is
    taken off). `null`, or nothing, means None where the field may be None. Where a list of texts is allowed, what begins
    with `[` is one: `[a, b]`. All other fields take YAML.

    Raises:
        Error: It is not YAML, or empty for a text field that must not be.
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
    """The annotations of a key: none if it is unknown, several if records that stand for each other all have it."""
    if not key or key[0] not in record.model_fields:
        return
    annotation = record.model_fields[key[0]].annotation
    if len(key) == 1:
        yield annotation
        return
    for inner in records(annotation):
        yield from annotations(inner, key[1:])


def records(annotation: Any) -> list[Record]:
    """The records among the types that an annotation allows."""
    return [kind for kind in _flat(annotation) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]


def _flat(annotation: Any) -> Iterator[Any]:
    """The types of a union, however deep it lies in `Annotated`."""
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
    """pydantic's errors as messages that name the place, the key and the remedy, one a line.

    Args:
        places: Where each key stands; `default` is the place of all others.
        written: How each value is written in its file, where that is known.
    """
    found: dict[str, None] = {}
    for error in errors:
        key, inner = _location(record, error["loc"])
        several = {kind for annotation in annotations(record, key[:2]) for kind in _kinds(annotation)}
        # A value that fits neither a text nor a list of them has an error for each: one is enough.
        if {"text", "list of text"} <= several and isinstance(error["input"], str | list | tuple) != (
            error["type"] != "string_type"
        ):
            continue
        found[_message(record, error, key, inner, places, written, default)] = None
    return "\n".join(found)


def _location(record: Record, location: Sequence[Any]) -> tuple[Key, Record | None]:
    """A key of the config without what pydantic puts into it: the tag of a network, the type of a union's member."""
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
    # Where the key stands, or what it is part of, or (an unknown section) the first thing in it.
    within = (place for where, place in places.items() if location and where[: len(location)] == location)
    around = (places[location[:n]] for n in range(len(location), 0, -1) if location[:n] in places)
    place = next(itertools.chain(around, within), default)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key {key}{_did_you_mean(inner or record, location[-1])}"
    if error["type"] == "string_type" and not isinstance(error["input"], str | list | tuple | dict):
        text = written.get(location, str(error["input"]))
        name = location[-1] + ": " if not location[-1].isdigit() else ""
        return f'{place}: {key}: {text} is no text as YAML reads it; put it in quotes: {name}"{text}"'
    message = (
        error["msg"].replace("valid tuple", "list, as [a, b]").replace("valid dictionary or instance of", "section")
    )
    if error["type"] == "value_error":  # of our own validators, which name what they got
        return f"{place}: {key}{': ' if key else ''}{message.removeprefix('Value error, ')}"
    return f"{place}: {key}: {message}, got {error['input']!r}"


def _did_you_mean(record: Record, name: str) -> str:
    known = list(record.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the keys here are {', '.join(known)}"
