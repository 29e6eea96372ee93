"""`hwr lm tune`: tune the decoder's weights and calibrate its confidences on validation lines, never test lines."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from hwr import Error, checkpoint, data, decoding
from hwr.checkpoint import Checkpoint
from hwr.config import Decode
from hwr.config.decoder_settings import STORED
from hwr.decoding import Decoder, Settings
from hwr.decoding.greedy import UNCALIBRATED, Calibration, confidences, log_odds
from hwr.evaluation import metrics
from hwr.images import cache, pieces
from hwr.recognizer import Recognizer
from hwr.system import files

# The initial grid for the two weights; the search then refines the best point in halved steps.
LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.3)
LENGTH_BONUSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
REFINEMENTS = 2
UNKNOWN_PENALTIES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
TEMPERATURES = tuple(np.geomspace(0.5, 8, 21).tolist())
NEWTON_STEPS = 30

# lm_weight, length_bonus, unknown_penalty.
Weights = tuple[float, float, float]


@dataclass(frozen=True)
class Tuned:
    """The result of tuning on the validation lines.

    Attributes:
        decode: The tuned settings.
        decoder: A decoder with these settings.
        greedy_cer: CER without a language model; `cer` is that with the tuned settings.
        former_cer: CER with the language model and word list that the checkpoint stored and that others replace; None if
            it stored none, or keeps them.
        tried: (lm_weight, length_bonus, unknown_penalty, CER) of each combination, in the order tried.
        error_before: Expected calibration error of the network's own probabilities, and `error` after calibration.
    """

    decode: Decode
    decoder: Decoder
    greedy_cer: float
    former_cer: float | None
    cer: float
    tried: list[tuple[float, float, float, float]]
    error_before: float
    error: float


def tune(model: Recognizer, beam: int | None) -> Tuned:
    """Choose lm_weight and length_bonus, then unknown_penalty, by the CER of the validation lines; then calibrate the confidences.

    Args:
        model: Its decoder has the language model and the word list whose weights are tuned.
        beam: Beam width; None keeps the decoder as it is and only calibrates.
    """
    config, decoder = model.config, model.decoder
    lines = data.lines_of(data.read(config.data), "val", config.data)
    images = cache.prepared(lines, pieces.unsqueezed(model.geometry), config.data.cache, progress=True)
    outputs = []  # all are kept: a few thousand validation lines of 100 kB each
    with tqdm(desc="validation lines", total=len(lines), unit="line", disable=None, leave=False) as bar:
        for batch, logits in model.logits(images):
            outputs.append((batch.index, logits))
            bar.update(len(batch.index))
    references = [line.text for line in lines]

    def read(decoder: Decoder) -> tuple[metrics.Score, list[np.ndarray]]:
        """The score, and each batch's alignment paths."""
        texts, paths = [""] * len(lines), []
        for index, logits in outputs:
            found, path = decoder.read(logits)
            paths.append(path)
            for i, text in zip(index.tolist(), found, strict=True):
                texts[i] = text
        return metrics.score(references, texts), paths

    def sure(paths: list[np.ndarray], temperature: float) -> np.ndarray:
        """(lines,) the probability of each line's text at this temperature."""
        out = np.zeros(len(lines))
        for (index, logits), path in zip(outputs, paths, strict=True):
            out[index] = confidences(logits, path, temperature)
        return out

    score, paths = read(replace(decoder, settings=Settings()))
    fitted = calibrated(lambda temperature: sure(paths, temperature), score.accuracies)
    greedy_cer, settings = score.cer, config.decode.model_copy(update={"greedy_calibration": tuple(fitted)})
    tried: dict[Weights, float] = {}
    former_cer: float | None = None
    if beam is not None:
        former = model.checkpoint.config.decode
        names = {former.lm, former.words}
        if STORED in names and names <= {STORED, None}:  # a path is not followed
            former_cer = read(model.with_config(config.model_copy(update={"decode": former})).decoder)[0].cer
        start = replace(decoder.settings, beam=beam)
        found = _weights(decoder, start, lambda s: read(replace(decoder, settings=s))[0].cer, tried)
        decoder = replace(decoder, settings=found)
        settings = _said(found, settings)
    if decoder.settings.name == "beam":
        score, paths = read(decoder)
        fitted = calibrated(lambda temperature: sure(paths, temperature), score.accuracies)
        settings = settings.model_copy(update={"calibration": tuple(fitted)})

    def error(calibration: Calibration) -> float:
        found = calibration.apply(sure(paths, calibration.temperature))
        return metrics.calibration_error(found, score.accuracies)

    settings = settings.model_copy(update={"temperature": 1.0})
    combinations = [(*key, cer) for key, cer in tried.items()]
    return Tuned(settings, decoder, greedy_cer, former_cer, score.cer, combinations, error(UNCALIBRATED), error(fitted))


