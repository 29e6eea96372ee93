"""How a spreadsheet has saved a table: what separates its cells, and whether quotation marks enclose them."""

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwr.system.terminal import counted

# What may separate cells; a program of a country with decimal commas writes semicolons.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

# A cell without quotes, or one that is enclosed in them, with doubled quotes inside.
_CELL = re.compile('"(?:[^"]|"")*"|[^"\t\n]*')


@dataclass(frozen=True)
class Layout:
    """How to read a table.

    Attributes:
        header: The names of its columns, as the file has them.
        columns: The same, trimmed and in lower case.
        body: The text below the header.
        first: The number of lines above the body.
        dialect: Arguments of `csv.reader`.
        notes: What a user should know of it.
    """

    header: list[str]
    columns: list[str]
    body: str
    first: int
    dialect: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def layout(text: str, usual: str, needed: Sequence[Collection[str]]) -> Layout:
    """Find out how a table was saved.

    Args:
        text: The file, with line feeds.
        usual: What separates the cells of a file of this name.
        needed: For each of the columns that it must have, the possible names.
    """
    notes, first = list[str](), 0
    stated = re.match("sep=(.)\n", text, re.IGNORECASE)  # for Excel
    if stated:
        text, first = text[stated.end() :], 1
    head, _, body = text.partition("\n")

    def columns(separator: str) -> tuple[list[str], list[str]]:
        own = [separator] if separator in SEPARATORS else [usual]
        quoted = separator != "\t" or _all_enclosed(head)
        try:
            header = next(csv.reader([head], **_dialect(own[0], quoted)), [])
        except csv.Error:
            header = head.split(own[0])
        return header, [name.strip().lower() for name in header]

    options = [stated[1]] if stated else [usual, *(other for other in SEPARATORS if other != usual)]
    fitting = [one for one in options if all(set(names) & set(columns(one)[1]) for names in needed)]
    separator = (fitting or options)[0]
    if separator != usual and separator in SEPARATORS:
        notes.append(f"cells are separated by {SEPARATORS[separator]}")
    quoted = separator != "\t" or _is_quoted(head, body, notes)
    header, names = columns(separator)
    return Layout(header, names, body, first + 1, _dialect(separator, quoted), notes)


def _dialect(separator: str, quoted: bool) -> dict[str, Any]:
    return {"delimiter": separator, **({"strict": True} if quoted else {"quoting": csv.QUOTE_NONE})}


def _all_enclosed(head: str) -> bool:
    return all(re.fullmatch('"[^"]*"', name) for name in head.split("\t"))


def _is_quoted(head: str, body: str, notes: list[str]) -> bool:
    """Whether quotes enclose the cells of a TSV, and are not characters of the text.

    Many programs write a TSV without any quoting, so a quote may be part of the text. A spreadsheet encloses cells with
    quotes, which it doubles, and with tabs and line breaks; some enclose those with commas, and some all. Adds a note,
    also if cells are enclosed that would not need it, because then the outer quotes may belong to the text.
    """
    if '"' not in body and '"' not in head:
        return False
    enclosed = [cell for cell in _tokens(body) or () if cell.startswith('"')]
    if not enclosed and not _all_enclosed(head):
        return False
    plain = [cell for cell in _tokens(body) or () if not cell.startswith('"')]
    inner = [cell[1:-1] for cell in enclosed]
    with_commas = all("," in cell or '""' in cell for cell in inner) and not any("," in cell for cell in plain)
    if _all_enclosed(head) or with_commas or any(re.search('""|[\t\n]', cell) for cell in inner):
        notes.append("cells are in quotes, as spreadsheets save them; the quotes are not part of the text")
        return True
    notes.append(
        f"{counted(len(enclosed), 'cell is', 'cells are')} in quotes, which are read as part of the text; save the table as CSV if they are not"
    )
    return False


def _tokens(body: str) -> list[str] | None:
    """The cells of a TSV whose quotes enclose cells; None if there are quotes in other places, or rows of unequal length."""
    cells, at, widths = list[str](), 0, [0]
    while at < len(body):
        found = _CELL.match(body, at)
        end = found.end() if found else at
        if found is None or (end < len(body) and body[end] not in "\t\n"):
            return None
        cells.append(found[0])
        widths[-1] += 1
        if body[end : end + 1] == "\n":
            widths.append(0)
        at = end + 1
    return cells if len({width for width in widths if width > 1}) <= 1 else None
