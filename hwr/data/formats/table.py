"""Tables of lines: TSV, CSV or JSON lines with image and text, as in Hugging Face's image folders."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import PARTS, Dataset, Fault, Line, splits
from hwr.data.formats import writing
from hwr.data.formats.contents import Contents
from hwr.data.text import blank
from hwr.system import files
from hwr.system.files import is_regular

LAYOUT = "a .tsv, .csv or .jsonl file with the columns image and text, or a folder with a metadata.jsonl, a manifest.tsv or a single such file"
TAG = ""
UNITS: tuple[str, ...] = ("line",)
KEEPS_WRITERS = True

# Names of the columns; the first one found counts.
IMAGE = ("image", "file_name", "path", "image_path", "filename")
TEXT = ("text", "transcription", "transcript", "label", "ground_truth")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".ndjson")
MANIFESTS = ("metadata.jsonl", "manifest.jsonl", "manifest.tsv", "manifest.csv", "metadata.csv", "metadata.tsv")


def named_like_one(path: Path) -> bool:
    """Whether a file's name ends as that of a table."""
    return path.suffix.lower() in SUFFIXES


def detect(contents: Contents) -> bool:
    """Whether a file is a table, or a folder has one."""
    return named_like_one(contents.root) or (contents.root.is_dir() and bool(tables(contents.root)))


# --- Read ---


def read(data: Data) -> Dataset:
    """Read the table `data.root`, or the first of `MANIFESTS` in that folder or in its sub-folders `train`, `test`, ….

    Columns: image (relative to the table) and text; optional id, split, writer.

    Raises:
        Error: No table, a missing column or image, a bad row; names file and line.
    """
    lines, column, empty, notes = list[Line](), list[str](), list[str](), list[str]()
    faults: list[Fault] = []
    if not data.folder.exists():
        raise Error(f"data.root: {data.folder}: no such file or folder")
    seen: dict[str, str] = {}
    found = tables(data.folder)
    if not found:
        raise Error(f"data.root: {data.folder} is not a table and contains none: {', '.join(MANIFESTS)}")
    for path, part in found:
        for row, source in _rows(path, notes):
            id = source
            try:
                if isinstance(row, Error):
                    raise row
                id = _id(row, part, source)
                if id in seen:
                    raise Error(f"{source}: {id} already occurs at {seen[id]}")
                seen[id] = source
                line = _line(row, id, path.parent, source)
                of_split = splits.part_named(str(row.get("split") or part), line)
            except Error as error:
                faults.append(Fault(id, str(error), id.rpartition("/")[0]))
                continue
            if blank(line.text):
                empty.append(id)
            else:
                lines.append(line)
                column.append(of_split)
    if not lines and not faults:
        raise Error(f"{data.folder}: no line with a text in its tables")
    if empty:
        notes.append(f"{len(empty)} lines have no text and are skipped: {', '.join(empty[:5])}")
    return splits.split(data, lines, [line.id.rpartition("/")[0] for line in lines], empty, notes, column, faults)


def _id(row: dict[str, Any], part: str, source: str) -> str:
    name = str(own) if (own := row.get("id")) not in (None, "") else _cell(row, IMAGE, source)
    if own in (None, ""):
        if not Path(name).name:
            raise Error(f"{source}: has no image")
        name = Path(name).with_suffix("").as_posix()
    return f"{part}/{name}" if part else name


def _line(row: dict[str, Any], id: str, folder: Path, source: str) -> Line:
    name, text, writer = _cell(row, IMAGE, source), _cell(row, TEXT, source), row.get("writer")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Error(f"{source}: the image {name!r} is outside {folder}")
    if not is_regular(folder / name):
        raise Error(f"{source}: no such image: {folder / name}")
    return Line(id, folder / name, text.strip(), "" if writer is None else str(writer), source)