def calibrated(sure: Callable[[float], np.ndarray], accuracies: np.ndarray) -> Calibration:
    """The calibration with the lowest cross-entropy between confidences and accuracies.

    Args:
        sure: Temperature -> (lines,) probabilities of the lines' texts.
        accuracies: (lines,) share of correct characters, 0..1.
    """
    best, least = UNCALIBRATED, float("inf")
    for temperature in TEMPERATURES:
        x = log_odds(sure(temperature))
        slope, offset = _logistic(x, accuracies)
        found = Calibration(round(temperature, 4), round(slope, 4), round(offset, 4))
        c = np.clip(found.apply(1 / (1 + np.exp(-x))), 1e-9, 1 - 1e-9)
        entropy = -float((accuracies * np.log(c) + (1 - accuracies) * np.log(1 - c)).sum())
        if found.slope > 0 and entropy < least:
            best, least = found, entropy
    return best


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic regression of y on x (Newton's method), drawn to 1 and 0 by one line's weight."""
    beta, prior = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    inputs = np.stack([x, np.ones(len(x))], 1)  # (n, 2)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(inputs @ beta).clip(-500, 500)))
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + np.eye(2)
        step = np.linalg.solve(hessian, inputs.T @ (y - p) - (beta - prior))
        beta = beta + step * min(1.0, 2.0 / max(1e-9, float(np.abs(step).max())))
    return float(beta[0]), float(beta[1])


def _weights(
    decoder: Decoder, start: Settings, cer: Callable[[Settings], float], tried: dict[Weights, float]
) -> Settings:
    """Search a coarse grid and refine it; then tune the unknown-word penalty. Ties go to the smaller values."""

    def settings(key: Weights) -> Settings:
        return replace(start, lm_weight=key[0], length_bonus=key[1], unknown_penalty=key[2])

    def best(grid: Sequence[Weights]) -> Weights:
        for key in tqdm(grid, "weights", disable=None, leave=False):
            if key not in tried:
                tried[key] = cer(settings(key))
        return min(tried, key=lambda key: (tried[key], *map(abs, key)))

    has_lm = decoder.lm is not None
    weights = LM_WEIGHTS if has_lm else (0.0,)
    a, b, c = best([(a, b, 0.0) for a in weights for b in LENGTH_BONUSES])
    for turn in range(1, REFINEMENTS + 1):
        step_a, step_b = LM_WEIGHTS[1] / 2**turn * has_lm, LENGTH_BONUSES[1] / 2**turn
        a, b, c = best([(max(0.0, a + i * step_a), b + j * step_b, 0.0) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    if decoder.lexicon is not None:
        a, b, c = best([(a, b, c) for c in UNKNOWN_PENALTIES])
    return settings((a, b, c))


def _said(found: Settings, before: Decode) -> Decode:
    """The settings as a config, with weights only for models that are present."""
    return before.model_copy(
        update={
            "name": "beam",
            "beam": found.beam,
            "lm_weight": found.lm_weight if before.lm else None,
            "length_bonus": found.length_bonus,
            "unknown_penalty": found.unknown_penalty if before.words else None,
        }
    )


def save(path: str | Path, loaded: Checkpoint, tuned: Tuned) -> None:
    """Write the checkpoint with the tuned settings, the language model, the word list and the scores."""
    brought = {"greedy_val_cer": tuned.greedy_cer, "val_cer": tuned.cer, "calibration_error": tuned.error}
    changes, lm, words = decoding.stored(tuned.decoder, tuned.decode)
    settings = loaded.config.model_copy(update={"decode": tuned.decode.model_copy(update=changes)})
    scores = {**loaded.scores, "decode": brought}
    checkpoint.save(path, replace(loaded, config=settings, scores=scores, language_model=lm, lexicon=words))


def texts_of(paths: list[Path], normalise: Literal["NFC", "NFKC", "NFD", "none"] = "NFC") -> list[str]:
    """The non-empty lines of UTF-8 text files.

    Args:
        normalise: Unicode normal form, as in `data.normalise`.

    Raises:
        Error: A file can't be read, or all files are empty.
    """
    texts: list[str] = []
    for path in paths:
        texts += [row.strip() for row in files.read_text(path).splitlines() if row.strip()]
    if not texts:
        raise Error(f"{', '.join(map(str, paths))}: no text found")
    return texts if normalise == "none" else [unicodedata.normalize(normalise, text) for text in texts]
