import itertools
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hwr import Error, config, decoding
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.decoding import Decoder, Settings, align, beam, greedy, language_model, lexicon, ngram
from hwr.decoding import decoder as decoder_module


def test_the_best_path_against_brute_force(rng: np.random.Generator) -> None:
    """All paths of a tiny case: the most likely one, collapsed by hand."""
    alphabet = Alphabet("ab")
    logits = rng.normal(size=(50, 4, 3)).astype(np.float32) * 3
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    texts, confidences = greedy.greedy(logits, alphabet)
    for n in range(len(logits)):
        path = max(itertools.product(range(3), repeat=4), key=lambda path: np.prod(p[n, range(4), list(path)]))
        runs = [
            (c, steps)
            for c, steps in ((c, [i for i, _ in g]) for c, g in itertools.groupby(enumerate(path), lambda x: x[1]))
        ]
        written = [(c, steps) for c, steps in runs if c != alphabet.blank]
        assert texts[n] == "".join("ab"[c] for c, _ in written)
        sure = [max(p[n, t, c] for t in steps) for c, steps in written] or [min(p[n, t, 2] for t in range(4))]
        assert confidences[n] == pytest.approx(np.prod(sure) ** (1 / len(sure)), rel=1e-5)


def test_repeats_merge_unless_a_blank_separates_them() -> None:
    alphabet = Alphabet(ORIGINAL)
    path = "aa-ab--b bb-"
    classes = [alphabet.blank if c == "-" else ORIGINAL.index(c) for c in path]
    logits = np.zeros((1, len(path), 81), np.float32)
    logits[0, range(len(path)), classes] = 20
    texts, confidence = greedy.greedy(logits, alphabet)
    assert texts == ["aabb b"]
    assert 0.999 < confidence[0] <= 1


def test_no_lines_and_all_blank() -> None:
    alphabet = Alphabet("ab")
    assert greedy.greedy(np.zeros((0, 5, 3), np.float32), alphabet)[0] == []
    logits = np.zeros((2, 5, 3), np.float32)
    logits[:, :, 2] = 1
    texts, confidence = greedy.greedy(logits, alphabet)
    assert texts == ["", ""]
    assert confidence == pytest.approx(np.e / (np.e + 2))


