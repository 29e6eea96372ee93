"""The step size over a run."""

import math

from hwr.config import Train

# Where cosine ends, as a fraction of train.lr.
LAST = 0.005


def learning_rate(train: Train, done: float) -> float:
    """The optimizer's step size when so much of the run is done.

    `train.warmup` of the run it rises in proportion; then it stays at `train.lr` (constant), or falls along half a
    cosine to next to nothing (cosine; Loshchilov and Hutter 2017, without restarts).

    Args:
        done: 0..1, of the epochs or of the minutes, whichever is further.
    """
    if done < train.warmup:
        return train.lr * max(LAST, done / train.warmup)
    if train.schedule == "constant":
        return train.lr
    rest = min(1.0, (done - train.warmup) / (1 - train.warmup))
    return train.lr * (LAST + (1 - LAST) * (1 + math.cos(math.pi * rest)) / 2)
