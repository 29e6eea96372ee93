import importlib.util
import itertools
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwr import Error
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.decoding import beam, compiled, greedy, lexicon, ngram, prune
from hwr.decoding.decoder import Decoder, Settings

TEXTS = ["abba", "ab", "cab", "baa", "abc abc", "bb"]


@pytest.fixture(params=[False, True], ids=["NumPy", "numba"], autouse=True)
def _implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with both searches."""
    if request.param:
        pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "is_used", lambda lines: request.param)


def enumerate_texts(logits: np.ndarray, characters: str) -> dict[str, float]:
    """Every text's natural-log probability, (T, C) logits: all C ** T paths, collapsed and summed."""
    blank = len(characters)
    p = np.exp(logits.astype(float))
    p /= p.sum(1, keepdims=True)
    texts: dict[str, float] = {}
    for path in itertools.product(range(blank + 1), repeat=len(logits)):
        text = "".join(characters[c] for c, _ in itertools.groupby(path) if c != blank)
        texts[text] = texts.get(text, 0.0) + math.prod(p[t, c] for t, c in enumerate(path))
    return {text: math.log(value) for text, value in texts.items()}


def peaky(rng: np.random.Generator, lines: int, steps: int = 160, classes: int = 81) -> np.ndarray:
    """Output like a trained network's: blanks, and 30 to 50 characters of one or two steps each, some uncertain."""
    logits = rng.normal(0, 1.5, (lines, steps, classes))
    logits[:, :, -1] += 14
    for line in logits:
        for at in np.sort(rng.choice(steps, min(rng.integers(30, 51), steps), replace=False)):
            c = rng.integers(classes - 1)
            line[at, -1] -= 14
            line[at, c] += 14
            if rng.random() < 0.2:
                line[at, rng.integers(classes - 1)] += rng.uniform(10, 13.5)
    return logits.astype(np.float32)


def test_the_language_model_ignores_edge_spaces(rng: np.random.Generator) -> None:
    model, alphabet = ngram.build(TEXTS, 3), Alphabet("ab ")
    logits = rng.normal(0, 2, (6, 5, 4)).astype(np.float32)
    found = beam.search(logits, alphabet, 1000, model, 0.7, 0.4, 1000, prune=0, edges=True)
    for line, hypotheses in zip(logits, found, strict=True):
        scores = {}
        for text, ctc in enumerate_texts(line, "ab ").items():
            inside = text.removeprefix(" ").removesuffix(" ")
            scores[text] = ctc + 0.4 * len(text) + 0.7 * math.log(10) * model.log10(inside)
        assert [h.text for h in hypotheses] == sorted(scores, key=lambda text: -scores[text])
        assert [h.score for h in hypotheses] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-5)


def test_unknown_words_are_penalised(rng: np.random.Generator) -> None:
    """Against the words of every text; capitals and accents in the list, digits and points between words."""
    characters = "abB 1"
    alphabet, listed = Alphabet(characters), {"a", "ab", "bba"}
    known = lexicon.build(["A", "ab", "Bba", "héé"], alphabet)
    logits = rng.normal(0, 2, (6, 5, len(characters) + 1)).astype(np.float32)
    found = beam.search(
        logits, alphabet, 9000, length_bonus=0.3, n_best=9000, prune=0, lexicon=known, unknown_penalty=1.7
    )
    for line, hypotheses in zip(logits, found, strict=True):
        scores = {
            text: ctc + 0.3 * len(text) - 1.7 * sum(w not in listed for w in re.findall("[a-z]+", text.lower()))
            for text, ctc in enumerate_texts(line, characters).items()
        }
        assert [h.score for h in hypotheses] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-5)
        assert all(h.score == pytest.approx(scores[h.text], abs=1e-5) for h in hypotheses)
    with pytest.raises(Error, match="needs a word list"):
        beam.search(logits, alphabet, unknown_penalty=1.0)


def test_word_lists(tmp_path: Path) -> None:
    alphabet = Alphabet("abcéß '-")
    assert lexicon.split("L'ab-été, 12 Ça") == ["l", "ab", "été", "ça"]
    path = tmp_path / "words.txt"
    path.write_text("\ufeffab\nc'a\nzz\n", encoding="utf-8")
    assert lexicon.read(path, alphabet).trie.is_word.sum() == 3  # ab, c and a; the alphabet can't write zz
    path.write_text("zz\n")
    with pytest.raises(Error, match="no words that the alphabet can write"):
        lexicon.read(path, alphabet)
    with pytest.raises(Error, match=r"gone\.txt: no such file"):
        lexicon.read(tmp_path / "gone.txt", alphabet)


