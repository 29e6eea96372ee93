"""Align a page's transcript with its lines: the network's output of each line and a text -> the part that each line has.

First, `rough_match` compares what the network reads with the text. Then `line_breaks` scores all spans near these matches
with CTC, and decides where the lines break. Lines that this leaves without text are matched with the text that it leaves
without a line, in any order, so that columns and notes may come in another order than in the transcript.
"""

import bisect
import itertools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwr.alphabet import Alphabet
from hwr.decoding import greedy, line_breaks, rough_match
from hwr.decoding.line_breaks import RoughLine, Span, Text
from hwr.decoding.rough_match import BARRIER

# Lines with a lower score are doubtful. Chosen on validation pages.
DOUBTFUL = 0.75

# The score of a line: logistic regression of whether its text is exactly right, on the log odds of `sure` and `fit`, and the
# logarithm of its length + 1 in characters. Fitted on validation pages of five sources, weighted alike (docs/experiments.md).
SCORE_SURE, SCORE_FIT, SCORE_LENGTH, SCORE_OFFSET = 1.268, 0.157, 0.906, -2.709

# A line that the network can't read gets the text between its neighbours' if their lengths differ by this factor at most.
MOST_LENGTH = 2.5

# Lines out of order must have at least this many characters, because short ones match anywhere, and this score.
LEAST_OUT_OF_ORDER, SCORE_OUT_OF_ORDER = 6, 0.6

