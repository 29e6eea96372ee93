"""The inner loop of the beam search, in the subset of Python that numba compiles: scalars, arrays, loops.

The first compilation on a machine takes some seconds. The result is cached next to this file, or in numba's own cache if the
folder is read-only. The arguments are the NamedTuples of `beam`.

The texts of a line are nodes of a trie, so a text keeps its number when it leaves the beam and returns. The beam consists of
arrays with `limits.beam` places; row 0 has the current step, and row 1 receives the next step.
"""

import math
from collections import namedtuple

import numpy as np
from numba import njit

from hwr.decoding.ngram import END

# parent: the text without its last character; last: that character; child, sibling: the chain of texts with one more
# character; place: place in the beam, -1 if outside.
Texts = namedtuple("Texts", "parent last child sibling place")
# Paths of a text that end with a blank, and those that don't, are summed separately. lm_inside, inside: the language model's
# score and state before the space at the end of a text, if it has one. word: the trie node of the unfinished word at the end
# of a text; cost: the penalty of its unknown words so far.
Beam = namedtuple("Beam", "node length state ends_blank ends_character lm lm_inside inside word cost")
# The next beam: place k is text source[k] extended by class added[k] (-1: unchanged). taken: (beam, C), whether this text with
# this character is already in the beam; both: the sum over all paths of a text.
Next = namedtuple("Next", "rank source added taken both")


