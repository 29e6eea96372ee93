"""Check a folder in IAM's layout: count its contents, list what is missing, damaged or wrong."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.data.formats import iam, iam_images
from hwr.data.formats.iam_forms import Form, looks_like_iam, parse_form, transcription, xml_files
from hwr.data.splits import DAMAGED_IN_IAM
from hwr.system import files

# The numbers on the database's web page (version 3.0).
FORMS, LINES, WORDS, WRITERS = 1539, 13353, 115320, 657
_SHOWN = 20


@dataclass(frozen=True)
class Report:
    """The contents of a folder.

    Attributes:
        root: The folder.
        is_iam: Whether its form ids are IAM's, so that the official numbers apply.
        forms: XML files, readable or not.
        lines: Lines in the readable ones.
        words: Words in them.
        writers: Different writer ids in them.
        images: Number of images per unit; a unit without a folder has no entry.
        lists: Number of ids per split list.
        missing: Image files for ids in the XML, only of units that have a folder of images.
        damaged: Images that could not be decoded, `path: why`.
        known_damaged: Images that are damaged in the official archives too.
        problems: Faults of the XML and the lists, `file:line: what`.
        differences: Numbers that are not the official ones; empty if the folder is not IAM itself.
    """

    root: Path
    is_iam: bool
    forms: int
    lines: int
    words: int
    writers: int
    images: dict[str, int]
    lists: dict[str, int]
    missing: tuple[Path, ...]
    damaged: tuple[str, ...]
    known_damaged: tuple[str, ...]
    problems: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong, apart from images that are damaged in the official archives too."""
        return not (self.missing or self.damaged or self.problems or self.differences)


