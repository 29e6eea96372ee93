"""Find and read the lines of a project's pages."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwr import Error
from hwr.images import load
from hwr.pages.predict import on_page
from hwr.pages.sources import Target
from hwr.recognizer import Prepared, Reading, Recognizer
from hwr.serve.project import edits
from hwr.serve.project.database import Store
from hwr.serve.project.edits import Found
from hwr.serve.project.folder import Project
from hwr.serve.project.page_state import Conflict, LineState, PageState
from hwr.serve.reading.reader import LATER, NOW, Busy, Reader

Finder = Callable[[PageState, Recognizer], list[Found]]

# Hypotheses of the beam from which alternatives of words are taken, and the most alternatives of a word.
HYPOTHESES = 24
MOST_ALTERNATIVES = 6


@dataclass(frozen=True)
class PageResult:
    """What became of a page.

    Attributes:
        page: The page, with its predictions.
        faults: Of each line that could not be read, why.
    """

    page: PageState
    faults: tuple[str, ...]


def find_lines(page: PageState, recognizer: Recognizer) -> list[Found]:
    """The lines of a page photo, in pixels of the upright image.

    Args:
        recognizer: Tells whether the page is upside down.

    Raises:
        Error: The line finder is not installed, or can't read the image.
    """
    from hwr.pages.segment import lines_of

    return [Found(target.region, target.baseline) for target in lines_of(page.image, recognizer) if target.region]


def read_page(
    project: Project, store: Store, reader: Reader, id: str, find: Finder = find_lines, given: bool = False
) -> PageResult:
    """Read a page: find its lines if it has none, and predict the texts of those that no person has checked.

    Args:
        given: Whether predictions also replace texts from elsewhere.

    Raises:
        Error: The page can't be read.
        Missing: There is no such page.
    """
    page = project.page(id)
    if page.error:
        raise Error(page.error)
    if not page.lines:
        page = edits.set_lines(project, id, find(page, reader.shared(LATER)))
    open_ = ("empty", "read", "given") if given else ("empty", "read")
    lines = [line for line in page.lines if line.state in open_]
    prepared, faults = prepare(page, lines, reader.recognizer)
    try:
        found = reader.read(list(prepared.values()), True, LATER).result()
    except Busy as error:
        raise Error(f"{page.name}: {error}") from None
    readings = dict(zip(prepared, found, strict=True))
    if readings:
        page = edits.read_into(project, id, lines, readings, given)
        store.set_characters(id, _located(page.lines, prepared, readings))
    return PageResult(page, tuple(faults))


def read_lines(
    project: Project, store: Store, reader: Reader, id: str, names: Sequence[str], revision: str
) -> PageState:
    """Read single lines of a page again, for a person who waits. Checked lines stay as they are.

    Args:
        revision: The page's revision that the person saw: a text that somebody has typed since is not to be replaced.

    Raises:
        Conflict: The page has changed since.
        Error: None of them can be read.
    """
    page = project.page(id)
    if page.revision != revision:
        raise Conflict(f"{page.name} has been changed in another window or by another program")
    lines = [line for line in page.lines if line.id in names and line.state != "checked"]
    prepared, faults = prepare(page, lines, reader.recognizer)
    if not prepared:
        raise Error(faults[0] if faults else "no line to read: checked lines stay as they are")
    readings = dict(zip(prepared, reader.read(list(prepared.values()), True, NOW).result(), strict=True))
    page = edits.read_into(project, id, lines, readings, given=True)
    store.set_characters(id, _located(lines, prepared, readings))
    return page


def prepare(
    page: PageState, lines: Sequence[LineState], recognizer: Recognizer
) -> tuple[dict[str, Prepared], list[str]]:
    """The prepared images of lines, by id, and what is wrong with the others."""
    usable = [line for line in lines if line.polygon]
    faults = [f"{page.name}: {line.id}: {line.fault or 'has no outline'}" for line in lines if not line.polygon]
    regions, baselines = [line.polygon for line in usable], [line.baseline for line in usable]
    cuts = load.read_lines(page.image, regions, True, baselines)
    prepared = {}
    for line, cut in zip(usable, cuts, strict=True):
        try:
            if isinstance(cut, Error):
                raise cut
            prepared[line.id] = recognizer.prepare(cut)
        except Error as error:
            faults.append(f"{page.name}: {line.id}: {error}")
    return prepared, faults


def _located(
    lines: Sequence[LineState], prepared: dict[str, Prepared], readings: dict[str, Reading]
) -> dict[str, tuple[str, list[tuple[str, float, float, float]]]]:
    """For each line its text and its characters, with their edges in pixels from the left end of the line's box."""
    found = {}
    for line in lines:
        if (reading := readings.get(line.id)) is None:
            continue
        left = max(0, min(x for x, _ in line.polygon))
        target = Target(Path(), line.polygon, line.baseline)
        characters = on_page(reading.characters, target, prepared[line.id])
        found[line.id] = (
            reading.text.strip(),
            [(c.text, c.left - left, c.right - left, c.confidence) for c in characters],
        )
    return found


# --- Alternatives ---


def alternatives(page: PageState, line: LineState, reader: Reader) -> list[list[str]]:
    """What the beam search has for each word of a line's text, best first; the word itself is not repeated.

    Raises:
        Error: The line can't be read.
    """
    prepared, faults = prepare(page, [line], reader.recognizer)
    if not prepared:
        raise Error(faults[0])
    (one,) = prepared.values()
    texts = reader.call(lambda recognizer: hypotheses(recognizer, one)).result()
    return of_words(line.text.split(), [text.split() for text in texts])


def hypotheses(recognizer: Recognizer, line: Prepared) -> list[str]:
    """The best texts of a line, best first. Runs where the network runs."""
    (output,) = recognizer.outputs([line])
    decoder = recognizer.decoder
    settings = replace(decoder.settings, name="beam", beam=max(decoder.settings.beam, HYPOTHESES))
    found = replace(decoder, settings=settings).n_best(output.logits[None], HYPOTHESES)
    return [hypothesis.text for hypothesis in found[0]]


def of_words(words: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each word, what other texts have in its place."""
    out: list[list[str]] = [[] for _ in words]
    for other in texts:
        matcher = difflib.SequenceMatcher(None, words, other, autojunk=False)
        for tag, start, end, there, last in matcher.get_opcodes():
            if tag != "replace":
                continue
            if end - start == last - there:
                pairs = [(i, other[there + i - start]) for i in range(start, end)]
            elif end - start == 1:
                pairs = [(start, " ".join(other[there:last]))]
            else:
                continue
            for i, word in pairs:
                if word not in out[i] and len(out[i]) < MOST_ALTERNATIVES:
                    out[i].append(word)
    return out
