"""A folder in the layout of the IAM Handwriting Database -> Dataset.

The layout is what the official archives unpack to (U.-V. Marti, H. Bunke: The IAM-database, IJDAR 5, 2002):
`xml/<form>.xml`, `lines/<x>/<form>/<line>.png`, `words/<x>/<form>/<word>.png` (<x> is the form's id up to its first
dash), `forms*/<form>.png`, `ascii/lines.txt` and `words.txt`, and the split lists. Any other folder in this layout is
read too. Images are found here, not opened.
"""

import html.entities
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from hwr import Error
from hwr.config import Data
from hwr.datasets import Dataset, Line

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
LISTS = "largeWriterIndependentTextLineRecognitionTask"
# Lines per list of the official task, and lines per part of the split named after the RWTH in Aachen.
OFFICIAL = {"trainset": 6161, "validationset1": 900, "validationset2": 940, "testset": 1861}
AACHEN = {"train": 6482, "val": 976, "test": 2915}
PARTS = ("train", "val", "test")

_IAM_FORM = re.compile(r"[a-r]\d{2}-\d{3}[a-z]?")
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]*);")
# Control characters, the separators that break lines, halves of UTF-16 pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OWN_SPLIT = "data.split=NAME makes it a custom split of that name, whose sizes are not checked"


@dataclass(frozen=True)
class Entry:
    """A word, a line or a page as it stands in the XML or in an ascii table.

    Attributes:
        text: As it stands there; a page has its lines' texts.
        source: `file:line`.
        parts: A line's words, a page's lines.
    """

    id: str
    text: str
    source: str
    parts: tuple["Entry", ...] = ()


@dataclass(frozen=True)
class Form:
    """A page. `writer` is "" where it is unknown."""

    id: str
    writer: str
    source: str
    lines: tuple[Entry, ...]


class _Sample(NamedTuple):
    entry: Entry  # what is read: a line, a word, a page
    line: Entry  # the listed line that it belongs to; a page's is the page itself
    form: Form
    place: str  # the list's file:line


def read(data: Data) -> Dataset:
    """Read a folder in IAM's layout.

    A `form` sample is the image of the whole page; its text is all the form's lines, joined by line feeds.

    Raises:
        Error: Something is missing, damaged or not what the config claims; names the file and line or the key.
    """
    root, notes = Path(data.root), list[str]()
    if not root.is_dir():
        raise Error(
            f"data.root: {root}: no such folder. `hwr iam download --root {root}` gets IAM (registration is free), "
            f"`hwr synth --out {root}` draws handwriting in the same layout"
        )
    forms = _ascii_forms(root, data.unit, notes) if data.text == "ascii" else _xml_forms(root)
    listed, sizes = _listed(data, forms)
    name = _split_name(data, root, looks_like_iam(forms.ids), listed, sizes, notes)
    _note_shared(listed, notes)
    samples, excluded = _exclude(data, _units(data.unit, listed, notes), forms, notes)
    images = _images(root, data.unit, samples)
    text = _page if data.unit == "form" else transcription
    parts = {
        part: [Line(s.entry.id, images[s.entry.id], text(s.entry), s.form.writer, s.entry.source) for s in chosen]
        for part, chosen in samples.items()
    }
    return Dataset(name, parts["train"], parts["val"], parts["test"], excluded, notes)


def looks_like_iam(form_ids: Iterable[str]) -> bool:
    """Whether most of the form ids are of IAM's kind, like `a01-000u`."""
    matches = [_IAM_FORM.fullmatch(id) is not None for id in form_ids]
    return sum(matches) * 2 > len(matches)


# --- Text ---


def transcription(entry: Entry) -> str:
    """The text of a line or word, entities unescaped until nothing changes (`&amp;quot;` occurs in IAM).

    Only `&name;` with its semicolon is an entity: in "notes &c of" the "&c" is what was written.

    Raises:
        Error: Empty, or with a line break or another control character in it.
    """
    text, before = entry.text, None
    while text != before:
        before, text = text, _ENTITY.sub(_unescape, text)
    if not text.strip():
        raise Error(f"{entry.source}: {entry.id} has an empty text. Write its text, or name it in data.exclude")
    if bad := _CONTROL.search(text):
        raise Error(
            f"{entry.source}: the text of {entry.id} has the control character U+{ord(bad[0]):04X} at position "
            f"{bad.start() + 1}; a text is one line of printable characters"
        )
    return text


