"""What computes: the Engine protocol, and `build`. Only this package imports a tensor library."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hwr.batches import Batch
from hwr.config import Config, Original

Weights = dict[str, np.ndarray]


class Engine(Protocol):
    """A network on a device. It speaks NumPy only, and names the original's weights as Gluon does, whatever it computes with.

    Attributes:
        name: As in `engine.name`.
        device: Where it computes, in words: `cpu`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
        notes: What was done at building that one should know, a sentence each.
    """

    name: str
    device: str
    notes: list[str]

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> float:
        """One update with the batch's warps applied and dropout on.

        Args:
            center_loss: Its weight in this update.

        Returns:
            The mean CTC loss per line in nats, unweighted, before the update.
        """
        ...

    def logits(self, batch: Batch) -> np.ndarray:
        """(N, T, C) float32, before the softmax, the blank last; dropout off. Nothing but blanks right of a line's end."""
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """CTC loss, (N,) nats per line, unweighted.

        Args:
            logits: (N, T, C) float32.
            labels: (N, L) int32, padded with -1.
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
        """All else that the next training step depends on: optimizer moments, random generators, what is averaged."""
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on as from the moment of `state`."""
        ...


def shapes(config: Config, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and running statistic of the config's network, as checkpoints have them."""
    from hwr.engines import crnn, original

    if isinstance(config.model, Original):
        return original.shapes(config.model, config.image, classes)
    return crnn.shapes(config.model, classes)


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
