"""The layout of the IAM Handwriting Database.

It is what the official archives unpack to (U.-V. Marti, H. Bunke: The IAM-database, IJDAR 5, 2002):
`xml/<form>.xml`, `lines/<x>/<form>/<line>.png`, `words/<x>/<form>/<word>.png` (<x> is the form's id up to its first
dash), `forms*/<form>.png`, `ascii/lines.txt` and `words.txt`, and the split lists. Other datasets may have it too.
"""

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from hwr import Error
from hwr.config import Data
from hwr.data import PARTS, Dataset, Fault, Line, disk, splits
from hwr.data.formats import iam_images, writing, xml
from hwr.data.formats.contents import Contents
from hwr.data.formats.iam_forms import Entry, Form, Forms, check_id, looks_like_iam, new_form, read_forms, transcription
from hwr.system import files
from hwr.system.terminal import counted, some

LAYOUT = "IAM's: its forms in xml/ and its images in lines/ (`hwr iam download`, `hwr synth`)"
TAG = "form"
UNITS: tuple[str, ...] = ("line", "word", "form")
USES: tuple[str, ...] = ("text",)
KEEPS_WRITERS = True
LISTS = "largeWriterIndependentTextLineRecognitionTask"
# Lines per list of the official task, and lines per part of the split named after the RWTH in Aachen.
OFFICIAL = {"trainset": 6161, "validationset1": 900, "validationset2": 940, "testset": 1861}
AACHEN = {"train": 6482, "val": 976, "test": 2915}

_OWN_SPLIT = "data.split=NAME makes it a custom split of that name, whose sizes are not checked"
_LIKE_IAM = (
    "Most ids of its forms are of IAM's kind (a01-000u), so it was taken for IAM. If it is other data, or a part of IAM, set "
    "data.split=NAME with a name of your own"
)


class _Sample(NamedTuple):
    entry: Entry  # what is read: a line, a word, a page
    line: Entry  # the listed line that it belongs to; a page's is the page itself
    form: Form
    place: str  # the list's file:line


_Split = dict[str, list[_Sample]]  # by part


def _all(split: _Split) -> list[tuple[str, _Sample]]:
    return [(part, s) for part in PARTS for s in split[part]]


def detect(contents: Contents) -> bool:
    """Whether a folder is in IAM's layout, or has parts of it."""
    return contents.tag == TAG or any((contents.root / name).is_dir() for name in ("ascii", LISTS))


def read(data: Data) -> Dataset:
    """Read a folder in IAM's layout.

    A `form` sample is the image of a whole page; its text is that of all its lines, joined by line feeds.

    Raises:
        Error: Something is missing, damaged or not what the config claims; names the file and line or the key.
    """
    root, notes = data.folder, list[str]()
    disk.check_folder(
        root,
        f". `hwr iam download --root {root}` gets IAM (registration is free), `hwr synth --out {root}` draws "
        "handwriting in the same layout",
    )
    forms = read_forms(root, data.text, data.unit, notes)
    faults: list[Fault] = []
    listed, sizes = _listed(data, forms, faults)
    name = _split_name(data, looks_like_iam(forms.ids), listed, sizes, notes)
    splits.note_unused(data, splits.DRAWING, "because lists split the lines", notes)
    _note_shared(listed, notes)
    samples, excluded = _exclude(data, _units(data.unit, listed, notes), forms, notes)
    images = _images(root, data.unit, samples, faults)
    parts = {part: _lines(chosen, images, data.unit, faults) for part, chosen in samples.items()}
    # An id may be in val and in test.
    wanted, unwanted = splits.split_faults(dict.fromkeys(faults), data.exclude)
    return Dataset(name, parts["train"], parts["val"], parts["test"], [*excluded, *unwanted], notes, faults=wanted)


def _lines(chosen: list[_Sample], images: dict[str, Path], unit: str, faults: list[Fault]) -> list[Line]:
    """The samples as lines; those without an image have a fault already, those without a good text get one."""
    text, out = _page if unit == "form" else transcription, []
    for s in chosen:
        if s.entry.id in images:
            try:
                out.append(Line(s.entry.id, images[s.entry.id], text(s.entry), s.form.writer, s.entry.source))
            except Error as error:
                faults.append(Fault(s.entry.id, str(error), s.form.id))
    return out


def _page(page: Entry) -> str:
    return "\n".join(transcription(line) for line in page.parts)


# --- Lists and splits ---


def read_list(path: Path) -> list[tuple[str, str]]:
    """The ids of a split list without extensions like `.png`, each with its place (`file:line`)."""
    rows = []
    for row, place in disk.read_rows(path):
        extension = next((e for e in iam_images.EXTENSIONS if row.lower().endswith(e)), "")
        rows.append((check_id(row[: len(row) - len(extension)], place), place))
    return rows