def _unescape(match: re.Match[str]) -> str:
    name = match[1]
    if not name.startswith("#"):
        return html.entities.html5.get(f"{name};", match[0])
    number = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    return chr(number) if number <= 0x10FFFF else match[0]


def _page(page: Entry) -> str:
    return "\n".join(transcription(line) for line in page.parts)


def check_id(id: str, place: str) -> str:
    """Return an id that is fit to be a file's name.

    Raises:
        Error: It is empty or could lead out of the dataset's folder; names `place`.
    """
    if not id or id.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", id):
        raise Error(f"{place}: {id!r} is not an id: an id is the name of an image without folders and extension")
    return id


# --- Forms ---


class _Forms:
    """The forms of a dataset, each XML read when it is first asked for."""

    def __init__(self, unread: dict[str, Path], forms: Iterable[Form] = ()) -> None:
        self.unread = unread
        self.known: dict[str, Form] = {}
        self.lines: dict[str, tuple[Form, Entry]] = {}
        for form in forms:
            self._add(form)

    def _add(self, form: Form) -> None:
        self.known[form.id] = form
        for line in form.lines:
            if line.id in self.lines:
                raise Error(f"{line.source}: line {line.id} stands at {self.lines[line.id][1].source} already")
            self.lines[line.id] = (form, line)

    @property
    def ids(self) -> list[str]:
        return [*self.unread, *self.known]

    def form(self, id: str) -> Form | None:
        if id in self.unread:
            self._add(parse_form(self.unread.pop(id)))
        return self.known.get(id)

    def find(self, id: str) -> list[tuple[Form, Entry]]:
        """The lines that a line's or a form's id stands for; none if there is no such id."""
        if form := self.form(id):
            return [(form, line) for line in form.lines]
        self.form(id.rpartition("-")[0])
        if id not in self.lines:  # a line's id need not begin with its form's: look everywhere before giving up
            for other in list(self.unread):
                self.form(other)
        return [self.lines[id]] if id in self.lines else []

    def has(self, id: str) -> bool:
        """Whether it is the id of a form, a line or a word."""
        if self.form(id):
            return True
        above = self.find(id.rpartition("-")[0])
        return any(id in (line.id, *(word.id for word in line.parts)) for _, line in above) or bool(self.find(id))


def _xml_forms(root: Path) -> _Forms:
    folder = root / "xml"
    if not folder.is_dir():
        more = "; ascii/lines.txt is there: data.text=ascii reads it" if (root / "ascii/lines.txt").is_file() else ""
        raise Error(f"{folder}: no such folder, and it has the texts. `hwr iam download --root {root}` gets it{more}")
    paths = xml_files(folder)
    if not paths:
        raise Error(f"{folder}: no .xml file in it, there should be one for each form")
    return _Forms({path.stem: path for path in paths})


def xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder, by name, without hidden ones."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".xml") and not name.startswith("."))
    return [folder / name for name in names]


def parse_form(path: Path) -> Form:
    """Read the XML of one form. Nothing outside the file is loaded, and entities that it declares are refused.

    Raises:
        Error: Not XML, a wrong encoding, no id or text, an id twice or unfit for a file's name; names file:line.
    """
    from lxml import etree

    try:
        content = path.read_bytes()
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    # lxml expands entities inside attributes whatever it is told, so a declaration is refused before parsing.
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        if (at := content.find("<!ENTITY".encode(encoding))) >= 0:
            raise Error(f"{path}:{content.count(10, 0, at) + 1}: declares an XML entity, which is not read")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise Error(f"{path}:{error.lineno or 1}: not well-formed XML: {error.msg}") from None
    for problem in parser.error_log:
        # Where a DTD is named but not loaded, an unknown entity is a mere warning, and its character would vanish.
        if "not defined" in problem.message:
            raise Error(f"{path}:{problem.line}: {problem.message}; write the character itself")
    if root.tag != "form":
        raise Error(f"{path}:{root.sourceline}: the root element is <{root.tag}>, a form's XML begins with <form>")
    if (id := root.get("id", path.stem)) != path.stem:
        raise Error(f"{path}:{root.sourceline}: this is form {id!r}; its file should be called {id}.xml")
    seen: dict[str, str] = {}
    lines = tuple(_element(line, path, seen) for line in root.iter("line"))
    return Form(id, root.get("writer-id", "").strip(), f"{path}:{root.sourceline}", lines)