# What transcripts write and alphabets may lack.
_SIMILAR = {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\xac": "-"}


@dataclass(frozen=True)
class AlignedLine:
    """A line with its part of the transcript.

    Attributes:
        text: The part, with a hyphen at its end if the line has one there.
        span: Where it is in the transcript, and how sure that is; None if the line has no text.
        moved: Whether the line comes at another place in the transcript than on the page.
    """

    text: str = ""
    span: Span | None = None
    moved: bool = False

    @property
    def score(self) -> float:
        """The probability that the text is exactly right, 0..1, from `fit` and `sure` of `Span`; 0 without text."""
        if not self.span:
            return 0.0
        sure, fit = greedy.log_odds(np.array([self.span.sure, self.span.fit])).tolist()
        length = math.log(len(self.text) + 1)
        z = SCORE_SURE * sure + SCORE_FIT * fit + SCORE_LENGTH * length + SCORE_OFFSET
        return 1 / (1 + math.exp(-z))

    @property
    def doubtful(self) -> bool:
        """Whether the line has a text that should be checked."""
        return self.span is not None and self.score < DOUBTFUL


@dataclass(frozen=True)
class Alignment:
    """The lines of a page with their parts of its transcript.

    Attributes:
        lines: In the order of the page.
        skipped: The parts of the transcript that no line has.
        characters: The length of the transcript, with runs of white space as one space.
    """

    lines: tuple[AlignedLine, ...]
    skipped: tuple[str, ...]
    characters: int


def align(
    logits: Sequence[np.ndarray], readings: Sequence[str], text: str, alphabet: Alphabet, edge_spaces: bool
) -> Alignment:
    """Find the part of a transcript that each line of a page has.

    Args:
        logits: Of each line, (T, C) float, before the softmax; the blank is the last class.
        readings: What the network reads in each line, see `greedy`. A line without a reading gets no text.
        text: Line breaks in it have no meaning.
        edge_spaces: Whether the network writes a space before and after each line.
    """
    whole = prepared(text, alphabet)
    found: list[Span | None] = [None] * len(logits)
    open_ = np.ones(len(whole.characters), bool)
    for least in itertools.chain([1], itertools.repeat(LEAST_OUT_OF_ORDER)):
        lines = [i for i, reading in enumerate(readings) if found[i] is None and len(reading.strip()) >= least]
        left = "".join(c if free else BARRIER for c, free in zip(whole.characters, open_, strict=True))
        if not lines or not left.strip(f"{BARRIER} "):
            break
        own = [readings[i].strip() for i in lines]
        rough = _with_gaps(rough_match.match(own, left), own, [len(logits[i]) for i in lines], left)
        chain = [(i, *span) for i, span in zip(lines, rough, strict=True) if span and span[0] < span[1]]
        rough_lines = [RoughLine(logits[i], len(readings[i]), start, end) for i, start, end in chain]
        decided = line_breaks.decide(rough_lines, whole, left, alphabet, edge_spaces)
        good = [
            (i, span)
            for (i, *_), span in zip(chain, decided, strict=True)
            if span and (least == 1 or min(span.fit, span.sure) >= SCORE_OUT_OF_ORDER)
        ]
        if not good:
            break
        for i, span in good:
            found[i] = span
            open_[span.start : span.end] = False
    return _alignment(found, open_, whole.characters)


def prepared(text: str, alphabet: Alphabet) -> Text:
    """Prepare a transcript. A character that the network can't write counts as a similar one, or as none."""
    characters = " ".join(text.replace(BARRIER, " ").split())
    classes = {c: i for i, c in enumerate(alphabet.characters)}
    each = [_similar(c, classes) for c in characters]
    ids = [i for own in each for i in own]
    return Text(characters, np.array(ids, np.int64), np.concatenate([[0], np.cumsum([len(own) for own in each])]))


def _similar(c: str, classes: dict[str, int]) -> list[int]:
    if c in classes:
        return [classes[c]]
    return [classes[x] for x in _SIMILAR.get(c) or unicodedata.normalize("NFKD", c) if x in classes]


def _with_gaps(
    rough: Sequence[tuple[int, int] | None], readings: Sequence[str], steps: Sequence[int], left: str
) -> list[tuple[int, int] | None]:
    """Give lines between two matches the text between these, in proportion to their widths, if it is about as long.

    Args:
        steps: The time steps of each line. With them, the length of all the text tells about how long the line's text is.
    """
    out = list(rough)
    done = 0  # where the texts given here end
    per_step = sum(c not in f"{BARRIER} " for c in left) / max(1, sum(steps))
    # Where the matches before each line end, and where those from it on start.
    ends = list(itertools.accumulate((span[1] if span else 0 for span in rough), max, initial=0))
    starts = list(
        itertools.accumulate((span[0] if span else len(left) for span in reversed(rough)), min, initial=len(left))
    )
    starts.reverse()
    k = 0
    while k < len(out):
        if out[k] is not None:
            k += 1
            continue
        stop = next((j for j in range(k, len(out)) if out[j] is not None), len(out))
        start, end = max(ends[k], done), starts[stop]
        inner = left[start:end].strip(f"{BARRIER} ")
        widths = steps[k:stop]
        lengths = (sum(map(len, readings[k:stop])), per_step * sum(widths))
        similar = any(length / MOST_LENGTH - 3 <= len(inner) <= length * MOST_LENGTH + 3 for length in lengths)
        if inner and BARRIER not in inner and similar:
            first = start + left[start:end].index(inner)
            edges = [first + round(len(inner) * part / sum(widths)) for part in itertools.accumulate(widths, initial=0)]
            out[k:stop] = list(itertools.pairwise(edges))
            done = max(done, edges[-1])
        k = stop
    return out


def _alignment(found: Sequence[Span | None], open_: np.ndarray, characters: str) -> Alignment:
    moved = _moved([(i, span.start) for i, span in enumerate(found) if span])
    lines = tuple(
        AlignedLine(characters[span.start : span.end] + "-" * span.hyphen, span, i in moved) if span else AlignedLine()
        for i, span in enumerate(found)
    )
    left = "".join(c if free else BARRIER for c, free in zip(characters, open_, strict=True)).split(BARRIER)
    return Alignment(lines, tuple(part.strip() for part in left if part.strip()), len(characters))


def _moved(places: Sequence[tuple[int, int]]) -> set[int]:
    """The lines that are not in the longest sequence of lines whose order is that of the text.

    Args:
        places: Each line's number, and where it starts in the text.
    """
    # Of each length, the sequence that ends first in the text: where it ends, and its last line.
    ends, last = list[int](), list[int]()
    before: dict[int, int | None] = {}  # the line that precedes a line in its sequence
    for i, start in places:
        length = bisect.bisect_left(ends, start)
        ends[length : length + 1], last[length : length + 1] = [start], [i]
        before[i] = last[length - 1] if length else None
    moved, line = set(before), last[-1] if last else None
    while line is not None:
        moved.remove(line)
        line = before[line]
    return moved
