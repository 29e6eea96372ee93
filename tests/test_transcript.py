"""Align a transcript with lines: brute-force CTC on tiny cases, and pages whose lines are known by construction."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from hwr.alphabet import ORIGINAL, Alphabet
from hwr.decoding import greedy, line_breaks, rough_match, spans, transcript
from hwr.decoding.rough_match import BARRIER
from hwr.decoding.transcript import Alignment

ALPHABET = Alphabet(ORIGINAL)


# --- Scores of spans


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    return [c for c, _ in itertools.groupby(path) if c != blank]


@pytest.mark.parametrize("head", [[], [2], [0]])
@pytest.mark.parametrize("tail", [[], [2], [1, 2]])
def test_the_score_of_a_span_is_that_of_its_likeliest_path(
    rng: np.random.Generator, head: list[int], tail: list[int]
) -> None:
    steps, label = 6, np.array([0, 0, 1, 0])
    logits = rng.normal(0, 2, (steps, 4))
    relative = logits - logits.max(1, keepdims=True)
    starts, ends = np.array([0, 1, 2]), np.array([1, 2, 3, 4])
    found = spans.scores(logits, label, starts, ends, np.array(head, int), [np.array(tail, int)])[0]
    paths = list(itertools.product(range(4), repeat=steps))
    best: dict[tuple[int, ...], float] = {}
    for path in paths:
        key = tuple(collapsed(path, 3))
        best[key] = max(best.get(key, -np.inf), float(relative[np.arange(steps), list(path)].sum()))
    for (i, start), (j, end) in itertools.product(enumerate(starts), enumerate(ends)):
        expected = best.get((*head, *label[start:end].tolist(), *tail), -np.inf) if end > start else -np.inf
        if np.isfinite(expected):
            assert found[i, j] == pytest.approx(expected, abs=1e-4)
        else:
            assert found[i, j] <= spans.NEVER / 2


def test_spans_of_nothing() -> None:
    one = np.array([0])
    assert (spans.scores(np.zeros((0, 4)), np.array([0, 1]), one, one + 2, one, [one]) <= spans.NEVER / 2).all()
    assert (spans.scores(np.zeros((5, 4)), np.array([0, 1]), one, one, one, [one]) <= spans.NEVER / 2).all()


# --- Rough matches


@pytest.mark.parametrize(
    ("readings", "text", "expected"),
    [
        (["the quick", "brown fox"], "the quick brown fox", ["the quick", "brown fox"]),
        (["tha quik", "brwn fxx"], "the quick brown fox", ["the quick", "brown fox"]),
        # a heading and a line that are not on the page
        (["the quick", "brown fox"], "Page 12, left the quick and lazy or so brown fox", ["the quick", "brown fox"]),
        # lines without text: a stamp, another hand
        (
            ["ARCHIVES 1871", "the quick", "zzzzzzzzz", "brown fox"],
            "the quick brown fox",
            [None, "the quick", None, "brown fox"],
        ),
        (["", "the quick"], "the quick", [None, "the quick"]),
        (["the quick"], "the\0quick", ["quick"]),
        (["abc"], "", [None]),
    ],
)
def test_rough_matches(readings: list[str], text: str, expected: list[str | None]) -> None:
    found = rough_match.match(readings, text)
    assert [text[span[0] : span[1]].strip() if span else None for span in found] == expected


# --- Line breaks


def test_no_line_spans_a_barrier(rng: np.random.Generator) -> None:
    """Even if the line reads just so: the text in between is that of another line."""
    whole = "the quick brown fox"
    left = whole.replace("quick ", f"quick{BARRIER}")
    line = line_breaks.RoughLine(output(whole, rng), len(whole), 0, len(whole))
    (found,) = line_breaks.decide([line], transcript.prepared(whole, ALPHABET), left, ALPHABET, True)
    assert found is None or whole[found.start : found.end] in ("the quick", "brown fox")
    (found,) = line_breaks.decide([line], transcript.prepared(whole, ALPHABET), whole, ALPHABET, True)
    assert found is not None
    assert whole[found.start : found.end] == whole


Way = tuple[tuple[int, int] | None, ...]


def every_way(scored: Sequence[line_breaks._Scored], skips: line_breaks._Skips) -> dict[Way, list[float]]:
    """The value of each way to give lines parts of the text, for each way to skip the text in between."""
    last = len(skips.sums) - 1
    out: dict[Way, list[float]] = {}

    def skipped(start: int, end: int) -> float:
        cost = skips.sums[end] - skips.sums[start] + skips.parts[start] + skips.parts[end] + line_breaks.SKIP_ANY
        return 0.0 if start == end else -float(cost)

    def go(place: int, value: float, way: Way) -> None:
        if len(way) == len(scored):
            out.setdefault(way, []).append(value + skipped(place, last))
            return
        own = scored[len(way)]
        go(place, value - own.skip, (*way, None))
        for (s, start), (e, end) in itertools.product(enumerate(own.starts), enumerate(own.nexts)):
            if place <= start < own.ends[e]:
                go(int(end), value + skipped(place, int(start)) + own.totals[s, e], (*way, (s, e)))

    go(0, 0.0, ())
    return out


@pytest.mark.parametrize("skip", [4.0, 25.0])
def test_the_spans_are_the_best_of_all_and_have_their_probability(skip: float, rng: np.random.Generator) -> None:
    letters, chosen_lines = 7, 0
    for _ in range(20):
        scored = []
        for starts, ends in (([0, 1], [2, 3]), ([2, 3, 4], [4, 5]), ([3, 4, 5], [6, 7])):
            totals = rng.uniform(-30, 0, (len(starts), len(ends)))
            totals[np.array(ends) <= np.array(starts)[:, None]] = line_breaks._NEVER
            hyphens = rng.random(totals.shape) < 0.5
            ratios = totals + rng.uniform(0, 3, totals.shape)
            scored.append(
                line_breaks._Scored(np.array(starts), np.array(ends), np.array(ends), totals, ratios, hyphens, skip)
            )
        skips = line_breaks._Skips(
            line_breaks.SKIP_TEXT * np.arange(letters + 1.0), rng.choice([0.0, line_breaks.SKIP_PART], letters + 1)
        )
        ways = every_way(scored, skips)
        best = line_breaks._best(scored, skips)
        assert max(ways[tuple(best)]) == pytest.approx(max(map(max, ways.values())))
        text = transcript.prepared("abcdefg", ALPHABET)
        total = sum(np.exp(v / line_breaks.TEMPERATURE) for values in ways.values() for v in values)
        for k, (pick, span) in enumerate(zip(best, line_breaks._probable(scored, best, skips, text), strict=True)):
            if pick is None:
                assert span is None
                continue
            chosen_lines += 1
            own = scored[k]
            assert span is not None
            assert (span.start, span.end) == (own.starts[pick[0]], own.ends[pick[1]])
            such = sum(np.exp(v / line_breaks.TEMPERATURE) for way in ways if way[k] == pick for v in ways[way])
            assert span.sure == pytest.approx(such / total, rel=1e-5)
            length = span.end - span.start + span.hyphen
            assert span.fit == pytest.approx(np.exp(own.ratios[pick] / length / line_breaks.TEMPERATURE))
            assert span.hyphen == own.hyphens[pick]
    assert chosen_lines > 10


# --- Whole pages


def output(text: str, rng: np.random.Generator, misread: float = 0.1) -> np.ndarray:
    """Logits of a network that writes a text, reads some of its characters as others, and is never quite sure."""
    rows = []
    for c in f" {text} ":
        own = rng.integers(len(ORIGINAL)) if rng.random() < misread else ORIGINAL.index(c)
        for peak in (own, own, ALPHABET.blank):
            row = rng.normal(0, 1, ALPHABET.classes)
            row[ORIGINAL.index(c)] += 5.0
            row[peak] += 7.0
            rows.append(row)
    return np.array(rows)


def aligned(lines: Sequence[str], text: str, rng: np.random.Generator) -> Alignment:
    logits = [output(line, rng) for line in lines]
    readings = [greedy.greedy(row[None], ALPHABET)[0][0] for row in logits]
    return transcript.align(logits, readings, text, ALPHABET, True)


LINES = [
    "In the spring of that year my uncle",
    "wrote to me from a small town in the",
    "north, where he had been sent to sur-",
    "vey the coast. He was a careful man,",
    "and his letters, which came by every",
    "mail, were full of numbers: depths and",
    "distances, hours of the tide.",
]


def texts(found: Alignment) -> list[str]:
    return [line.text for line in found.lines]


@pytest.mark.parametrize("between", [" ", "\n", "  \n\n"])
def test_line_breaks_are_restored(rng: np.random.Generator, between: str) -> None:
    found = aligned(LINES, between.join(LINES), rng)
    assert texts(found) == LINES
    assert found.skipped == ()
    assert not any(line.moved or line.doubtful for line in found.lines)
    assert all(0.6 < line.score <= 1 for line in found.lines)


def test_wrong_line_breaks_have_no_meaning(rng: np.random.Generator) -> None:
    words = " ".join(LINES).split()
    text = "\n".join(" ".join(words[i : i + 5]) for i in range(0, len(words), 5))
    assert texts(aligned(LINES, text, rng)) == LINES


def test_words_broken_over_lines(rng: np.random.Generator) -> None:
    """The transcript has the whole word. A hyphen at the end of the line is kept, and none is made up."""
    found = aligned(LINES, " ".join(LINES).replace("sur- vey", "survey"), rng)
    assert texts(found) == LINES
    assert [bool(line.span and line.span.hyphen) for line in found.lines].index(True) == 2
    # With its hyphen, the line fits as well as if the transcript had it.
    broken, whole = (
        aligned(LINES, " ".join(LINES).replace("sur- vey", text), np.random.default_rng(1)).lines[2].span
        for text in ("survey", "sur- vey")
    )
    assert broken is not None
    assert whole is not None
    assert (broken.hyphen, whole.hyphen) == (True, False)
    assert broken.fit == pytest.approx(whole.fit)
    without = [line.replace("sur-", "sur") for line in LINES]
    assert texts(aligned(without, " ".join(LINES).replace("sur- vey", "survey"), rng)) == without


def test_a_network_that_writes_no_hyphens(rng: np.random.Generator) -> None:
    """No line gets one, and breaking a word is as unlikely as it is without one."""
    alphabet, place = Alphabet(ORIGINAL.replace("-", "")), ORIGINAL.index("-")
    lines = [line.replace("sur-", "sur") for line in LINES]
    logits = [output(line, rng) for line in lines]
    readings = [greedy.greedy(row[None], ALPHABET)[0][0].replace("-", "") for row in logits]
    without = [np.delete(row, place, 1) for row in logits]
    found = transcript.align(without, readings, " ".join(lines).replace("sur vey", "survey"), alphabet, True)
    assert texts(found) == lines
    assert not any(line.span and line.span.hyphen for line in found.lines)


def test_text_that_is_not_on_the_page(rng: np.random.Generator) -> None:
    text = f"Letter 14, page 2 {' '.join(LINES[:3])} this line is on another page {' '.join(LINES[3:])} (end)"
    found = aligned(LINES, text, rng)
    assert texts(found) == LINES
    assert found.skipped == ("Letter 14, page 2", "this line is on another page", "(end)")


def test_lines_that_have_no_text(rng: np.random.Generator) -> None:
    lines = ["ARCHIVES", *LINES[:4], "Received 9 May, to be filed by Mr. Dobson", *LINES[4:]]
    expected = ["", *LINES[:4], "", *LINES[4:]]
    found = aligned(lines, " ".join(LINES), rng)
    assert texts(found) == expected
    assert [line.score for line in found.lines if line.span is None] == [0, 0]


def test_text_and_lines_missing_on_either_side(rng: np.random.Generator) -> None:
    text = " ".join(LINES[:2] + LINES[3:6])
    found = aligned([*LINES[:4], *LINES[5:]], text, rng)
    assert texts(found) == [*LINES[:2], "", LINES[3], LINES[5], ""]
    assert found.skipped == (LINES[4],)


def test_columns_in_another_order(rng: np.random.Generator) -> None:
    """The lines of the page alternate between two columns, and the transcript has one column after the other."""
    left, right = LINES[:4], ["A list of ships seen", "Mary Ann, of Leith", "Providence, of Hull", "The Good Intent"]
    lines = [line for pair in zip(left, right, strict=True) for line in pair]
    found = aligned(lines, " ".join([*left, *right]), rng)
    assert texts(found) == lines
    assert sum(line.moved for line in found.lines) in (3, 4)


def test_a_line_that_can_not_be_read_gets_the_text_between_its_neighbours(rng: np.random.Generator) -> None:
    logits = [output(line, rng, misread=0.9 if i == 3 else 0.1) for i, line in enumerate(LINES)]
    readings = [greedy.greedy(row[None], ALPHABET)[0][0] for row in logits]
    found = transcript.align(logits, readings, " ".join(LINES), ALPHABET, True)
    assert texts(found) == LINES
    assert found.lines[3].score < min(line.score for i, line in enumerate(found.lines) if i != 3)


def test_another_transcript_gives_no_text(rng: np.random.Generator) -> None:
    other = "Quite different words, on vegetables: 3 lb of carrots, onions, a dozen eggs; two loaves & some beer."
    found = aligned(LINES, other, rng)
    assert sum(line.span is not None for line in found.lines) <= 1
    assert sum(map(len, found.skipped)) > 60


def test_characters_that_the_network_can_not_write(rng: np.random.Generator) -> None:
    """A similar character counts for them, or none; the text keeps them."""
    text = (
        " ".join(LINES)
        .replace("uncle", "\xfcncl\xe9")
        .replace("He was", "\u2014 \u4eba He was")
        .replace("man,", "man\u2026")
    )
    found = aligned(LINES, text, rng)
    assert texts(found)[0] == "In the spring of that year my \xfcncl\xe9"
    assert " ".join(texts(found)) == text


def test_nothing_to_align(rng: np.random.Generator) -> None:
    assert transcript.align([], [], "some text", ALPHABET, True).skipped == ("some text",)
    found = aligned(LINES[:1], " \n\0 ", rng)
    assert texts(found) == [""]
    assert found.skipped == ()
