"""Page transcripts without line breaks -> the text of each line of the pages."""

import json
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwr import Error
from hwr.data.formats import table, writing
from hwr.decoding import greedy, transcript
from hwr.decoding.transcript import AlignedLine, Alignment
from hwr.images import documents, load
from hwr.pages import write
from hwr.pages.journal import ALIGNED, Journals, stamp
from hwr.pages.outputs import Format
from hwr.pages.page_reading import PageReading
from hwr.pages.predict import Prediction, on_page, prepare_page, reading_of
from hwr.pages.resumable_file import alone
from hwr.pages.sources import Job
from hwr.pages.write import Places
from hwr.recognizer import Output, Prepared, Recognizer
from hwr.system import files
from hwr.system.atomic import make_folder, new_folder
from hwr.system.files import real
from hwr.system.terminal import CONTROL

SUFFIX = ".txt"

# Characters of the longest transcript; a newspaper page has 30,000. Memory and time grow with their square if the lines are short:
# of 100,000 in 10,000 lines they were 14 GB and five minutes.
MOST_TEXT = 50_000

NOTHING = Alignment((), (), 0)


@dataclass(frozen=True)
class AlignedPage:
    """A page whose lines have the text of its transcript.

    Attributes:
        source: The file of the page, an image or XML.
        transcript: The file of its text.
        page: The lines; the confidence of a line is its score.
        alignment: The parts of the transcript, for the lines in the same order.
        errors: Why the page, its transcript or some of its lines could not be read.
        stamp: Of the page's files and its text, before they were read: see `journal.stamp`.
    """

    source: Path
    transcript: Path | None
    page: PageReading
    alignment: Alignment = NOTHING
    errors: tuple[str, ...] = ()
    stamp: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The page as JSON values; docs/formats.md explains the keys."""
        return {
            "page": str(self.source),
            "transcript": str(self.transcript) if self.transcript else None,
            "errors": list(self.errors),
            "characters": self.alignment.characters,
            "skipped": list(self.alignment.skipped),
            "lines": [
                {"id": line.id, **_line(aligned)}
                for line, aligned in zip(self.page.lines, self.alignment.lines, strict=True)
            ],
        }


def _line(aligned: AlignedLine) -> dict[str, Any]:
    span = aligned.span
    return {
        "text": aligned.text,
        "score": aligned.score,
        "fit": span.fit if span else 0.0,
        "sure": span.sure if span else 0.0,
        "doubtful": aligned.doubtful,
        "moved": aligned.moved,
    }


def transcripts(texts: Path, pages: Sequence[str]) -> tuple[list[Path | None], list[str]]:
    """Find the text file of each page, or the only text for the only page.

    It is PAGE.txt for PAGE.jpg and PAGE.xml, and BOOK-0003.txt for the third page of BOOK.pdf.

    Args:
        texts: A folder, which is searched with its subfolders, or a file.

    Returns:
        For each page its file, or None; and the texts without a page.

    Raises:
        Error: Nothing is there; two files or two pages have the same name; there is one file for several pages.
    """
    if not texts.is_dir():
        files.check(texts)
        if len(pages) != 1:
            raise Error(
                f"{texts} is one text, and there are {len(pages)} pages; name a folder with one {SUFFIX} file for each"
            )
        return [texts], []
    found: dict[str, Path] = {}
    for path in map(Path, files.below(texts)):
        stem = files.nfc(path.stem)
        if path.suffix.lower() == SUFFIX and found.setdefault(stem, path) != path:
            raise Error(f"{path} and {found[stem]} have the same name, so it is unclear which page they belong to")
    if not found:
        raise Error(f"{texts}: no {SUFFIX} files in this folder")
    first: dict[str, str] = {}
    names = [files.nfc(documents.display_name(Path(page))) for page in pages]
    for name, page in zip(names, pages, strict=True):
        if first.setdefault(name, page) != page and name in found:
            raise Error(f"{first[name]} and {page} have the same name, so it is unclear to which {found[name]} belongs")
    return [found.get(name) for name in names], [str(found[name]) for name in sorted(set(found) - set(first))]


def align(recognizer: Recognizer, jobs: Iterable[Job], texts: Sequence[Path | None]) -> Iterator[AlignedPage]:
    """Give the lines of pages the text of their transcripts, page by page.

    A page or transcript that can't be read, or a page without lines, has errors instead; so have lines.

    Args:
        texts: The text file of each job.
    """
    for job, path in zip(jobs, texts, strict=True):
        try:
            if job.error:
                raise Error(job.error)
            if path is None:
                raise Error(f"{job.source}: has no transcript {documents.display_name(job.source)}{SUFFIX}")
            if not job.targets:
                raise Error(f"{job.source}: no lines found")
            before = (*job.stamp, *stamp(path))
            text = _normalised(files.read_text(path), recognizer.config.data.normalise)
            if not text.strip():
                raise Error(f"{path}: has no text")
            bad = next((i for i, c in enumerate(text) if CONTROL.match(c) and not c.isspace()), None)
            if bad is not None:
                number, code = text.count("\n", 0, bad) + 1, ord(text[bad])
                raise Error(f"{path}:{number}: contains the control character U+{code:04X}, which no text may contain")
            if len(text) > MOST_TEXT:
                raise Error(f"{path}: has {len(text):,} characters, too many for a page; give each page its own text")
            yield replace(_aligned(recognizer, job, path, text), stamp=before)
        except Error as error:
            yield AlignedPage(job.source, path, reading_of(job, []), errors=(str(error),))


def _normalised(text: str, form: Literal["NFC", "NFKC", "NFD", "none"]) -> str:
    return text if form == "none" else unicodedata.normalize(form, text)


def _aligned(recognizer: Recognizer, job: Job, path: Path, text: str) -> AlignedPage:
    prepared = prepare_page(job.targets, recognizer.geometry)
    outputs = iter(recognizer.outputs([line for line in prepared if isinstance(line, Prepared)]))
    nothing = Output(np.zeros((0, recognizer.alphabet.classes), np.float32), 1.0)
    lines = [next(outputs) if isinstance(line, Prepared) else nothing for line in prepared]
    readings = [greedy.greedy(line.logits[None], recognizer.alphabet)[0][0] for line in lines]
    edges = recognizer.geometry.edge_spaces
    alignment = transcript.align([line.logits for line in lines], readings, text, recognizer.alphabet, edges)
    predictions = [
        Prediction(target, None, 0.0, str(image))
        if isinstance(image, Error)
        else _prediction(recognizer, Prediction(target, own.text, own.score), image, output)
        for target, image, own, output in zip(job.targets, prepared, alignment.lines, lines, strict=True)
    ]
    errors = tuple(str(image) for image in prepared if isinstance(image, Error))
    return AlignedPage(job.source, path, reading_of(job, predictions), alignment, errors)


def _prediction(recognizer: Recognizer, line: Prediction, image: Prepared, output: Output) -> Prediction:
    """The line with its characters located. A character that the network can't write is located as another one."""
    if not line.text:
        return line
    known = set(recognizer.alphabet.characters)
    written = "".join(c if c in known else recognizer.alphabet.characters[0] for c in line.text)
    try:
        found = recognizer.locate(output.logits, written, image, output.per_step)
    except Error:  # too long for the line, so it fits badly
        return line
    characters = zip(line.text, on_page(found, line.target, image), strict=True)
    return replace(line, characters=tuple(c._replace(text=own) for own, c in characters))


