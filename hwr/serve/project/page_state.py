"""A page and its lines as they are on disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwr.images.load import Polygon

State = Literal["empty", "read", "given", "checked"]


class Conflict(Exception):
    """The page or line has changed since the caller saw it."""


class Missing(Exception):
    """There is no such page, line, version, job or model."""


@dataclass(frozen=True)
class LineState:
    """A line of a page in the workbench.

    Attributes:
        polygon: Its outline in pixels of the upright image; `baseline` too, or ().
        state: empty, read (a prediction), given (a text from elsewhere) or checked (by a person: ground truth).
        confidence: Of a prediction, 0..1, else None.
        fault: Why it can't be read, or "".
    """

    id: str
    text: str
    polygon: Polygon
    baseline: Polygon
    state: State
    confidence: float | None = None
    fault: str = ""

    @property
    def revision(self) -> str:
        """A hash of everything that the line says."""
        return hash_of(repr((self.id, self.text, self.polygon, self.baseline, self.state)).encode())


@dataclass(frozen=True)
class PageState:
    """A page as it is on disk.

    Attributes:
        id: Its key in addresses, a hash of its name.
        name: The image's path in the folder, with slashes.
        xml: Its PAGE file, which may not exist yet.
        revision: A hash of the PAGE file; "new" without one.
        width: Of the upright image, in pixels, 0 if it can't be opened; `height` too.
        error: Why the page can't be shown, or "".
    """

    id: str
    name: str
    image: Path
    xml: Path
    revision: str
    width: int = 0
    height: int = 0
    lines: tuple[LineState, ...] = ()
    error: str = ""

    @property
    def state(self) -> Literal["new", "read", "in progress", "done", "broken"]:
        """How far the page is."""
        if self.error:
            return "broken"
        if not any(line.state != "empty" for line in self.lines):
            return "new"
        checked = sum(line.state == "checked" for line in self.lines)
        return "done" if checked == len(self.lines) else "in progress" if checked else "read"

    def line(self, id: str) -> LineState:
        """The line of that id.

        Raises:
            Missing: There is none.
        """
        found = next((line for line in self.lines if line.id == id), None)
        if found is None:
            raise Missing(self.error or f"{self.name} has no line {id}")
        return found


def hash_of(content: bytes) -> str:
    """A hash of some content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
