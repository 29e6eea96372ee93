"""New files of a project: free names for them, and the pages of a PDF or TIFF, which are added as a whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.images import documents
from hwr.serve.project import pdfs
from hwr.serve.project.folder import Project
from hwr.system import files
from hwr.system.atomic import new_folder, replacing

# Where pages of a PDF or TIFF lie in the project's hidden folder, until all are ready to be added.
ADDING = "adding"


@dataclass(frozen=True)
class Stored:
    """What became of a file: its name in the project, or why it was refused."""

    name: str
    stored: str = ""
    error: str = ""


def add_pages(project: Project, whole: Path, pictures: Sequence[Path], keep: Path | None = None) -> list[Path]:
    """Add the pages of a file: all, or none on an error. After a kill, the next server adds the rest.

    Args:
        whole: The file's place in the project.
        keep: The file, if it is to be kept there.
    """
    staged = project.hidden / ADDING / whole.relative_to(project.root)
    with new_folder(staged) as folder:
        for number, picture in enumerate(pictures, 1):
            shutil.copyfile(picture, folder / f"{whole.stem}-{number:03}{picture.suffix}")
        if keep:
            shutil.copyfile(keep, folder / whole.name)
    out: list[Path] = []
    try:
        for path in _moved(project, staged):
            out.append(path)
    except BaseException:
        for path in out:
            path.unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return [path for path in out if path.suffix.lower() != documents.PDF]


def _moved(project: Project, staged: Path) -> Iterator[Path]:
    """Move the files that are ready in a folder below `ADDING` into the project, one after the other."""
    folder = project.root / staged.relative_to(project.hidden / ADDING).parent
    for file in sorted(staged.iterdir()):
        path = free(folder, file.name)
        _move(file, path)
        yield path
    staged.rmdir()


def _move(file: Path, path: Path) -> None:
    try:
        with open(file, "rb+") as ready:
            os.fsync(ready.fileno())
        os.rename(file, path)  # at once: after a kill it is at one of the two places
    except OSError:  # the folder may be a link to another disk
        with replacing(path) as temporary:
            shutil.copyfile(file, temporary)
        file.unlink()


def add_pdfs(project: Project) -> list[Stored]:
    """Add the pages of the PDFs in the folder, and in those below, that have not been added yet."""
    stored = _add_rest(project)
    for pdf in (Path(name) for name in files.below(project.root, {})):
        if pdf.suffix.lower() != documents.PDF:
            continue
        # letters-001.jpg; or letters-001-2.jpg where another page had that name, see `free`.
        if any(re.fullmatch(rf"{re.escape(pdf.stem)}-\d{{3}}(-\d+)?\.jpg", name) for name in os.listdir(pdf.parent)):
            continue
        name = pdf.relative_to(project.root).as_posix()
        try:
            with tempfile.TemporaryDirectory() as folder:
                pictures = pdfs.render(pdf, Path(folder))
                stored += [Stored(name, path.name) for path in add_pages(project, pdf, pictures)]
        except Error as error:
            stored.append(Stored(name, error=str(error)))
    project.scan()
    return stored


def _add_rest(project: Project) -> list[Stored]:
    """Add the pages that were ready when a server was killed."""
    stored: list[Stored] = []
    ready = project.hidden / ADDING
    for staged in sorted({Path(path).parent for path in files.below(ready)}):
        name = staged.relative_to(ready).as_posix()
        try:
            stored.extend(Stored(name, path.name) for path in _moved(project, staged))
        except Error as error:  # the next server tries again
            stored.append(Stored(name, error=str(error)))
    if not any(one.error for one in stored):
        shutil.rmtree(ready, ignore_errors=True)  # also what was not ready yet
    return stored


def free(folder: Path, name: str) -> Path:
    """A path in a folder of the project for a new file: neither it nor a PAGE file that would be its own exists."""
    stem, suffix = os.path.splitext(name)
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        xmls = (
            place / f"{own}{end}"
            for place in (folder, folder / "page")
            for own in (path.stem, path.name)
            for end in (".xml", ".XML")
        )
        if not any(os.path.lexists(p) for p in (path, *xmls)):
            return path
        number += 1
