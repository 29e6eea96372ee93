"""The edits of a page: texts of lines by people and by the recognizer, and lines added, split, merged, moved, deleted."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwr import Error
from hwr.data import CONTROL
from hwr.data.formats import page_edit
from hwr.images import direction
from hwr.images.load import Polygon
from hwr.recognizer import Reading
from hwr.serve.project import held_back, outlines
from hwr.serve.project.coordinates import Frame
from hwr.serve.project.database import Characters
from hwr.serve.project.folder import Draft, Project
from hwr.serve.project.page_state import Conflict, LineState, PageState

# No line of handwriting is longer; a text that is belongs to several lines.
MOST_CHARACTERS = 2000


def checked_text(text: str) -> str:
    """A text from a client, as it is stored: NFC, without white space at its ends.

    Raises:
        Error: It is too long, or holds characters that no line of text has.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > MOST_CHARACTERS:
        raise Error(f"a line of text has at most {MOST_CHARACTERS} characters, not {len(text)}")
    if found := CONTROL.search(text):
        raise Error(f"a line of text can't hold the control character U+{ord(found[0]):04X}")
    return text


def set_text(project: Project, page: str, line: str, text: str, checked: bool, revision: str) -> PageState:
    """Set the text of a line as a person wrote it.

    Args:
        checked: Whether it counts as ground truth from now on.
        revision: The line's revision that the person saw.

    Raises:
        Conflict: The line has changed since.
    """
    text = checked_text(text)

    def change(draft: Draft) -> None:
        _same(draft, line, revision)
        page_edit.set_text(draft.root, line, text, None, checked)

    return project.edit(page, change, version=False)


def put_back(
    project: Project, page: str, line: str, text: str, state: str, confidence: float | None, revision: str
) -> PageState:
    """Give a line the text, state and confidence that it had: the inverse of `set_text`.

    Raises:
        Conflict: The line has changed since.
        Error: It can't have had this text.
    """
    checked_text(re.sub("[\t\r\n\x85\u2028\u2029]", " ", text))  # nobody can type these, but a file may hold them
    text = unicodedata.normalize("NFC", text).strip()

    def change(draft: Draft) -> None:
        _same(draft, line, revision)
        sure = None if confidence is None else min(1.0, max(0.0, confidence))
        page_edit.set_text(draft.root, line, text, sure if state == "read" else None, state == "checked")

    return project.edit(page, change, version=False)


def check_all(project: Project, page: str, revision: str) -> PageState:
    """Accept the texts of all lines of a page that have one.

    Raises:
        Conflict: The page has changed since.
    """

    def change(draft: Draft) -> None:
        for line in draft.before.lines:
            if line.text:
                page_edit.set_text(draft.root, line.id, line.text, None, checked=True)

    return project.edit(page, change, revision)


def set_shape(project: Project, page: str, line: str, polygon: Polygon, baseline: Polygon, revision: str) -> PageState:
    """Set the outline and baseline of a line, in pixels of the upright image.

    Raises:
        Conflict: The line has changed since.
    """

    def change(draft: Draft) -> None:
        _same(draft, line, revision)
        _area(polygon, draft.frame)
        page_edit.set_shape(draft.root, line, draft.frame.to_page(polygon), draft.frame.to_page(baseline))

    return project.edit(page, change)


def read_into(
    project: Project, page: str, seen: Sequence[LineState], readings: Mapping[str, Reading], given: bool = False
) -> PageState:
    """Write predictions into a page. Checked lines, and lines that have changed since they were read, stay as they are.

    Args:
        seen: The lines as they were when they were read.
        readings: By line id.
        given: Whether predictions also replace texts from elsewhere.
    """
    before = {line.id: line.revision for line in seen}
    open_ = ("empty", "read", "given") if given else ("empty", "read")

    def change(draft: Draft) -> None:
        for line in draft.before.lines:
            reading = readings.get(line.id)
            if reading and line.state in open_ and line.revision == before.get(line.id):
                page_edit.set_text(draft.root, line.id, reading.text, reading.confidence, checked=False)

    return project.edit(page, change)


@dataclass(frozen=True)
class Found:
    """A line that was found on a page, in pixels of the upright image."""

    polygon: Polygon
    baseline: Polygon = ()


def set_lines(project: Project, page: str, lines: Sequence[Found]) -> PageState:
    """Give a page its first lines.

    Raises:
        Conflict: It has lines by now.
    """

    def change(draft: Draft) -> None:
        if draft.before.lines:
            raise Conflict(f"{draft.before.name} has lines already")
        after: str | None = None
        for line in lines:
            after = page_edit.add(
                draft.root, draft.frame.to_page(line.polygon), draft.frame.to_page(line.baseline), after
            )

    return project.edit(page, change)


# --- Structure ---


def add(project: Project, page: str, polygon: Polygon, baseline: Polygon, after: str | None, rev: str) -> PageState:
    """Add a line after another one, or before all others.

    Raises:
        Conflict: The page has changed since revision `rev`; so for the functions below.
    """

    def change(draft: Draft) -> None:
        _area(polygon, draft.frame)
        page_edit.add(draft.root, draft.frame.to_page(polygon), draft.frame.to_page(baseline), after)

    return project.edit(page, change, rev)


def delete(project: Project, page: str, lines: Sequence[str], rev: str) -> PageState:
    """Delete lines."""

    def change(draft: Draft) -> None:
        for line in lines:
            page_edit.delete(draft.root, line)

    return project.edit(page, change, rev)