def _listed(data: Data, forms: Forms, faults: list[Fault]) -> tuple[_Split, dict[Path, int]]:
    """The listed lines of each part, and the number of lines of each list; adds what can't be read to the faults."""
    folder = splits.list_folder(data, LISTS)
    listed: _Split = {part: [] for part in PARTS}
    sizes: dict[Path, int] = {}
    seen: dict[str, tuple[str, str]] = {}
    names = [(part, name) for part in PARTS for name in getattr(data, part)]
    for part, name in names:
        path, before, unread = splits.find_list(folder, name, part), len(listed[part]), 0
        for id, place in read_list(path):
            found = forms.find(id)
            if not found:
                form_id = id if id in forms.damaged else id.rpartition("-")[0]
                problem = f"{place}: {data.root} has no line {id} and no form of that id with lines"
                if forms.damaged:
                    problem += f"; it may be in one of {len(forms.damaged)} that can't be read: {next(iter(forms.damaged.values()))}"
                faults.append(Fault(id, forms.damaged.get(form_id, problem), form_id))
                unread += 1
            for form, line in found:
                _claim(seen, line.id, part, place)
                listed[part].append(_Sample(line, line, form, place))
        sizes[path] = len(listed[part]) - before + unread
    return listed, sizes


def _claim(seen: dict[str, tuple[str, str]], id: str, part: str, place: str) -> None:
    """Note the part and place of an id, and refuse one that is listed elsewhere already."""
    old = seen.get(id)
    # Validating on the test list is the original recipe, and the only case in which an id may be in two parts.
    if old and not (part == "test" and old == ("val", place)):
        raise Error(f"{place}: {id} (data.{part}) is listed at {old[1]} (data.{old[0]}) already")
    seen[id] = (part, place)


def _split_name(data: Data, is_iam: bool, listed: _Split, sizes: dict[Path, int], notes: list[str]) -> str:
    counts = {part: len(lines) for part, lines in listed.items()}
    if not data.split.strip():
        raise Error("data.split: empty; it is auto, official, aachen or a name of your own")
    if data.split == "aachen":
        for part, right in AACHEN.items():
            if counts[part] != right:
                raise Error(f"data.{part}: {counts[part]} lines, the Aachen split has {right}. {_OWN_SPLIT}")
        notes.append("The Aachen split's validation lines hold 548 of the official test lines: scores don't compare")
        return "aachen"
    if data.split == "official" or (data.split == "auto" and is_iam):
        aachen = " (these are the sizes of data.split=aachen)" if counts == AACHEN else ""
        remedy = _LIKE_IAM if data.split == "auto" else _OWN_SPLIT
        for path, size in sizes.items():
            if (list_name := path.name.removesuffix(".txt")) not in OFFICIAL:
                raise Error(f"{path}: not one of IAM's official lists ({', '.join(OFFICIAL)}){aachen}. {remedy}")
            if size != OFFICIAL[list_name]:
                raise Error(f"{path}: {size} lines, IAM's official list has {OFFICIAL[list_name]}{aachen}. {remedy}")
        if [path.removesuffix(".txt") for path in data.test] != ["testset"]:
            raise Error(f"data.test: {list(data.test)}; the official split's test list is [testset]. {remedy}")
        return "official"
    if data.split == "auto":
        name = data.folder.resolve().name or "custom"
        return f"{name}-custom" if name in ("auto", "official", "aachen") else name
    if is_iam:
        notes.append(f"{data.split} is a custom split of IAM: its sizes are unchecked, its scores its own")
    return data.split


def _note_shared(listed: _Split, notes: list[str]) -> None:
    """Note which parts share lines, writers or forms."""
    for a, b in combinations(PARTS, 2):
        ids = {s.line.id for s in listed[a]}
        others = [s for s in listed[b] if s.line.id not in ids]
        if len(others) < len(listed[b]):
            number = counted(len(listed[b]) - len(others), "line is", "lines are")
            notes.append(
                f"WARNING: {number} in {a} and in {b}: a model that is chosen on test lines scores better on them than on "
                "other handwriting"
            )
        for what, of_a, of_b in (
            ("writer", {s.form.writer for s in listed[a]}, {s.form.writer for s in others}),
            ("form", {s.form.id for s in listed[a]}, {s.form.id for s in others}),
        ):
            if shared := sorted((of_a & of_b) - {""}):
                number = counted(len(shared), f"{what} of {a} is", f"{what}s of {a} are")
                notes.append(f"WARNING: {number} in {b} too: {some(shared, 5)}")


def _units(unit: str, listed: _Split, notes: list[str]) -> _Split:
    """The listed lines, their words, or their forms."""
    if unit == "line":
        return listed
    samples: _Split = {part: [] for part in PARTS}
    seen: dict[str, tuple[str, str]] = {}
    for part, s in _all(listed):
        if unit == "word":
            chosen = [_Sample(word, s.line, s.form, s.place) for word in s.line.parts]
        elif s.form.id in seen and seen[s.form.id][0] == part:
            chosen = []  # another of its lines brought it in
        else:
            page = Entry(s.form.id, "", s.form.source, s.form.lines)
            chosen = [_Sample(page, page, s.form, s.place)]
        for sample in chosen:
            _claim(seen, sample.entry.id, part, sample.place)
        samples[part] += chosen
    without = [s.line for _, s in _all(listed) if not s.line.parts] if unit == "word" else []
    if without and not seen:
        raise Error(f"data.unit: word, but the lines have no words ({without[0].source} is the first)")
    if without:
        notes.append(
            f"{counted(len(without), 'listed line has', 'listed lines have')} no words, {without[0].id} ({without[0].source}) is the first"
        )
    return samples


