"""Where the lines of a page break its transcript: from rough spans of the text to the best ones by CTC scores."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hwr.alphabet import Alphabet
from hwr.decoding import spans
from hwr.decoding.rough_match import BARRIER

# Costs in nats. On lines of unknown hands, a right text costs about 0.3 per character and a wrong one 9. Skipping text
# between two lines, or a line, costs this per character and SKIP_ANY once; skipping a part of a word SKIP_PART more.
SKIP_TEXT, SKIP_LINE, SKIP_ANY, SKIP_PART = 1.5, 1.5, 10.0, 10.0
# Breaking a word at the end of a line, with a hyphen there and without.
BROKEN, BROKEN_WITHOUT_HYPHEN = 1.0, 6.0

# How many characters from its rough place a line may break: at word boundaries, and within words.
NEAR, NEAR_IN_WORD = 25, 4

# CTC is too sure of itself, so scores are divided by this before they become probabilities. Chosen on validation pages.
TEMPERATURE = 4.0

_NEVER = -1e30
_FREE = f"{BARRIER} "
# A word may break after these.
_BREAKS = f"{_FREE}-=\xac\u2010\u2011\u2013\u2014"


@dataclass(frozen=True)
class Text:
    """A transcript, prepared for alignment.

    Attributes:
        characters: The text, with runs of white space as one space.
        ids: (L,) class ids of the characters that the network can write.
        at: (len(characters) + 1,) how many ids come before each character.
    """

    characters: str
    ids: np.ndarray
    at: np.ndarray


class RoughLine(NamedTuple):
    """A line, and roughly its place in the text.

    Attributes:
        logits: (T, C) float, before the softmax; the blank is the last class.
        length: Of what the network reads, in characters.
        start: Where it starts in the text.
        end: Where it ends.
    """

    logits: np.ndarray
    length: int
    start: int
    end: int


@dataclass(frozen=True)
class Span:
    """The part of a text that a line has.

    Attributes:
        start: Where it starts in the text.
        end: Where it ends.
        hyphen: Whether the line ends with a hyphen that the text does not have.
        fit: How well the line fits the text, 0..1: the likelihood of the best CTC path of the text divided by that of the
            best path of any text, at `TEMPERATURE`, as geometric mean per character.
        sure: The probability that the line has this part of the text and no other, 0..1, at `TEMPERATURE`.
    """

    start: int
    end: int
    hyphen: bool
    fit: float
    sure: float


@dataclass(frozen=True)
class _Scored:
    """The scores of a line's possible spans.

    Attributes:
        starts: (S,) in the text; ends: (E,).
        nexts: (E,) where the next line starts if no text is skipped.
        totals: (S, E) nats.
        ratios: (S, E) nats, without penalties.
        hyphens: (S, E) bool.
        skip: What skipping the line costs, in nats.
    """

    starts: np.ndarray
    ends: np.ndarray
    nexts: np.ndarray
    totals: np.ndarray
    ratios: np.ndarray
    hyphens: np.ndarray
    skip: float


@dataclass(frozen=True)
class _Skips:
    """The cost of skipping text from one place to a later one: sums[to] - sums[from] + parts of both + `SKIP_ANY`.

    Attributes:
        sums: (N,) of the characters before each place, in nats; spaces and barriers cost nothing.
        parts: (N,) `SKIP_PART` at places within words.
    """

    sums: np.ndarray
    parts: np.ndarray

    def after(self, row: np.ndarray, add: np.ufunc, scale: float) -> np.ndarray:
        """The row with text skipped before each place.

        Args:
            row: (N,) the value at each place.
            add: How values of one place are combined: np.maximum or np.logaddexp.
            scale: Divides the costs.
        """
        sums, parts = self.sums / scale, self.parts / scale
        moved = add.accumulate(row + sums - parts)[:-1] - sums[1:] - parts[1:] - SKIP_ANY / scale
        return np.concatenate([row[:1], add(row[1:], moved)])

    def reversed(self) -> "_Skips":
        return _Skips((self.sums[-1] - self.sums)[::-1], self.parts[::-1])


def decide(
    lines: Sequence[RoughLine], text: Text, left: str, alphabet: Alphabet, edge_spaces: bool
) -> list[Span | None]:
    """Choose the parts of lines whose order is that of the text, such that their scores and the text skipped are best.

    Args:
        left: The text with barriers.
        edge_spaces: Whether the network writes a space before and after each line.

    Returns:
        For each line its part, or None if it should be skipped.
    """
    if not lines:
        return []
    free = np.array([c in _FREE for c in left] + [False])
    places = np.arange(len(free))
    onward = np.minimum.accumulate(np.where(free, len(free) - 1, places)[::-1])[::-1]  # the next place that is not free
    back = np.maximum.accumulate(np.concatenate([[0], np.where(free[:-1], 0, places[1:])]))
    skips = _Skips(
        np.concatenate([[0.0], np.cumsum(np.where(free[:-1], 0.0, SKIP_TEXT))]),
        np.array([SKIP_PART * _in_word(p, left) for p in range(len(left) + 1)]),
    )
    barriers = np.concatenate([[0], np.cumsum([c == BARRIER for c in left])])  # before each place
    gaps = [_near(left, lines[0].start)]
    gaps += [_near(left, one.end, other.start) for one, other in itertools.pairwise(lines)]
    gaps += [_near(left, lines[-1].end)]
    scored = []
    for line, before, after in zip(lines, gaps[:-1], gaps[1:], strict=True):
        starts = np.unique(onward[before])
        starts = starts[starts < len(left)] if starts[0] < len(left) else np.array([len(left) - 1])
        ends = np.unique(back[after])
        ends = ends[ends > starts[0]] if ends[-1] > starts[0] else starts[:1] + 1
        own = _scored(line, text, left, starts, ends, onward, alphabet, edge_spaces)
        own.totals[(barriers[ends] > barriers[starts][:, None]) | (ends <= starts[:, None])] = _NEVER
        scored.append(own)
    return _probable(scored, _best(scored, skips), skips, text)


def _near(left: str, *places: int) -> list[int]:
    """Where a line may break near places."""
    found = set()
    for place in places:
        own = range(max(0, place - NEAR), min(len(left), place + NEAR) + 1)
        found |= {q for q in own if abs(q - place) <= NEAR_IN_WORD or not _in_word(q, left)}
    return sorted(found)


def _in_word(p: int, left: str) -> bool:
    """Whether a line that breaks here breaks a word that has no hyphen here."""
    return 0 < p < len(left) and left[p - 1] not in _BREAKS and left[p] not in _FREE


def _scored(
    line: RoughLine,
    text: Text,
    left: str,
    starts: np.ndarray,
    ends: np.ndarray,
    onward: np.ndarray,
    alphabet: Alphabet,
    edge_spaces: bool,
) -> _Scored:
    space = np.array(alphabet.encode(" ") if edge_spaces else [], np.int64)
    hyphen = [np.array(alphabet.encode("-"), np.int64)] if "-" in alphabet.characters else []
    tails = [space, *(np.concatenate([h, space]) for h in hyphen)]
    found = spans.scores(line.logits, text.ids, text.at[starts], text.at[ends], space, tails).astype(np.float64)
    inside = np.array([_in_word(p, left) for p in ends.tolist()])
    totals = found[0] - np.where(inside, BROKEN_WITHOUT_HYPHEN, 0)
    hyphens = inside & (found[-1] - BROKEN > totals) & bool(hyphen)
    totals = np.where(hyphens, found[-1] - BROKEN, totals)
    ratios = np.where(hyphens, found[-1], found[0])
    return _Scored(starts, ends, onward[ends], totals, ratios, hyphens, SKIP_ANY + SKIP_LINE * line.length)


def _forward(
    scored: list[_Scored], skips: _Skips, add: np.ufunc, scale: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The value of all spans of the lines before each line, by where they end in the text.

    Returns:
        For each line, (N,) the values before text is skipped, with one row more for the end; and after that.
    """
    row = np.full(len(skips.sums), _NEVER)
    row[int(np.argmax(np.diff(skips.sums, append=np.inf) > 0))] = 0  # the first character that is not free
    rows, entered = [row], []
    for own in scored:
        entered.append(skips.after(rows[-1], add, scale))
        row = rows[-1] - own.skip / scale
        add.at(row, own.nexts, add.reduce(entered[-1][own.starts][:, None] + own.totals / scale, 0))
        rows.append(row)
    return rows, entered