def _element(element: Any, path: Path, seen: dict[str, str]) -> Entry:
    source = f"{path}:{element.sourceline}"
    id, text = element.get("id"), element.get("text")
    if id is None or text is None:
        raise Error(f"{source}: <{element.tag}> has no {'id' if id is None else 'text'} attribute")
    if check_id(id, source) in seen:
        raise Error(f"{source}: {id} stands at {seen[id]} already")
    seen[id] = source
    return Entry(id, text, source, tuple(_element(word, path, seen) for word in element.iterchildren("word")))


def _ascii_forms(root: Path, unit: str, notes: list[str]) -> _Forms:
    folder = root / "ascii"
    words: dict[str, list[Entry]] = {}
    for word in _table(folder / "words.txt") if unit == "word" else ():
        words.setdefault(word.id.rpartition("-")[0], []).append(word)
    forms: dict[str, list[Entry]] = {}
    for line in _table(folder / "lines.txt"):
        entry = Entry(line.id, line.text.replace("|", " "), line.source, tuple(words.get(line.id, ())))
        forms.setdefault(line.id.rpartition("-")[0], []).append(entry)
    writers = _ascii_writers(root, forms)
    notes.append(
        f"The texts are from {folder / 'lines.txt'}, not from the XML: there punctuation is detached from the words, "
        "so scores can't be compared with those on the XML's texts"
    )
    if not any(writers.values()):
        notes.append(f"The writers are unknown: there is neither {root / 'xml'} nor {folder / 'forms.txt'}")
    return _Forms({}, (Form(id, writers.get(id, ""), lines[0].source, tuple(lines)) for id, lines in forms.items()))


def _ascii_writers(root: Path, form_ids: Iterable[str]) -> dict[str, str]:
    """Form id -> writer id, from forms.txt (its first two columns) or else from the XML."""
    if (path := root / "ascii/forms.txt").is_file():
        rows = (line.split() for line, _ in read_rows(path) if not line.startswith("#"))
        return {row[0]: row[1] for row in rows if len(row) > 1}
    paths = {id: root / "xml" / f"{id}.xml" for id in form_ids}
    return {id: parse_form(path).writer for id, path in paths.items() if path.is_file()}


def _table(path: Path) -> Iterator[Entry]:
    """The rows of lines.txt or words.txt: id, ok or err, six or seven more columns, text (the ninth, to the end)."""
    if not path.is_file():
        raise Error(f"{path}: no such file, and data.text is ascii. data.text=xml reads the XML instead")
    for row, place in read_rows(path):
        if row.startswith("#"):
            continue
        columns = row.split(maxsplit=8)
        if len(columns) < 9:
            raise Error(f"{place}: {len(columns)} columns; there should be nine, the last of them the text")
        # "ok" or "err" in the second column is about the segmentation into words, not about the text.
        yield Entry(check_id(columns[0], place), columns[8], place)


# --- Lists and splits ---


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The lines of a UTF-8 text file that are not blank, stripped, each with its place (`file:line`).

    Raises:
        Error: Unreadable or not UTF-8.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Error(f"{path}:{content.count(10, 0, error.start) + 1}: not UTF-8: {error.reason}") from None
    rows = enumerate(re.split(r"\r\n|\r|\n", text), start=1)
    return [(row.strip(), f"{path}:{number}") for number, row in rows if row.strip()]


def read_list(path: Path) -> list[tuple[str, str]]:
    """The ids of a split list, an extension like `.png` taken off, each with its place (`file:line`)."""
    rows = []
    for row, place in read_rows(path):
        extension = next((e for e in EXTENSIONS if row.lower().endswith(e)), "")
        rows.append((check_id(row[: len(row) - len(extension)], place), place))
    return rows


def list_folder(root: Path, lists: str | None) -> Path:
    """The folder of the split lists: `lists` as it is or under root; None is the official task's folder."""
    folders = [root / LISTS] if lists is None else [Path(lists), root / lists]
    for folder in folders:
        if folder.is_dir():
            return folder
    key = "" if lists is None else "data.lists: "
    raise Error(f"{key}{' or '.join(map(str, folders))}: no such folder; the split lists should be there")


