import itertools

import numpy as np
import pytest

from hwr.alphabet import ORIGINAL, Alphabet
from hwr.decoding import decode


def test_the_best_path_against_brute_force(rng: np.random.Generator) -> None:
    """All paths of a tiny case: the likeliest one, collapsed by hand."""
    alphabet = Alphabet("ab")
    logits = rng.normal(size=(50, 4, 3)).astype(np.float32) * 3
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    texts, confidences = decode.greedy(logits, alphabet)
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


def test_repeats_merge_and_blanks_part_them() -> None:
    alphabet = Alphabet(ORIGINAL)
    path = "aa-ab--b bb-"
    classes = [alphabet.blank if c == "-" else ORIGINAL.index(c) for c in path]
    logits = np.zeros((1, len(path), 81), np.float32)
    logits[0, range(len(path)), classes] = 20
    texts, confidence = decode.greedy(logits, alphabet)
    assert texts == ["aabb b"]
    assert 0.999 < confidence[0] <= 1


def test_no_lines_and_all_blank() -> None:
    alphabet = Alphabet("ab")
    assert decode.greedy(np.zeros((0, 5, 3), np.float32), alphabet)[0] == []
    logits = np.zeros((2, 5, 3), np.float32)
    logits[:, :, 2] = 1
    texts, confidence = decode.greedy(logits, alphabet)
    assert texts == ["", ""]
    assert confidence == pytest.approx(np.e / (np.e + 2))
