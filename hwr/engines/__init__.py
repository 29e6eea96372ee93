"""What computes: the Engine protocol, and `build`. Only this package imports a tensor library."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hwr.batches import Batch
from hwr.config import Config

Weights = dict[str, np.ndarray]


class Engine(Protocol):
    """A network on a device. It speaks NumPy only, and names weights as Gluon does, whatever it computes with.

    Attributes:
        name: As in `engine.name`.
        device: Where it computes, in words: `cpu`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
        steps: T, the time steps of the output.
        notes: What was done at building that one should know, a sentence each.
    """

    name: str
    device: str
    steps: int
    notes: list[str]

    def train_step(self, batch: Batch, lr: float) -> float:
        """One update with the batch's warps applied and dropout on.

        Returns:
            The mean CTC loss per line in nats, unweighted, before the update.
        """
        ...

    def logits(self, batch: Batch) -> np.ndarray:
        """(N, T, C) float32, before the softmax, the blank last; dropout off."""
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """CTC loss, (N,) nats per line, unweighted.

        Args:
            logits: (N, T, C) float32.
            labels: (N, L) int32, padded with -1.
        """
        ...

    def weights(self) -> Weights:
        """A copy of all parameters and running statistics."""
        ...

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replace all weights.

        Raises:
            Error: Names or shapes differ from the network's.
        """
        ...

    def state(self) -> Weights:
        """All else that the next training step depends on: optimizer moments, random generators."""
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on as from the moment of `state`."""
        ...


def build(config: Config, classes: int, *, fresh: bool = True) -> Engine:
    """The engine that the config names, with initial weights.

    Args:
        config: Its `engine`, `model`, `image` and `train` records.
        classes: C, the alphabet's characters and the blank.
        fresh: False where weights will be loaded anyway: no ImageNet trunk is looked for.

    Raises:
        Error: The engine's library is not installed, the device is not there, or the sizes don't fit.
    """
    arguments: dict[str, Any] = {"config": config, "classes": classes, "fresh": fresh}
    match config.engine.name:
        case "torch":
            from hwr.engines.torch_engine import TorchEngine

            return TorchEngine(**arguments)
        case "mxnet":
            from hwr.engines.mxnet_engine import MXNetEngine

            return MXNetEngine(**arguments)
