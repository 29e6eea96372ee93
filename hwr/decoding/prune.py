"""Shrink a language model: prune the least important n-grams, and quantise the numbers.

The importance of an n-gram is the increase of the model's relative entropy without it (Stolcke 1998, "Entropy-based pruning
of backoff language models"). The probability of a context comes from its count in the texts, because the lower orders of a
Kneser-Ney model misstate it (Chelba et al. 2010, "Study on interaction between entropy pruning and Kneser-Ney smoothing").
"""

from dataclasses import replace

import numpy as np

from hwr import Error
from hwr.decoding.language_model import quantised, to_bytes
from hwr.decoding.ngram import LM, Grams, assemble

STEPS = 12


def to_size(lm: LM, times: np.ndarray, most: float) -> LM:
    """Quantise a model, and prune it until its file takes at most `most` megabytes.

    Args:
        lm: An unpruned model from `ngram.count`.
        times: (entries,) int64, the count of each n-gram in the texts.

    Raises:
        Error: The 1-grams alone take more.
    """
    losses = _losses(lm, times)
    below = _below(lm)

    def without(threshold: float) -> LM:
        return quantised(_pruned(lm, below, _kept(lm, below, losses >= threshold)))

    whole = quantised(lm)
    if megabytes(whole) <= most:
        return whole
    # The smallest sufficient threshold, by bisection over the sorted losses.
    ordered = np.sort(losses[np.isfinite(losses)])
    found = without(np.inf)
    if megabytes(found) > most:
        raise Error(f"a language model of {most:g} MB has no room even for the {lm.counts[0]} characters")
    low, high = 0, len(ordered)  # the model at ordered[low] is too large
    for _ in range(STEPS):
        middle = (low + high) // 2
        tried = without(ordered[middle])
        if megabytes(tried) <= most:
            found, high = tried, middle
        else:
            low = middle
    return found


def _below(lm: LM) -> np.ndarray:
    """(entries,) the entry of each n-gram without its first token; -1 for 1-grams."""
    states = len(lm.suffix)
    return np.concatenate([lm.suffix[1:], lm.next_state[states - 1 :]]).astype(np.int64) - 1


def _contexts(lm: LM) -> np.ndarray:
    """(entries,) the context state of each n-gram."""
    return np.repeat(np.arange(len(lm.first) - 1), np.diff(lm.first))


def _losses(lm: LM, times: np.ndarray) -> np.ndarray:
    """(entries,) increase of the relative entropy without each n-gram, in nats per character; inf for 1-grams."""
    context, below = _contexts(lm), _below(lm)
    p = 10 ** lm.log10_p.astype(np.float64)
    higher = below >= 0
    p_below = np.where(higher, p[below], 0.0)
    states = len(lm.suffix)
    # The mass that a context leaves to the lower order, and the lower order's mass for the same tokens.
    left = np.maximum(1 - np.bincount(context, p, states), 1e-12)
    left_below = np.maximum(1 - np.bincount(context, p_below, states), 1e-12)
    likely = np.concatenate([[1.0], times[: states - 1] / max(1, times[: lm.counts[0]].sum())])
    out = np.full(len(p), np.inf)
    e = np.flatnonzero(higher)
    c = context[e]
    backoff = np.log((left[c] + p[e]) / (left_below[c] + p_below[e]))
    change = p[e] * (np.log(p_below[e]) + backoff - np.log(p[e]))
    change += left[c] * (backoff - np.log(left[c] / left_below[c]))
    out[e] = -likely[c] * change
    return out


def _kept(lm: LM, below: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """(entries,) bool: the kept n-grams, and those that they need: contexts, and n-grams without the first token."""
    keep, context = keep.copy(), _contexts(lm)
    ends = np.cumsum(lm.counts)
    for n in range(lm.order - 1, 0, -1):
        mine = np.flatnonzero(keep[ends[n - 1] : ends[n]]) + ends[n - 1]
        keep[context[mine] - 1] = True
        keep[below[mine]] = True
    keep[: lm.counts[0]] = True
    return keep


def _pruned(lm: LM, below: np.ndarray, keep: np.ndarray) -> LM:
    """The model of the kept n-grams, with back-off weights renormalised to sum to 1."""
    context, backoff = _contexts(lm), _backoff(lm, below, keep, lm.log10_backoff)
    grams, done, number = [], 0, np.zeros(0, np.int64)
    for n, count in enumerate(lm.counts):
        mine = np.flatnonzero(keep[done : done + count]) + done
        own = number[context[mine] - 1 - (done - lm.counts[n - 1])] if n else np.zeros(len(mine), np.int64)
        weights = backoff[mine + 1] if n + 1 < lm.order else np.zeros(len(mine))
        grams.append(Grams(own, lm.token[mine], lm.log10_p[mine], weights))
        number, done = np.cumsum(keep[done : done + count]) - 1, done + count
    return assemble(lm.characters, [g for g in grams if len(g.token)])


def renormalised(lm: LM) -> LM:
    """The model with back-off weights that make the probabilities after every context sum to 1."""
    below, context, weights = _below(lm), _contexts(lm), lm.log10_backoff
    gaps = (below >= 0) & (context[below] != lm.suffix[context])
    # In a model with gaps, a weight depends on those of shorter contexts.
    for _ in range(lm.order - 1 if gaps.any() else 1):
        weights = _backoff(lm, below, np.ones(len(lm.token), bool), weights)
        weights[0] = 0  # the empty context never backs off
    return replace(lm, log10_backoff=weights.astype(np.float32))


def _backoff(lm: LM, below: np.ndarray, keep: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(states,) log10 of the back-off weights with only these n-grams.

    Args:
        before: (states,) the weights so far, which stay where an order takes all the mass.
    """
    context = _contexts(lm)
    p = 10 ** lm.log10_p.astype(np.float64)
    states = len(lm.suffix)
    kept_p, kept_below = np.where(keep, p, 0), np.where(keep, _p_below(lm, below, before), 0)
    left = 1 - np.bincount(context, kept_p, states)
    left_below = 1 - np.bincount(context, kept_below, states)
    safe = (left > 1e-9) & (left_below > 1e-9)
    return np.where(safe, np.log10(np.where(safe, left, 1) / np.where(safe, left_below, 1)), before)


def _p_below(lm: LM, below: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(entries,) the probability of each n-gram's token after its context without the first token; 0 for 1-grams."""
    context = _contexts(lm)
    state, log10_p = lm.suffix[context], lm.log10_p[below].astype(np.float64)
    # Models that other programs have pruned may have gaps: they lack that n-gram, and back off to an even shorter one.
    while len(gaps := np.flatnonzero((below >= 0) & (state != context[below]))):
        log10_p[gaps] += weights[state[gaps]]
        state[gaps] = lm.suffix[state[gaps]]
    return np.where(below >= 0, 10**log10_p, 0)


def megabytes(lm: LM) -> float:
    """Size of a model's file."""
    return len(to_bytes(lm)) / 1e6
