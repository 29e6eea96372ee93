"""Tables of lines: TSV, CSV or JSON lines with image and text, as in Hugging Face's image folders."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import PARTS, Dataset, Fault, Line, splits
from hwr.data.formats import spreadsheets, writing
from hwr.data.formats.contents import Contents
from hwr.data.text import blank
from hwr.system import files
from hwr.system.files import is_regular
from hwr.system.terminal import counted

LAYOUT = "a .tsv, .csv or .jsonl file with the columns image and text, or a folder with a metadata.jsonl, a manifest.tsv or a single such file"
TAG = ""
UNITS: tuple[str, ...] = ("line",)
USES: tuple[str, ...] = ()
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
        notes.append(
            f"{counted(len(empty), 'line has no text and is', 'lines have no text and are')} skipped: {', '.join(empty[:5])}"
        )
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
    if Path(name).is_absolute() or ".." in Path(name).parts or PureWindowsPath(name).drive:
        raise Error(
            f"{source}: the image {name!r}: its path must lead from {folder} to a file in it or below it, without .."
        )
    image = files.named(folder, name)
    if not is_regular(image) and "\\" in name:  # from a table made on Windows
        inside = PureWindowsPath(name)
        image = image if inside.anchor or ".." in inside.parts else files.named(folder, inside.as_posix())
    if not is_regular(image):
        raise Error(f"{source}: no such image: {folder / name}")
    return Line(id, image, text.strip(), "" if writer is None else str(writer), source)


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
    firsts = ((p, next((name for name in MANIFESTS if (p / name).is_file()), None)) for p in parts)
    if found := [(p / name, p.name) for p, name in firsts if name]:
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
        case ".csv" | ".tsv":
            yield from _cells(path, text, notes)
        case suffix:
            raise Error(f"{path}: {suffix or 'a file without extension'} is not a table; use .tsv, .csv or .jsonl")


def _row(row: str, source: str) -> dict[str, Any] | Error:
    try:
        return _object(row, source)
    except Error as error:
        return error


def _cells(path: Path, text: str, notes: list[str]) -> Iterator[tuple[dict[str, Any] | Error, str]]:
    found = spreadsheets.layout(text, "," if path.suffix.lower() == ".csv" else "\t", (IMAGE, TEXT))
    notes += [f"{path}: {note}" for note in found.notes]
    for names in (IMAGE, TEXT):
        same = [name for name in found.columns if name in names]
        if not same:
            stated = ", ".join(found.header)
            raise Error(f"{path}:1: has no column {names[0]} (or {', '.join(names[1:])}); it has {stated}")
        if len(set(same)) < len(same):
            raise Error(f"{path}:1: has several columns {same[0]}")
    reader = csv.reader(io.StringIO(found.body, newline=""), **found.dialect)
    first, number = found.first, 0
    try:
        for cells in reader:
            number, source = reader.line_num, f"{path}:{first + reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(found.columns):
                yield Error(f"{source}: the row and the header have different numbers of cells"), source
            else:
                yield dict(zip(found.columns, cells, strict=True)), source
    except csv.Error as error:
        source = f"{path}:{first + number + 1}"
        yield Error(f"{source}: {error}; what follows is not read"), source


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
    images = {id: f"images/{name}.png" for id, name in writing.file_names(dataset).items()}
    rows = [
        {"file_name": images[line.id], "text": line.text, "split": part, "writer": line.writer, "id": line.id}
        for part in PARTS
        for line in dataset.part(part)
    ]
    write_rows(out, rows)
    writing.save_images((line, out / images[line.id]) for line in dataset.lines)


def write_rows(out: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write metadata.jsonl; the key `file_name` of a row leads from there to its image."""
    # An id may come from a file name that is not UTF-8; JSON has escapes for it.
    with open(out / "metadata.jsonl", "w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
