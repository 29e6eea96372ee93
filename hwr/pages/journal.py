"""What a folder of results holds already: so that a reading that was interrupted continues where it stopped.

Every process appends to a file of its own, so that any number of them, on any machines, may write into one folder.
"""

import contextlib
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.config import Config
from hwr.images import documents
from hwr.system import files
from hwr.system.atomic import remedy

# The folder with the journals, in the folder of results. Its name is hidden, so that nothing in it is read as a page.
NAME = ".hwr"

# The one of `hwr align`, because `hwr predict` must not take aligned pages for its own results.
ALIGNED = f"{NAME}/align"

# Nanoseconds after its note within which a file is written, at most.
WRITING = 60 * 10**9


@dataclass(frozen=True)
class Entry:
    """A page that was read.

    Attributes:
        output: Its file, relative to the folder.
        stamp: Size and time of change of the input, in bytes and nanoseconds; then those of `image` and of its text.
        model: The fingerprint of what read it.
        lines: Lines read.
        confidence: The sum of their confidences.
        unsure: Lines whose text was left empty because of their confidence.
        errors: Why lines could not be read.
        time: When it was noted, in nanoseconds since 1970.
        source: The input, an absolute path; "" if an earlier version noted it.
        image: The image of an XML file, relative to its folder; "" if the input is the image.
        written: A digest of the file; "" if it was not written yet when it was noted, or an earlier version noted it.
        details: What else a later run needs to know about the page, as JSON values.
    """

    output: str
    stamp: tuple[int, ...]
    model: str
    lines: int
    confidence: float
    unsure: int = 0
    errors: tuple[str, ...] = ()
    time: int = 0
    source: str = ""
    image: str = ""
    written: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The pages that a folder holds.

    Args:
        folder: The folder of results.
        model: The fingerprint of what reads now.
        again: Whether to forget what was read.
        name: The folder's name in the folder of results.
    """

    def __init__(self, folder: Path, model: str, again: bool = False, name: str = NAME) -> None:
        self.folder, self.model, self._again, self._name = folder, model, again, name
        self._own = folder / name / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        self._entries: dict[str, Entry] = {}
        self.outputs: set[Path] = set()
        self._read()

    def _read(self) -> None:
        rows = (row for path in sorted(self._own.parent.glob("*.jsonl")) for row in files.read_bytes(path).splitlines())
        for row in rows:
            try:
                entry = Entry(**files.parse_json(row))
                output, found = entry.output, tuple(entry.stamp)
            except (ValueError, TypeError):  # the last row of a process that was killed
                continue
            self.outputs.add(self.folder / output)
            if output not in self._entries or self._entries[output].time <= entry.time:
                written = entry.written if isinstance(entry.written, str) else ""
                self._entries[output] = replace(entry, stamp=found, errors=tuple(entry.errors), written=written)
        if self._again:
            self._entries.clear()

    def outputs_of(self, folder: Path) -> dict[Path, Path]:
        """The outputs whose inputs lie below a folder or, if it was moved, beside the outputs; with these inputs."""
        below = (os.path.abspath(folder), os.path.realpath(folder))
        made = dict[Path, Path]()
        for output, entry in self._entries.items():
            path, noted = self.folder / output, Path(entry.source)
            moved = (path.parent.joinpath(*noted.parts[-parts:]) for parts in (2, 1))  # book.pdf/3, photo.jpg
            if any(noted.is_relative_to(place) for place in below):
                made[path] = noted
            elif source := next((source for source in moved if _file(source).is_file()), None):
                made[path] = source
        return made

    def finished(self, source: Path, output: Path, text: Path | None = None) -> Entry | None:
        """The entry of a page that need not be read again: neither it nor the model has changed, and its file is there.

        Args:
            text: A further input.
        """
        entry = self._entries.get(os.path.relpath(output, self.folder))
        if entry is None or entry.model != self.model or _differ(entry.source, source) or not output.is_file():
            return None
        image = Path(os.path.normpath(source.parent / entry.image)) if entry.image else None
        return entry if entry.stamp == stamp(source, image, text) else None

    def other(self, source: Path, output: Path) -> str:
        """The input whose result an output holds, if that is another than `source` and still there; else ""."""
        entry = self._entries.get(os.path.relpath(output, self.folder))
        if entry is None or not _differ(entry.source, source) or not _file(Path(entry.source)).exists():
            return ""
        return entry.source if output.exists() else ""

    def changed(self, output: Path) -> bool:
        """Whether somebody has changed an output since it was written."""
        name = os.path.relpath(output, self.folder)

        def differs() -> bool:
            entry = self._entries[name]
            # The time of a file alone says little: copying or restoring a folder may change it.
            late = output.stat().st_mtime_ns > entry.time + WRITING
            return _content(output) != entry.written if entry.written else late

        if name not in self._entries or not output.is_file() or not differs():
            return False
        self._read()  # another process may just have written it
        return differs()

    def check(self, output: Path) -> None:
        """Check that an output that is about to be written is not there, or that nobody has changed it since it was written.

        Raises:
            Error: Somebody has made or changed it, after the beginning of this run.
        """
        if output.exists() and output not in self.outputs:
            self._read()
        if output.exists() and (output not in self.outputs or self.changed(output)):
            raise Error(f"{output} was written or changed by somebody else meanwhile, and is kept")

    def begin(self, source: Path, output: Path) -> None:
        """Note that an output is about to be overwritten: if this process is killed then, it is still ours, and not finished.

        Raises:
            Error: The journal can't be written.
        """
        name = os.path.relpath(output, self.folder)
        self._note(Entry(name, (), "", 0, 0.0, time=time.time_ns(), source=os.path.abspath(source)))

    def add(
        self,
        source: Path,
        output: Path,
        seen: tuple[int, ...],
        lines: int,
        confidence: float,
        unsure: int,
        errors: list[str],
        image: Path | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Note that a page was read and written, or will be at once.

        Args:
            seen: The `stamp` of the inputs, as in `Entry`, before they were read: what changes meanwhile is read again.
            image: The page's image, if the source is XML.
            details: See `Entry`.

        Raises:
            Error: The journal can't be written.
        """
        name = os.path.relpath(output, self.folder)
        read = (seen, self.model, lines, confidence, unsure, tuple(errors))
        beside = os.path.relpath(image, source.parent) if image else ""
        written = _content(output) if output.is_file() else ""
        self._note(Entry(name, *read, time.time_ns(), os.path.abspath(source), beside, written, details or {}))

    def _note(self, entry: Entry) -> None:
        try:
            self._own.parent.mkdir(parents=True, exist_ok=True)
            with open(self._own, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(json.dumps(asdict(entry)) + "\n")
                file.flush()
                os.fsync(file.fileno())  # as the files of pages are
        except OSError as error:
            raise Error(
                f"{self.folder / self._name}: could not be written: {error.strerror or error}.{remedy(error, self.folder)}"
            ) from error


class Journals:
    """The journals of a run.

    Args:
        folder: The folder of results, which has one for all; None: the results lie beside the inputs, and each folder has
            its own.
        model: The fingerprint of what reads now.
        again: Whether to forget what was read.
        name: The name of their folders.
        texts: The further inputs of sources.
    """

    def __init__(
        self,
        folder: Path | None,
        model: str,
        again: bool = False,
        name: str = NAME,
        texts: Mapping[Path, Path | None] | None = None,
    ) -> None:
        self._folder, self._more, self._texts = folder, (model, again, name), texts or {}
        self._known: dict[Path, Journal] = {}

    def of(self, output: Path) -> Journal:
        """The journal that knows an output."""
        folder = self._folder or output.parent
        if folder not in self._known:
            self._known[folder] = Journal(folder, *self._more)
        return self._known[folder]

    def finished(self, source: Path, output: Path) -> Entry | None:
        """See `Journal.finished`."""
        return self.of(output).finished(source, output, self._texts.get(source))


def _differ(noted: str, source: Path) -> bool:
    """Whether a noted input is another than `source`.

    One that is not there has been moved, or another machine calls its folder otherwise; then the names decide.
    """
    if noted in ("", os.path.abspath(source)):
        return False
    before = Path(noted)
    with contextlib.suppress(OSError):
        if not os.path.samefile(_file(before), _file(source)):
            return True
    parts = 2 if documents.page_of(source) else 1  # book.pdf/3
    return before.parts[-parts:] != source.parts[-parts:]


def _file(source: Path) -> Path:
    """The file of an input, which may be a page of one."""
    page = documents.page_of(source)
    return source if page is None else page.file


def stamp(*paths: Path | None) -> tuple[int, ...]:
    """Size and time of change of each path that is not None, in bytes and nanoseconds; 0 if there is no file."""
    return tuple(number for path in paths if path is not None for number in _stamp(_file(path)))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def fingerprint(checkpoint: Path, settings: Config, *more: object) -> str:
    """A fingerprint of everything that decides what is read and written: the model, its settings, its language model.

    Args:
        more: Further choices, which can be written as JSON; of a path, the file's content counts.

    Raises:
        Error: A file can't be read.
    """
    parts: list[object] = [_content(checkpoint)]
    chosen = settings.model_dump(mode="json")
    parts += [chosen[key] for key in ("model", "image", "decode")]
    for named in (settings.decode.lm, settings.decode.words):
        if named and Path(named).is_file():
            parts.append(_content(Path(named)))
    parts += [_content(each) if isinstance(each, Path) else each for each in more]
    text = json.dumps([*parts, settings.data.normalise, settings.data.images], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    with files.open_regular(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