def test_any_path_has_the_confidence_of_its_text(rng: np.random.Generator) -> None:
    """Every text of a tiny case: its most likely path, and the geometric mean by hand."""
    alphabet = Alphabet("ab")
    logits = rng.normal(size=(6, 4, 3)).astype(np.float32) * 2
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    every = list(itertools.product(range(3), repeat=4))
    for n in range(len(logits)):
        best: dict[str, tuple[float, tuple[int, ...]]] = {}
        for path in every:
            text = "".join("ab"[c] for c, _ in itertools.groupby(path) if c != alphabet.blank)
            best[text] = max(best.get(text, (-1.0, path)), (float(np.prod(p[n, range(4), list(path)])), path))
        labels = [alphabet.encode(text) for text in best]
        many = np.repeat(logits[n : n + 1], len(best), 0)
        found = align.paths(many, labels)
        assert greedy.collapse(found, alphabet) == list(best)
        assert [tuple(path) for path in found.tolist()] == [path for _, path in best.values()]
        for (_, path), confidence in zip(best.values(), greedy.confidences(many, found), strict=True):
            runs = [[t for t, _ in run] for c, run in itertools.groupby(enumerate(path), lambda x: x[1]) if c != 2]
            sure = [max(p[n, t, path[t]] for t in run) for run in runs] or [min(p[n, t, 2] for t in range(4))]
            assert confidence == pytest.approx(np.prod(sure) ** (1 / len(sure)), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_greedy_text_has_the_greedy_confidence(temperature: float, rng: np.random.Generator) -> None:
    alphabet = Alphabet(ORIGINAL)
    logits = rng.normal(0, 2, (20, 60, 81)).astype(np.float32)
    logits[:, :, -1] += 3
    texts, confidences = greedy.greedy(logits, alphabet, temperature)
    paths = align.paths(logits, [alphabet.encode(text) for text in texts])
    np.testing.assert_allclose(greedy.confidences(logits, paths, temperature), confidences, rtol=1e-6)
    for line, text, confidence in zip(logits, texts, confidences, strict=True):
        _, sure = align.align(line, alphabet.encode(text), temperature)
        assert np.exp(np.log(sure).mean()) == pytest.approx(confidence, rel=1e-5)


@pytest.mark.parametrize("length", [0, 1, 65, 128, 300])
def test_the_alignment_of_long_texts(length: int) -> None:
    """Each character has its own step, followed by a blank."""
    label = np.arange(length) % 5
    logits = np.full((2 * length + 1, 6), -9, np.float32)
    logits[:, 5] = 0
    logits[1::2, 5] = -9
    logits[np.arange(length) * 2 + 1, label] = 0
    places, sure = align.align(logits, label)
    assert places.tolist() == [[2 * i + 1, 2 * i + 2] for i in range(length)]
    assert sure == pytest.approx(np.full(length, 1 / (1 + 5 * np.exp(-9))))


def test_a_text_that_does_not_fit() -> None:
    with pytest.raises(Error, match="a text of 3 characters does not fit into 3 time steps"):
        align.paths(np.zeros((1, 3, 3), np.float32), [np.array([0, 0, 1])])
    assert align.paths(np.zeros((0, 3, 3), np.float32), []).shape == (0, 3)


def wavering() -> tuple[np.ndarray, Alphabet]:
    """The network is uncertain between cot and cat, with a slight preference for cot."""
    alphabet = Alphabet("acot ")
    logits = np.full((1, 5, 6), -9, np.float32)
    for t, classes in enumerate(["c", "-", "ao", "-", "t"]):
        for c in classes:
            logits[0, t, 5 if c == "-" else alphabet.characters.index(c)] = 0
    logits[0, 2, alphabet.characters.index("o")] = 0.5
    return logits, alphabet


def test_the_confidence_belongs_to_the_decoded_text() -> None:
    logits, alphabet = wavering()
    lm = ngram.build(["cat", "a cat", "cat cat"], 3)
    texts, confidence = Decoder(alphabet)(logits)
    assert texts == ["cot"]
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(1, keepdims=True)
    assert confidence[0] == pytest.approx((p[0, 1] * p[2, 2] * p[4, 3]) ** (1 / 3))
    helped = Decoder(alphabet, Settings("beam", lm_weight=1.0), lm=lm)
    texts, confidence = helped(logits)
    assert texts == ["cat"]
    assert confidence[0] == pytest.approx((p[0, 1] * p[2, 0] * p[4, 3]) ** (1 / 3))
    # Without a language model, texts and confidences equal those of greedy decoding.
    texts, confidence = Decoder(alphabet, Settings("beam"))(logits)
    assert (texts, confidence.tolist()) == (["cot"], Decoder(alphabet)(logits)[1].tolist())


def test_default_weights_depend_on_the_given_options(tmp_path: Path) -> None:
    """A language model alone changes the text, and so does a word list."""
    logits, alphabet = wavering()
    language_model.save(tmp_path / "lm.bin", ngram.build(["cat", "a cat", "cat cat"], 3))
    (tmp_path / "words.txt").write_text("cat\n")
    for settings in (config.Decode(lm=str(tmp_path / "lm.bin")), config.Decode(words=str(tmp_path / "words.txt"))):
        decoder = decoding.build(settings, alphabet, False)
        assert decoder.settings.name == "beam"
        assert decoder(logits)[0] == ["cat"]
    full = config.Decode(lm="x").complete()
    assert (full.name, full.beam, full.lm_weight, full.length_bonus) == ("beam", 32, 0.7, 1.0)
    assert config.Decode(lm="x", lm_weight=0.2, length_bonus=0.0).complete().length_bonus == 0
    assert config.Decode(words="x").complete().unknown_penalty == 2
    assert config.Decode(name="beam").complete().length_bonus == 0
    assert config.Decode().complete() == config.Decode(name="greedy")


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    logits, alphabet = wavering()
    path, words = tmp_path / "lm.bin", tmp_path / "words.txt"
    for word in ("cat", "cot"):
        language_model.save(path, ngram.build([f"{word} {word}"], 3))
        assert decoding.build(config.Decode(lm=str(path)), alphabet, False)(logits)[0] == [word]
        words.write_text(word * (1 + (word == "cot")) + f" {word}")
        assert decoding.build(config.Decode(words=str(words)), alphabet, False)(logits)[0] == [word]


def test_a_model_that_is_not_stored_is_an_error() -> None:
    with pytest.raises(Error, match="the checkpoint stores no language model"):
        decoding.build(config.Decode(lm="stored"), Alphabet("ab"), False)
    with pytest.raises(Error, match="the checkpoint stores no word list"):
        decoding.build(config.Decode(words="stored"), Alphabet("ab"), False)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_texts_in_another_normal_form(form: Literal["NFC", "NFD"], tmp_path: Path) -> None:
    """The network is uncertain between été and ete, and writes é as one character."""
    alphabet = Alphabet("etéa ")
    logits = np.full((1, 7, 6), -10, np.float32)
    logits[0, ::2, 5] = 0
    for t, classes in ((1, "eé"), (3, "t"), (5, "eé")):
        logits[0, t, [alphabet.characters.index(c) for c in classes]] = 0
    logits[0, 1:6:4, 0] = 0.5
    lines = [unicodedata.normalize(form, text) for text in ("été", "été été", "l'été")]
    assert Decoder(alphabet)(logits)[0] == ["ete"]
    lm = ngram.build(lines, 4)
    assert Decoder(alphabet, Settings("beam", lm_weight=1.0), lm=lm)(logits)[0] == ["été"]
    words = lexicon.build(lines, alphabet)
    assert words.words == ("été",)
    assert Decoder(alphabet, Settings("beam", unknown_penalty=3.0), lexicon=words)(logits)[0] == ["été"]
    # And the score is that of the model's own normal form.
    best = beam.search(logits, alphabet, 16, lm, 1.0)[0][0]
    assert best.lm == pytest.approx(lm.log10(unicodedata.normalize(form, "été")) * np.log(10))


def test_a_network_with_combining_accents() -> None:
    alphabet = Alphabet("et\u0301 ")
    assert lexicon.build(["été"], alphabet).words == ("e\u0301te\u0301",)
    Decoder(alphabet, Settings("beam", lm_weight=1.0), lm=ngram.build(["e\u0301te\u0301"], 3))
    with pytest.raises(Error, match="--normalise NFD"):
        Decoder(alphabet, Settings("beam", lm_weight=1.0), lm=ngram.build(["\u00e9t\u00e9"], 3))


def test_more_readings_than_the_decoder_can_give_are_refused() -> None:
    logits, alphabet = wavering()
    with pytest.raises(Error, match="only one reading per line; use --decoder beam"):
        Decoder(alphabet).n_best(logits, 2)
    with pytest.raises(Error, match=r"a beam of 4 gives fewer than 5 readings; widen it with --beam 5"):
        Decoder(alphabet, Settings("beam", beam=4)).n_best(logits, 5)
    assert [h.text for h in Decoder(alphabet, Settings("beam")).n_best(logits, 2)[0]] == ["cot", "cat"]


def test_readings_that_differ_in_edge_spaces_only_are_one() -> None:
    """Each is sought as often as it takes to find `n` different ones, and has the score of the best."""
    alphabet = Alphabet("ab ")
    logits = np.zeros((1, 5, 4), np.float32)
    logits[0, [0, 4], 3], logits[0, [0, 4], 2] = 4.9, 5  # a space or nothing at either end
    logits[0, 1:4] = [[-9, -9, -9, 9], [2, 1, -9, -9], [-9, -9, -9, 9]]
    decoder = Decoder(alphabet, Settings("beam", beam=16), edge_spaces=True)
    found = decoder.n_best(logits, 2)[0]
    assert [h.text for h in found] == ["a", "b"]
    plain = Decoder(alphabet, Settings("beam", beam=16)).n_best(logits, 4)[0]
    assert sorted(h.text for h in plain) == [" a", " a ", "a", "a "]
    assert plain[0].text == " a "
    assert found[0].score == pytest.approx(plain[0].score, abs=1e-6)


def test_improbable_readings_are_given_if_several_are_asked_for() -> None:
    """The margin of a single reading is 9 nats."""
    logits = np.array([[[0, -11, -13]]], np.float32)
    decoder = Decoder(Alphabet("ab"), Settings("beam"))
    assert [h.text for h in decoder.n_best(logits, 3)[0]] == ["a", "b", ""]


@pytest.mark.parametrize(
    ("seen", "far"),
    [
        ({8: "a", 9: "b", 20: "a", 21: "b"}, 4),  # 14 steps for four characters
        ({8: "a", 9: "b", 10: "a"}, 2),  # at least two
        ({4: "a", 26: "b"}, 8),  # at most eight
    ],
)
def test_a_language_model_adds_characters_near_what_the_network_sees_only(seen: dict[int, str], far: int) -> None:
    logits = np.zeros((2, 32, 3), np.float32)
    logits[:, :, 2] = 3  # blank; the characters are not impossible anywhere
    for step, character in seen.items():
        logits[0, step, "ab".index(character)] = 9
    quiet = decoder_module._quiet(logits, ["".join(seen.values()), ""], 2)
    near = np.array([min(abs(step - place) for place in seen) <= far for step in range(32)])
    assert near.any()
    assert not near.all()
    assert np.array_equal(quiet[0, near], logits[0, near])
    assert (quiet[0, ~near].argmax(1) == 2).all()
    assert (quiet[0, ~near, 2] == 3).all()
    assert (quiet[0, ~near, :2] < -50).all()
    assert np.array_equal(quiet[1], logits[1])  # nothing is seen
