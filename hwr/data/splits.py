"""Training, validation and test lines: from lists, from a column, or drawn with a seed, with no writer in two parts."""

import fnmatch
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from hwr import Error
from hwr.config import Data
from hwr.data import PARTS, Dataset, Fault, Line
from hwr.data.disk import read_rows
from hwr.system import files
from hwr.system.terminal import counted, some

# Words of IAM whose images are damaged in the official archives. The recipes exclude them, and are used for other data too.
DAMAGED_IN_IAM = ("a01-117-05-02", "r06-022-03-05")

# Values of `data.split` that name a split of IAM.
IAM_SPLITS = ("official", "aachen")

# The keys of `data` that only drawing uses.
DRAWING = ("seed", "val_share", "test_share")

# A part that differs from its share by more than this fraction of it is noted.
SHARE_OFF = 0.5

# What a column may call them.
NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
NAMES |= {"test": "test", "testing": "test", "eval": "test"}


def split(
    data: Data,
    lines: Sequence[Line],
    documents: Sequence[str],
    empty: Sequence[str],
    notes: list[str],
    column: Sequence[str] | None = None,
    faults: Sequence[Fault] = (),
) -> Dataset:
    """Split lines by `data.lists`, else by their column, else by drawing.

    Without `data.lists`, the lists in the data's own folder `lists/` are used (`hwr data convert` writes them). Without
    a column, folders named train, val, test or the like are, if all documents lie in such folders.

    Writers are drawn if all are known, otherwise documents (pages), so that all lines of one are in the same part. They
    are drawn in the order of the hashes of (data.seed, name), which another page does not change. The test and
    validation parts take what fits into their shares; the rest is for training.

    Args:
        documents: (lines,) what each was cut from.
        empty: Ids skipped because they have no text.
        column: (lines,) the split that each line's own column names, or None.
        faults: Lines and documents that can't be read.

    Raises:
        Error: A list has an unknown id, or one of the three is missing; a column has an unknown split; `data.split` is one
            of IAM's.
    """
    wanted, unwanted = split_faults(faults, data.exclude)
    if not lines:
        return Dataset(data.folder.resolve().name, [], [], [], [], notes, list(empty), wanted)
    known = {_key(id) for id in (*(x.id for x in lines), *documents, *empty, *(id.rpartition("/")[0] for id in empty))}
    faulty = {_key(name) for fault in faults for name in (fault.id, fault.document)}
    check_known(data.exclude, known | faulty, f"a line or a document in {data.folder}")
    excluded = excluder(data.exclude)
    left_out = [excluded(line.id) or excluded(document) for line, document in zip(lines, documents, strict=True)]
    known |= faulty
    name = data.folder.resolve().name
    tops = [line.id.partition("/")[0].lower() if "/" in line.id else "" for line in lines]
    if not any(column or ()) and set(tops) <= NAMES.keys() and len(set(tops)) > 1:  # a table may have no column split
        column = tops
    if data.split in IAM_SPLITS:
        raise Error(f"data.split: {data.split} is a split of IAM, whose sizes are checked; {data.folder} is not IAM")
    if data.lists is not None:
        parts = _listed(data, lines, documents, known)
        note_unused(data, DRAWING, "because data.lists splits the lines", notes)
    elif own := _own_lists(data):
        lists = {"lists": str(own), **{part: (part,) for part in PARTS}}
        parts = _listed(data.model_copy(update=lists), lines, documents, known)
        note_unused(data, (*DRAWING, *PARTS), f"because {own} splits the lines", notes)
    elif column is not None and any(column):
        parts = [part_named(value, line) for value, line in zip(column, lines, strict=True)]
        what = "the folders split" if column is tops else "the column split splits"
        note_unused(data, (*DRAWING, *PARTS), f"because {what} the lines", notes)
    else:
        note_unused(data, PARTS, "because the split is drawn, without data.lists", notes)
        by_writer = all(line.writer for line in lines) and len({line.writer for line in lines}) > 2
        groups = [line.writer for line in lines] if by_writer else list(documents)
        if len(set(groups)) < 3:
            groups = [line.id for line in lines]
            notes.append(
                "There are fewer than three documents, so lines are assigned to the parts individually: parts share writers and pages"
            )
        drawn = _drawn(data, groups)
        parts = [drawn[group] for group in groups]
        _note_shares(data, parts, notes)
        name = f"{name}, drawn with seed {data.seed}{_unusual_shares(data)}"
    if data.split != "auto":
        name = data.split
    if unlisted := [line.id for line, part in zip(lines, parts, strict=True) if not part]:
        notes.append(
            f"{counted(len(unlisted), 'line is', 'lines are')} in no list, and so in no part ({some(unlisted)})"
        )
    chosen = {part: [i for i in range(len(lines)) if parts[i] == part and not left_out[i]] for part in PARTS}
    _note_shared({part: {lines[i].writer for i in own} - {""} for part, own in chosen.items()}, "writer", notes)
    _note_shared({part: {documents[i] for i in own} - {""} for part, own in chosen.items()}, "document", notes)
    train, val, test = ([lines[i] for i in chosen[part]] for part in PARTS)
    out = [line.id for line, out in zip(lines, left_out, strict=True) if out]
    return Dataset(name, train, val, test, [*out, *unwanted], notes, list(empty), wanted)


