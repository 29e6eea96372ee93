"""Tables of lines: TSV, CSV or JSON lines with image and text, as of Hugging Face's image folders -> Dataset."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset, Line, splits

# The names of the columns; the first that is there counts.
IMAGE = ("image", "file_name", "path", "image_path", "filename")
TEXT = ("text", "transcription", "transcript", "label", "ground_truth")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".ndjson")
MANIFESTS = ("metadata.jsonl", "manifest.jsonl", "manifest.tsv", "manifest.csv", "metadata.csv", "metadata.tsv")


def read(data: Data) -> Dataset:
    """Read the table that `data.root` is, or the first of `MANIFESTS` in it or in its sub-folders `train`, `test`, ….

    Columns: image (relative to the table) and text; optional id, split, writer.

    Raises:
        Error: No table, a missing column or image, a bad row; names file and line.
    """
    lines, column, empty = list[Line](), list[str](), list[str]()
    seen: dict[str, str] = {}
    found = tables(data.folder)
    if not found:
        raise Error(f"data.root: {data.folder} is no table and has none: {', '.join(MANIFESTS)}")
    for path, part in found:
        for row, source in _rows(path):
            name, text = _cell(row, IMAGE, source), _cell(row, TEXT, source)
            if not name.strip():
                raise Error(f"{source}: has no image")
            image = path.parent / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise Error(f"{source}: the image {name!r} leads out of {path.parent}")
            own, writer = row.get("id"), row.get("writer")
            id = (f"{part}/" if part else "") + (
                Path(name).with_suffix("").as_posix() if own in (None, "") else str(own)
            )
            if id in seen:
                raise Error(f"{source}: {id} stands at {seen[id]} already")
            seen[id] = source
            if not image.is_file():
                raise Error(f"{source}: there is no image {image}")
            if not text.strip():
                empty.append(id)
                continue
            lines.append(Line(id, image, text.strip(), "" if writer is None else str(writer), source))
            column.append(str(row.get("split") or part))
    if not lines:
        raise Error(f"{data.folder}: no line with a text in its tables")
    notes = [f"{len(empty)} lines have no text and are left out: {', '.join(empty[:5])}"] if empty else []
    return splits.split(data, lines, [line.id.rpartition("/")[0] for line in lines], empty, notes, column)


def tables(root: Path) -> list[tuple[Path, str]]:
    """The tables, and the part that each one's folder is named for; none if there are none."""
    if root.is_file():
        return [(root, "")]
    for name in MANIFESTS:
        if (root / name).is_file():
            return [(root / name, "")]
    parts = sorted(p for p in root.iterdir() if p.name.lower() in splits.NAMES) if root.is_dir() else []
    return [(p / name, p.name) for p in parts for name in MANIFESTS if (p / name).is_file()]


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a table, each with its place."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Error(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            for number, row in enumerate(text.split("\n"), 1):
                if row.strip():
                    yield _object(row, f"{path}:{number}"), f"{path}:{number}"
        case ".tsv" | ".csv":
            tabs = path.suffix.lower() == ".tsv"
            # In TSV a quote is a character like any other, as in `cut`; in CSV it quotes.
            kind: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
            reader = csv.DictReader(io.StringIO(text, newline=""), **kind)
            try:
                for cells in reader:
                    source = f"{path}:{reader.line_num}"
                    if None in cells or None in cells.values():
                        raise Error(f"{source}: has not as many cells as the first row has names")
                    yield cells, source
            except csv.Error as error:
                raise Error(f"{path}:{reader.line_num}: {error}") from error
        case suffix:
            raise Error(f"{path}: {suffix or 'a file without ending'} is no table; .tsv, .csv and .jsonl are")


def _object(row: str, source: str) -> dict[str, Any]:
    try:
        found = json.loads(row)
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
