"""Logits -> text."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Config

if TYPE_CHECKING:
    from hwr.decoding.beam import Hypothesis
    from hwr.decoding.lexicon import Words
    from hwr.decoding.ngram import LM


def texts(logits: np.ndarray, alphabet: Alphabet, config: Config) -> tuple[list[str], np.ndarray]:
    """What a network read, as the config's `decode` record says, without the spaces that stand for the paper at the ends.

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.

    Returns:
        The N texts, and (N,) confidences in 0..1 (see `greedy`; also of the beam search).
    """
    found, confidences = greedy(logits, alphabet, config.decode.temperature)
    match config.decode.name:
        case "greedy":
            return [stripped(text, config) for text in found], confidences
        case "beam":
            return [best[0].text for best in n_best(logits, alphabet, config, 1)], confidences


def n_best(logits: np.ndarray, alphabet: Alphabet, config: Config, n: int) -> "list[list[Hypothesis]]":
    """The likeliest readings of each line by beam search, best first, with their scores; at most `n`, each text once."""
    from hwr.decoding import beam

    settings = config.decode
    lm = language_model(settings.lm) if settings.lm else None
    words = word_list(settings.words, alphabet) if settings.words else None
    edges = config.model.edge_spaces
    # Texts that differ in the spaces at their ends alone become one, so more are asked for.
    asked = min(max(n, settings.beam), 4 * n) if edges and n > 1 else n
    found = beam.search(
        logits,
        alphabet,
        settings.beam,
        lm,
        settings.lm_weight,
        settings.insertion,
        n_best=asked,
        edges=edges,
        words=words,
        unknown=settings.unknown,
    )
    out = []
    for hypotheses in found:
        by_text: dict[str, Hypothesis] = {}
        for hypothesis in hypotheses:
            text = stripped(hypothesis.text, config)
            by_text.setdefault(text, replace(hypothesis, text=text))
        out.append(list(by_text.values())[:n])
    return out


def stripped(text: str, config: Config) -> str:
    return text.strip(" ") if config.model.edge_spaces else text


@cache
def word_list(path: str, alphabet: Alphabet) -> "Words":
    """The word list in a file, read once.

    Raises:
        Error: It is not there, or has no word.
    """
    from hwr.decoding import lexicon

    _there("words", path)
    return lexicon.read(path, alphabet)


@cache
def language_model(path: str) -> "LM":
    """The language model in a file, read once.

    Raises:
        Error: It is not there or malformed.
    """
    from hwr.decoding import ngram

    _there("lm", path)
    return ngram.load(path)


def _there(key: str, path: str) -> None:
    """Refuse a path that a checkpoint remembers, and that is no more."""
    if not Path(path).is_file():
        raise Error(
            f"decode.{key}: {path}: no such file. --{key} says where it is now, --decoder greedy reads without it"
        )


def greedy(logits: np.ndarray, alphabet: Alphabet, temperature: float = 1.0) -> tuple[list[str], np.ndarray]:
    """CTC best path: the likeliest class of every step, repeats merged, blanks dropped (Graves et al. 2006, 3.2).

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        temperature: Logits are divided by it for the confidences (Guo et al. 2017); the texts stay the same.

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
    log_p = -np.log(np.exp((logits - peak[..., None]) / temperature).sum(2))  # (N, T)
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


def align(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Where CTC writes each character of a text: the likeliest path that gives it (Viterbi).

    Args:
        logits: (T, C) float, before the softmax; the blank is the last class.
        label: (L,) class ids that fit into T steps.

    Returns:
        (L, 2) int, each character's first time step and the one after its last; and (L,) its probability in 0..1 at the
        surest of them.
    """
    steps, blank, length = len(logits), logits.shape[1] - 1, len(label)
    scaled = logits / temperature
    log_p = scaled - scaled.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    states = np.full(2 * length + 1, blank)
    states[1::2] = label
    emit = log_p[:, states]  # (T, 2L + 1)
    # From two states before only onto a character that differs from the one before it.
    leap = np.zeros(len(states), bool)
    leap[3::2] = label[1:] != label[:-1]
    score = np.full(len(states), -np.inf)
    score[:2] = emit[0, :2]
    came = np.zeros((steps, len(states)), np.int8)
    ways = np.full((3, len(states)), -np.inf)
    for t in range(1, steps):
        ways[0], ways[1, 1:], ways[2, 2:] = score, score[:-1], np.where(leap[2:], score[:-2], -np.inf)
        came[t] = ways.argmax(0)
        score = ways.max(0) + emit[t]
    state = len(states) - 1 if length == 0 or score[-1] >= score[-2] else len(states) - 2
    path = np.zeros(steps, np.int64)
    for t in range(steps - 1, -1, -1):
        path[t] = state
        state -= came[t, state]
    places, sure = np.zeros((length, 2), np.int64), np.zeros(length)
    for i in range(length):
        own = np.flatnonzero(path == 2 * i + 1)
        places[i] = own[0], own[-1] + 1
        sure[i] = np.exp(emit[own, 2 * i + 1].max())
    return places, sure
