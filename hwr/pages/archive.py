"""Read any number of files into results: a stream of rows, a file for each page, or one file of all pages.

A run that was interrupted continues where it stopped. Several processes, of one run or of many, share the pages.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.images import documents
from hwr.pages import write
from hwr.pages.journal import Journal, stamp
from hwr.pages.outputs import Format
from hwr.pages.page_reading import PageReading
from hwr.pages.predict import predict, read_files, reading_of
from hwr.pages.resumable_file import Partial, alone
from hwr.pages.sources import Job, Target, image_of, jobs
from hwr.pages.write import Places
from hwr.recognizer import Recognizer
from hwr.system.atomic import make_folder, replacing


@dataclass(frozen=True)
class Task:
    """What to read, how, and where to.

    Attributes:
        files: The files to read.
        segment: As of `sources.jobs`; `images` too.
        format: The format of the results.
        where: Their place.
        characters: Whether results hold the place of each character.
        min_confidence: Lines below this confidence get an empty text.
        model: The fingerprint of what reads, see `journal.fingerprint`.
        again: Whether to read pages again that were read before.
    """

    files: Sequence[str]
    segment: Callable[[Path], list[Target]] | None
    images: str | None
    format: Format
    where: Places
    characters: bool = False
    min_confidence: float = 0.0
    model: str = ""
    again: bool = False

    @property
    def located(self) -> bool:
        """Whether characters must be located."""
        return self.characters or self.format.places_words

    @property
    def more(self) -> dict[str, bool]:
        """Further arguments of the format's functions."""
        return {"characters": True} if self.characters else {}