def kept(page: AlignedPage, least: float) -> PageReading:
    """The page without the texts of lines whose score is below the least."""
    lines = tuple(
        line if line.error or line.confidence >= least else replace(line, text="", characters=(), confidence=0.0)
        for line in page.page.lines
    )
    return replace(page.page, lines=lines)


# The pages that earlier runs have finished, as `AlignedPage.to_dict` gave them, by their files; and what writes another page.
Results = tuple[dict[str, dict[str, Any]], Callable[[AlignedPage], None]]


def into_folder(
    where: Places, format: Format, texts: Mapping[str, Path | None], model: str, min_score: float
) -> Results:
    """Write a file for each page, in place of an earlier result that nobody has changed.

    Args:
        texts: The files of the pages, with their transcripts.
        model: The fingerprint of what aligns, see `journal.fingerprint`.
        min_score: See `kept`.

    Raises:
        Error: Another file would be overwritten.
    """
    sources = {Path(file): text for file, text in texts.items()}
    journals = Journals(where.folder, model, name=ALIGNED, texts=sources)
    write.check(where, format, list(texts))
    write.check_existing(where, format, list(texts), journals, "hwr align")
    done = {source: entry for source in sources if (entry := journals.finished(source, where.of(source)))}

    def add(page: AlignedPage) -> None:
        path = where.of(page.source)
        make_folder(path.parent)
        journals.of(path).check(path)
        journals.of(path).begin(page.source, path)
        write.write(path, format, kept(page, min_score))
        image = page.page.image if page.page.kind else None
        read = (page.stamp, len(page.page.lines), 0.0, 0, list(page.errors))
        journals.of(path).add(page.source, path, *read, image, page.to_dict())

    # The folders may have been moved since.
    return {str(x): e.details | {"page": str(x), "transcript": str(sources[x])} for x, e in done.items()}, add


