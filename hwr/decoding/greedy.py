"""Greedy decoding: logits -> text along the best path, and the confidence of any path."""

from typing import NamedTuple

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet


class Calibration(NamedTuple):
    """How the network's probabilities become confidences.

    The logits are divided by the temperature (Guo et al. 2017). A probability p of them becomes a confidence by
    ln(c / (1 - c)) = slope ln(p / (1 - p)) + offset (Platt 1999). The temperature alone can't make up for a language model:
    the texts that it corrects are right more often than the network believes.
    """

    temperature: float = 1.0
    slope: float = 1.0
    offset: float = 0.0

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Probabilities at this temperature -> confidences, of any shape."""
        if (self.slope, self.offset) == (1.0, 0.0):
            return p
        return np.asarray(1 / (1 + np.exp(-(self.slope * log_odds(p) + self.offset).clip(-500, 500))))


UNCALIBRATED = Calibration()


def log_odds(p: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)); certainty counts as one in a million."""
    p = np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def greedy(logits: np.ndarray, alphabet: Alphabet, temperature: float = 1.0) -> tuple[list[str], np.ndarray]:
    """CTC best path: the most likely class of every step, repeats merged, blanks dropped (Graves et al. 2006, 3.2).

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        temperature: See `confidences`; the texts do not depend on it.

    Returns:
        The N texts, and (N,) float confidences in 0..1.

    Raises:
        Error: Logits are not finite, because training diverged.
    """
    path = best_path(logits)
    return collapse(path, alphabet), confidences(logits, path, temperature)


def best_path(logits: np.ndarray) -> np.ndarray:
    """(N, T) int64: the most likely class of every step of (N, T, C) logits, which must be finite."""
    check_finite(logits)
    return np.asarray(logits.argmax(2), np.int64)


def check_finite(logits: np.ndarray) -> None:
    """Raise an Error if logits are not finite."""
    if not np.isfinite(logits).all():
        raise Error("the network's output is not finite: training has diverged; train again with a lower train.lr")


def collapse(path: np.ndarray, alphabet: Alphabet) -> list[str]:
    """The texts of (N, T) paths: repeats merged, blanks dropped."""
    written = _starts(path) & (path != alphabet.blank)
    return [alphabet.decode(row[keep]) for row, keep in zip(path, written, strict=True)]


def confidences(logits: np.ndarray, path: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The confidence of the texts along these paths.

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        path: (N, T) int, a class for each step.
        temperature: Divides the logits (Guo et al. 2017).

    Returns:
        (N,) float in 0..1: the geometric mean of the characters' probabilities, each the maximum over the character's run;
        for an empty text, the lowest probability of its blanks.
    """
    if not path.size:
        return np.ones(len(path))
    blank = logits.shape[2] - 1
    own = np.take_along_axis(logits, path[..., None], 2)
    log_p = -np.log(np.exp((logits - logits.max(2, keepdims=True)) / temperature).sum(2))
    log_p = log_p + (own - logits.max(2, keepdims=True))[..., 0] / temperature  # (N, T)
    # The maximum of each run. Runs are numbered through the whole batch, row by row.
    starts = np.flatnonzero(_starts(path))
    surest = np.maximum.reduceat(log_p.ravel(), starts)
    is_character = path.ravel()[starts] != blank
    row = starts[is_character] // path.shape[1]
    total = np.bincount(row, surest[is_character], len(path))
    number = np.bincount(row, minlength=len(path))
    return np.asarray(np.exp(np.where(number > 0, total / np.maximum(number, 1), log_p.min(1))))


def _starts(path: np.ndarray) -> np.ndarray:
    """(N, T) bool: the steps at which a new run starts."""
    new = np.ones(path.shape, bool)
    new[:, 1:] = path[:, 1:] != path[:, :-1]
    return new
