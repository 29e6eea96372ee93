"""Logits -> the most likely texts: CTC prefix beam search, with an optional character n-gram and word list.

The search is Hannun et al. 2014 ("First-pass large vocabulary continuous speech recognition using bi-directional recurrent
DNNs", algorithm 1; the idea is in Graves 2012, "Supervised sequence labelling", 7.5.3), in logarithms: a text's
probability is the sum over all its paths, not the probability of the best path. Two modules do it, with the same results:
`beam_arrays` in NumPy, which starts at once, and `beam_compiled`, which numba compiles and which is then ten times as fast.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.decoding import compiled as compilation
from hwr.decoding import lexicon as lexicons
from hwr.decoding.greedy import check_finite
from hwr.decoding.lexicon import Lexicon, Trie
from hwr.decoding.ngram import LM, START


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis for a line.

    Attributes:
        text: Characters of the alphabet.
        score: ctc + lm_weight * lm + length_bonus * len(text) - the penalties of unknown words; hypotheses are sorted by it.
        ctc: Natural log of the text's probability, summed over the paths that the search has seen.
        lm: Natural log of the language model's probability of the text and its end; 0 without one.
    """

    text: str
    score: float
    ctc: float
    lm: float


class Limits(NamedTuple):
    """Limits of the search."""

    beam: int
    n_best: int
    margin: float  # nats: texts that rank below the best by more are dropped at each step
    least: float  # natural log of the lowest probability of a character that may extend a text
    edge: int  # class of the space that the network writes before and after each text; -1 if it doesn't


class Weights(NamedTuple):
    """What is added to the natural log of a text's probability."""

    lm: float
    length_bonus: float
    unknown_penalty: float


class Model(NamedTuple):
    """A language model for one alphabet, in natural logs; the other arrays are those of `LM`."""

    known: bool  # whether there is one
    start: int
    tokens: np.ndarray  # tokens of all classes except the blank, concatenated
    begin: np.ndarray  # (C,) int64: the tokens of class c are tokens[begin[c]:begin[c + 1]]
    first: np.ndarray
    token: np.ndarray
    log_p: np.ndarray
    next_state: np.ndarray
    backoff: np.ndarray
    suffix: np.ndarray


def search(
    logits: np.ndarray,
    alphabet: Alphabet,
    beam: int = 16,
    lm: LM | None = None,
    lm_weight: float = 0.0,
    length_bonus: float = 0.0,
    n_best: int = 1,
    prune: float = 1e-6,
    margin: float = math.inf,
    edges: bool = False,
    lexicon: Lexicon | None = None,
    unknown_penalty: float = 0.0,
    compiled: bool | None = None,
    threads: int = 1,
) -> list[list[Hypothesis]]:
    """Search the most likely texts of each line.

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        alphabet: The C - 1 characters.
        beam: Texts kept per time step. If all texts fit and `prune=0`, the result is exact.
        lm: A character n-gram; characters that it does not know are `<unk>`.
        lm_weight: Factor on its natural-log probability, >= 0.
        length_bonus: Added per character, in nats, because a language model favours short texts.
        n_best: Hypotheses per line, at most `beam`.
        prune: Characters less probable than this never extend a text at that step. The texts of a line together lose at
            most the sum of the pruned probabilities, at most T * C * prune; 0 prunes nothing.
        margin: Texts whose score is lower than the best's by more nats are dropped at each step; infinite drops none.
        edges: Whether the network writes a space before and after each text (`model.edge_spaces`). The language model has
            not seen these spaces, so it starts after the first and ends before the last.
        lexicon: A word list for this alphabet.
        unknown_penalty: Nats subtracted for each word that is not in the list.
        compiled: Whether numba's search is used, or NumPy's; None: see `compiled.is_used`.
        threads: Threads of numba's search, which share the lines.

    Returns:
        The hypotheses of each line, best first, each text once; fewer than `n_best` only if there are no more within the margin.

    Raises:
        Error: Logits are not finite, or a setting is out of range.
    """
    if logits.ndim != 3 or logits.shape[2] != alphabet.classes:
        raise Error(f"logits of shape {logits.shape} do not fit an alphabet of {alphabet.classes} classes")
    check_finite(logits)
    if not 0 <= prune < 1:
        raise Error(f"prune={prune} must be at least 0 and below 1")
    least = math.log(prune) if prune else -math.inf
    limits = Limits(beam, n_best, float(margin), least, alphabet.characters.find(" ") if edges else -1)
    weights = Weights(float(lm_weight), float(length_bonus), float(unknown_penalty))
    _check(limits, weights, lm, lexicon)
    if not len(logits):
        return []
    values = np.ascontiguousarray(logits, np.float32)
    trie = (lexicon or _no_words(alphabet)).trie
    if compilation.is_used(len(logits)) if compiled is None else compiled:
        found, lengths, scores = _compiled(values, limits, weights, trie, model(lm, alphabet), threads)
    else:
        from hwr.decoding import beam_arrays

        arrays = beam_arrays.model(lm, alphabet)
        found, lengths, scores = beam_arrays.Search(values, limits, weights, trie, arrays).run()
    return [
        [
            Hypothesis(alphabet.decode(found[n, k, : lengths[n, k]]), *map(float, scores[n, k]))
            for k in range(n_best)
            if lengths[n, k] >= 0
        ]
        for n in range(len(logits))
    ]


