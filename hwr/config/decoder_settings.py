"""Everything derived from the declarations of the decoder settings, the `Option`s on the fields of `config.Decode`.

Command-line options, validation, defaults and the line in a report all come from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwr import Error

# Stands in place of a path for the language model or word list stored in the checkpoint.
STORED = "stored"

BEAM = 32  # texts that the beam search keeps, unless the user says otherwise


@dataclass(frozen=True)
class Option:
    """The declaration of a decoder setting. A setting that is not given is None.

    Attributes:
        help: Help text on the command line; "" if there is no option.
        flag: The option's name, if it is not the key with hyphens.
        metavar: The placeholder in its help.
        needs: The key that the setting requires; `beam` stands for the beam search.
        default: The value if it is not given but `needs` is met.
        default_with: A key, and the default if that key is given.
        says: How a report shows the value.
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
    """The declarations on a record's fields, by key."""
    found = {}
    for key, field in record.model_fields.items():
        found[key] = next(entry for entry in field.metadata if isinstance(entry, Option))
    return found


def search(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> str:
    """`greedy` or `beam`. Giving any setting of the beam search, such as a language model, selects `beam`."""
    given = any(option.needs and settings[key] is not None for key, option in declared.items())
    return settings["name"] or ("beam" if given else "greedy")


def check(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> None:
    """Refuse a setting that the decoder would ignore, even if it equals the default.

    Raises:
        ValueError: Names the key and the remedy.
    """
    greedy = search(settings, declared) == "greedy"
    for key, option in declared.items():
        value = settings[key]
        if value is None or not option.needs:
            continue
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        if greedy:
            raise ValueError(f"{key} {shown} needs the beam search, but the decoder is greedy; drop one of them")
        if option.needs != "beam" and settings[option.needs] is None:
            raise ValueError(f"{key} {shown} needs {option.needs} (--{option.needs} FILE)")


def complete(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The settings with defaults filled in. A setting that does not apply stays None."""
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
    """Earlier settings overridden by later ones (a checkpoint's by a file's, a file's by the command line's).

    Drops the earlier settings that the later ones make useless. `check` finds contradictions among the later ones.
    """
    kept = dict(earlier)
    searched = any(option.needs and later.get(key) is not None for key, option in declared.items())
    if later.get("name") == "greedy":
        kept = {key: value for key, value in kept.items() if key not in declared or not declared[key].needs}
    elif kept.get("name") == "greedy" and later.get("name") is None and searched:
        del kept["name"]
    if "temperature" in later:
        for key in ("calibration", "greedy_calibration"):  # which include a temperature
            kept.pop(key, None)
    for gone in [key for key in ("lm", "words") if key in later and later[key] is None]:
        for key, option in declared.items():
            if option.needs == gone or (option.default_with and option.default_with[0] == gone):
                kept.pop(key, None)
        kept.pop("calibration", None)
    return {**kept, **later}


def from_old(settings: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """Convert the settings of an older version, which gave every key.

    That version ignored settings that the decoder does not use, so values without effect are dropped.

    Args:
        strict: Keep values that were set but ignored, so that `check` refuses them.
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
        kept["name"] = None  # it was the default, and was always written
    return kept


def own(settings: Mapping[str, Any], later: Mapping[str, Any], where: str) -> None:
    """Refuse to follow a path in a checkpoint: someone else's file must not decide which files are read.

    Args:
        settings: The checkpoint's.
        later: Settings from other sources, which may replace it.
        where: The checkpoint's name, for the message.

    Raises:
        Error: The checkpoint names a file, and no later setting replaces it.
    """
    if later.get("name") == "greedy":
        return
    for key, what in (("lm", "a language model"), ("words", "a word list")):
        if settings.get(key) not in (None, STORED) and key not in later:
            raise Error(
                f"{where}: its decoder uses {what} that is not stored in the checkpoint, {settings[key]}. Name it with "
                f"--{key} FILE, store it with `hwr lm tune --{key} FILE`, or read without it with --decoder greedy"
            )


def without_paths(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The settings that a checkpoint keeps: those that need a file outside it are dropped."""
    paths = {key: None for key in ("lm", "words") if settings[key] not in (None, STORED)}
    kept = merge(settings, paths, declared)
    return {key: kept.get(key) for key in settings}  # in the original order


def describe(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> str:
    """The decoder, as a report shows it."""
    if settings["name"] == "greedy":
        return "greedy"
    told = [
        option.says.format(settings[key])
        for key, option in declared.items()
        if option.says and settings.get(key) is not None and key != "name"
    ]
    return "beam search, " + ", ".join(told)


def as_json(settings: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The complete settings for a JSON report; renamed ones appear under their old names too."""
    found = complete(settings, declared)
    return {**found, **{option.old: found[key] for key, option in declared.items() if option.old}}