@dataclass
class Summary:
    """What was read.

    Attributes:
        pages: Pages and line images, with those that could not be read.
        earlier: Those of them that an earlier run read.
        lines: Lines read.
        confidence: The sum of their confidences.
        unsure: Lines left empty because of their confidence.
        broken: Pages that could not be read, or only in part, with the reasons.
    """

    pages: int = 0
    earlier: int = 0
    lines: int = 0
    confidence: float = 0.0
    unsure: int = 0
    broken: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def mean_confidence(self) -> float:
        """Of the lines, 0..1; nan if there are none."""
        return self.confidence / self.lines if self.lines else float("nan")

    def add(self, page: PageReading, unsure: int, errors: list[str]) -> None:
        """Count a page."""
        self.pages += 1
        self.lines += sum(not line.error for line in page.lines)
        self.confidence += sum(line.confidence for line in page.lines if not line.error)
        self.unsure += unsure
        if errors:
            self.broken.append((str(page.source), errors))

    def merge(self, other: "Summary") -> None:
        """Add what another process read."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


Told = Callable[[PageReading, list[str], Path | None], None]
"""Is told of each page as it is read: the page, why it could not be read, and the file that was written."""


def rows(
    recognizer: Recognizer, task: Task, put: Callable[[bytes], None], told: Told, pool: Executor | None = None
) -> Summary:
    """Print the rows of all lines, in order. The processes of a run share the files; process 0 prints.

    Args:
        put: Prints rows.
    """
    summary, first = Summary(), not recognizer.engine.group.rank
    if first:
        put(task.format.header)
    for page, errors, _ in _each(recognizer, task, task.files, summary, pool):
        if first:
            put(task.format.rows([page], **task.more))  # type: ignore[misc]
            told(page, errors, None)
    return summary


def one_file(
    recognizer: Recognizer, task: Task, told: Told, say: Callable[[str], None], pool: Executor | None = None
) -> Summary:
    """Write the rows of all lines into one file.

    What a killed run has written is kept, unless the model or an input that it read has changed.

    Args:
        say: Is told that the run continues an earlier one.

    Raises:
        Error: The file can't be written.
    """
    assert task.where.file is not None
    group, summary = recognizer.engine.group, Summary()

    def state(file: str) -> tuple[int, ...]:
        return stamp(Path(file), image_of(Path(file), task.images))

    file = None if group.rank else Partial(task.where.file, task.model, task.files, task.again, state)
    try:
        start = group.all_gather(file.done if file else 0)[0]
        if file and start:
            summary = Summary(**file.noted)
            summary.broken = [(source, list(errors)) for source, errors in summary.broken]
            summary.earlier = summary.pages
            say(f"continuing after {start:,} of {len(task.files):,} files (--again begins anew)")
        elif file:
            file.write(task.format.header, 0)
        for page, errors, done in _each(recognizer, task, task.files[start:], summary, pool):
            if file:
                file.write(task.format.rows([page], **task.more), start + done, lambda: asdict(summary))  # type: ignore[misc]
                told(page, errors, None)
        if file:
            file.finish()
    finally:
        if file:
            file.close()
    return summary


def _each(
    recognizer: Recognizer, task: Task, files: Sequence[str], summary: Summary, pool: Executor | None
) -> Iterator[tuple[PageReading, list[str], int]]:
    """Read files, and count what is read. Yields pages, why they could not be read, and the number of complete files."""

    def make(some: Any) -> Iterator[Job]:
        return jobs(some, task.segment, task.images)

    for page, done in read_files(recognizer, files, make, pool, task.located):
        page, unsure = _sure(page, task.min_confidence)
        summary.add(page, unsure, page.errors)
        yield page, page.errors, done


def _sure(page: PageReading, least: float) -> tuple[PageReading, int]:
    """The page with the texts of unsure lines removed, and their number."""
    few = tuple(x if x.confidence >= least or x.error else write.without_text(x) for x in page.lines)
    return replace(page, lines=few), sum(a is not b for a, b in zip(few, page.lines, strict=True))


def each_page(
    recognizer: Recognizer, task: Task, told: Told, kept: Callable[[], None], pool: Executor | None = None
) -> Summary:
    """Write a file for each page; then, if the task says so, join them into one.

    The processes of a run share the pages: each page is found, read and written by one process. In a folder, pages are
    skipped that were finished before, unless they or the model have changed.

    Args:
        kept: Is told of each page that was finished before.

    Returns:
        What all processes of the run have read.

    Raises:
        Error: A folder can't be written; another process writes the file; no page could be read.
    """
    where, group = task.where, recognizer.engine.group
    if where.file is None or where.folder is None:
        return _each_page(recognizer, task, told, kept, pool)
    with contextlib.ExitStack() as stack:
        if not group.rank:
            stack.enter_context(alone(where.folder.with_name(f"{where.folder.name}.lock"), where.file))
            make_folder(where.folder)
        group.all_gather(None)  # none begins before the folder is theirs
        summary = _each_page(recognizer, task, told, kept, pool)
        if not group.rank:
            _join(where.file, where.folder, task, summary)
    return summary


def _each_page(
    recognizer: Recognizer, task: Task, told: Told, kept: Callable[[], None], pool: Executor | None
) -> Summary:
    """Write a file for each page, see `each_page`."""
    where, group = task.where, recognizer.engine.group
    journal = Journal(where.folder, task.model, task.again) if where.folder else None
    summary = Summary()

    def skip(source: Path) -> bool:
        entry = journal.finished(source, where.of(source)) if journal else None
        if entry is None:
            return False
        summary.merge(Summary(1, 1, entry.lines, entry.confidence, entry.unsure))
        if entry.errors:
            summary.broken.append((str(source), list(entry.errors)))
        kept()
        return True

    own = task.files[group.rank :: group.size]
    try:
        for found in predict(recognizer, jobs(own, task.segment, task.images, skip), pool, task.located):
            page, unsure = _sure(reading_of(*found), task.min_confidence)
            # A new file is noted before it appears: it must not seem to be somebody else's if this process is killed.
            new = not where.of(page.source).exists()
            if journal and new and _legible(page):
                _note(journal, page, where.of(page.source), unsure)
            path, errors = _write(task, page)
            summary.add(page, unsure, errors)
            told(page, errors, path)
            if journal and path and not new:
                _note(journal, page, path, unsure)
    finally:
        if journal:
            journal.close()
    for rank, other in enumerate(group.all_gather(summary)):
        if rank != group.rank:
            summary.merge(other)
    return summary


def _note(journal: Journal, page: PageReading, path: Path, unsure: int) -> None:
    last = Summary()
    last.add(page, unsure, page.errors)
    image = page.image if page.kind else None
    journal.add(page.source, path, last.lines, last.confidence, unsure, page.errors, image)


def _legible(page: PageReading) -> bool:
    """Whether there is something to write."""
    return not page.error and not (page.lines and all(line.error for line in page.lines))


def _write(task: Task, page: PageReading) -> tuple[Path | None, list[str]]:
    """Write a page; returns its file, None if there is nothing to write, and why it could not be read or written."""
    if not _legible(page):
        return None, page.errors
    path = task.where.of(page.source)
    try:
        write.write(path, task.format, page, **task.more)
    except (Error, OSError) as error:
        return None, [*page.errors, str(error)]
    return path, page.errors


def _join(out: Path, folder: Path, task: Task, summary: Summary) -> None:
    """Join the files of pages in the order of the inputs, and remove them.

    Raises:
        Error: No page could be read; the file of a page is missing; the file can't be written.
    """
    sources = [Path(page) for file in task.files for page in _pages(file)]
    found = [path for path in map(task.where.of, sources) if path.is_file()]
    broken = {source for source, _ in summary.broken}
    if missing := [x for x in sources if str(x) not in broken and not task.where.of(x).is_file()]:
        raise Error(
            f"{out}: not written, because {len(missing)} of {len(sources)} pages are gone from {folder} ({missing[0]}, …); "
            "start the command again, and it reads them"
        )
    if not found:
        why = f": {reasons[0]}" if (reasons := [reason for _, found in summary.broken for reason in found]) else ""
        rest = f" (and {len(reasons) - 1} more reasons)" if reasons[1:] else ""
        raise Error(f"{out}: not written, because no page could be read{why}{rest}")
    with replacing(out) as temporary:
        if task.format.join is None:
            shutil.copyfile(found[0], temporary)
        else:
            task.format.join(found, temporary)
    shutil.rmtree(folder, ignore_errors=True)


def _pages(file: str) -> list[str]:
    with contextlib.suppress(Error):
        return documents.pages(file)
    return []