def _check(limits: Limits, weights: Weights, lm: LM | None, lexicon: Lexicon | None) -> None:
    """Refuse settings that are out of range or contradict each other."""
    if not 1 <= limits.n_best <= limits.beam:
        raise Error(f"the number of readings ({limits.n_best}) must be between 1 and the beam width ({limits.beam})")
    if weights.unknown_penalty and lexicon is None:
        raise Error(f"unknown_penalty={weights.unknown_penalty} needs a word list")
    if not 0 <= weights.unknown_penalty < math.inf:
        raise Error(f"unknown_penalty={weights.unknown_penalty} must be at least 0")
    if not (0 <= weights.lm < math.inf and math.isfinite(weights.length_bonus)):
        raise Error(f"lm_weight={weights.lm} must be >= 0, length_bonus={weights.length_bonus} finite")
    if not limits.margin >= 0:
        raise Error(f"margin={limits.margin} must be at least 0")
    if weights.lm and lm is None:
        raise Error(f"lm_weight={weights.lm} needs a language model")


def _compiled(
    values: np.ndarray, limits: Limits, weights: Weights, trie: Trie, model: Model, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The compiled search, in threads that each search some of the lines."""
    from hwr.decoding import beam_compiled

    threads = min(threads, len(values))
    if threads == 1:
        return beam_compiled.search(values, limits, weights, trie, model)
    parts = np.array_split(values, threads)
    with ThreadPoolExecutor(threads) as pool:
        outputs = list(pool.map(lambda part: beam_compiled.search(part, limits, weights, trie, model), parts))
    found, lengths, scores = (np.concatenate(columns) for columns in zip(*outputs, strict=True))
    return found, lengths, scores


@functools.lru_cache(maxsize=4)
def model(lm: LM | None, alphabet: Alphabet) -> Model:
    """Convert the language model for the compiled search, once per model and alphabet.

    Raises:
        Error: Its texts had another normal form than the network's, and can't be converted.
    """
    if lm is None:  # only the types matter
        i4, i8, f8 = np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros(1)
        return Model(False, 0, i4, i8, i8, i4, f8, i4, f8, i4)
    from hwr.decoding import beam_compiled

    spelled = lm.spelled(alphabet.characters)
    states, first = len(lm.first) - 1, lm.first.astype(np.int64)
    suffix = beam_compiled.links(first, lm.token)
    after = np.arange(1, len(suffix), dtype=np.int32)
    next_state = np.where(after < states, after, suffix[1:])
    return Model(
        known=True,
        start=int(next_state[lm.find(np.zeros(1, np.int64), np.full(1, START))[0][0]]),
        tokens=np.concatenate(spelled).astype(np.int32),
        begin=np.cumsum([0, *map(len, spelled)]).astype(np.int64),
        first=first,
        token=lm.token,
        log_p=lm.log10_p.astype(np.float64) * np.log(10),
        next_state=next_state,
        backoff=lm.log10_backoff.astype(np.float64) * np.log(10),
        suffix=suffix[:states],
    )


@functools.lru_cache(maxsize=4)
def _no_words(alphabet: Alphabet) -> Lexicon:
    return lexicons.build([], alphabet)
