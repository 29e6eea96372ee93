"""The interface of an engine: a network on a library and a device. NumPy in, NumPy out."""

from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat

import numpy as np

from hwr.images.batches import Batch

Weights = dict[str, np.ndarray]


class Group:
    """The processes of a run; this class stands for a single process.

    All processes must call every method except the constructor, in the same order.

    Attributes:
        rank: 0 .. size - 1; process 0 writes files and prints.
        local_rank: The rank among the processes on this machine.
    """

    rank, local_rank, size = 0, 0, 1

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def highest(self, values: list[float]) -> list[float]:
        """The maximum of each value over the processes."""
        return values


class Engine(Protocol):
    """A network that reads.

    Attributes:
        name: `engine.name`, or `onnx`.
        device: For messages: `cpu`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
        precision: Of the network: `fp32` or `bf16`.
        group: The processes that share the work.
    """

    name: str
    device: str
    precision: str

    @property
    def group(self) -> Group: ...

    def logits(self, batch: Batch) -> np.ndarray:
        """(N, T, C) float32, before the softmax, the blank last, without dropout. Time steps right of a line's end are blank.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    @property
    def side_by_side(self) -> int:
        """Number of batches that the calling thread can have computed at the same time, each in a thread of its own.

        It is the number of threads in which a batch is computed for the calling thread, so that a core each remains; 1 if only
        one thread may use the engine, or if more would not be faster.
        """
        ...

    def limit_threads(self, number: int) -> None:
        """Compute what the calling thread asks for in this many threads of a CPU. No effect if `side_by_side` is always 1."""
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """CTC loss, (N,) nats per line, unweighted; NaN if the engine can't compute it.

        Args:
            logits: (N, T, C) float32.
            labels: (N, L) int32, padded with -1.
        """
        ...


class Trainer(Engine, Protocol):
    """A network that trains. The original network's weights have their Gluon names on every library.

    Attributes:
        notes: Sentences for the user on how it was built.
    """

    notes: list[str]

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> SupportsFloat:
        """One update, with the batch's augmentation and dropout.

        Args:
            batch: This process's share of the lines, equally many in each process; the update uses all of them.
            center_loss: The weight of the center loss in this update.

        Returns:
            The mean CTC loss per line in nats, unweighted, before the update; calling float() on it waits for the device.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    def rehearse(self, batch: Batch) -> None:
        """Run a training step that changes nothing, so that a lack of memory shows at the start of a run.

        Raises:
            Error: Out of memory; names the setting to lower.
        """
        ...

    def weights(self) -> Weights:
        """A copy of the parameters and running statistics used for reading (with `train.ema`, the average)."""
        ...

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replace all weights.

        Raises:
            Error: Names or shapes differ from the network's.
        """
        ...

    def state(self) -> Weights:
        """Everything else that the next step depends on: optimizer moments, random generators, unaveraged weights.

        All processes of the group must call it together.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        ...