def move(project: Project, page: str, line: str, after: str | None, rev: str) -> PageState:
    """Move a line after another one in the reading order, or before all others."""
    return project.edit(page, lambda draft: page_edit.move(draft.root, line, after), rev)


def split(
    project: Project,
    page: str,
    line: str,
    x: float | None,
    at: int,
    rev: str,
    kept: tuple[str, Characters] | None = None,
) -> PageState:
    """Split a line across the direction in which it runs, and its text at a character.

    Args:
        x: The column of the upright image, in pixels; None: where the character is, or, without a text, in the middle.
        at: Characters of the text that stay with the first part: that in which the line begins.
        kept: The line's characters as last read, with the text that they make up.
    """

    def change(draft: Draft) -> None:
        old = draft.before.line(line)
        if not 0 <= at <= len(old.text):
            raise Error(f"line {line} has {len(old.text)} characters; its text can't be split at {at}")
        if not old.polygon:
            raise Error(f"line {line} has no outline; draw it first")
        angle = direction.angle(old.baseline, old.polygon)
        vertical = x is None and (_vertical(angle) or (len(old.baseline) < 2 and outlines.is_tall(old.polygon)))
        backwards = angle < 0 if vertical else abs(angle) > 90
        characters = kept[1] if kept and kept[0] == old.text and old.state == "read" and not vertical else []
        place = x if x is not None else _place(old, at, vertical, backwards, characters)
        shapes = outlines.split(old.polygon, place, vertical)
        below = outlines.split_baseline(old.baseline, place, vertical)
        if min(map(len, shapes)) < 3:
            raise Error(f"the {'row' if vertical else 'column'} {place:g} does not lie inside line {line}")
        if backwards:  # its text begins at the right, or at the bottom
            shapes, below = shapes[::-1], below[::-1]
        texts = old.text[:at].strip(), old.text[at:].strip()
        to_page, checked = draft.frame.to_page, old.state == "checked"
        page_edit.set_shape(draft.root, line, to_page(shapes[0]), to_page(below[0]))
        second = page_edit.add(draft.root, to_page(shapes[1]), to_page(below[1]), line)
        for id, text in ((line, texts[0]), (second, texts[1])):
            page_edit.set_text(draft.root, id, text, old.confidence, checked and bool(text))
        held_back.update(project.hidden, lambda known: held_back.split(known, page, line, second))

    return project.edit(page, change, rev)


def _place(line: LineState, at: int, vertical: bool, backwards: bool, characters: Characters) -> float:
    """The column, or row if the line is vertical, at which a character of a line begins."""
    left, top, right, bottom = outlines.box(line.polygon)
    if at < len(characters):
        _, first, last, _ = characters[at]
        return round(max(0, left) + (last if backwards else first))
    begin, end = (top, bottom) if vertical else (left, right)
    if backwards:
        begin, end = end, begin
    return round(begin + (end - begin) * (at / len(line.text) if line.text else 0.5))


def merge(project: Project, page: str, lines: Sequence[str], rev: str) -> PageState:
    """Merge lines into the first of them, from left to right, or in the direction of their text if all have another.

    The text is a prediction only if nobody has written a part of it: otherwise a later reading would replace that.
    """
    if len(set(lines)) < 2:
        raise Error("merging needs at least two lines")

    def change(draft: Draft) -> None:
        old = [line for line in draft.before.lines if line.id in lines]
        if len(old) != len(set(lines)):
            raise Error(f"the page has no line {sorted(set(lines) - {line.id for line in old})[0]!r}")
        if bare := [line.id for line in old if not line.polygon]:
            raise Error(f"line {bare[0]} has no outline; draw it first")
        angles = [direction.angle(line.baseline, line.polygon) for line in old]
        vertical = all(map(_vertical, angles))
        turned = all(angle < 0 if vertical else abs(angle) > 90 for angle in angles)
        ordered = sorted(old, key=lambda line: outlines.box(line.polygon)[vertical], reverse=turned)
        first, to_page = old[0], draft.frame.to_page
        polygon = outlines.merged([x.polygon for x in old])
        baseline = outlines.merged_baseline([x.baseline for x in ordered], vertical)
        page_edit.set_shape(draft.root, first.id, to_page(polygon), to_page(baseline))
        written = any(line.state in ("given", "checked") for line in old)
        sure = [line.confidence for line in old if line.confidence is not None and not written]
        text = " ".join(line.text for line in ordered if line.text)
        all_checked = all(line.state == "checked" for line in old)
        page_edit.set_text(draft.root, first.id, text, min(sure) if sure else None, all_checked)
        for line in old[1:]:
            page_edit.delete(draft.root, line.id)
        held_back.update(project.hidden, lambda known: held_back.merge(known, page, [line.id for line in old]))

    return project.edit(page, change, rev)


def _vertical(angle: float) -> bool:
    return 45 < abs(angle) < 135


def _same(draft: Draft, line: str, revision: str) -> None:
    found = draft.before.line(line)
    if found.revision != revision:
        raise Conflict(f"line {line} has been changed in another window or by another program")


def _area(polygon: Polygon, frame: Frame) -> None:
    if len(polygon) < 3:
        raise Error(f"the outline of a line needs at least three points, not {len(polygon)}")
    left, top, right, bottom = outlines.box(polygon)
    if min(right, frame.width - 1) - max(left, 0) < 2 or min(bottom, frame.height - 1) - max(top, 0) < 2:
        raise Error("the outline of a line needs a width and a height on the page")
