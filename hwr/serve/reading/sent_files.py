"""Files of clients -> predictions, in JSON or any output format, without the project."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hwr import Error
from hwr.images import load
from hwr.pages import segment
from hwr.pages.outputs import FORMATS
from hwr.pages.page_reading import PageReading
from hwr.pages.predict import predict, reading_of
from hwr.pages.sources import image_of, jobs
from hwr.recognizer import Recognizer
from hwr.serve.project import pdfs, tiffs
from hwr.serve.project.coordinates import image_size
from hwr.serve.project.uploads import Upload, copied, safe_name

Lines = Literal["auto", "page", "line"]

# What the API calls its own format: one object, with what could not be read.
JSON = "json"
KINDS = (JSON, *(name for name in FORMATS if name != "json"))

_TYPES = {
    ".txt": "text/plain; charset=utf-8",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".xml": "application/xml",
    ".hocr": "application/xhtml+xml",
    ".pdf": "application/pdf",
    ".html": "text/html; charset=utf-8",
}


def media_type(kind: str) -> str:
    """The media type of a format's files."""
    return "application/json" if kind == JSON else _TYPES[FORMATS[kind].suffix]


@contextmanager
def stored(uploads: Sequence[Upload], folder: Path) -> Iterator[list[str]]:
    """Files of a client in a temporary folder, under safe names: those to read. PDFs become images, and so do the pages of a TIFF.

    An image that a PAGE or ALTO file describes is read with it.

    Raises:
        Error: A file is of another kind, or can't be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Two folders deep: the image of a PAGE file may lie in the folder above it, which must hold nothing else.
    with tempfile.TemporaryDirectory(dir=folder) as outer:
        inner = Path(outer) / "files"
        inner.mkdir()
        yield place(uploads, inner)


def place(uploads: Sequence[Upload], inner: Path) -> list[str]:
    """Put files into an empty folder, and return the paths of those to read.

    Raises:
        Error: As `stored`.
    """
    found: list[Path] = []
    for upload in uploads:
        path = inner / safe_name(upload.name)
        if path.exists():
            raise Error(f"{upload.name}: two files have this name")
        copied(upload.file, path)
        if path.suffix == ".pdf" or tiffs.is_bundle(path):
            (pages := inner / f"{path.stem} pages").mkdir()
            for picture in pdfs.render(path, pages) if path.suffix == ".pdf" else tiffs.split(path, pages):
                own = inner / f"{path.stem}-{picture.name}"
                if own.exists():
                    raise Error(f"{upload.name}: another file has the name of its page {own.name}")
                found.append(picture.rename(own))
            pages.rmdir()
        elif path.suffix in load.SUFFIXES:
            image_size(path)
            found.append(path)
        elif path.suffix == ".xml":
            found.append(path)
        else:
            raise Error(f"{upload.name}: not an image, PDF, PAGE or ALTO file")
    marked = {image_of(path) for path in found if path.suffix == ".xml"}
    return [str(path) for path in found if path not in marked]


def read(
    recognizer: Recognizer,
    files: Sequence[str],
    lines: Lines,
    pool: Executor,
    characters: bool,
    tell: Callable[[int], None] = lambda done: None,
) -> list[PageReading]:
    """Read files.

    Args:
        lines: Whether an image is a page, whose lines are found first, or a line; or to decide for each.
        tell: Called with the number of files read so far.

    Raises:
        Error: A file can't be read. A line that can't be read has an error instead.
    """
    kind = None if lines == "auto" else lines
    out = []
    for job, predictions in predict(
        recognizer, jobs(files, segment.chosen(kind, recognizer=recognizer)), pool, characters
    ):
        if job.error:
            raise Error(_plain(job.error, job.source))
        page = reading_of(job, predictions)
        own = tuple(replace(line, error=_plain(line.error, page.image)) for line in page.lines)
        out.append(replace(page, lines=own))
        tell(len(out))
    return out


def write(pages: Sequence[PageReading], kind: str, characters: bool) -> bytes:
    """Pages in a format: JSON values, or the bytes of its file.

    Raises:
        Error: The format can't hold them.
    """
    if kind == JSON:
        return json.dumps({"pages": [as_json(page, characters) for page in pages]}, ensure_ascii=False).encode()
    format = FORMATS[kind]
    more = {"characters": True} if characters and format.holds_characters else {}
    if not format.names_image:
        # They are to name the image as the client does, not by its place on the server.
        pages = [replace(page, source=Path(page.image.name), kind="") for page in pages]
    return format.write(pages, **more)


def located(kind: str, characters: bool) -> bool:
    """Whether a format needs the position of each character."""
    return characters or (kind != JSON and FORMATS[kind].places_words)


def as_json(page: PageReading, characters: bool) -> dict[str, Any]:
    """A page that was read, as JSON values."""
    width, height = page.size if all(page.size) else load.size(page.image, page.upright)
    return {
        "name": page.source.name,
        "width": width,
        "height": height,
        "text": page.text,
        "lines": [
            {
                "id": line.id,
                "text": line.text,
                "confidence": line.confidence,
                "polygon": line.region,
                "baseline": line.baseline,
                **({"error": line.error} if line.error else {}),
                **({"characters": line.characters} if characters else {}),
            }
            for line in page.lines
        ],
    }


def _plain(message: str, path: Path) -> str:
    """A message without the folder of the server's temporary files."""
    return message.replace(f"{path.parent}/", "").replace(f"{path.parent.parent}", "")
