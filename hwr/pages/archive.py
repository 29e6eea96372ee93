"""Read any number of files into results: a stream of rows, a file for each page, or one file of all pages.

A run that was interrupted continues where it stopped. Several processes, of one run or of many, share the pages.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from hwr import Error
from hwr.images import documents
from hwr.pages import write
from hwr.pages.journal import Journal, Journals, stamp
from hwr.pages.page_reading import PageReading
from hwr.pages.plan import Plan
from hwr.pages.predict import predict, read_shared, reading_of
from hwr.pages.resumable_file import Partial, alone
from hwr.pages.segment import chosen
from hwr.pages.sources import Job, image_of, jobs
from hwr.recognizer import Recognizer
from hwr.system.atomic import make_folder, replacing
from hwr.system.files import real
from hwr.system.terminal import some


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


class Watcher(Protocol):
    """Is told what happens while files are read. In a run of several processes, only process 0 gets rows."""

    def row(self, rows: bytes) -> None:
        """Rows for standard output."""

    def page(self, page: PageReading, errors: list[str], path: Path | None) -> None:
        """A page was read: with why it could not be, or only in part, and the file that was written."""

    def kept(self) -> None:
        """A page was finished by an earlier run."""

    def say(self, text: str) -> None:
        """A message for the user."""


def read(recognizer: Recognizer, plan: Plan, watcher: Watcher, pool: Executor | None = None) -> Summary:
    """Read what is planned: rows of lines for standard output or for one file, or a file for each page.

    Args:
        pool: Workers that decode images, see `processes.pool`; None: threads.

    Raises:
        Error: A file or folder can't be written; another process writes it; no page of a file could be read.
    """
    if plan.format.rows is None or plan.where.folder is not None:
        return _each_page(recognizer, plan, watcher, pool)
    if plan.where.file is not None:
        return _one_file(recognizer, plan, watcher, pool)
    return _rows(recognizer, plan, watcher, pool)


def _rows(recognizer: Recognizer, plan: Plan, watcher: Watcher, pool: Executor | None) -> Summary:
    """Give the watcher the rows of all lines, in order. The processes of a run share the files."""
    summary, first = Summary(), not recognizer.engine.group.rank
    if first:
        watcher.row(plan.format.header)
    for page, errors, _ in _each(recognizer, plan, plan.files, summary, pool):
        if first:
            watcher.row(plan.format.rows([page], **plan.more))  # type: ignore[misc]
            watcher.page(page, errors, None)
    return summary


def _one_file(recognizer: Recognizer, plan: Plan, watcher: Watcher, pool: Executor | None) -> Summary:
    """Write the rows of all lines into one file.

    What a killed run has written is kept, unless the model or an input that it read has changed.
    """
    assert plan.where.file is not None
    group, summary = recognizer.engine.group, Summary()

    def state(file: str) -> tuple[int, ...]:
        return stamp(Path(file), image_of(Path(file), plan.images))

    file = None if group.rank else Partial(plan.where.file, plan.model, plan.files, plan.again, state)
    try:
        start = group.all_gather(file.done if file else 0)[0]
        if file and start:
            summary = Summary(**file.noted)
            summary.broken = [(source, list(errors)) for source, errors in summary.broken]
            summary.earlier = summary.pages
            watcher.say(f"continuing after {start:,} of {len(plan.files):,} files (--again begins anew)")
        elif file:
            file.write(plan.format.header, 0)
        for page, errors, done in _each(recognizer, plan, file.rest() if file else plan.files[start:], summary, pool):
            if file:
                file.write(plan.format.rows([page], **plan.more), start + done, lambda: asdict(summary))  # type: ignore[misc]
                watcher.page(page, errors, None)
        if file:
            file.finish()
    finally:
        if file:
            file.close()
    return summary


def _each(
    recognizer: Recognizer, plan: Plan, files: Iterable[str], summary: Summary, pool: Executor | None
) -> Iterator[tuple[PageReading, list[str], int]]:
    """Read files, and count what is read. Yields pages, why they could not be read, and the number of complete files."""
    find = chosen(plan.kind, plan.segmenter, recognizer)

    def make(some: Any) -> Iterator[Job]:
        return jobs(some, find, plan.images)

    for page, done in read_shared(recognizer, files, make, pool, plan.located):
        page, unsure = _sure(page, plan.min_confidence)
        summary.add(page, unsure, page.errors)
        yield page, page.errors, done


def _sure(page: PageReading, least: float) -> tuple[PageReading, int]:
    """The page with the texts of unsure lines removed, and their number."""
    few = tuple(x if x.confidence >= least or x.error else write.without_text(x) for x in page.lines)
    return replace(page, lines=few), sum(a is not b for a, b in zip(few, page.lines, strict=True))


def _each_page(recognizer: Recognizer, plan: Plan, watcher: Watcher, pool: Executor | None) -> Summary:
    """Write a file for each page; then, if the plan says so, join them into one. Returns what all processes have read."""
    where, group = plan.where, recognizer.engine.group
    if where.file is None or where.folder is None:
        return _write_pages(recognizer, plan, watcher, pool)
    with contextlib.ExitStack() as stack:
        if not group.rank:
            stack.enter_context(alone(where.folder.with_name(f"{where.folder.name}.lock"), where.file))
            make_folder(where.folder)
        group.all_gather(None)  # none begins before the folder is theirs
        summary = _write_pages(recognizer, plan, watcher, pool)
        if not group.rank:
            for root in where.roots:  # the next run must not take the file for an input
                if real(where.file).is_relative_to(real(root)):
                    Journal(where.file.parent, plan.model).begin(root, where.file)
            _join(where.file, where.folder, plan, summary)
    return summary


def _write_pages(recognizer: Recognizer, plan: Plan, watcher: Watcher, pool: Executor | None) -> Summary:
    """Write a file for each page.

    The processes of a run share the pages: each page is found, read and written by one process. Pages are skipped that
    were finished before, unless they or the model have changed.
    """
    where, group = plan.where, recognizer.engine.group
    journals = Journals(where.folder, plan.model, plan.again)
    find, summary = chosen(plan.kind, plan.segmenter, recognizer), Summary()

    def skip(source: Path) -> bool:
        path = where.of(source)
        entry = journals.finished(source, path)
        if entry is None:
            return False
        summary.merge(Summary(1, 1, entry.lines, entry.confidence, entry.unsure))
        if entry.errors:
            summary.broken.append((str(source), list(entry.errors)))
        watcher.kept()
        return True

    own = plan.files[group.rank :: group.size]
    for found in predict(recognizer, jobs(own, find, plan.images, skip), pool, plan.located):
        page, unsure = _sure(reading_of(*found), plan.min_confidence)
        seen, place = found[0].stamp, where.of(page.source)
        journal = journals.of(place)
        # It is noted before it appears: it must not seem to be somebody else's if this process is killed.
        if _legible(page):
            try:
                journal.check(place)
            except Error as error:
                page = replace(page, error=str(error))
        if _legible(page):
            try:
                if place.exists():
                    journal.begin(page.source, place)
                else:
                    _note(journal, page, seen, place, unsure)
            except Error as error:
                if where.folder:
                    raise
                page = replace(page, error=str(error))  # other folders of inputs may be writable
        path, errors = _write(plan, page)
        summary.add(page, unsure, errors)
        watcher.page(page, errors, path)
        if path:
            _note(journal, page, seen, path, unsure)
    for rank, other in enumerate(group.all_gather(summary)):
        if rank != group.rank:
            summary.merge(other)
    return summary


def _note(journal: Journal, page: PageReading, seen: tuple[int, ...], path: Path, unsure: int) -> None:
    last = Summary()
    last.add(page, unsure, page.errors)
    image = page.image if page.kind else None
    journal.add(page.source, path, seen, last.lines, last.confidence, unsure, page.errors, image)


def _legible(page: PageReading) -> bool:
    """Whether there is something to write."""
    return not page.error and not (page.lines and all(line.error for line in page.lines))


def _write(plan: Plan, page: PageReading) -> tuple[Path | None, list[str]]:
    """Write a page; returns its file, None if there is nothing to write, and why it could not be read or written."""
    path, errors = plan.where.of(page.source), page.errors
    if _legible(page):
        try:
            write.write(path, plan.format, page, **plan.more)
            return path, errors
        except (Error, OSError) as error:
            errors = [*errors, str(error)]
    if plan.where.file is not None:  # what a killed run read, before the page was changed, is not to be joined
        path.unlink(missing_ok=True)
    return None, errors


def _join(out: Path, folder: Path, plan: Plan, summary: Summary) -> None:
    """Join the files of pages in the order of the inputs, and remove them.

    Raises:
        Error: No page could be read; the file of a page is missing; the file can't be written.
    """
    sources = [Path(page) for file in plan.files for page in _pages(file)]
    found = [path for path in map(plan.where.of, sources) if path.is_file()]
    broken = {source for source, _ in summary.broken}
    if missing := [x for x in sources if str(x) not in broken and not plan.where.of(x).is_file()]:
        raise Error(
            f"{out}: not written, because {len(missing)} of {len(sources)} pages are gone from {folder} ({some(missing)}); "
            "start the command again, and it reads them"
        )
    if not found:
        why = f": {reasons[0]}" if (reasons := [reason for _, found in summary.broken for reason in found]) else ""
        rest = f" (and {len(reasons) - 1} more reasons)" if reasons[1:] else ""
        raise Error(f"{out}: not written, because no page could be read{why}{rest}")
    with replacing(out) as temporary:
        if plan.format.join is None:
            shutil.copyfile(found[0], temporary)
        else:
            plan.format.join(found, temporary)
    shutil.rmtree(folder, ignore_errors=True)


def _pages(file: str) -> list[str]:
    with contextlib.suppress(Error):
        return documents.pages(file)
    return []
