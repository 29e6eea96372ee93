"""CTC scores of many spans of one text on one line: the best path that writes text[start:end], for all starts and ends."""

from collections.abc import Sequence

import numpy as np

NEVER = np.float32(-1e30)


def scores(
    logits: np.ndarray,
    label: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    head: np.ndarray,
    tails: Sequence[np.ndarray],
) -> np.ndarray:
    """Score spans of a text by the best CTC path (Viterbi), relative to the best path of any text.

    Args:
        logits: (T, C) float, before the softmax; the blank is the last class.
        label: (L,) class ids of the text.
        starts: (S,) int, ascending, where spans may start in the label.
        ends: (E,) int, ascending, where spans may end.
        head: (H,) class ids that the network writes before every span.
        tails: K sequences of class ids, of which one follows every span.

    Returns:
        (K, S, E) float32 log-likelihood ratios, at most 0; `NEVER` or less if a span is empty or does not fit into T steps.
    """
    steps, classes = logits.shape
    blank = classes - 1
    relative = (logits - logits.max(1, keepdims=True)).astype(np.float32)  # 0 on the best path
    first, last = int(starts[0]), int(ends[-1])
    text = label[first:last]
    # Columns are the characters of the text; the head comes before them in each row's own first columns.
    out = np.full((len(tails), len(starts), len(ends)), NEVER, np.float32)
    if not len(text) or not steps:
        return out
    width = len(text)
    emit = relative[:, text]  # (T, W)
    enter, after_same = _head(relative, head, blank)
    # Within the span: a row per start, and for each character its own state and that of the blank after it.
    own = np.full((len(starts), width), NEVER, np.float32)
    gap = np.full((len(starts), width), NEVER, np.float32)
    rows = np.arange(len(starts))
    at = starts - first
    leap = np.zeros(width, bool)
    leap[1:] = text[1:] != text[:-1]
    firsts = text[np.minimum(at, width - 1)]
    repeats = firsts == head[-1] if len(head) else np.zeros(len(starts), bool)
    valid = at < width
    columns = ends - first - 1  # the last character of each span
    reach = np.full((steps, len(starts), len(ends)), NEVER, np.float32)
    inside = columns >= 0
    for t in range(steps):
        before = np.maximum(gap[:, :-1], np.where(leap[1:], own[:, :-1], NEVER))
        new = own.copy()
        np.maximum(new[:, 1:], before, out=new[:, 1:])
        start = np.where(repeats, after_same[t], enter[t])
        new[rows[valid], at[valid]] = np.maximum(new[rows[valid], at[valid]], start[valid])
        gap = np.maximum(gap, own) + relative[t, blank]
        own = new + emit[t]
        reach[t][:, inside] = own[:, columns[inside]]
    for k, tail in enumerate(tails):
        free, apart = _tail(relative, tail, blank)
        # Equal neighbours need a blank between them.
        same = text[np.maximum(columns, 0)] == tail[0] if len(tail) else np.zeros(len(ends), bool)
        out[k] = (reach + np.where(same, apart[1:, None], free[1:, None])[:, None]).max(0)
    empty = columns[None, :] < at[:, None]
    out[:, empty] = NEVER
    return out


def _head(relative: np.ndarray, head: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) the best path that has written the head before step t; and the same if it must end with a blank."""
    steps = len(relative)
    states = [blank]
    for c in head.tolist():
        states += [c, blank]
    score = np.full(len(states), NEVER, np.float32)
    score[0] = 0
    enter, after = np.full(steps, NEVER, np.float32), np.full(steps, NEVER, np.float32)
    for t in range(steps):
        enter[t] = max(score[-1], score[-2]) if len(states) > 1 else score[-1]
        after[t] = score[-1] if t or len(states) == 1 else NEVER
        new = score.copy()
        for s in range(1, len(states)):
            new[s] = max(new[s], score[s - 1])
            if s > 1 and s % 2 and states[s] != states[s - 2]:
                new[s] = max(new[s], score[s - 2])
        score = new + relative[t, states]
    return enter, after


def _tail(relative: np.ndarray, tail: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """(T + 1,) the best path that writes the tail, and nothing else, from step t on; and the same if it starts with a blank."""
    steps = len(relative)
    states = [blank]
    for c in tail.tolist():
        states += [c, blank]
    score = np.full(len(states), NEVER, np.float32)  # of the steps after one in each state
    score[-2:] = 0
    free, apart = np.full((2, steps + 1), NEVER, np.float32)
    free[steps] = apart[steps] = 0 if len(states) == 1 else NEVER
    for t in range(steps - 1, -1, -1):
        here = score + relative[t, states]
        free[t], apart[t] = here[:2].max(), here[0]
        score = here.copy()
        for s in range(len(states) - 1):
            score[s] = max(score[s], here[s + 1])
            if s % 2 and s + 2 < len(states) and states[s] != states[s + 2]:
                score[s] = max(score[s], here[s + 2])
    return free, apart