def _all(parts: dict[str, list[_Sample]]) -> list[tuple[str, _Sample]]:
    return [(part, s) for part in PARTS for s in parts[part]]


def _find_list(folder: Path, name: str, part: str) -> Path:
    for path in (folder / name, folder / f"{name}.txt"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.glob("[!.]*"))) or "nothing"
    raise Error(f"data.{part}: {folder} has no list {name} or {name}.txt; it has {there}")


def _listed(data: Data, forms: _Forms) -> tuple[dict[str, list[_Sample]], dict[Path, int]]:
    """The listed lines of each part, and the number of lines of each list."""
    folder = list_folder(Path(data.root), data.lists)
    listed: dict[str, list[_Sample]] = {part: [] for part in PARTS}
    sizes: dict[Path, int] = {}
    seen: dict[str, tuple[str, str]] = {}
    names = [(part, name) for part in PARTS for name in getattr(data, part)]
    for part, name in names:
        path, before = _find_list(folder, name, part), len(listed[part])
        for id, place in read_list(path):
            found = forms.find(id)
            if not found:
                raise Error(f"{place}: {data.root} has no line {id} and no form of that id with lines")
            for form, line in found:
                _claim(seen, line.id, part, place)
                listed[part].append(_Sample(line, line, form, place))
        sizes[path] = len(listed[part]) - before
    return listed, sizes


def _claim(seen: dict[str, tuple[str, str]], id: str, part: str, place: str) -> None:
    """Note in which part and place an id stands, and refuse one that stands elsewhere already."""
    old = seen.get(id)
    # Choosing on the test list is the original recipe, and the one case in which an id may be in two parts.
    if old and not (part == "test" and old == ("val", place)):
        raise Error(f"{place}: {id} (data.{part}) is listed at {old[1]} (data.{old[0]}) already")
    seen[id] = (part, place)


def _split_name(
    data: Data, root: Path, is_iam: bool, listed: dict[str, list[_Sample]], sizes: dict[Path, int], notes: list[str]
) -> str:
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
        for path, size in sizes.items():
            if (list_name := path.name.removesuffix(".txt")) not in OFFICIAL:
                raise Error(f"{path}: not one of IAM's official lists ({', '.join(OFFICIAL)}){aachen}. {_OWN_SPLIT}")
            if size != OFFICIAL[list_name]:
                raise Error(
                    f"{path}: {size} lines, IAM's official list has {OFFICIAL[list_name]}{aachen}. {_OWN_SPLIT}"
                )
        if [path.removesuffix(".txt") for path in data.test] != ["testset"]:
            raise Error(f"data.test: {list(data.test)}; the official split is tested on [testset]. {_OWN_SPLIT}")
        return "official"
    if data.split == "auto":
        name = root.resolve().name or "custom"
        return f"{name}-custom" if name in ("auto", "official", "aachen") else name
    if is_iam:
        notes.append(f"{data.split} is a custom split of IAM: its sizes are unchecked, its scores its own")
    return data.split


def _note_shared(listed: dict[str, list[_Sample]], notes: list[str]) -> None:
    """Say which parts have lines, writers or forms in common."""
    for a, b in combinations(PARTS, 2):
        ids = {s.line.id for s in listed[a]}
        others = [s for s in listed[b] if s.line.id not in ids]
        if len(others) < len(listed[b]):
            notes.append(
                f"WARNING: {len(listed[b]) - len(others)} lines are in {a} and in {b}: a model that is chosen on test "
                "lines scores better on them than on other handwriting"
            )
        for what, of_a, of_b in (
            ("writers", {s.form.writer for s in listed[a]}, {s.form.writer for s in others}),
            ("forms", {s.form.id for s in listed[a]}, {s.form.id for s in others}),
        ):
            if shared := sorted((of_a & of_b) - {""}):
                some = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
                notes.append(f"WARNING: {len(shared)} {what} of {a} are in {b} too: {some}")