@pytest.mark.parametrize("with_lm", [False, True])
@pytest.mark.parametrize(
    ("steps", "characters"), [(1, "a"), (2, "ab"), (3, "abc"), (5, "ab"), (4, "abc"), (6, "a"), (4, "ab d")]
)
def test_all_texts_against_brute_force(steps: int, characters: str, with_lm: bool, rng: np.random.Generator) -> None:
    model = ngram.build(TEXTS, 3) if with_lm else None
    weight, bonus = (0.7, 0.9) if with_lm else (0.0, 0.0)
    logits = rng.normal(0, 2, (5, steps, len(characters) + 1)).astype(np.float32)
    found = beam.search(logits, Alphabet(characters), 1000, model, weight, bonus, 1000, prune=0)
    for line, hypotheses in zip(logits, found, strict=True):
        texts = enumerate_texts(line, characters)
        scores = {}
        for text, ctc in texts.items():
            scores[text] = ctc + bonus * len(text)
            if model:
                scores[text] += weight * math.log(10) * model.log10(text)
        assert [h.text for h in hypotheses] == sorted(texts, key=lambda text: -scores[text])
        for h in hypotheses:
            assert h.score == pytest.approx(scores[h.text], abs=1e-5)
            assert h.ctc == pytest.approx(texts[h.text], abs=1e-5)
            assert h.lm == pytest.approx(math.log(10) * model.log10(h.text) if model else 0, abs=1e-5)


def test_a_narrow_beam_never_exceeds_a_texts_probability(rng: np.random.Generator) -> None:
    """Texts leave the beam and return: neither their paths nor the texts may count twice."""
    logits = rng.normal(0, 1, (25, 6, 4)).astype(np.float32)
    wide = beam.search(logits, Alphabet("abc"), 2000, prune=0)
    texts = [enumerate_texts(line, "abc") for line in logits]
    for size in (2, 3, 5, 8):
        found = beam.search(logits, Alphabet("abc"), size, n_best=size, prune=0)
        for exact, hypotheses, best in zip(texts, found, wide, strict=True):
            assert len({h.text for h in hypotheses}) == len(hypotheses) == size
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
            assert all(h.ctc <= exact[h.text] + 1e-6 for h in hypotheses)
            assert hypotheses[0].score <= best[0].score + 1e-6


