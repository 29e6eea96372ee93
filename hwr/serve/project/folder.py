"""A project is a folder: page images, and a PAGE file beside each. Nothing else holds a correction.

Every change goes through `Project.edit`: under a lock it compares the caller's revision with the file's, keeps the old
version, and replaces the file. The revision is a hash of the file, so edits by other programs count as well.
"""

import functools
import gzip
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data.formats import alto, marked_pages, page, page_edit, shapes, xml
from hwr.data.formats.shapes import Page
from hwr.data.formats.xml_edit import Document
from hwr.images import load
from hwr.serve.project import page_files
from hwr.serve.project.coordinates import Frame, frame_of
from hwr.serve.project.page_state import Conflict, LineState, Missing, PageState, State, hash_of
from hwr.system import files
from hwr.system.atomic import replacing
from hwr.system.terminal import unicode

# The folder in the project for everything that is not PAGE. Its name starts with a dot, so dataset readers skip it.
HIDDEN = ".hwr"

# Seconds within which further corrections of texts make no further version, and the most versions kept of a page.
VERSION_SECONDS = 60.0
MOST_VERSIONS = 200


@dataclass
class _Place:
    """A page's files, see `page_files.find`, and its state as last read."""

    id: str
    name: str
    image: Path
    xml: Path
    alto: Path | None
    stamp: Any = None
    state: PageState | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True)
class Draft:
    """A page that is being edited.

    Attributes:
        root: The root element of its PAGE file.
        frame: Relates its positions to the image's.
        before: The page before the edit.
    """

    root: Any
    frame: Frame
    before: PageState