def check(root: Path, *, images: bool = True, progress: bool = True) -> Report:
    """Check a folder in IAM's layout to the end, whatever is wrong.

    Args:
        root: The dataset's folder.
        images: Open and decode every image too (minutes for all of IAM).
        progress: Show a bar while images are decoded, if the output is a terminal.

    Raises:
        Error: There is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise Error(f"{root}: no such folder. `hwr iam download --root {root}` gets IAM (registration is free)")
    problems: list[str] = []
    paths = xml_files(root / "xml") if (root / "xml").is_dir() else []
    if not paths:
        problems.append(f"{root / 'xml'}: no XML files, which have the texts")
    is_iam = looks_like_iam(path.stem for path in paths)
    forms = _forms(paths, problems)
    lists = _lists(root, forms, {files.nfc(path.stem) for path in paths}, is_iam, problems)
    found, missing = _images(root, forms, problems)
    damaged, known = _decode(found, progress) if images else ([], [])
    lines = [line for form in forms for line in form.lines]
    counts = {
        "forms": (len(paths), FORMS),
        "lines": (len(lines), LINES),
        "words": (sum(len(line.parts) for line in lines), WORDS),
        "writers": (len({form.writer for form in forms} - {""}), WRITERS),
    }
    official = counts | {name: (lists.get(name, 0), right) for name, right in iam.OFFICIAL.items()}
    differences = [f"{name}: {n:,}, officially {right:,}" for name, (n, right) in official.items() if n != right]
    return Report(
        root=root,
        is_iam=is_iam,
        **{name: n for name, (n, _) in counts.items()},
        images={unit: len(ids) for unit, ids in found.items()},
        lists=lists,
        missing=tuple(missing),
        damaged=tuple(damaged),
        known_damaged=tuple(known),
        problems=tuple(problems),
        differences=tuple(differences) if is_iam else (),
    )


def summary(report: Report) -> str:
    """The report for the screen: counts, then the first 20 faults of each kind."""
    kind = "IAM" if report.is_iam else "not IAM itself, so there are no official numbers to compare with"
    found = ", ".join(f"{n:,} of {unit}s" for unit, n in report.images.items()) or "none"
    rows = [
        f"{report.root}: {kind}",
        f"  XML     {report.forms:,} forms, {report.lines:,} lines, {report.words:,} words, {report.writers:,} writers",
        f"  images  {found}",
        f"  lists   {', '.join(f'{name} {n:,}' for name, n in report.lists.items()) or 'none'}",
    ]
    for title, items in (
        ("not the official numbers", report.differences),
        ("wrong in the XML or the lists", report.problems),
        ("missing images", report.missing),
        ("damaged images", report.damaged),
        ("damaged in the official archive too (name the ids in data.exclude)", report.known_damaged),
    ):
        rows += _section(title, [str(item) for item in items])
    rows.append("All is well." if report.ok else "Not all is well.")
    return "\n".join(rows)


def _section(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"  … and {len(items) - _SHOWN:,} more"] if len(items) > _SHOWN else []
    return [f"{title}: {len(items):,}", *(f"  {item}" for item in items[:_SHOWN]), *more]


def _forms(paths: Iterable[Path], problems: list[str]) -> list[Form]:
    """The forms that can be read; adds the faults of their texts."""
    forms: list[Form] = []
    seen: dict[str, str] = {}
    for path in paths:
        try:
            forms.append(form := parse_form(path))
        except Error as error:
            problems.append(str(error))
            continue
        if not form.lines:
            problems.append(f"{form.source}: form {form.id} has no lines")
        for entry in (entry for line in form.lines for entry in (line, *line.parts)):
            if entry.id in seen:
                problems.append(f"{entry.source}: {entry.id} already occurs at {seen[entry.id]}")
            seen[entry.id] = entry.source
            try:
                transcription(entry)
            except Error as error:
                problems.append(str(error))
    return forms


def _lists(root: Path, forms: list[Form], form_ids: set[str], is_iam: bool, problems: list[str]) -> dict[str, int]:
    """Ids per list (IAM: the official lists); adds unknown ids, and ids that occur twice in lists of official names."""
    folder = root / iam.LISTS
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder, and it should have the split lists")
        return {}
    known = {line.id for form in forms for line in form.lines} | form_ids
    unread = form_ids - {form.id for form in forms}
    sizes: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name in iam.OFFICIAL if is_iam else sorted(path.stem for path in folder.glob("[!.]*.txt")):
        if not (path := folder / f"{name}.txt").is_file():
            problems.append(f"{path}: no such list")
            continue
        try:
            rows = iam.read_list(path)
        except Error as error:
            problems.append(str(error))
            continue
        sizes[name] = len(rows)
        for id, place in rows:
            # The ids in a damaged XML file are unknown, and its damage is noted already.
            if id not in known and id.rpartition("-")[0] not in unread:
                problems.append(f"{place}: {id} is in no XML")
            if name in iam.OFFICIAL and id in seen:
                problems.append(f"{place}: {id} is listed at {seen[id]} already")
            if name in iam.OFFICIAL:
                seen[id] = place
    return sizes


def _images(root: Path, forms: list[Form], problems: list[str]) -> tuple[dict[str, dict[str, Path]], list[Path]]:
    """The images by unit and id, and the files that are missing."""
    found: dict[str, dict[str, Path]] = {}
    missing: list[Path] = []
    for unit in ("line", "word"):
        if not (root / f"{unit}s").is_dir():
            continue
        found[unit] = {}
        for form in forms:
            folder = iam_images.image_folder(root, unit, form.id)
            try:
                there = iam_images.images_in(folder)
            except Error as error:
                problems.append(str(error))
                continue
            found[unit] |= there
            ids = [e.id for line in form.lines for e in ([line] if unit == "line" else line.parts)]
            missing += [folder / f"{id}.png" for id in ids if id not in there]
    if any(path.is_dir() for path in root.glob("forms*")):
        try:
            found["form"] = iam_images.page_images(root)
            missing += [root / f"forms*/{form.id}.png" for form in forms if form.id not in found["form"]]
        except Error as error:
            problems.append(str(error))
    if not found:
        problems.append(f"{root}: none of the folders lines, words and forms* is there, which have the images")
    return found, missing


def _decode(found: dict[str, dict[str, Path]], progress: bool) -> tuple[list[str], list[str]]:
    """Decode all images; returns the damaged ones, and those known to be damaged."""
    from tqdm import tqdm

    from hwr.images import load

    damaged: list[str] = []
    known: list[str] = []
    entries = [item for images in found.values() for item in images.items()]
    for id, path in tqdm(entries, desc="images", unit="image", disable=None if progress else True):
        try:
            if path.stat().st_size == 0:
                raise ValueError("empty file")
            with warnings.catch_warnings(), load.opened(path) as image:
                warnings.simplefilter("ignore")
                image.load()
        except Exception as error:  # Pillow's decoders raise whatever they stumble on
            (known if id in DAMAGED_IN_IAM else damaged).append(f"{path}: {str(error) or type(error).__name__}")
    return damaged, known