@njit(cache=True, inline="always")
def look_up(model, state, wanted):  # type: ignore[no-untyped-def]
    """ln p(wanted | state), and the next state."""
    total = 0.0
    while True:
        low, high = model.first[state], model.first[state + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if model.token[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        if low < end and model.token[low] == wanted:
            return total + model.log_p[low], model.next_state[low]
        total += model.backoff[state]
        state = model.suffix[state]


@njit(cache=True, inline="always")
def next_word(trie, penalty, at, c):  # type: ignore[no-untyped-def]
    """The trie node after one more class, -1 if no word continues like this; and the penalty for it."""
    if trie.letter[c] < 0:
        return 0, penalty if at > 0 and not trie.is_word[at] else 0.0
    if at < 0:
        return -1, 0.0  # already penalised
    for e in range(trie.first[at], trie.first[at + 1]):
        if trie.entry[e] == trie.letter[c]:
            return trie.node[e], 0.0
    return -1, penalty


@njit(cache=True, inline="always")
def log_softmax(logits, least, p, likely):  # type: ignore[no-untyped-def]
    """Fill p with one step's log-probabilities, and `likely` with the characters above `least`; returns their number."""
    classes = len(logits)
    peak = logits.max()
    total = 0.0
    for c in range(classes):
        p[c] = logits[c] - peak
        total += math.exp(p[c])
    number, whole = 0, math.log(total)
    for c in range(classes):
        p[c] -= whole
        if c != classes - 1 and p[c] >= least:
            likely[number] = c
            number += 1
    return number


@njit(cache=True, inline="always")
def stay(size, p, weights, texts, b, new):  # type: ignore[no-untyped-def]
    """Keep the texts of the beam: they continue with a blank or a repeat, or are reached from the text one character shorter."""
    blank = len(p) - 1
    for i in range(size):
        new.both[i] = np.logaddexp(b.ends_blank[0, i], b.ends_character[0, i])
        b.ends_blank[1, i] = new.both[i] + p[blank]
        b.ends_character[1, i] = b.ends_character[0, i] + p[texts.last[b.node[0, i]]] if b.length[0, i] else -np.inf
    for i in range(size):
        if b.length[0, i]:
            j, c = texts.place[texts.parent[b.node[0, i]]], texts.last[b.node[0, i]]
            if j >= 0:
                new.taken[j, c] = True
                # Equal neighbours need a blank between them.
                before = b.ends_blank[0, j] if b.length[0, j] and texts.last[b.node[0, j]] == c else new.both[j]
                b.ends_character[1, i] = np.logaddexp(b.ends_character[1, i], before + p[c])
        new.source[i], new.added[i] = i, -1
        b.lm[1, i], b.state[1, i] = b.lm[0, i], b.state[0, i]
        b.lm_inside[1, i], b.inside[1, i] = b.lm_inside[0, i], b.inside[0, i]
        b.word[1, i], b.cost[1, i] = b.word[0, i], b.cost[0, i]
        new.rank[i] = np.logaddexp(b.ends_blank[1, i], b.ends_character[1, i]) - b.cost[0, i]
        new.rank[i] += weights.lm * b.lm[0, i] + weights.length_bonus * b.length[0, i]


@njit(cache=True, inline="always")
def lengthen(size, number, likely, p, limits, weights, trie, model, texts, b, new):  # type: ignore[no-untyped-def]
    """Extend each text by each likely character, if it beats the worst text kept so far and is within the margin.

    Returns:
        The size of the beam.
    """
    rank, beam = new.rank, limits.beam
    kept, worst, best = size, 0, rank[0]
    for k in range(1, kept):
        if rank[k] < rank[worst]:
            worst = k
        best = max(best, rank[k])
    for j in range(size):
        for m in range(number):
            c = likely[m]
            if new.taken[j, c]:
                continue
            before = b.ends_blank[0, j] if b.length[0, j] and texts.last[b.node[0, j]] == c else new.both[j]
            reached = before + p[c]
            new_lm, new_state = b.lm[0, j], b.state[0, j]
            new_word, new_cost = b.word[0, j], b.cost[0, j]
            new_rank = reached + weights.lm * new_lm + weights.length_bonus * (b.length[0, j] + 1) - new_cost
            # The language model and the word list can only lower the rank.
            if reached == -np.inf or new_rank < best - limits.margin or (kept == beam and new_rank <= rank[worst]):
                continue
            if model.known and (c != limits.edge or b.length[0, j]):
                for i in range(model.begin[c], model.begin[c + 1]):
                    gain, new_state = look_up(model, new_state, model.tokens[i])
                    new_lm += gain
                    new_rank += weights.lm * gain
                if kept == beam and new_rank <= rank[worst]:
                    continue
            if weights.unknown_penalty > 0:
                new_word, loss = next_word(trie, weights.unknown_penalty, new_word, c)
                new_cost += loss
                new_rank -= loss
                if kept == beam and new_rank <= rank[worst]:
                    continue
            best = max(best, new_rank)
            k = worst
            if kept < beam:
                k = kept
                kept += 1
            new.source[k], new.added[k], rank[k] = j, c, new_rank
            b.ends_blank[1, k], b.ends_character[1, k] = -np.inf, reached
            b.lm[1, k], b.state[1, k] = new_lm, new_state
            b.word[1, k], b.cost[1, k] = new_word, new_cost
            if c == limits.edge:
                b.lm_inside[1, k], b.inside[1, k] = b.lm[0, j], b.state[0, j]
            else:
                b.lm_inside[1, k], b.inside[1, k] = new_lm, new_state
            if kept == beam:
                worst = rank.argmin()
    return within(kept, best - limits.margin, b, new)


@njit(cache=True, inline="always")
def within(size, lowest, b, new):  # type: ignore[no-untyped-def]
    """Drop the texts below the lowest rank from the next beam; returns its size."""
    kept = 0
    for k in range(size):
        if new.rank[k] < lowest:
            continue
        if k > kept:
            new.source[kept], new.added[kept], new.rank[kept] = new.source[k], new.added[k], new.rank[k]
            b.ends_blank[1, kept], b.ends_character[1, kept] = b.ends_blank[1, k], b.ends_character[1, k]
            b.lm[1, kept], b.state[1, kept] = b.lm[1, k], b.state[1, k]
            b.lm_inside[1, kept], b.inside[1, kept] = b.lm_inside[1, k], b.inside[1, k]
            b.word[1, kept], b.cost[1, kept] = b.word[1, k], b.cost[1, k]
        kept += 1
    return kept


@njit(cache=True, inline="always")
def advance(size, kept, nodes, texts, b, new):  # type: ignore[no-untyped-def]
    """Replace the current beam by the next; returns the number of nodes in the trie."""
    # Clear the old beam's marks before setting the new ones.
    for i in range(size):
        if b.length[0, i]:
            j = texts.place[texts.parent[b.node[0, i]]]
            if j >= 0:
                new.taken[j, texts.last[b.node[0, i]]] = False
    for i in range(size):
        texts.place[b.node[0, i]] = -1
    for k in range(kept):
        j, c = new.source[k], new.added[k]
        b.node[1, k], b.length[1, k] = b.node[0, j], b.length[0, j]
        if c >= 0:
            b.length[1, k] += 1
            at = texts.child[b.node[0, j]]
            while at >= 0 and texts.last[at] != c:
                at = texts.sibling[at]
            if at < 0:
                at = nodes
                nodes += 1
                texts.parent[at], texts.last[at] = b.node[0, j], c
                texts.child[at], texts.place[at] = -1, -1
                texts.sibling[at] = texts.child[b.node[0, j]]
                texts.child[b.node[0, j]] = at
            b.node[1, k] = at
    for k in range(kept):
        texts.place[b.node[1, k]] = k
    b.node[0], b.length[0], b.state[0] = b.node[1], b.length[1], b.state[1]
    b.ends_blank[0], b.ends_character[0], b.lm[0] = b.ends_blank[1], b.ends_character[1], b.lm[1]
    b.lm_inside[0], b.inside[0] = b.lm_inside[1], b.inside[1]
    b.word[0], b.cost[0] = b.word[1], b.cost[1]
    return nodes


@njit(cache=True, inline="always")
def finish(size, weights, trie, model, texts, b, new):  # type: ignore[no-untyped-def]
    """Compute the final ranks, with the language model's end of line and unknown words at the end of texts."""
    for i in range(size):
        if model.known:
            b.lm[0, i] = b.lm_inside[0, i] + look_up(model, b.inside[0, i], END)[0]
        new.both[i] = np.logaddexp(b.ends_blank[0, i], b.ends_character[0, i])
        if b.word[0, i] > 0 and not trie.is_word[b.word[0, i]]:
            b.cost[0, i] += weights.unknown_penalty
        new.rank[i] = new.both[i] + weights.lm * b.lm[0, i] + weights.length_bonus * b.length[0, i] - b.cost[0, i]
        texts.place[b.node[0, i]] = -1


@njit(cache=True, nogil=True)
def links(first, token):  # type: ignore[no-untyped-def]
    """The longest known suffix of every node, the highest order's too; `LM.suffix` has the same for contexts.

    Args:
        first, token: The arrays of `LM`.

    Returns:
        (1 + entries,) int32.
    """
    suffix = np.zeros(len(token) + 1, np.int32)
    for state in range(1, len(first) - 1):
        for e in range(first[state], first[state + 1]):
            # A pruned model may lack a suffix; then try the next shorter one.
            shorter = suffix[state]
            while True:
                low, high = first[shorter], first[shorter + 1]
                end = high
                while low < high:
                    middle = (low + high) // 2
                    if token[middle] < token[e]:
                        low = middle + 1
                    else:
                        high = middle
                if low < end and token[low] == token[e]:
                    suffix[e + 1] = low + 1
                    break
                shorter = suffix[shorter]
    return suffix


@njit(cache=True, nogil=True)
def search(logits, limits, weights, trie, model):  # type: ignore[no-untyped-def]
    """Search all lines.

    Returns:
        (N, n_best, T) int32 classes; (N, n_best) int64 lengths, -1 for missing hypotheses; (N, n_best, 3) float64
        score, ctc and lm.
    """
    lines, steps, classes = logits.shape
    beam, n_best = limits.beam, limits.n_best
    found = np.zeros((lines, n_best, steps), np.int32)
    lengths = np.full((lines, n_best), -1)
    scores = np.zeros((lines, n_best, 3))
    room = beam * steps + 1
    texts = Texts(np.full(room, -1), np.full(room, -1), np.full(room, -1), np.full(room, -1), np.full(room, -1))
    shape = (2, beam)
    b = Beam(
        node=np.zeros(shape, np.int64),
        length=np.zeros(shape, np.int64),
        state=np.zeros(shape, np.int64),
        ends_blank=np.zeros(shape),
        ends_character=np.zeros(shape),
        lm=np.zeros(shape),
        lm_inside=np.zeros(shape),
        inside=np.zeros(shape, np.int64),
        word=np.zeros(shape, np.int64),
        cost=np.zeros(shape),
    )
    new = Next(
        rank=np.zeros(beam),
        source=np.zeros(beam, np.int64),
        added=np.zeros(beam, np.int64),
        taken=np.zeros((beam, classes), np.bool_),
        both=np.zeros(beam),
    )
    p, likely = np.zeros(classes), np.zeros(classes, np.int64)
    for n in range(lines):
        nodes, size = 1, 1
        texts.child[0], texts.place[0] = -1, 0
        b.node[0, 0], b.length[0, 0], b.state[0, 0] = 0, 0, model.start
        b.ends_blank[0, 0], b.ends_character[0, 0], b.lm[0, 0] = 0.0, -np.inf, 0.0
        b.lm_inside[0, 0], b.inside[0, 0] = 0.0, model.start
        b.word[0, 0], b.cost[0, 0] = 0, 0.0
        for t in range(steps):
            number = log_softmax(logits[n, t], limits.least, p, likely)
            stay(size, p, weights, texts, b, new)
            kept = lengthen(size, number, likely, p, limits, weights, trie, model, texts, b, new)
            nodes = advance(size, kept, nodes, texts, b, new)
            size = kept
        finish(size, weights, trie, model, texts, b, new)
        for k in range(min(n_best, size)):
            best = new.rank[:size].argmax()
            lengths[n, k] = b.length[0, best]
            scores[n, k, 0], scores[n, k, 1], scores[n, k, 2] = new.rank[best], new.both[best], b.lm[0, best]
            at = b.node[0, best]
            for i in range(b.length[0, best] - 1, -1, -1):
                found[n, k, i] = texts.last[at]
                at = texts.parent[at]
            new.rank[best] = -np.inf
    return found, lengths, scores
