"""The learning rate over a run."""

import math

from hwr.config import Train

# The final learning rate of a schedule that decays, as a fraction of train.lr.
LAST = 0.005


def learning_rate(train: Train, done: float) -> float:
    """The learning rate at a point of the run.

    It rises linearly during the first `train.warmup` of the run. Then it stays at `train.lr` (constant), or falls to almost 0
    along a straight line (linear) or half a cosine (cosine; Loshchilov and Hutter 2017, without restarts).

    Args:
        done: Completed fraction of the run, 0..1: of the epochs or of the time limit, whichever is further.
    """
    if done < train.warmup:
        return train.lr * max(LAST, done / train.warmup)
    if train.schedule == "constant":
        return train.lr
    rest = 1 - min(1.0, (done - train.warmup) / (1 - train.warmup))
    if train.schedule == "cosine":
        rest = (1 - math.cos(math.pi * rest)) / 2
    return train.lr * (LAST + (1 - LAST) * rest)
