import math

import numpy as np
import pytest

from hwr.evaluation import metrics


def test_counts_of_a_known_answer() -> None:
    score = metrics.score(["The cat.", "sat"], ["the cat", "sit on"])
    # T->t and a missing full stop; then a->i and an extra " on".
    assert score.characters.edits.tolist() == [2, 4]
    assert score.characters.units.tolist() == [8, 3]
    assert score.cer == pytest.approx(6 / 11)
    assert score.cer_mean_per_line == pytest.approx((2 / 8 + 4 / 3) / 2)
    assert score.accuracies.tolist() == [0.75, 0]  # at least 0, although there are more edits than characters
    assert score.casefolded.edits.tolist() == [1, 4]
    assert score.wer == pytest.approx((2 + 2) / 3)
    # The cat . -> the cat: a substitution and a deletion of three tokens.
    assert (score.tokens.edits.tolist(), score.tokens.units.tolist()) == ([2, 2], [3, 1])


def test_each_punctuation_mark_is_a_token() -> None:
    tokens = metrics.score(["Wait...! l'eau"], ["Wait. l'eau"]).tokens
    assert (tokens.edits.tolist(), tokens.units.tolist()) == ([3], [8])


def test_combining_marks_belong_to_their_words() -> None:
    """Letters of medieval abbreviations have no composed form, and NFD has none at all."""
    tokens = metrics.score(["atq\u0303ue, e\u0301te\u0301"], ["atque, e\u0301te\u0301"]).tokens
    assert (tokens.edits.tolist(), tokens.units.tolist()) == ([1], [3])


def test_spaces_count() -> None:
    assert metrics.score(["a b"], ["ab"]).cer == pytest.approx(1 / 3)


def test_against_the_textbook_distance(rng: np.random.Generator) -> None:
    def distance(a: str, b: str) -> int:  # Wagner and Fischer, 1974
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            before, row = row, [i]
            for j, y in enumerate(b, 1):
                row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        return row[-1]

    texts = ["".join(rng.choice(list("ab c"), rng.integers(0, 12))) for _ in range(80)]
    score = metrics.score(texts[:40], texts[40:])
    assert score.characters.edits.tolist() == [distance(a, b) for a, b in zip(texts[:40], texts[40:], strict=True)]


def test_empty_references() -> None:
    score = metrics.score(["", ""], ["", "xyz"])
    assert math.isnan(score.cer)
    assert score.cer_mean_per_line == 0.5
    assert all(math.isnan(end) for end in score.cer_interval(20)[:2])
    # Resamples that draw only the empty reference have no rate.
    assert metrics.score(["", "x"], ["", "y"]).cer_interval(20)[:2] == (1, 1)


def test_the_interval_resamples_writers() -> None:
    # Two kinds of writers, each without variance: resampling lines would give a far narrower interval.
    references = ["aaaaaaaaaa"] * 200
    hypotheses = ["aaaaaaaaaa"] * 100 + ["bbbbbbbbbb"] * 100
    few = metrics.score(references, hypotheses, [f"w{i // 50}" for i in range(200)])
    low, high, over = few.cer_interval(500)
    assert over == "writers"
    assert (low, high) == (0, 1)  # all four draws are equal with probability 1/8
    low, high, over = metrics.score(references, hypotheses).cer_interval(500)
    assert over == "lines"
    # Half of 200 lines are wrong: 0.5 and 1.96 standard errors of 0.5 / sqrt(200).
    assert (low, high) == pytest.approx((0.431, 0.569), abs=0.011)
    # One writer tells nothing of others, and a line without a writer may be anybody's.
    for writers in (["w"] * 200, ["", *(f"w{i // 50}" for i in range(199))]):
        assert metrics.score(references, hypotheses, writers).cer_interval(500) == (low, high, "lines")


def test_the_interval_covers_the_truth(rng: np.random.Generator) -> None:
    """A 95 % interval over independent lines contains the true rate about 19 times in 20."""
    hits = 0
    for trial in range(100):
        wrong = rng.random(300) < 0.1
        score = metrics.score(["x"] * 300, ["y" if w else "x" for w in wrong])
        low, high, _ = score.cer_interval(200, seed=trial)
        hits += low <= 0.1 <= high
    assert 88 <= hits <= 100
