"""The forms of a folder in IAM's layout: their lines, words, writers and texts.

They are read from `xml/<form>.xml`, or from the tables `ascii/lines.txt`, `words.txt` and `forms.txt`.
"""

import html.entities
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data import CONTROL, disk
from hwr.data.formats import xml
from hwr.system import files

_IAM_FORM = re.compile(r"[a-r]\d{2}-\d{3}[a-z]?")
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]*);")


@dataclass(frozen=True)
class Entry:
    """A word, a line or a page, as the XML or an ascii table has it.

    Attributes:
        text: Not unescaped yet; "" for a page, whose lines have the texts.
        source: `file:line`.
        parts: A line's words, a page's lines.
    """

    id: str
    text: str
    source: str
    parts: tuple["Entry", ...] = ()


@dataclass(frozen=True)
class Form:
    """A page. `writer` is "" if unknown."""

    id: str
    writer: str
    source: str
    lines: tuple[Entry, ...]


class Forms:
    """The forms of a dataset. Those in `unread` are read from their XML on first use."""

    def __init__(self, unread: dict[str, Path], forms: Iterable[Form] = ()) -> None:
        self._unread = unread
        self._known: dict[str, Form] = {}
        self._lines: dict[str, tuple[Form, Entry]] = {}
        self.damaged: dict[str, str] = {}  # what is wrong with forms that can't be read
        for form in forms:
            self._add(form)

    def _add(self, form: Form) -> None:
        self._known[form.id] = form
        for line in form.lines:
            if line.id in self._lines:
                raise Error(f"{line.source}: line {line.id} already occurs at {self._lines[line.id][1].source}")
            self._lines[line.id] = (form, line)

    @property
    def ids(self) -> list[str]:
        return [*self._unread, *self._known]

    def _form(self, id: str) -> Form | None:
        if id in self._unread:
            try:
                self._add(parse_form(self._unread.pop(id)))
            except Error as error:
                self.damaged[id] = str(error)
        return self._known.get(id)

    def find(self, id: str) -> list[tuple[Form, Entry]]:
        """The line with an id, or all lines of the form with that id; none if the id is unknown."""
        if form := self._form(id):
            return [(form, line) for line in form.lines]
        self._form(id.rpartition("-")[0])
        if id not in self._lines:  # a line's id may not start with its form's: search everywhere before giving up
            for other in list(self._unread):
                self._form(other)
        return [self._lines[id]] if id in self._lines else []

    def has(self, id: str) -> bool:
        """Whether an id is that of a form, a line or a word."""
        if self._form(id):
            return True
        above = self.find(id.rpartition("-")[0])
        return any(id in (line.id, *(word.id for word in line.parts)) for _, line in above) or bool(self.find(id))


def read_forms(root: Path, text: str, unit: str, notes: list[str]) -> Forms:
    """Read the forms of a folder from its XML or its ascii tables (`text`: "xml" or "ascii").

    The tables are read at once, `words.txt` only if `unit` is "word"; an XML file is read on first use. Remarks on the
    texts are added to `notes`.

    Raises:
        Error: Something is missing or damaged; names the file and line.
    """
    return _ascii_forms(root, unit, notes) if text == "ascii" else _xml_forms(root)


def looks_like_iam(form_ids: Iterable[str]) -> bool:
    """Whether most of the form ids are of IAM's kind, like `a01-000u`."""
    matches = [_IAM_FORM.fullmatch(id) is not None for id in form_ids]
    return sum(matches) * 2 > len(matches)


# --- Text ---


def transcription(entry: Entry) -> str:
    """The text of a line or word, its entities unescaped until nothing changes (`&amp;quot;` occurs in IAM).

    An entity needs its semicolon: in "notes &c of" the "&c" is handwriting.

    Raises:
        Error: Empty, or with a line break or another control character in it.
    """
    text, before = entry.text, None
    while text != before:
        before, text = text, _ENTITY.sub(_unescape, text)
    if not text.strip():
        raise Error(f"{entry.source}: {entry.id} has an empty text. Write its text, or name it in data.exclude")
    if bad := CONTROL.search(text):
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


# --- XML ---


