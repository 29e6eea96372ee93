"""Align a text with logits: the time steps at which the network writes each character."""

from collections.abc import Sequence

import numpy as np

from hwr import Error
from hwr.images.geometry import steps_needed


def paths(logits: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
    """The most likely CTC path of each text (Viterbi), which does not depend on a temperature.

    Args:
        logits: (N, T, C) float, before the softmax; the blank is the last class.
        labels: N texts, (L,) class ids each.

    Returns:
        (N, T) int64 classes. Equal neighbours are separated by a blank, so every run of a class is one character.

    Raises:
        Error: A text does not fit into T time steps.
    """
    lines, steps, classes = logits.shape
    blank = classes - 1
    for label in labels:
        if steps_needed(label) > steps:
            raise Error(f"a text of {len(label)} characters does not fit into {steps} time steps")
    if not lines or not steps:
        return np.full((lines, steps), blank, np.int64)
    lengths = np.array([len(label) for label in labels])
    states = np.full((lines, 2 * int(lengths.max()) + 1), blank)  # (N, S): blanks around and between the characters
    for row, label in zip(states, labels, strict=True):
        row[1 : 2 * len(label) : 2] = label
    # A blank may be skipped only between different characters.
    leap = np.zeros(states.shape, bool)
    leap[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]

    rows = np.arange(lines)
    relative = logits - logits.max(2, keepdims=True)  # the softmax's denominator is the same for every path
    score = np.full(states.shape, -np.inf)
    score[:, :2] = np.take_along_axis(relative[:, 0], states[:, :2], 1)
    step_back = np.zeros((steps, *states.shape), np.int8)
    for t in range(1, steps):
        best = score.copy()
        one, two = score[:, :-1], np.where(leap[:, 2:], score[:, :-2], -np.inf)
        better = one > best[:, 1:]
        np.copyto(best[:, 1:], one, where=better)
        step_back[t, :, 1:] = better
        better = two > best[:, 2:]
        np.copyto(best[:, 2:], two, where=better)
        step_back[t, :, 2:][better] = 2
        score = best + np.take_along_axis(relative[:, t], states, 1)
    last = 2 * lengths
    before = np.maximum(last - 1, 0)
    state = np.where(score[rows, last] >= score[rows, before], last, before)
    path = np.zeros((lines, steps), np.int64)
    for t in range(steps - 1, -1, -1):
        path[:, t] = states[rows, state]
        state = state - step_back[t, rows, state]
    return path


def align(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The time steps at which CTC writes each character of a text, on the most likely path.

    Args:
        logits: (T, C) float, before the softmax; the blank is the last class.
        label: (L,) class ids that fit into T time steps.
        temperature: Divides the logits before probabilities are computed.

    Returns:
        (L, 2) int, each character's first time step and the one after its last; and (L,) its highest probability in these
        steps, 0..1.
    """
    path = paths(logits[None], [label])[0]
    scaled = (logits - logits.max(1, keepdims=True)) / temperature
    log_p = np.take_along_axis(scaled, path[:, None], 1)[:, 0] - np.log(np.exp(scaled).sum(1))
    if not len(label):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(starts[1:], len(path))
    surest = np.maximum.reduceat(log_p, starts)
    own = path[starts] != logits.shape[1] - 1
    return np.stack([starts, ends], 1)[own], np.exp(surest[own])