def _finish(skips: _Skips) -> np.ndarray:
    """(N,) the value of skipping all text from each place on."""
    nothing = np.full(len(skips.sums), _NEVER)
    nothing[-1] = 0
    return skips.reversed().after(nothing[::-1], np.maximum, 1.0)[::-1]


def _best(scored: list[_Scored], skips: _Skips) -> list[tuple[int, int] | None]:
    """For each line, the start and end on the best path, as indices into its candidates."""
    rows, entered = _forward(scored, skips, np.maximum, 1.0)
    place = int((rows[-1] + _finish(skips)).argmax())
    chosen: list[tuple[int, int] | None] = []
    for k in range(len(scored) - 1, -1, -1):
        own = scored[k]
        if rows[k][place] - own.skip >= rows[k + 1][place]:
            chosen.append(None)
            continue
        values = entered[k][own.starts][:, None] + np.where(own.nexts == place, own.totals, _NEVER)
        s, e = np.unravel_index(int(values.argmax()), values.shape)
        chosen.append((int(s), int(e)))
        place = int(own.starts[s])
        if entered[k][place] > rows[k][place]:  # text was skipped
            place = int((rows[k] + skips.sums - skips.parts)[:place].argmax())
    return chosen[::-1]


def _probable(
    scored: list[_Scored], chosen: list[tuple[int, int] | None], skips: _Skips, text: Text
) -> list[Span | None]:
    """The chosen spans with their probabilities among all spans of all lines (forward-backward algorithm)."""
    rows, entered = _forward(scored, skips, np.logaddexp, TEMPERATURE)
    after = _finish(skips) / TEMPERATURE
    total = np.logaddexp.reduce(rows[-1] + after)
    out: list[Span | None] = []
    for k in range(len(scored) - 1, -1, -1):
        own, pick = scored[k], chosen[k]
        inner = own.totals / TEMPERATURE + after[own.nexts]  # (S, E)
        if pick is None:
            out.append(None)
        else:
            start, end, hyphen = int(own.starts[pick[0]]), int(own.ends[pick[1]]), bool(own.hyphens[pick])
            sure = np.exp(min(0.0, entered[k][start] + inner[pick] - total))
            length = max(1, int(text.at[end] - text.at[start]) + hyphen)
            out.append(Span(start, end, hyphen, float(np.exp(own.ratios[pick] / length / TEMPERATURE)), float(sure)))
        before = np.full(len(after), _NEVER)
        before[own.starts] = np.logaddexp.reduce(inner, 1)
        turned = skips.reversed().after(before[::-1], np.logaddexp, TEMPERATURE)[::-1]
        after = np.logaddexp(turned, after - own.skip / TEMPERATURE)
    return out[::-1]
