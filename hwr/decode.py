"""Logits -> text."""

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Config, Original


def texts(logits: np.ndarray, alphabet: Alphabet, config: Config) -> tuple[list[str], np.ndarray]:
    """What a network read, and how sure it is (see `greedy`); without the spaces that stand for the paper at both ends.

    Args:
        config: Says whether the network was taught to write those (`model.edge_spaces`).
    """
    found, confidences = greedy(logits, alphabet)
    if not isinstance(config.model, Original) and config.model.edge_spaces:
        found = [text.strip(" ") for text in found]
    return found, confidences


def greedy(logits: np.ndarray, alphabet: Alphabet) -> tuple[list[str], np.ndarray]:
    """CTC best path: the likeliest class of every step, repeats merged, blanks dropped (Graves et al. 2006, 3.2).

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.

    Returns:
        The N texts, and (N,) float confidences in 0..1: the geometric mean of the characters' probabilities, each
        taken at the surest step of its run; of an empty text, the probability of the least sure blank.

    Raises:
        Error: Logits that are not finite, which only a network whose training diverged gives.
    """
    if not np.isfinite(logits).all():
        raise Error("the network's output is not finite: its training has diverged; train again with a lower train.lr")
    best = logits.argmax(2)  # (N, T)
    peak = logits.max(2)
    # The best class's probability is 1 / sum(exp(logit - peak)).
    log_p = -np.log(np.exp(logits - peak[..., None]).sum(2))  # (N, T)
    new = np.ones(best.shape, bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    written = new & (best != alphabet.blank)

    texts = [alphabet.decode(row[keep]) for row, keep in zip(best, written, strict=True)]
    # One number per run: its surest step. Runs are numbered through the batch, row after row.
    starts = np.flatnonzero(new)
    sure = np.maximum.reduceat(log_p.ravel(), starts) if len(starts) else np.zeros(0)
    is_character = written.ravel()[starts]
    row = starts // best.shape[1]
    total = np.bincount(row[is_character], sure[is_character], len(best))
    number = np.bincount(row[is_character], minlength=len(best))
    mean = np.where(number > 0, total / np.maximum(number, 1), log_p.min(1, initial=0))
    return texts, np.exp(mean)