def _units(unit: str, listed: dict[str, list[_Sample]], notes: list[str]) -> dict[str, list[_Sample]]:
    """The listed lines, or their words, or the forms that they are of."""
    if unit == "line":
        return listed
    samples: dict[str, list[_Sample]] = {part: [] for part in PARTS}
    seen: dict[str, tuple[str, str]] = {}
    for part, s in _all(listed):
        if unit == "word":
            chosen = [_Sample(word, s.line, s.form, s.place) for word in s.line.parts]
        elif seen.get(s.form.id, ("", ""))[0] == part:
            chosen = []
        else:
            page = Entry(s.form.id, "", s.form.source, s.form.lines)
            chosen = [_Sample(page, page, s.form, s.place)]
        for sample in chosen:
            _claim(seen, sample.entry.id, part, sample.place)
        samples[part] += chosen
    without = [s.line for _, s in _all(listed) if unit == "word" and not s.line.parts]
    if without and not seen:
        raise Error(f"data.unit: word, but the lines have no words ({without[0].source} is the first)")
    if without:
        notes.append(f"{len(without)} listed lines have no words, {without[0].id} ({without[0].source}) is the first")
    return samples


def _exclude(
    data: Data, samples: dict[str, list[_Sample]], forms: _Forms, notes: list[str]
) -> tuple[dict[str, list[_Sample]], list[str]]:
    """Leave out what data.exclude names: the samples that stay, the ids of the others."""
    left: dict[str, None] = {}
    used: set[str] = set()
    kept: dict[str, list[_Sample]] = {part: [] for part in PARTS}
    for id in data.exclude:
        if not forms.has(id):
            raise Error(f"data.exclude: {id} is not the id of a line, a word or a form in {data.root}")
    for part, s in _all(samples):
        if hit := {s.entry.id, s.line.id, s.form.id}.intersection(data.exclude):
            used |= hit
            left[s.entry.id] = None
        else:
            kept[part].append(s)
    if idle := [id for id in data.exclude if id not in used]:
        notes.append(f"data.exclude: nothing to leave out for {', '.join(idle)}: no listed {data.unit} belongs to it")
    return kept, list(left)


# --- Images ---


def images_in(folder: Path) -> dict[str, Path]:
    """Image id -> file for the images of one folder; empty if there is no such folder.

    Raises:
        Error: Two images of one id, as in `a.png` beside `a.jpg`; the folder is unreadable.
    """
    found: dict[str, Path] = {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.lower().endswith(EXTENSIONS) and e.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        raise Error(f"{folder}: could not be read: {error.strerror or error}") from error
    for name in names:
        if other := found.get(stem := name.rpartition(".")[0]):
            raise Error(f"{folder / name}: {other.name} is there too; an id has one image")
        found[stem] = folder / name
    return found


def image_folder(root: Path, unit: str, form_id: str) -> Path:
    """Where the images of a form's lines or words are: `lines/a01/a01-000u`."""
    return root / f"{unit}s" / form_id.partition("-")[0] / form_id


def page_images(root: Path) -> dict[str, Path]:
    """Form id -> image for all in and below the folders `forms*`."""
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.glob("forms*") if path.is_dir()):
        for inner in sorted([folder, *(path for path in folder.rglob("*") if path.is_dir())]):
            for id, path in images_in(inner).items():
                if id in found:
                    raise Error(f"{path}: {found[id]} is there too; an id has one image")
                found[id] = path
    return found


def _images(root: Path, unit: str, samples: dict[str, list[_Sample]]) -> dict[str, Path]:
    """Sample id -> image; each folder is listed once."""
    pages = page_images(root) if unit == "form" else {}
    folders: dict[str, dict[str, Path]] = {}
    images: dict[str, Path] = {}
    missing: list[tuple[Path, str]] = []
    for _, s in _all(samples):
        folder = root / "forms" if unit == "form" else image_folder(root, unit, s.form.id)
        if unit != "form" and s.form.id not in folders:
            folders[s.form.id] = images_in(folder)
        if image := (pages if unit == "form" else folders[s.form.id]).get(s.entry.id):
            images[s.entry.id] = image
        elif s.entry.id not in images:
            missing.append((folder / f"{s.entry.id}.png", s.place))
    if missing:
        path, place = missing[0]
        more = f" ({len(missing) - 1} more are missing)" if missing[1:] else ""
        raise Error(
            f"{path}: no such image (nor {', '.join(EXTENSIONS[1:])}), and {place} lists it{more}. Get the images of "
            f"the {unit}s (`hwr iam download`), or name in data.exclude what is to be left out"
        )
    return images
