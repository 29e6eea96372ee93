"""What an engine is: a network on a library and a device. NumPy in, NumPy out."""

from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat

import numpy as np

from hwr.images.batches import Batch

Weights = dict[str, np.ndarray]


class Group:
    """The processes that work together; this class is of one that works alone.

    Every method but the constructor must be called by all of them, in the same order.

    Attributes:
        rank: 0 .. size - 1; process 0 writes files and speaks.
        local_rank: Likewise among those on this machine.
    """

    rank, local_rank, size = 0, 0, 1

    def all_gather(self, value: Any) -> list[Any]:
        """The value of each process, by rank."""
        return [value]

    def highest(self, values: list[float]) -> list[float]:
        """The highest of each value over the processes."""
        return values


class Engine(Protocol):
    """A network that reads.

    Attributes:
        name: As in `engine.name`.
        device: In words: `cpu`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
        precision: What its network computes in: `fp32` or `bf16`.
        group: The processes that it works with.
    """

    name: str
    device: str
    precision: str

    @property
    def group(self) -> Group: ...

    def logits(self, batch: Batch) -> np.ndarray:
        """(N, T, C) float32, before the softmax, the blank last; dropout off. Only blanks right of a line's end.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """CTC loss, (N,) nats per line, unweighted; NaN of an engine that can't compute it.

        Args:
            logits: (N, T, C) float32.
            labels: (N, L) int32, padded with -1.
        """
        ...


class Trainer(Engine, Protocol):
    """A network that trains. It names the original's weights as Gluon does, on any library.

    Attributes:
        notes: What the user should know of how it was built, a sentence each.
    """

    notes: list[str]

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> SupportsFloat:
        """One update with the batch's warps applied and dropout on.

        Args:
            batch: Of several processes each gives as many other lines; the update is that of all of them.
            center_loss: Its weight in this update.

        Returns:
            The mean CTC loss per line in nats, unweighted, before the update; float() of it waits for the device.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    def rehearse(self, batch: Batch) -> None:
        """Train on a batch without changing anything, so that running out of memory shows at the start of a run.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    def weights(self) -> Weights:
        """A copy of all parameters and running statistics that it reads with (with `train.ema`, their average)."""
        ...

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replace all weights.

        Raises:
            Error: Names or shapes differ from the network's.
        """
        ...

    def state(self) -> Weights:
        """All else that the next training step depends on: optimizer moments, random generators, what is averaged.

        All processes of the group must call it at once.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume as from the moment of `state`."""
        ...
