"""The formats of predictions. A format is a module here with a function that writes pages, and a row of the table.

Each `write(pages)` returns the bytes of a file, of one page or several.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hwr.pages.outputs import hocr, html, marked, pdf, text


@dataclass(frozen=True)
class Format:
    """A format of predictions.

    Attributes:
        suffix: Of its files.
        write: Makes the bytes of a file from `PageReading`s. If `holds_characters`, it also takes `characters: bool`.
        join: Joins files of single pages into one: (paths, out); None if a file holds one page only.
        rows: For standard output, a row per line: as `write`, without a header; None if it is a format of whole files.
        header: What precedes the rows.
        holds_characters: Whether it can hold the position of each character.
        places_words: Whether it says where words are, so that the characters must be located.
        names_image: Whether it refers to the page's image by its file name.
        needs: A package of the extra `pages` that it is written with.
        suffixes: Other suffixes that files of this format have.
    """

    suffix: str
    write: Callable[..., bytes]
    join: Callable[[Iterable[Path], Path], None] | None
    rows: Callable[..., bytes] | None = None
    header: bytes = b""
    holds_characters: bool = False
    places_words: bool = False
    names_image: bool = False
    needs: str = ""
    suffixes: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "txt": Format(".txt", text.txt, text.join, rows=text.txt),
    "tsv": Format(".tsv", text.tsv, text.join_tsv, rows=text.tsv_rows, header=text.HEADER.encode()),
    "json": Format(
        ".jsonl", text.lines_of_json, text.join, rows=text.lines_of_json, holds_characters=True, suffixes=(".json",)
    ),
    "page": Format(".xml", marked.page, None, names_image=True),
    "alto": Format(".xml", marked.alto, None, holds_characters=True, places_words=True, names_image=True),
    "hocr": Format(".hocr", hocr.write, hocr.join, holds_characters=True, places_words=True),
    "pdf": Format(".pdf", pdf.write, pdf.join, places_words=True, needs="pikepdf"),
    "html": Format(".html", html.write, html.join, suffixes=(".htm",)),
}


def of_suffix(path: Path) -> list[str]:
    """The names of the formats whose files have the suffix of a path."""
    suffix = path.suffix.lower()
    return [name for name, format in FORMATS.items() if suffix in (format.suffix, *format.suffixes)]