def note_unused(data: Data, keys: Iterable[str], why: str, notes: list[str]) -> None:
    """Note keys of `data` that have no effect, if they are set to another value than their default."""
    if unused := [f"data.{key}" for key in keys if getattr(data, key) != Data.model_fields[key].default]:
        notes.append(f"{', '.join(unused)} {'have' if unused[1:] else 'has'} no effect {why}")


def _own_lists(data: Data) -> Path | None:
    """The folder `lists` of the data, if the lists of the parts are in it.

    Raises:
        Error: Only some of the three are.
    """
    folder = data.folder / "lists"
    there = {part: (folder / f"{part}.txt").is_file() for part in PARTS}
    if not any(there.values()):
        return None
    for part in PARTS:
        if not there[part]:
            raise Error(f"{folder}: has no {part}.txt beside the other lists; add it (it may be empty), or remove them")
    return folder


def _key(id: str) -> str:
    """An id as it is compared: lists have no spaces around ids, and the names of files either normal form."""
    return files.nfc(id).strip()


def excluder(unwanted: Sequence[str]) -> Callable[[str], bool]:
    """Whether an id is in a list of ids and patterns. In a pattern, * stands for any characters, ? for one."""
    ids = frozenset(map(_key, unwanted))
    patterns = "|".join(fnmatch.translate(_pattern(_key(entry))) for entry in unwanted if is_pattern(entry))
    match = re.compile(patterns).match if patterns else None
    return lambda id: _key(id) in ids or (match is not None and match(_key(id)) is not None)


def check_known(unwanted: Sequence[str], known: Collection[str], what: str) -> None:
    """Refuse entries of `data.exclude` that are no id, and patterns that match none; `known` holds `_key`s.

    Raises:
        Error: There is such an entry; `what` says what an id is.
    """
    for entry in unwanted:
        if (
            _key(entry) not in known
            and entry not in DAMAGED_IN_IAM
            and not (is_pattern(entry) and any(map(excluder([entry]), known)))
        ):
            matches = "matches" if is_pattern(entry) else "is"
            raise Error(f"data.exclude: {entry} {matches} not the id of {what}")


def is_pattern(entry: str) -> bool:
    """Whether an entry of `data.exclude` has wildcards."""
    return "*" in entry or "?" in entry


def _pattern(entry: str) -> str:
    return entry.replace("[", "[[]")  # brackets occur in file names


