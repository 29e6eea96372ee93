"""What computes: the Engine protocol, and `build`. Only this package imports a tensor library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

import numpy as np

from hwr import Error
from hwr.config import Config, Original
from hwr.images.batches import Batch
from hwr.processes import rank_and_world_size

Weights = dict[str, np.ndarray]


class Group:
    """The processes that work together; this class is of one that works alone.

    Every method but the constructor must be called by all of them, in the same order.

    Attributes:
        rank: 0 .. size - 1; process 0 writes files and speaks.
        local_rank: Likewise among those on this machine.
    """

    rank, local_rank, size = 0, 0, 1

    def gather(self, value: Any) -> list[Any]:
        """What each process gives, by rank."""
        return [value]

    def highest(self, values: list[float]) -> list[float]:
        """The highest of each value that the processes give."""
        return values


class Engine(Protocol):
    """A network on a device. It speaks NumPy only, and names the original's weights as Gluon does, whatever it computes with.

    Attributes:
        name: As in `engine.name`.
        device: Where it computes, in words: `cpu`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
        precision: What its network computes in: `fp32` or `bf16`.
        notes: What was done at building that one should know, a sentence each.
        group: The processes that it trains with.
    """

    name: str
    device: str
    precision: str
    notes: list[str]

    @property
    def group(self) -> Group: ...

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> SupportsFloat:
        """One update with the batch's warps applied and dropout on.

        Args:
            batch: Of several processes each gives as many other lines; the update is that of all of them.
            center_loss: Its weight in this update.

        Returns:
            The mean CTC loss per line in nats, unweighted, before the update; float() of it waits for the device.
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
        """All else that the next training step depends on: optimizer moments, random generators, what is averaged.

        To be called by all processes of the group at once.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on as from the moment of `state`."""
        ...


def shapes(config: Config, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and running statistic of the config's network, as checkpoints have them."""
    from hwr.networks.crnn import spec as crnn
    from hwr.networks.original import spec as original

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
        Error: The engine's library is not installed, the device is not there, the sizes don't fit, or torchrun started
            several processes and the engine can't share the work.
    """
    arguments: dict[str, Any] = {"config": config, "classes": classes, "fresh": fresh}
    match config.engine.name:
        case "torch":
            from hwr.engines.torch import TorchEngine

            return TorchEngine(**arguments)
        case "mxnet":
            if rank_and_world_size()[1] > 1:
                raise Error("the mxnet engine can't share a run with other processes; start it without torchrun")
            from hwr.engines.mxnet import MXNetEngine

            return MXNetEngine(**arguments)


def exported(path: Path, config: Config) -> Engine:
    """The engine that reads with an exported network.

    Raises:
        Error: onnxruntime is not installed, or can't run the file, or not as the config and torchrun want it.
    """
    if rank_and_world_size()[1] > 1:
        raise Error(
            f"{path}: an exported network can't share its lines with other processes; start it without torchrun"
        )
    if config.engine.device not in ("auto", "cpu"):
        raise Error(f"{path}: an exported network reads on the CPU here; set engine.device=cpu")
    from hwr.engines.onnx import OnnxEngine

    return OnnxEngine(path, config)
