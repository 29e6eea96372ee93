"""Adding texts to a language model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwr import Error
from hwr.decoding import arpa, language_model, mix, ngram, prune

OLD = ["the cat sat on the mat", "a cat and a dog", "the dog sat", "on a mat the cat sat"] * 3
NEW = [
    f"{a} {b}"
    for a in ("Zoë ate", "pâté on", "Zoë and")
    for b in ["the pâté", "a mat", "the cat", "Zoë", "pâtés", "mâche", "a"]
]
LIKE_OLD = [f"{a} {b} {c}" for a in ("the cat", "a dog") for b in ("sat", "and") for c in [*OLD[:4], "a cat"]]
CHARACTERS = sorted({*"".join(OLD + NEW)})


def probability(lm: ngram.LM, text: str, token: int) -> float:
    """p(token | text), with the text as a whole line so far."""
    state = lm.start
    for known in lm.ids(text):
        state = lm.step(state, int(known))[1]
    return float(10 ** lm.step(state, token)[0])


@pytest.mark.parametrize("orders", [(4, 4), (3, 5), (5, 2)])
def test_the_mixture_has_the_mean_probability(orders: tuple[int, int]) -> None:
    """Exactly, for the n-grams of the longer model; and the probabilities of all characters sum to 1."""
    longest, lines = max((orders[0], OLD), (orders[1], NEW))
    one, other = ngram.build(OLD, orders[0]), ngram.build(NEW, orders[1])
    mixture = mix.mixed(one, other, 0.3)
    assert mixture.order == longest
    seen = 0
    for text in ("", "the ", "Zoë ", "on a ma", "pâ", "x"):
        total = sum(probability(mixture, text, t) for t in range(len(mixture.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=1e-4)
        for character in "tcZâ":
            a, b, c = (probability(lm, text, int(lm.ids(character)[0])) for lm in (one, other, mixture))
            if any(f"^{text}{character}"[-longest:] in f"^{line}" for line in lines):
                seen += 1
                assert c == pytest.approx(0.7 * a + 0.3 * b, rel=1e-4)
    assert seen >= 3


def test_a_share_of_none_or_all_is_one_of_the_models() -> None:
    one, other = ngram.build(OLD, 4), ngram.build(NEW, 4)
    for share, lm, texts in ((0.0, one, OLD), (1.0, other, NEW)):
        mixture = mix.mixed(one, other, share)
        assert [mixture.log10(text) for text in texts] == pytest.approx([lm.log10(text) for text in texts], rel=1e-3)


def test_an_order_that_no_text_reaches() -> None:
    names = ["Anna", "Karl", "Otto"]
    found = mix.add(ngram.build(OLD, 4), names, 0.3, order=12).lm
    assert found.order <= max(map(len, OLD)) + 2
    assert found.log10("Otto") > ngram.build(OLD, 4).log10("Otto")


def test_the_best_share_depends_on_the_texts() -> None:
    lm = ngram.build(OLD, 4)
    for texts, low, high in ((NEW, 0.5, 1), (LIKE_OLD, 0, 0.95)):
        found = mix.add(lm, texts)
        assert low < found.share <= high
        assert found.after <= found.before
    assert mix.add(lm, NEW).lm.log10(NEW[0]) > lm.log10(NEW[0]) + 5
    with pytest.raises(Error, match=r"3 different lines of text are too few .* --share"):
        mix.add(lm, NEW[:3] * 10)
    assert mix.add(lm, NEW[:3], 0.5).share == 0.5


def test_the_best_share_is_the_likeliest(rng: np.random.Generator) -> None:
    """Of all shares, in hundredths."""
    shares = np.arange(101)[:, None] / 100
    for power in (1, 3):
        old, new = rng.uniform(0.01, 1, (2, 2000))
        new **= power
        likelihood = np.log((1 - shares) * old + shares * new).mean(1)
        assert mix._best_share(old, new) == pytest.approx(likelihood.argmax() / 100, abs=0.011)


@pytest.mark.parametrize("times", [2, 3])
def test_repeated_lines_are_held_out_with_their_copies(times: int) -> None:
    """A model knows the lines that it has seen, whatever their share."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("the catdog"), 12)) for _ in range(43)]
    once, often = (mix.add(ngram.build(OLD, 4), lines) for lines in (texts, texts * times))
    assert often.share == pytest.approx(once.share, abs=0.1)
    assert often.after == pytest.approx(once.after, rel=0.2)


def test_a_quantised_model_stays_quantised() -> None:
    lm, times = ngram.count(OLD, 4)
    small = prune.to_size(lm, times, 0.01)
    found = mix.add(small, NEW)
    assert language_model.is_quantised(found.lm)
    assert language_model.from_arrays(*language_model.to_arrays(found.lm)).counts == found.lm.counts
    assert np.isfinite(found.lm.log10_p).all()


def test_contexts_that_leave_nothing_keep_their_back_off_weights() -> None:
    """The rounded probabilities of a quantised model may sum to more than 1; then no other character becomes likely."""
    lm = ngram.build(OLD * 20, 4)
    mixture = mix.mixed(replace(lm, log10_p=lm.log10_p * np.float32(0.95)), ngram.build(NEW, 4), 0.02)
    for text in ("the", "the ", "on a", "the dog sa"):
        total = sum(probability(mixture, text, t) for t in range(len(mixture.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=0.1)


def test_a_model_that_another_program_has_pruned(tmp_path: Path) -> None:
    """It may lack n-grams without their first token; the probabilities of the mixture sum to 1 all the same."""
    lm = ngram.build(OLD, 3)
    arpa.write(tmp_path / "whole.arpa", lm)
    rows = (tmp_path / "whole.arpa").read_text().splitlines()
    kept = [row for row in rows if not row.partition("\t")[2].startswith("a t")]
    gone = [sum(len(row.split("\t")[1].split()) == n for row in {*rows} - {*kept}) for n in (1, 2, 3)]
    assert gone[0] == 0 < gone[1]
    header = [f"ngram {n}={count - less}" for n, (count, less) in enumerate(zip(lm.counts, gone, strict=True), 1)]
    (tmp_path / "pruned.arpa").write_text("\n".join([kept[0], *header, *kept[4:]]))
    mixture = mix.mixed(arpa.read(tmp_path / "pruned.arpa"), ngram.build(["on a mud"] * 3, 3), 0.3)
    for text in ("the ca", "a", "on a ma", "the ", "da"):
        total = sum(probability(mixture, text, t) for t in range(len(mixture.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=1e-4)