def test_the_loss_by_pruning_is_bounded(rng: np.random.Generator) -> None:
    """The probabilities of all texts together fall by no more than the probabilities cut."""
    logits = rng.normal(0, 3, (50, 4, 4)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    for n, hypotheses in enumerate(beam.search(logits, Alphabet("abc"), 1000, n_best=1000, prune=0.05)):
        cut = float(p[n, :, :3][p[n, :, :3] < 0.05].sum())
        assert 1 - cut - 1e-6 <= sum(math.exp(h.ctc) for h in hypotheses) <= 1 + 1e-6


def test_peaky_outputs_give_the_greedy_text(rng: np.random.Generator) -> None:
    alphabet = Alphabet(ORIGINAL)
    logits = peaky(rng, 40)
    # All steps are certain, so the best path has nearly all of its text's probability.
    best = logits.argmax(2)
    np.put_along_axis(logits, best[..., None], logits.max(2, keepdims=True) + 8, 2)
    texts, _ = greedy.greedy(logits, alphabet)
    assert min(map(len, texts)) > 20
    for size in (1, 4, 16):
        assert [h[0].text for h in beam.search(logits, alphabet, size)] == texts


def test_a_wider_beam_finds_no_worse(rng: np.random.Generator) -> None:
    logits = peaky(rng, 20, 60, 81)
    one, many = beam.search(logits, Alphabet(ORIGINAL), 1), beam.search(logits, Alphabet(ORIGINAL), 32)
    assert all(a[0].score <= b[0].score + 1e-6 for a, b in zip(one, many, strict=True))


def test_a_margin_drops_texts_that_rank_far_below_the_best(rng: np.random.Generator) -> None:
    logits, alphabet = peaky(rng, 20, 60, 81), Alphabet(ORIGINAL)
    lm = ngram.build(["the quick brown fox", "jumps over the lazy dogs"], 3)
    whole, near, none = (
        beam.search(logits, alphabet, 32, lm, 0.4, 1.0, n_best=32, margin=m) for m in (math.inf, 4.0, 0.0)
    )
    assert [texts[0].text for texts in near] == [texts[0].text for texts in whole]
    assert len(none) == sum(map(len, none)) < sum(map(len, near)) < sum(map(len, whole)) == 32 * len(whole)


def test_the_language_model_chooses(rng: np.random.Generator) -> None:
    """The network wavers between two letters; the model has only ever seen one of the words."""
    alphabet = Alphabet("acot ")
    logits = np.full((1, 5, 6), -9, np.float32)
    for t, classes in enumerate(["c", "-", "ao", "-", "t"]):
        for c in classes:
            logits[0, t, 5 if c == "-" else alphabet.characters.index(c)] = 0
    logits[0, 2, alphabet.characters.index("o")] = 0.5
    model = ngram.build(["cat", "a cat", "cat cat"], 3)
    assert beam.search(logits, alphabet)[0][0].text == "cot"
    assert beam.search(logits, alphabet, lm=model, lm_weight=1.0)[0][0].text == "cat"
    assert beam.search(logits, alphabet, lm=model)[0][0].text == "cot"
    long = beam.search(np.zeros((1, 5, 6), np.float32), alphabet, length_bonus=9.0)[0][0].text
    assert len(long) == 5


@pytest.mark.parametrize("with_lm", [False, True])
def test_a_line_reads_the_same_alone(with_lm: bool, rng: np.random.Generator) -> None:
    alphabet = Alphabet(ORIGINAL)
    model = ngram.build(["the quick brown fox", "Jumps over 12 lazy dogs."], 4) if with_lm else None
    logits = np.concatenate([peaky(rng, 6, 40), rng.normal(0, 1, (6, 40, 81)).astype(np.float32)])
    together = beam.search(logits, alphabet, 8, model, 0.5 * with_lm, 0.3, 4)
    alone = [beam.search(line[None], alphabet, 8, model, 0.5 * with_lm, 0.3, 4)[0] for line in logits]
    assert together == alone
    assert {c for line in together for h in line for c in h.text} <= set(ORIGINAL)


def test_no_lines_no_steps_and_all_blank() -> None:
    alphabet = Alphabet("ab")
    assert beam.search(np.zeros((0, 5, 3), np.float32), alphabet) == []
    assert beam.search(np.zeros((1, 0, 3), np.float32), alphabet) == [[beam.Hypothesis("", 0, 0, 0)]]
    logits = np.zeros((2, 5, 3), np.float32)
    logits[:, :, 2] = 10
    for line in beam.search(logits, alphabet):
        assert line[0].text == ""
        assert line[0].ctc == pytest.approx(5 * (10 - math.log(math.exp(10) + 2)), rel=1e-4)


def test_settings_out_of_range() -> None:
    logits, alphabet = np.zeros((1, 2, 3), np.float32), Alphabet("ab")
    with pytest.raises(Error, match="4 classes"):
        beam.search(logits, Alphabet("abc"))
    with pytest.raises(Error, match="not finite"):
        beam.search(logits + np.nan, alphabet)
    for size, wanted in ((0, 1), (4, 5), (4, 0)):
        with pytest.raises(Error, match="between 1 and the beam width"):
            beam.search(logits, alphabet, size, n_best=wanted)
    with pytest.raises(Error, match="needs a language model"):
        beam.search(logits, alphabet, lm_weight=1.0)
    for bad in (
        {"lm_weight": -1.0},
        {"lm_weight": math.nan},
        {"length_bonus": math.inf},
        {"prune": 1.0},
        {"prune": -0.1},
        {"margin": -1.0},
    ):
        with pytest.raises(Error, match="must be"):
            beam.search(logits, alphabet, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("margin", [2.0, 9.0, math.inf])
@pytest.mark.parametrize("beam_width", [1, 3, 16])
def test_both_searches_find_the_same(beam_width: int, margin: float, edges: bool, rng: np.random.Generator) -> None:
    """On sharp and vague output, with a language model that lacks some characters and a word list."""
    pytest.importorskip("numba")
    alphabet = Alphabet(ORIGINAL)
    lm = ngram.build(["the quick brown fox", "Jumps over 12 lazy dogs.", "the dog", "over the fox"], 4)
    words = lexicon.build(["the", "quick", "dog"], alphabet)
    logits = np.concatenate([peaky(rng, 6, 40), rng.normal(0, 2, (4, 40, 81)).astype(np.float32)])
    settings = {
        "edges": edges,
        "lexicon": words,
        "unknown_penalty": 1.5,
        "n_best": beam_width,
        "prune": 1e-4,
        "margin": margin,
    }
    one, other = (
        beam.search(logits, alphabet, beam_width, lm, 0.6, 1.2, compiled=compiled, **settings)  # type: ignore[arg-type]
        for compiled in (False, True)
    )
    for a, b in zip(one, other, strict=True):
        assert [h.text for h in a] == [h.text for h in b]
        for x, y in zip(a, b, strict=True):
            assert (x.score, x.ctc, x.lm) == pytest.approx((y.score, y.ctc, y.lm), abs=1e-9)


def test_numba_is_used_for_many_lines_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(compiled, "_searched", 0)
    monkeypatch.setattr(compiled, "_loading", None)
    assert not compiled.is_used(compiled.FEW_LINES)
    assert compiled.is_used(1) == (importlib.util.find_spec("numba") is not None)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not compiled.is_used(compiled.FEW_LINES)


def test_numba_is_loaded_in_the_background_if_many_lines_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.undo()
    monkeypatch.setattr(compiled, "_searched", 0)
    monkeypatch.setattr(compiled, "_loading", None)
    decoder = Decoder(Alphabet("ab "), Settings("beam", lm_weight=0.5), lm=ngram.build(TEXTS, 3))
    decoder.expect(compiled.FEW_LINES)
    assert not compiled.is_used(1)
    replace(decoder, settings=Settings("greedy")).expect(10**6)
    assert not compiled.is_used(1)
    decoder.expect(compiled.FEW_LINES + 1)
    assert compiled.is_used(1)
    assert not compiled._loading.is_alive()  # type: ignore[union-attr]


def test_a_language_model_that_does_not_fit_is_refused_by_the_search_not_by_its_loading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(compiled, "_loading", None)
    compiled.expect(10**6, ngram.build(["\u00e9t\u00e9"], 3), Alphabet("e\u0301t"))
    assert compiled.is_used(1) == (importlib.util.find_spec("numba") is not None)


def test_threads_do_not_change_the_result(rng: np.random.Generator) -> None:
    alphabet, lm, logits = Alphabet(ORIGINAL), ngram.build(TEXTS, 3), peaky(rng, 5, 40)
    one, three, many = (beam.search(logits, alphabet, 4, lm, 0.6, n_best=4, threads=n) for n in (1, 3, 9))
    assert one == three == many


@pytest.mark.parametrize("pruned", [False, True])
def test_the_compiled_links_of_a_language_model_equal_numpys(pruned: bool) -> None:
    pytest.importorskip("numba")
    lm, times = ngram.count(["the quick brown fox", "the dog", "over the fox the fox"] * 2, 4)
    lm = prune.to_size(lm, times, 0.00225) if pruned else lm
    found = beam.model(lm, Alphabet("thequick dog"))
    assert found.start == lm.start
    np.testing.assert_array_equal(found.suffix, lm.suffix)
    np.testing.assert_array_equal(found.next_state, lm.next_state)


def test_a_language_model_writes_nothing_where_the_network_sees_nothing() -> None:
    from hwr.decoding import Decoder, Settings

    letters = Alphabet("ab ")
    logits = np.full((2, 9, 4), -2.0, np.float32)
    logits[:, :, 3] = 0.0  # blank
    logits[1, 4, 0] = 0.5
    settings = Settings("beam", lm_weight=1.0, length_bonus=9.0)
    decoder = Decoder(letters, settings, lm=ngram.build(["ab ab", "b a"], 2))
    texts, sure = decoder(logits)
    assert texts[0] == ""
    assert texts[1]
    nothing, something = decoder.n_best(logits, 3)
    assert [hypothesis.text for hypothesis in nothing] == [""]
    assert nothing[0].score == pytest.approx(-9 * np.log(1 + 3 * np.exp(-2.0)), rel=1e-5)
    assert something[0].text == texts[1]
    assert len(something) == 3
    assert sure[0] == pytest.approx(decoder.settings.calibration.apply(np.array([1 / (1 + 3 * np.exp(-2.0))]))[0])
    # Nothing but the space that the network writes at the edges of a text is nothing, too.
    logits[0, 4, 2] = 0.5
    edges = Decoder(letters, settings, edge_spaces=True, lm=decoder.lm)
    assert edges(logits[:1])[0] == [""]
    assert [hypothesis.text for hypothesis in edges.n_best(logits[:1], 3)[0]] == [""]