def _exclude(data: Data, samples: _Split, forms: Forms, notes: list[str]) -> tuple[_Split, list[str]]:
    """Apply data.exclude: the samples that stay, and the ids of the others."""
    left: list[str] = []
    used: set[str] = set()
    kept: _Split = {part: [] for part in PARTS}
    unwanted = [files.nfc(entry) for entry in data.exclude]
    foreign = [entry for entry in unwanted if not splits.is_pattern(entry) and not forms.has(entry)]
    if strange := [entry for entry in foreign if entry not in splits.DAMAGED_IN_IAM]:
        raise Error(f"data.exclude: {strange[0]} is not the id of a line, a word or a form in {data.root}")
    plain = set(unwanted)
    patterns = {entry: splits.excluder([entry]) for entry in unwanted if splits.is_pattern(entry)}
    for part, s in _all(samples):
        ids = {s.entry.id, s.line.id, s.form.id}
        if hit := (plain & ids) | {entry for entry, matches in patterns.items() if any(map(matches, ids))}:
            used |= hit
            left.append(s.entry.id)
        else:
            kept[part].append(s)
    if idle := [id for id in unwanted if id not in used and id not in foreign]:
        notes.append(f"data.exclude: nothing to exclude for {', '.join(idle)}: no listed {data.unit} belongs to it")
    return kept, list(dict.fromkeys(left))  # an id may be in val and in test


def _images(root: Path, unit: str, samples: _Split, faults: list[Fault]) -> dict[str, Path]:
    """Map sample ids to images; each folder is listed once. A sample without an image is a fault."""
    pages = iam_images.page_images(root) if unit == "form" else {}
    there = cache(iam_images.images_in)
    images: dict[str, Path] = {}
    for _, s in _all(samples):
        folder = root / "forms" if unit == "form" else iam_images.image_folder(root, unit, s.form.id)
        try:
            if image := (pages if unit == "form" else there(folder)).get(s.entry.id):
                images[s.entry.id] = image
                continue
            extensions = ", ".join(iam_images.EXTENSIONS[1:])
            problem = f"{folder / f'{s.entry.id}.png'}: no such image (nor {extensions}), and {s.place} lists it"
        except Error as error:
            problem = str(error)
        faults.append(Fault(s.entry.id, problem, s.form.id))
    if not images and faults:
        more = f" ({len(faults) - 1} more are missing)" if faults[1:] else ""
        raise Error(f"{faults[0].message}{more}. Get the images of the {unit}s: `hwr iam download --part {unit}s`")
    return images


# --- Write ---


def write(dataset: Dataset, out: Path) -> None:
    """Write a dataset in IAM's layout, with the split lists of the official task.

    Raises:
        Error: A text that the layout can't hold; names the line.
    """
    forms, names, used = dict[str, list[Line]](), dict[tuple[str, str], str](), writing.Names()
    for line in dataset.lines:
        _check_text(line)
        document = line.id.rpartition("/")[0] or line.id.rpartition("-")[0] or "form"
        if (document, line.writer) not in names:  # a form has one writer
            names[document, line.writer] = writing.free_name(document, "form", used)
        forms.setdefault(names[document, line.writer], []).append(line)
    (out / "xml").mkdir()
    ids: dict[str, str] = {}
    for form, lines in tqdm(forms.items(), "writing", unit="form", disable=None, leave=False):
        root, part = new_form(form, lines[0].writer)
        for number, line in enumerate(lines):
            ids[line.id] = f"{form}-{number:02d}"
            xml.add(part, "line", id=ids[line.id], text=_escaped(line.text))
        xml.write(root, out / "xml" / f"{form}.xml")
    folders = {id: iam_images.image_folder(out, "line", id.rpartition("-")[0]) for id in ids.values()}
    writing.save_images((line, folders[ids[line.id]] / f"{ids[line.id]}.png") for line in dataset.lines)
    (out / LISTS).mkdir()
    lists = {"trainset": dataset.train, "validationset1": dataset.val, "validationset2": [], "testset": dataset.test}
    for name, listed in lists.items():
        writing.id_list(out / LISTS / f"{name}.txt", [ids[line.id] for line in listed])


def _escaped(text: str) -> str:
    """A text as IAM has it: its entities are escaped once more than XML needs, and `transcription` unescapes them."""
    return text.replace("&", "&amp;")


def _check_text(line: Line) -> None:
    if transcription(Entry(line.id, _escaped(line.text), line.source)) != line.text:
        raise Error(
            f"{line.source}: line {line.id}: IAM's layout can't hold the text {line.text!r}, because its entities are "
            "unescaped when it is read. Choose another format, or name the line in data.exclude"
        )