def tables(root: Path) -> list[tuple[Path, str]]:
    """Find the tables of a folder, each with the part that its sub-folder is named after, or ""."""
    if root.is_file():
        return [(root, "")]
    for name in MANIFESTS:
        if (root / name).is_file():
            return [(root / name, "")]
    try:
        inside = sorted(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise Error(f"{root}: could not be listed: {error.strerror or error}") from error
    parts = [p for p in inside if p.name.lower() in splits.NAMES]
    if found := [(p / name, p.name) for p in parts for name in MANIFESTS if (p / name).is_file()]:
        return found
    # A table of another name, if it is the only one.
    others = [p for p in inside if named_like_one(p) and p.is_file() and not p.name.startswith(".")]
    return [(p, "") for p in others] if len(others) == 1 else []


def _rows(path: Path, notes: list[str]) -> Iterator[tuple[dict[str, Any] | Error, str]]:
    """The rows of a table, each with its place, or what is wrong with it; adds to the notes."""
    text = files.read_text(path)
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            for number, row in enumerate(text.split("\n"), 1):
                if row.strip():
                    yield _row(row, f"{path}:{number}"), f"{path}:{number}"
        case ".csv":
            yield from _cells(path, text, strict=True)
        case ".tsv" if _quoted(path, text, notes):
            yield from _cells(path, text, delimiter="\t", strict=True)
        case ".tsv":
            yield from _cells(path, text, delimiter="\t", quoting=csv.QUOTE_NONE)
        case suffix:
            raise Error(f"{path}: {suffix or 'a file without extension'} is not a table; use .tsv, .csv or .jsonl")


def _row(row: str, source: str) -> dict[str, Any] | Error:
    try:
        return _object(row, source)
    except Error as error:
        return error


def _cells(path: Path, text: str, **dialect: Any) -> Iterator[tuple[dict[str, Any] | Error, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), **dialect)
    try:
        header = reader.fieldnames or []
        for names in (IMAGE, TEXT):
            if not set(names) & set(header):
                raise Error(
                    f"{path}:1: has no column {names[0]} (or {', '.join(names[1:])}); it has {', '.join(header)}"
                )
        for cells in reader:
            source = f"{path}:{reader.line_num}"
            if None in cells or None in cells.values():
                yield Error(f"{source}: the row and the header have different numbers of cells"), source
            else:
                yield cells, source
    except csv.Error as error:
        source = f"{path}:{reader.line_num}"
        yield Error(f"{source}: {error}; what follows is not read"), source


# What a spreadsheet makes of a cell with quotes in it: it doubles them, and puts the cell in quotes.
_IN_QUOTES = re.compile('"(?:[^"]|"")*"')


def _quoted(path: Path, text: str, notes: list[str]) -> bool:
    """Whether a TSV was saved by a spreadsheet, so that its quotes enclose cells and are not characters of the text.

    That is so if every cell with quotes is enclosed in them, and some are doubled. Adds a note, also if none is doubled,
    because then the outer quotes may belong to the text.
    """
    cells = [cell for row in text.split("\n") for cell in row.rstrip("\r").split("\t") if '"' in cell]
    if not cells or not all(_IN_QUOTES.fullmatch(cell) for cell in cells):
        return False
    if any('""' in cell[1:-1] for cell in cells):
        notes.append(f"{path}: cells are in quotes, as spreadsheets save them; the quotes are not part of the text")
        return True
    notes.append(
        f"{path}: {len(cells)} cells are in quotes, which are read as part of the text; save the table as CSV if they "
        "are not"
    )
    return False


def _object(row: str, source: str) -> dict[str, Any]:
    try:
        found = files.parse_json(row)
    except ValueError as error:
        raise Error(f"{source}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Error(f"{source}: a row is a JSON object, this is a {type(found).__name__}")
    return found


def _cell(row: dict[str, Any], names: tuple[str, ...], source: str) -> str:
    for name in names:
        if name in row:
            if not isinstance(row[name], str):
                raise Error(f"{source}: {name} is {row[name]!r}, not a text")
            return str(row[name])
    raise Error(f"{source}: has no column {names[0]} (or {', '.join(names[1:])}); it has {', '.join(map(str, row))}")


# --- Write ---


def write(dataset: Dataset, out: Path) -> None:
    """Write a dataset as metadata.jsonl with its images, as Hugging Face's datasets reads it."""
    names = writing.file_names(dataset)
    rows = [(part, line) for part in PARTS for line in dataset.part(part)]
    # An id may come from a file name that is not UTF-8; JSON has escapes for it.
    with open(out / "metadata.jsonl", "w", encoding="utf-8", errors="backslashreplace") as file:
        for part, line in rows:
            name = f"images/{names[line.id]}.png"
            row = {"file_name": name, "text": line.text, "split": part, "writer": line.writer, "id": line.id}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    writing.save_images((line, out / f"images/{names[line.id]}.png") for _, line in rows)
