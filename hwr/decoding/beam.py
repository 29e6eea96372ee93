"""Logits -> the likeliest texts: CTC prefix beam search, with a character n-gram and a word list if there are.

The search is Hannun et al. 2014 ("First-pass large vocabulary continuous speech recognition using bi-directional recurrent
DNNs", algorithm 1; the idea is in Graves 2012, "Supervised sequence labelling", 7.5.3), in logarithms: a text's
probability is the sum over all its paths, not that of the best one. It is compiled by numba, which takes some seconds the
first time on a machine and is cached beside this file, or where numba puts it if that cannot be written.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.decoding.lexicon import Words
from hwr.decoding.lexicon import build as build_words
from hwr.decoding.ngram import END, LM


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a line.

    Attributes:
        text: Characters of the alphabet.
        score: ctc + lm_weight * lm + insertion * len(text) - what unknown words cost: what the readings are ordered by.
        ctc: Natural log of the text's probability, summed over those of its paths that the search has seen.
        lm: Natural log of the language model's probability of the text and its end; 0 without one.
    """

    text: str
    score: float
    ctc: float
    lm: float


def search(
    logits: np.ndarray,
    alphabet: Alphabet,
    beam: int = 16,
    lm: LM | None = None,
    lm_weight: float = 0.0,
    insertion: float = 0.0,
    n_best: int = 1,
    prune: float = 1e-6,
    edges: bool = False,
    words: Words | None = None,
    unknown: float = 0.0,
) -> list[list[Hypothesis]]:
    """The likeliest texts of each line.

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        alphabet: Of C - 1 characters.
        beam: Texts kept per step. With room for every text and `prune=0` the result is exact.
        lm: A character n-gram; a character that it does not know is its `<unk>`.
        lm_weight: What its natural-log probability is multiplied by, >= 0.
        insertion: Added per character, in nats; it offsets that a language model favours short texts.
        n_best: Readings wanted per line, at most `beam`.
        prune: At a step no text is lengthened by a character less probable than this. All that a line's texts together
            can lose is the sum of the probabilities cut, so at most T * C * prune; 0 cuts nothing.
        edges: The network writes a space before and after each text (`model.edge_spaces`), which the language model has
            not seen: it begins after the first and ends before the last.
        words: A word list for this alphabet.
        unknown: Nats that each word costs that is not in the list.

    Returns:
        Per line its readings, best first, each text once; fewer than `n_best` only if there are no more.

    Raises:
        Error: Numba is not installed; logits that are not finite; a setting out of its range.
    """
    if logits.ndim != 3 or logits.shape[2] != alphabet.classes:
        raise Error(f"logits of shape {logits.shape} do not fit an alphabet of {alphabet.classes} classes")
    if not np.isfinite(logits).all():
        raise Error("the network's output is not finite: its training has diverged; train again with a lower train.lr")
    if not 1 <= n_best <= beam:
        raise Error(f"the beam ({beam}) and the readings wanted ({n_best}) must be 1 <= readings <= beam")
    if words is None:
        words = build_words([], alphabet)
        if unknown:
            raise Error(f"unknown={unknown} needs a word list")
    if not 0 <= unknown < math.inf:
        raise Error(f"unknown={unknown} must be at least 0")
    if not (0 <= lm_weight < math.inf and math.isfinite(insertion) and 0 <= prune < 1):
        raise Error(
            f"lm_weight={lm_weight} must be >= 0, insertion={insertion} finite, prune={prune} at least 0 and below 1"
        )
    if lm_weight and lm is None:
        raise Error(f"lm_weight={lm_weight} needs a language model")
    found, lengths, scores = _compiled()(
        np.ascontiguousarray(logits, np.float32),
        beam,
        n_best,
        float(insertion),
        _log(prune),
        float(lm_weight),
        alphabet.characters.find(" ") if edges else -1,
        float(unknown),
        *(words.letter, words.first, words.entry, words.node, words.is_word),
        *_arrays(lm, alphabet),
    )
    return [
        [
            Hypothesis(alphabet.decode(found[n, k, : lengths[n, k]]), *map(float, scores[n, k]))
            for k in range(n_best)
            if lengths[n, k] >= 0
        ]
        for n in range(len(logits))
    ]


def _log(p: float) -> float:
    return math.log(p) if p else -math.inf


def _arrays(lm: LM | None, alphabet: Alphabet) -> tuple[Any, ...]:
    """The model as the compiled search takes it: of no model only the flag and the types count."""
    if lm is None:
        i4, f8 = np.zeros(1, np.int32), np.zeros(1)
        return False, 0, i4, np.zeros(1, np.int64), i4, f8, i4, f8, i4
    tokens = lm.ids(alphabet.characters)
    log_p, backoff = lm.log10_p * np.log(10), lm.log10_backoff * np.log(10)
    return (
        *(True, lm.start, tokens, lm.first.astype(np.int64), lm.token),
        *(log_p.astype(np.float64), lm.next_state, backoff.astype(np.float64), lm.suffix),
    )