@contextmanager
def table_of_lines(out: Path, texts: Mapping[str, Path | None], model: str, min_score: float) -> Iterator[Results]:
    """Add the lines with text to a table: metadata.jsonl with line images, to train on. For the arguments, see `into_folder`.

    The folder appears when the table is complete; until then, a hidden one beside it holds the lines of each page.

    Raises:
        Error: The folder holds something, or can't be written; another process writes it.
    """
    part = real(out).with_name(f".{real(out).name}.part")
    where, names = Places(out, part / "pages", ".jsonl"), writing.Names()

    def rows() -> list[dict[str, Any]]:
        files = [path for path in map(where.of, map(Path, texts)) if path.is_file()]
        return [json.loads(row) for path in files for row in path.read_text(encoding="utf-8").splitlines()]

    with new_folder(out) as folder, alone(part.with_name(f"{part.name}.lock"), out):
        make_folder(part / "images")
        done, add = into_folder(where, Format(".jsonl", partial(_lines, part, names), None), texts, model, min_score)
        for file in texts.keys() - done:  # what is out of date is not to be joined
            where.of(Path(file)).unlink(missing_ok=True)
        for row in rows():
            names.free(Path(row["file_name"]).stem)
        yield done, add
        found = rows()
        (folder / "images").mkdir()
        table.write_rows(folder, found)
        shutil.rmtree(part / "pages")  # from now on, nothing counts as finished
        for row in found:
            (part / row["file_name"]).rename(folder / row["file_name"])
        shutil.rmtree(part)


def _lines(folder: Path, names: writing.Names, pages: Sequence[PageReading]) -> bytes:
    """Save the images of a page's lines with text in a folder, and return their rows."""
    (page,), rows = pages, list[dict[str, Any]]()
    lines = [line for line in page.lines if line.text]
    stem = documents.display_name(page.source)
    regions, baselines = [line.region for line in lines], [line.baseline for line in lines]
    cuts = load.read_lines(page.image, regions, page.upright, baselines)
    for line, pixels in zip(lines, cuts, strict=True):
        id = f"{stem}/{line.id}"
        name = f"images/{writing.free_name(id, 'line', names)}.png"
        writing.save_image(pixels, folder / name)
        rows.append({"file_name": name, "text": line.text, "id": id, "score": round(line.confidence, 4)})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