def split_faults(faults: Iterable[Fault], unwanted: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """The faults of what is not excluded, and the ids of the others."""
    excluded = excluder(unwanted)
    wanted, others = [], []
    for fault in faults:
        if excluded(fault.id) or excluded(fault.document):
            others.append(fault.id)
        else:
            wanted.append(fault)
    return wanted, others


def part_named(value: str, line: Line) -> str:
    """The part that a table's column or a folder names, "" if it names none.

    Raises:
        Error: It is none of `NAMES`.
    """
    if not value.strip():
        return ""
    part = NAMES.get(value.strip().lower())
    if part is None:
        raise Error(f"{line.source}: the split of {line.id} is {value!r}; it is train, val or test")
    return part


def _drawn(data: Data, groups: Sequence[str]) -> dict[str, str]:
    """Map groups to parts: in the order of their hashes, first test, then validation, as many as fit their share."""
    sizes = Counter(groups)

    def place(group: str) -> str:
        # A document's name may come from a file name that is not UTF-8.
        return hashlib.sha256(f"{data.seed}\0{group}".encode("utf-8", "surrogateescape")).hexdigest()

    shares = {"test": data.test_share * len(groups), "val": data.val_share * len(groups)}
    training = data.test_share + data.val_share < 1 - 1e-9
    out: dict[str, str] = {}
    largest = max(sizes, key=lambda group: (sizes[group], place(group))) if training else None
    for group in sorted(sizes, key=place):
        # Each part gets one group first, then what fits, up to 1.5 times its share. The largest is always for training.
        open_ = [part for part, share in shares.items() if share > 0]
        first = [part for part in open_ if part not in out.values()]
        fitting = [part for part in open_ if sizes[group] <= 1.5 * shares[part]]
        rest = "train" if training else max(shares, key=lambda part: shares[part])
        part = "train" if group == largest else next(iter(first or fitting), rest)
        out[group] = part
        if part in shares:
            shares[part] -= sizes[group]
    return out


def _unusual_shares(data: Data) -> str:
    """The shares of the parts for the name of a split, because other shares make another one; "" if they are the usual ones."""
    usual = Data()
    if (data.val_share, data.test_share) == (usual.val_share, usual.test_share):
        return ""
    return f", val_share {data.val_share:g}, test_share {data.test_share:g}"


def _note_shares(data: Data, parts: Sequence[str], notes: list[str]) -> None:
    """Note parts that are much smaller or larger than asked for: whole writers and documents are drawn."""
    for part, share in (("val", data.val_share), ("test", data.test_share)):
        got = sum(own == part for own in parts) / len(parts)
        none = not got and share * len(parts) >= 0.5  # of a single line, half can't be had
        if none or abs(got - share) > max(SHARE_OFF * share, 1 / len(parts)):
            notes.append(
                f"{part} has {got:.0%} of the lines, and data.{part}_share is {share:g}: writers and documents stay whole"
            )


def list_folder(data: Data, default: str = "") -> Path:
    """The folder of the lists: `data.lists` as given or in the data's folder; if it is not set, the default there.

    Raises:
        Error: There is no such folder.
    """
    folders = [Path(data.lists), data.folder / data.lists] if data.lists is not None else [data.folder / default]
    for folder in folders:
        if folder.is_dir():
            return folder
    key = "" if data.lists is None else "data.lists: "
    raise Error(f"{key}{' or '.join(map(str, folders))}: no such folder; it should contain the split lists")


def find_list(folder: Path, name: str, part: str) -> Path:
    """The file of a list.

    Raises:
        Error: There is none; names the key and the files of the folder.
    """
    for path in (folder / name, folder / f"{name}.txt"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.glob("[!.]*"))) or "nothing"
    raise Error(f"data.{part}: {folder} has no list {name} or {name}.txt; it has {there}")


def _listed(data: Data, lines: Sequence[Line], documents: Sequence[str], known: set[str]) -> list[str]:
    """The part of each line, from lists of ids of lines or documents; "" of lines in no list."""
    folder = list_folder(data)
    of: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(data, part):
            for stated, place in read_rows(find_list(folder, name, part)):
                id = _key(stated)
                if of.get(id, part) != part:
                    raise Error(f"{place}: {id} is in data.{of[id]} already")
                if id not in known:
                    raise Error(f"{place}: {data.folder} has no line and no document {id}")
                of[id] = part
    return [
        of.get(_key(line.id)) or of.get(_key(document), "") for line, document in zip(lines, documents, strict=True)
    ]


def _note_shared(found: dict[str, set[str]], what: str, notes: list[str]) -> None:
    for one, other in itertools.combinations(PARTS, 2):
        if both := sorted(found[one] & found[other]):
            notes.append(
                f"{counted(len(both), f'{what} is', f'{what}s are')} in {one} and in {other} ({some(both, 3)})"
            )