@functools.cache
def _compiled() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    # Here, not on top: numba is an extra, and importing it takes half a second.
    try:
        import numba
    except ImportError as error:
        raise Error(f"the beam search needs numba: pip install -e '.[lm]' ({error})") from error
    compiled: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]] = numba.njit(cache=True)(_search)
    return compiled


def _search(  # type: ignore[no-untyped-def]
    logits,
    beam,
    n_best,
    insertion,
    least,
    weight,
    edge,
    unknown,
    letter,
    word_first,
    word_entry,
    word_node,
    is_word,
    with_lm,
    start,
    tokens,
    first,
    token,
    log_p,
    next_state,
    backoff,
    suffix,
):
    """The search itself, in the part of Python that numba compiles: scalars, arrays, loops.

    A line's texts are nodes of a trie, so a text is one number, the same when it leaves the beam and comes back. The beam
    is arrays of `beam` places; row 0 of each holds this step's, row 1 is where the next step's is put together.

    Returns:
        (N, n_best, T) int32 classes; (N, n_best) int64 lengths, -1 where there is no reading; (N, n_best, 3) float64
        score, ctc and lm.
    """

    def look_up(state, wanted):  # type: ignore[no-untyped-def]
        """ln p(wanted | state), and the next state."""
        total = 0.0
        while True:
            low, high = first[state], first[state + 1]
            while low < high:
                middle = (low + high) // 2
                if token[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            if low < first[state + 1] and token[low] == wanted:
                return total + log_p[low], next_state[low]
            total += backoff[state]
            state = suffix[state]

    def next_word(at, c):  # type: ignore[no-untyped-def]
        """The node of the word after one more class, -1 where no word goes on like that; and what that costs."""
        if letter[c] < 0:
            return 0, unknown if at > 0 and not is_word[at] else 0.0
        if at < 0:
            return -1, 0.0  # it has cost already
        for e in range(word_first[at], word_first[at + 1]):
            if word_entry[e] == letter[c]:
                return word_node[e], 0.0
        return -1, unknown

    lines, steps, classes = logits.shape
    blank = classes - 1
    found = np.zeros((lines, n_best, steps), np.int32)
    lengths = np.full((lines, n_best), -1)
    scores = np.zeros((lines, n_best, 3))

    # The trie: a text's last character, the text without it, and the chain of the texts with one more.
    room = beam * steps + 1
    parent, last = np.full(room, -1), np.full(room, -1)
    child, sibling = np.full(room, -1), np.full(room, -1)
    place = np.full(room, -1)  # in the beam, -1 if outside
    # The beam. Of a text's paths, those that end with a blank and those that don't are summed apart.
    node, length, state = np.zeros((2, beam), np.int64), np.zeros((2, beam), np.int64), np.zeros((2, beam), np.int64)
    ends_blank, ends_character, lm = np.zeros((2, beam)), np.zeros((2, beam)), np.zeros((2, beam))
    # The language model before the space at the end of a text, if there is one.
    lm_inside, inside = np.zeros((2, beam)), np.zeros((2, beam), np.int64)
    # Where in a word of the list a text ends, and what its unknown words have cost.
    word, cost = np.zeros((2, beam), np.int64), np.zeros((2, beam))
    rank, source, added = np.zeros(beam), np.zeros(beam, np.int64), np.zeros(beam, np.int64)
    both = np.zeros(beam)
    taken = np.zeros((beam, classes), np.bool_)  # this text with this character is in the beam already
    p = np.zeros(classes)
    likely = np.zeros(classes, np.int64)

    for n in range(lines):
        nodes, size = 1, 1
        child[0], place[0] = -1, 0
        node[0, 0], length[0, 0], state[0, 0] = 0, 0, start
        ends_blank[0, 0], ends_character[0, 0], lm[0, 0] = 0.0, -np.inf, 0.0
        lm_inside[0, 0], inside[0, 0] = 0.0, start
        word[0, 0], cost[0, 0] = 0, 0.0
        for t in range(steps):
            peak = logits[n, t].max()
            total = 0.0
            for c in range(classes):
                p[c] = logits[n, t, c] - peak
                total += math.exp(p[c])
            number = 0
            for c in range(classes):
                p[c] -= math.log(total)
                if c != blank and p[c] >= least:
                    likely[number] = c
                    number += 1

            # The texts that are there stay: a blank, or the last character once more ...
            for i in range(size):
                both[i] = np.logaddexp(ends_blank[0, i], ends_character[0, i])
                ends_blank[1, i] = both[i] + p[blank]
                ends_character[1, i] = ends_character[0, i] + p[last[node[0, i]]] if length[0, i] else -np.inf
            # ... or they are reached from the text without it, if that is there too.
            for i in range(size):
                if length[0, i]:
                    j, c = place[parent[node[0, i]]], last[node[0, i]]
                    if j >= 0:
                        taken[j, c] = True
                        # A repeat must be parted by a blank.
                        before = ends_blank[0, j] if length[0, j] and last[node[0, j]] == c else both[j]
                        ends_character[1, i] = np.logaddexp(ends_character[1, i], before + p[c])
                source[i], added[i] = i, -1
                lm[1, i], state[1, i] = lm[0, i], state[0, i]
                lm_inside[1, i], inside[1, i] = lm_inside[0, i], inside[0, i]
                word[1, i], cost[1, i] = word[0, i], cost[0, i]
                rank[i] = np.logaddexp(ends_blank[1, i], ends_character[1, i]) - cost[0, i]
                rank[i] += weight * lm[0, i] + insertion * length[0, i]
            kept = size
            worst = 0
            for k in range(1, kept):
                if rank[k] < rank[worst]:
                    worst = k
            # Each text with each likely character, if it beats the worst of those kept so far.
            for j in range(size):
                for m in range(number):
                    c = likely[m]
                    if taken[j, c]:
                        continue
                    before = ends_blank[0, j] if length[0, j] and last[node[0, j]] == c else both[j]
                    reached = before + p[c]
                    new_lm, new_state = lm[0, j], state[0, j]
                    new_word, new_cost = word[0, j], cost[0, j]
                    new_rank = reached + weight * new_lm + insertion * (length[0, j] + 1) - new_cost
                    # The language model and the word list can only lower it.
                    if reached == -np.inf or (kept == beam and new_rank <= rank[worst]):
                        continue
                    if with_lm and (c != edge or length[0, j]):
                        gain, new_state = look_up(new_state, tokens[c])
                        new_lm += gain
                        new_rank += weight * gain
                        if kept == beam and new_rank <= rank[worst]:
                            continue
                    if unknown > 0:
                        new_word, loss = next_word(new_word, c)
                        new_cost += loss
                        new_rank -= loss
                        if kept == beam and new_rank <= rank[worst]:
                            continue
                    if kept < beam:
                        k = kept
                        kept += 1
                    else:
                        k = worst
                    source[k], added[k], rank[k] = j, c, new_rank
                    ends_blank[1, k], ends_character[1, k] = -np.inf, reached
                    lm[1, k], state[1, k] = new_lm, new_state
                    word[1, k], cost[1, k] = new_word, new_cost
                    if c == edge:
                        lm_inside[1, k], inside[1, k] = lm[0, j], state[0, j]
                    else:
                        lm_inside[1, k], inside[1, k] = new_lm, new_state
                    if kept == beam:
                        worst = rank.argmin()
            # The old beam's marks are wiped before the new one's are set.
            for i in range(size):
                if length[0, i]:
                    j = place[parent[node[0, i]]]
                    if j >= 0:
                        taken[j, last[node[0, i]]] = False
            for i in range(size):
                place[node[0, i]] = -1
            for k in range(kept):
                j, c = source[k], added[k]
                node[1, k], length[1, k] = node[0, j], length[0, j]
                if c >= 0:
                    length[1, k] += 1
                    at = child[node[0, j]]
                    while at >= 0 and last[at] != c:
                        at = sibling[at]
                    if at < 0:
                        at = nodes
                        nodes += 1
                        parent[at], last[at], child[at], place[at] = node[0, j], c, -1, -1
                        sibling[at] = child[node[0, j]]
                        child[node[0, j]] = at
                    node[1, k] = at
            for k in range(kept):
                place[node[1, k]] = k
            size = kept
            node[0], length[0], state[0] = node[1], length[1], state[1]
            ends_blank[0], ends_character[0], lm[0] = ends_blank[1], ends_character[1], lm[1]
            lm_inside[0], inside[0] = lm_inside[1], inside[1]
            word[0], cost[0] = word[1], cost[1]

        for i in range(size):
            if with_lm:
                lm[0, i] = lm_inside[0, i] + look_up(inside[0, i], END)[0]
            both[i] = np.logaddexp(ends_blank[0, i], ends_character[0, i])
            if word[0, i] > 0 and not is_word[word[0, i]]:
                cost[0, i] += unknown
            rank[i] = both[i] + weight * lm[0, i] + insertion * length[0, i] - cost[0, i]
            place[node[0, i]] = -1
        for k in range(min(n_best, size)):
            best = rank[:size].argmax()
            lengths[n, k] = length[0, best]
            scores[n, k, 0], scores[n, k, 1], scores[n, k, 2] = rank[best], both[best], lm[0, best]
            at = node[0, best]
            for i in range(length[0, best] - 1, -1, -1):
                found[n, k, i] = last[at]
                at = parent[at]
            rank[best] = -np.inf
    return found, lengths, scores
