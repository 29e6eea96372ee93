"""Plain text, TSV and JSON lines: a row for each line."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hwr.pages.outputs.images import shown
from hwr.pages.page_reading import PageLine, PageReading
from hwr.system.terminal import cell, visible

# The header of TSV.
HEADER = "image\tline\ttext\tconfidence\n"


def txt(pages: Sequence[PageReading]) -> bytes:
    """The text of each line. A line that could not be read has no row."""
    return _rows(pages, lambda page, line: line.text)


def tsv(pages: Sequence[PageReading]) -> bytes:
    """File, line, text and confidence, with a header."""
    return HEADER.encode() + tsv_rows(pages)


def tsv_rows(pages: Sequence[PageReading]) -> bytes:
    """`tsv` without the header."""
    return _rows(pages, _cells)


def lines_of_json(pages: Sequence[PageReading], characters: bool = False) -> bytes:
    """A JSON object for each line: image, line, text, confidence.

    Args:
        characters: Whether to add each character, its left and right edge in pixels, and its probability.
    """
    return _rows(pages, lambda page, line: _object(page, line, characters))


def join(paths: Iterable[Path], out: Path) -> None:
    """Join texts or JSON lines."""
    _join(paths, out, b"")


def join_tsv(paths: Iterable[Path], out: Path) -> None:
    """Join tables under one header."""
    _join(paths, out, HEADER.encode())


def _join(paths: Iterable[Path], out: Path, head: bytes) -> None:
    with open(out, "wb") as joined:
        joined.write(head)
        for path in paths:
            with open(path, "rb") as file:
                file.seek(len(head))
                shutil.copyfileobj(file, joined)


def _rows(pages: Sequence[PageReading], row: Any) -> bytes:
    rows = [row(page, line) + "\n" for page in pages for line in page.lines if not line.error]
    return "".join(rows).encode("utf-8", "replace")


def _cells(page: PageReading, line: PageLine) -> str:
    cells = (shown(page.source), line.id, line.text, f"{line.confidence:.4f}")
    return "\t".join(map(cell, cells))


def _object(page: PageReading, line: PageLine, characters: bool) -> str:
    found: dict[str, Any] = {"image": shown(page.source), "text": line.text, "confidence": line.confidence}
    if line.id:
        found["line"] = line.id
    if characters:
        found["characters"] = [list(character) for character in line.characters]
    return visible(json.dumps(found, ensure_ascii=False))