class Project:
    """The pages of a folder.

    Args:
        root: An existing folder.

    Attributes:
        unlisted: The folders below it that can't be listed, each with the reason; their pages are missing.

    Raises:
        Error: There is no such folder, or it can't be written to.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise Error(f"{root}: no such folder; create it first")
        self.root = root.resolve()
        self.hidden = self.root / HIDDEN
        try:
            (self.hidden / "versions").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"{root}: can't be written to: {error.strerror or error}") from error
        self.unlisted: dict[str, str] = {}
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self.scan()

    # --- Reading ---

    def scan(self) -> None:
        """Look for pages that were added to the folder or removed from it."""
        with self._lock:
            found = {}
            self.unlisted.clear()
            taken: set[Path] = set()
            xmls = functools.cache(page_files.xmls)  # each folder is listed once
            for path in (Path(name) for name in files.below(self.root, self.unlisted)):
                if path.suffix.lower() not in load.SUFFIXES:
                    continue
                name = path.relative_to(self.root).as_posix()
                id = hash_of(os.fsencode(name))[:12]
                place = self._places.get(id) or _Place(id, unicode(name), path, *page_files.find(path, xmls))
                _find_again(place, xmls)
                if place.xml in taken:  # a.jpg and a.png in one folder
                    place.xml = place.xml.with_name(f"{path.name}.xml")
                taken.add(place.xml)
                found[id] = place
            self._places = found

    def pages(self) -> list[PageState]:
        """All pages, page 10 after page 9."""
        self.scan()
        return sorted((self.page(id) for id in list(self._places)), key=lambda page: files.natural(page.name))

    def page(self, id: str) -> PageState:
        """A page as it is on disk now.

        Raises:
            Missing: There is no such page.
        """
        place = self._place(id)
        with place.lock:
            stamp = (_stamp(place.xml), _stamp(place.image))
            if place.state is None or place.stamp != stamp:
                place.state, place.stamp = self._read(place), stamp
            return place.state

    def _place(self, id: str) -> _Place:
        place = self._places.get(id)
        if place is None:
            raise Missing(f"there is no page {id}")
        return place

    def _read(self, place: _Place) -> PageState:
        plain = PageState(place.id, place.name, place.image, place.xml, "new")
        try:
            content = files.read_bytes(place.xml) if place.xml.exists() else None
            plain = replace(plain, revision=_revision(content))
            return self._parsed(plain, content, place.alto)[0]
        except Error as error:
            return replace(plain, error=str(error).replace(f"{self.root}{os.sep}", ""))

    def _parsed(
        self, plain: PageState, content: bytes | None, alto_file: Path | None
    ) -> tuple[PageState, Document, Frame]:
        """The state, the file and the frame of a page; a new file if it has no PAGE file yet."""
        if content is None:
            content = self._first(plain.image, alto_file)
        document, found, statuses = page_edit.parse(content, plain.xml)
        frame = frame_of(plain.image, found)
        lines = []
        for line, status, region in zip(found.lines, statuses, shapes.regions(found), strict=True):
            text = line.text.strip()
            # A prediction may be empty.
            predicted = status.confidence is not None
            state: State = "checked" if status.checked else "read" if predicted else "given" if text else "empty"
            confidence = status.confidence if state == "read" else None
            shape, along = frame.to_image(region), frame.to_image(line.baseline)
            lines.append(LineState(line.id, text, shape, along, state, confidence, "" if shape else line.fault))
        return replace(plain, width=frame.width, height=frame.height, lines=tuple(lines)), document, frame

    def _first(self, image: Path, alto_file: Path | None) -> bytes:
        """The content of a PAGE file to come: without lines, or with those of the ALTO file beside the image."""
        marked_pages.check_name(image)
        if alto_file is None or not alto_file.is_file():
            return xml.text(page.new(image.name, frame_of(image).stored, []))
        found = alto.parse(alto_file, xml.parse(alto_file))
        frame_of(image, found)  # an Error here names the ALTO file
        return xml.text(page_of_alto(found, image))

    # --- Writing ---

    def edit(
        self, id: str, change: Callable[[Draft], None], revision: str | None = None, version: bool = True
    ) -> PageState:
        """Change a page. If nothing changes, its file stays as it is.

        Args:
            change: Changes the draft's element in place. It may raise `Conflict` after a look at the draft's lines.
            revision: The page's revision that the caller saw; None if `change` checks for conflicts itself.
            version: Whether to keep the old version in any case, rather than once a minute.

        Returns:
            The page after the change.

        Raises:
            Missing: There is no such page.
            Conflict: The page has another revision.
            Error: The page can't be read or written.
        """
        place = self._place(id)
        with place.lock:
            content = files.read_bytes(place.xml) if place.xml.exists() else None
            plain = PageState(place.id, place.name, place.image, place.xml, _revision(content))
            if revision is not None and revision != plain.revision:
                raise Conflict(f"{place.name} has been changed in another window or by another program")
            before, document, frame = self._parsed(plain, content, place.alto)
            same = document.content()  # with an id for each line
            regions = page.region_texts(document.root)
            change(Draft(document.root, frame, before))
            page.follow_lines(regions)
            if content is None or document.content() != same:
                page.touch(document.root)
                # Without a file, the page as it was shown is the version: so the first line drawn on it can be undone.
                self._replace(place, same if content is None else content, document.content(), version)
            return self.page(id)

    def _replace(self, place: _Place, old: bytes | None, new: bytes, version: bool) -> None:
        if old is not None:
            self._keep(place, old, version)
        place.xml.parent.mkdir(exist_ok=True)
        with replacing(place.xml) as temporary:
            temporary.write_bytes(new)
        place.state = None

    def _keep(self, place: _Place, content: bytes, always: bool) -> None:
        folder = self.hidden / "versions" / place.id
        folder.mkdir(parents=True, exist_ok=True)  # .hwr may be deleted at any time
        kept = sorted(folder.glob("*.xml.gz"))
        now = time.time()
        if kept and not always and 0 <= now - kept[-1].stat().st_mtime < VERSION_SECONDS:
            return
        # Undo takes the newest version, which is to have the highest number also after the clock was set back.
        last = int(kept[-1].name.partition(".")[0]) if kept else 0
        with replacing(folder / f"{max(int(now * 1000), last + 1):015}.xml.gz") as temporary:
            temporary.write_bytes(gzip.compress(content, 6))
        for old in kept[: max(0, len(kept) + 1 - MOST_VERSIONS)]:
            old.unlink(missing_ok=True)

    def versions(self, id: str) -> list[int]:
        """The times at which earlier versions of a page were replaced, in ms since 1970, newest first.

        Raises:
            Missing: There is no such page.
        """
        folder = self.hidden / "versions" / self._place(id).id
        return sorted((int(path.name.partition(".")[0]) for path in folder.glob("*.xml.gz")), reverse=True)

    def restore(self, id: str, version: int, revision: str) -> PageState:
        """Put an earlier version of a page back; the present one is kept as a version.

        Raises:
            Missing: There is no such page or version.
            Conflict: The page has another revision.
            Error: The version is damaged.
        """
        place = self._place(id)
        if version not in self.versions(id):
            raise Missing(f"{place.name} has no version {str(version)[:20]}")
        path = self.hidden / "versions" / place.id / f"{int(version):015}.xml.gz"
        with place.lock:
            now = files.read_bytes(place.xml) if place.xml.exists() else None
            if _revision(now) != revision:
                raise Conflict(f"{place.name} has been changed in another window or by another program")
            try:
                content = gzip.decompress(path.read_bytes())
                page_edit.parse(content, path)
            except (OSError, EOFError, zlib.error, Error) as error:
                raise Error(f"this version of {place.name} is damaged; choose another one") from error
            self._replace(place, now, content, version=True)
            return self.page(id)


def _find_again(place: _Place, xmls: Callable[[Path], dict[str, Path]]) -> None:
    """Look for XML of a page that had none, as when the server starts: it may have come after the image."""
    if place.lock.acquire(blocking=False):  # else it is being read or edited
        try:
            state = place.state if place.alto is None else None
            if state and (state.revision == "new" or state.error) and page_files.any_named_like(place.image, xmls):
                found = page_files.find(place.image, xmls)
                if found != (place.xml, None):
                    (place.xml, place.alto), place.state = found, None
        finally:
            place.lock.release()


def page_of_alto(found: Page, image: Path) -> Any:
    """The root element of a PAGE file of an image, with the lines of an ALTO file.

    Raises:
        Error: The image can't be opened.
    """
    size = (found.width, found.height) if found.width and found.height else frame_of(image, found).stored
    turned = found.upright and load.orientation(image) != 1
    return page.new(image.name, size, [line for line in found.lines if line.polygon or line.baseline], turned)


def _revision(content: bytes | None) -> str:
    return "new" if content is None else hash_of(content)[:16]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
