"""The pages of a project -> files: texts, PAGE, ALTO, hOCR, searchable PDF, training data."""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hwr import Error
from hwr.data import Dataset, Line
from hwr.data.formats import FORMATS as DATASETS
from hwr.data.formats import writing
from hwr.pages.outputs import FORMATS
from hwr.pages.page_reading import PageLine, PageReading
from hwr.recognizer import Character
from hwr.serve.project import outlines
from hwr.serve.project.database import Characters, Store
from hwr.serve.project.folder import Project
from hwr.serve.project.page_state import PageState
from hwr.system.files import natural

# The table of lines with their texts, for training elsewhere.
TABLE = "table"
KINDS = (*FORMATS, TABLE)


def suffix(kind: str) -> str:
    """Of the exported file."""
    return ".zip" if kind == TABLE or FORMATS[kind].join is None else FORMATS[kind].suffix


def write(project: Project, store: Store, ids: Sequence[str] | None, kind: str, out: Path) -> list[str]:
    """Write pages into a file, in the order of their names and numbers: one of all pages, or an archive with a file for each.

    Args:
        ids: The pages; None: all that have lines.
        kind: One of `KINDS`.

    Returns:
        The names of the broken pages, which are missing from the file; a page of `ids` may not be broken.

    Raises:
        Missing: There is no such page.
        Error: There is nothing to write, a page of `ids` is broken, or the format can't hold it.
    """
    pages = [project.page(id) for id in ids] if ids is not None else project.pages()
    pages.sort(key=lambda page: natural(page.name))
    broken = [page for page in pages if page.error]
    if broken and ids is not None:
        raise Error(broken[0].error)
    pages = [page for page in pages if page.lines or ids is not None]
    if not any(page.lines for page in pages):
        raise Error("there is nothing to export: no page has lines")
    _write(pages, store, kind, out)
    return [page.name for page in broken]


def _write(pages: Sequence[PageState], store: Store, kind: str, out: Path) -> None:
    if kind == TABLE:
        _write_table(pages, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, page in enumerate(pages):
            path = Path(folder) / f"{number:06}{FORMATS[kind].suffix}"
            path.write_bytes(_one(page, store, kind))
            paths.append(path)
        join = FORMATS[kind].join
        if join is not None:
            join(paths, out)
            return
        names = writing.Names()  # a.jpg and a.png may be in one folder
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for page, path in zip(pages, paths, strict=True):
                stem = names.free(Path(page.name).with_suffix("").as_posix())
                archive.write(path, f"{stem}{FORMATS[kind].suffix}")


def _one(page: PageState, store: Store, kind: str) -> bytes:
    if kind == "page" and page.xml.is_file():
        return page.xml.read_bytes()  # as it is, with all that others wrote into it
    return FORMATS[kind].write([reading_of(page, store.characters(page.id))])


def reading_of(page: PageState, characters: dict[str, tuple[str, Characters]]) -> PageReading:
    """A page as the output formats take it. Texts that are no predictions have confidence 1."""
    lines = []
    for line in page.lines:
        text, found = characters.get(line.id, ("", []))
        left = max(0, outlines.box(line.polygon)[0]) if line.polygon else 0
        own = tuple(Character(c, a + left, b + left, sure) for c, a, b, sure in found) if text == line.text else ()
        sure = 1.0 if line.confidence is None else line.confidence
        lines.append(PageLine(line.text, sure, own, line.id, line.polygon, line.baseline))
    # Tables and hOCR name it as the project does: the file may be opened on another computer.
    return PageReading(page.image, tuple(lines), (page.width, page.height), True, Path(page.name))


def _write_table(pages: Sequence[PageState], out: Path) -> None:
    """The checked lines as images with a metadata.jsonl."""
    lines = [
        Line(f"{page.name}/{line.id}", page.image, line.text, "", page.name, line.polygon, line.baseline, upright=True)
        for page in pages
        for line in page.lines
        if line.state == "checked" and line.text and line.polygon
    ]
    if not lines:
        raise Error("there is nothing to export: no line is checked")
    with tempfile.TemporaryDirectory() as folder:
        DATASETS["table"].write(Dataset("corrected", lines, [], [], [], []), Path(folder))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                archive.write(path, path.relative_to(folder).as_posix())
