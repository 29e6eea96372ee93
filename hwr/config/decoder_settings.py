"""What follows from the declaration of a decoder setting: `Option`s are part of the fields of `config.Decode`.

Command-line options, validation, defaults and the line in a report are all made from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwr import Error

# In place of a path: the language model or the word list that is stored in the checkpoint.
STORED = "stored"


@dataclass(frozen=True)
class Option:
    """How a decoder setting is declared; None is the setting's value where it is not given.

    Attributes:
        help: For the command line; "" if there is no option there.
        flag: The option, if not the key with hyphens.
        metavar: In its help.
        needs: The key without which the setting means nothing; `beam` stands for the beam search.
        default: The value where it is not given, and what it needs is there.
        default_with: A key and the default where that is given.
        says: How a report tells the value.
        old: The key's former name.
    """

    help: str = ""
    flag: str = ""
    metavar: str | None = None
    needs: str = ""
    default: Any = None
    default_with: tuple[str, Any] | None = None
    says: str = ""
    old: str = ""


def options(record: Any) -> dict[str, Option]:
    """The declarations of a record's fields, by key."""
    found = {}
    for key, field in record.model_fields.items():
        found[key] = next(entry for entry in field.metadata if isinstance(entry, Option))
    return found


def search(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> str:
    """`greedy` or `beam`: whoever gives a setting of the beam search, as a language model is one, asks for it."""
    given = any(option.needs and settings[key] is not None for key, option in declared.items())
    return settings["name"] or ("beam" if given else "greedy")


def check(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> None:
    """Refuse a setting that its decoder would ignore, even if it is the default.

    Raises:
        ValueError: Names the key and the remedy.
    """
    greedy = search(settings, declared) == "greedy"
    for key, option in declared.items():
        value = settings[key]
        if value is None or not option.needs:
            continue
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        if option.needs != "beam" and settings[option.needs] is None:
            raise ValueError(f"{key} {shown} needs {option.needs} (--{option.needs} FILE)")
        if greedy:
            raise ValueError(f"{key} {shown} is for the beam search, and the decoder is greedy: leave one of them out")


def complete(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The settings with the defaults for what is given; None stays where a setting would mean nothing."""
    found = {**settings, "name": search(settings, declared)}
    if found["name"] == "greedy":
        return found
    for key, option in declared.items():
        if found[key] is None and (option.needs == "beam" or found.get(option.needs) is not None):
            found[key] = option.default
            if option.default_with and found[option.default_with[0]] is not None:
                found[key] = option.default_with[1]
    return found


def merge(earlier: Mapping[str, Any], later: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """Settings with later ones over them (the command line's over a file's, a file's over a checkpoint's).

    What the later ones rule out of the earlier ones goes; that they do not contradict each other, `check` sees.
    """
    kept = dict(earlier)
    searched = any(option.needs and later.get(key) is not None for key, option in declared.items())
    if later.get("name") == "greedy":
        kept = {key: value for key, value in kept.items() if key not in declared or not declared[key].needs}
    elif kept.get("name") == "greedy" and later.get("name") is None and searched:
        del kept["name"]
    for gone in [key for key in ("lm", "words") if key in later and later[key] is None]:
        for key, option in declared.items():
            if option.needs == gone or (option.default_with and option.default_with[0] == gone):
                kept.pop(key, None)
    return {**kept, **later}


def from_old(settings: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """The settings that an older version wrote or read, with every key given, as they are now.

    It ignored what the decoder has no use for, so values that changed nothing are dropped.

    Args:
        strict: Keep the values that were set and ignored, so that `check` refuses them.
    """
    kept = dict(settings)
    nothing = {"beam": 16, "lm": None, "lm_weight": 0, "length_bonus": 0, "words": None, "unknown_penalty": 0}
    for key, value in nothing.items():
        unused = {"lm_weight": "lm", "unknown_penalty": "words"}.get(key)
        if kept.get("name", "greedy") == "greedy":
            if key in kept and (not strict or kept[key] == value):
                del kept[key]
        elif unused and kept.get(unused) is None and kept.get(key) == value:
            kept.pop(key, None)
    if not strict and kept.get("name") == "greedy":
        kept["name"] = None  # it was the default, and was always said
    return kept


def own(settings: Mapping[str, Any], later: Mapping[str, Any], where: str) -> None:
    """Refuse to follow a path in a checkpoint: a file that somebody else made does not decide which files are read.

    Args:
        settings: The checkpoint's.
        later: What is given besides, which may replace it.
        where: The checkpoint, for the message.

    Raises:
        Error: It names a file, and nothing else is given.
    """
    if later.get("name") == "greedy":
        return
    for key, what in (("lm", "a language model"), ("words", "a word list")):
        if settings.get(key) not in (None, STORED) and key not in later:
            raise Error(
                f"{where}: its decoder uses {what} that is not stored in it, {settings[key]}: --{key} FILE says where it is, "
                f"--decoder greedy reads without, and `hwr lm tune --{key} FILE` stores it"
            )


def without_paths(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The settings as a checkpoint holds them, for what is not stored in it can't be used with it."""
    paths = {key: None for key in ("lm", "words") if settings[key] not in (None, STORED)}
    kept = merge(settings, paths, declared)
    return {key: kept.get(key) for key in settings}  # in their order


def describe(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> str:
    """The line of a report."""
    if settings["name"] == "greedy":
        return "greedy"
    told = [
        option.says.format(settings[key])
        for key, option in declared.items()
        if option.says and settings.get(key) is not None and key != "name"
    ]
    return "beam search, " + ", ".join(told)


def as_json(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The settings for a JSON report: complete, and renamed ones under their former names too."""
    found = complete(settings, declared)
    return {**found, **{option.old: found[key] for key, option in declared.items() if option.old}}
