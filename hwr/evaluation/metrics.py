"""References and hypotheses -> Score: counts of edits, from which all rates derive."""

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Counts:
    """Edits (substitutions + insertions + deletions) and units of the reference, per line.

    Attributes:
        edits: (lines,) int64.
        units: (lines,) int64: characters or words of the references.
    """

    edits: np.ndarray
    units: np.ndarray

    @property
    def rate(self) -> float:
        """Sum of edits / sum of units; NaN if all references are empty."""
        units = int(self.units.sum())
        return float(self.edits.sum() / units) if units else float("nan")


@dataclass(frozen=True)
class Score:
    """Predictions compared with the ground truth. All rates are fractions (0.05 is 5 %), cased, spaces counted.

    Attributes:
        characters: Character edits, cased, spaces counted: the corpus CER.
        casefolded: Character edits of case-folded texts.
        words: Word edits, split at white space: the corpus WER.
        tokens: Word edits with each punctuation mark as a token of its own.
        writers: (lines,) the lines' writers, "" where unknown.
    """

    characters: Counts
    casefolded: Counts
    words: Counts
    tokens: Counts
    writers: np.ndarray

    @property
    def cer(self) -> float:
        return self.characters.rate

    @property
    def wer(self) -> float:
        return self.words.rate

    @property
    def cer_mean_per_line(self) -> float:
        """Mean of the CERs of the lines; for an empty reference 0 if the prediction is empty, else 1."""
        edits, units = self.characters.edits, self.characters.units
        if not len(edits):
            return float("nan")
        return float(np.where(units > 0, edits / np.maximum(units, 1), edits > 0).mean())

    @property
    def accuracies(self) -> np.ndarray:
        """(lines,) share of each line's characters that are right: 1 - CER, at least 0."""
        return np.asarray(np.clip(1 - self.characters.edits / np.maximum(self.characters.units, 1), 0, 1))

    def cer_interval(self, resamples: int, seed: int = 0) -> tuple[float, float, str]:
        """95 % percentile bootstrap interval of the corpus CER (Bisani and Ney 2004), and the resampled units.

        Lines of one writer resemble each other, so writers are resampled; or lines, if a writer is unknown or there is
        only one.
        """
        by = "writers" if all(self.writers) and len(set(self.writers)) > 1 else "lines"
        labels = self.writers if by == "writers" else np.arange(len(self.writers))
        names, group = np.unique(labels, return_inverse=True)
        edits = np.bincount(group, self.characters.edits, len(names))
        units = np.bincount(group, self.characters.units, len(names))
        return (*bootstrap(edits, units, resamples, seed), by)


def bootstrap(edits: np.ndarray, units: np.ndarray, resamples: int, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of sum(edits) / sum(units); NaN without units.

    Args:
        edits: (N,) per resampled item; `units` too.
        resamples: How often to resample.
    """
    n = len(edits)
    rng = np.random.default_rng(seed)
    rates = []
    # One resample at a time: n may be in the hundreds of thousands.
    for _ in range(resamples if n else 0):
        drawn = rng.integers(0, n, n)
        if units[drawn].sum():
            rates.append(edits[drawn].sum() / units[drawn].sum())
    if not rates:
        return float("nan"), float("nan")
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


class Bin(NamedTuple):
    """Lines of similar confidence: the means of their confidences and accuracies, and their number."""

    confidence: float
    accuracy: float
    lines: int


def calibration_bins(confidences: np.ndarray, accuracies: np.ndarray, bins: int = 10) -> list[Bin]:
    """Sort lines by confidence and split them into non-empty bins of (nearly) equal size.

    Args:
        confidences: (lines,) in 0..1.
        accuracies: (lines,) in 0..1, see `Score.accuracies`.
    """
    order = np.argsort(confidences, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [Bin(float(confidences[part].mean()), float(accuracies[part].mean()), len(part)) for part in parts]


def calibration_error(confidences: np.ndarray, accuracies: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap between confidence and accuracy, 0 to 1.

    The gaps of `calibration_bins` (which takes the same arguments) are averaged, weighted by their lines. NaN without lines.
    """
    if not len(confidences):
        return float("nan")
    apart = [abs(x.confidence - x.accuracy) * x.lines for x in calibration_bins(confidences, accuracies, bins)]
    return float(np.sum(apart) / len(confidences))


def score(references: Sequence[str], hypotheses: Sequence[str], writers: Sequence[str] | None = None) -> Score:
    """Compare texts line by line.

    Args:
        references: The ground truth, per line.
        hypotheses: The predictions, in the same order.
        writers: The writer of each line, for the interval; None if unknown.
    """

    def counts(units: Callable[[str], Sequence[str]]) -> Counts:
        pairs = [(units(r), units(h)) for r, h in zip(references, hypotheses, strict=True)]
        edits = np.array([Levenshtein.distance(r, h) for r, h in pairs], np.int64)
        return Counts(edits, np.array([len(r) for r, _ in pairs], np.int64))

    return Score(
        characters=counts(str),
        casefolded=counts(str.casefold),
        words=counts(str.split),
        tokens=counts(_tokens),
        writers=np.array(writers if writers is not None else [""] * len(references), dtype=str),
    )


def _tokens(text: str) -> list[str]:
    """Words and single punctuation marks. A combining mark, such as the tilde over a q, belongs to its word."""

    def in_word(character: str) -> bool:
        return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"

    out: list[str] = []
    for word, group in itertools.groupby(text, in_word):
        characters = list(group)
        out += ["".join(characters)] if word else [c for c in characters if not c.isspace()]
    return out