def _xml_forms(root: Path) -> Forms:
    folder = root / "xml"
    if not folder.is_dir():
        more = "; ascii/lines.txt is there: data.text=ascii reads it" if (root / "ascii/lines.txt").is_file() else ""
        raise Error(
            f"{folder}: no such folder, but the texts are in it. `hwr iam download --root {root}` gets it{more}"
        )
    paths = xml_files(folder)
    if not paths:
        raise Error(f"{folder}: no .xml file in it, there should be one for each form")
    return Forms({files.nfc(path.stem): path for path in paths})


def xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder, sorted, without hidden ones."""
    _, names = next(files.walk(folder))
    return [folder / name for name in names if name.endswith(".xml")]


def parse_form(path: Path) -> Form:
    """Read the XML of one form. Nothing outside the file is loaded, and entities that it declares are refused.

    Raises:
        Error: Not XML, a wrong encoding, no id or text, an id twice or unfit for a file's name; names file:line.
    """
    root = xml.parse(path)
    if root.tag != "form":
        raise Error(f"{path}:{root.sourceline}: the root element is <{root.tag}>, expected <form>")
    if (id := files.nfc(root.get("id", path.stem))) != files.nfc(path.stem):
        raise Error(f"{path}:{root.sourceline}: this is form {id!r}; its file should be called {id}.xml")
    seen: dict[str, str] = {}
    lines = tuple(_element(line, path, seen) for line in root.iter("line"))
    return Form(id, root.get("writer-id", "").strip(), f"{path}:{root.sourceline}", lines)


def _element(element: Any, path: Path, seen: dict[str, str]) -> Entry:
    source = f"{path}:{element.sourceline}"
    id, text = element.get("id"), element.get("text")
    if id is None or text is None:
        raise Error(f"{source}: <{element.tag}> has no {'id' if id is None else 'text'} attribute")
    if (id := check_id(id, source)) in seen:
        raise Error(f"{source}: {id} already occurs at {seen[id]}")
    seen[id] = source
    return Entry(id, text, source, tuple(_element(word, path, seen) for word in element.iterchildren("word")))


def new_form(id: str, writer: str) -> tuple[Any, Any]:
    """The root element of a new form, and the element in it that the lines belong to."""
    root = xml.new("form", "")
    root.attrib.update({"id": id, "writer-id": writer})
    return root, xml.add(root, "handwritten-part")


# --- ascii ---


def _ascii_forms(root: Path, unit: str, notes: list[str]) -> Forms:
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
    return Forms({}, (Form(id, writers.get(id, ""), lines[0].source, tuple(lines)) for id, lines in forms.items()))


def _ascii_writers(root: Path, form_ids: Iterable[str]) -> dict[str, str]:
    """Form id -> writer id, from forms.txt (its first two columns) or else from the XML."""
    if (path := root / "ascii/forms.txt").is_file():
        rows = (line.split() for line, _ in disk.read_rows(path) if not line.startswith("#"))
        return {files.nfc(row[0]): row[1] for row in rows if len(row) > 1}
    paths = {id: files.named(root / "xml", f"{id}.xml") for id in form_ids}
    return {id: parse_form(path).writer for id, path in paths.items() if path.is_file()}


def _table(path: Path) -> Iterator[Entry]:
    """The rows of lines.txt or words.txt: id, ok or err, six or seven more columns, text (the ninth, to the end)."""
    if not path.is_file():
        raise Error(f"{path}: no such file, but data.text is ascii; set data.text=xml to read the XML instead")
    for row, place in disk.read_rows(path):
        if row.startswith("#"):
            continue
        columns = row.split(maxsplit=8)
        if len(columns) < 9:
            raise Error(f"{place}: {len(columns)} columns; there should be nine, the last of them the text")
        # "ok" or "err" in the second column is about the segmentation into words, not about the text.
        yield Entry(check_id(columns[0], place), columns[8], place)


def check_id(id: str, place: str) -> str:
    """Return an id that is fit to be a file's name, in Unicode's composed form: names of files may be in either.

    Raises:
        Error: It is empty or could lead out of the dataset's folder; names `place`.
    """
    if not id or id.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", id):
        raise Error(f"{place}: {id!r} is not an id: an id is the name of an image without folders and extension")
    return files.nfc(id)
