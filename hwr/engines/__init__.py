"""Networks on tensor libraries. Only this package and `networks/*/{torch,mxnet}.py` import one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwr import Error, memory
from hwr.config import Config
from hwr.engines.base import Engine, Group, Trainer, Weights
from hwr.processes import rank_and_world_size

__all__ = ["Engine", "Group", "Trainer", "Weights", "exported", "reader", "trainer"]

# What to lower if a network is too large for the memory.
_SIZES = "the sizes of the network (the keys of model), or free some"


def trainer(config: Config, classes: int, *, fresh: bool = True) -> Trainer:
    """Build the config's engine for training, with initial weights.

    Args:
        config: Its `engine`, `model`, `image` and `train` records.
        classes: C, the alphabet's characters and the blank.
        fresh: False if the caller will load weights, so that no ImageNet trunk is needed.

    Raises:
        Error: The engine's library is not installed, the device does not exist, the sizes are inconsistent, or the engine
            can't share the work with torchrun's other processes.
    """
    match config.engine.name:
        case "torch":
            from hwr.engines.torch_trainer import TorchTrainer

            with memory.errors(_SIZES):
                return TorchTrainer(config, classes, fresh)
        case "mxnet":
            _alone("the mxnet engine can't share a run with other processes")
            from hwr.engines.mxnet import MXNetEngine

            return MXNetEngine(config, classes, fresh)


def reader(config: Config, classes: int, weights: Mapping[str, np.ndarray]) -> Engine:
    """Build the config's engine for reading, with these weights. Torch's random generators and flags stay unchanged.

    Raises:
        Error: As in `trainer`; or the weights do not fit the network.
    """
    match config.engine.name:
        case "torch":
            from hwr.engines.torch import TorchEngine

            with memory.errors(_SIZES):
                return TorchEngine(config, classes, weights)
        case "mxnet":
            engine = trainer(config, classes, fresh=False)
            engine.load(weights)
            return engine


def exported(path: Path, config: Config) -> Engine:
    """The engine for an exported network.

    Raises:
        Error: onnxruntime is not installed or can't run the file, the config asks for another device, or torchrun started
            several processes.
    """
    _alone(f"{path}: an exported network can't share its lines with other processes")
    if config.engine.device not in ("auto", "cpu"):
        raise Error(f"{path}: exported networks run on the CPU only; set engine.device=cpu")
    from hwr.engines.onnx import OnnxEngine

    return OnnxEngine(path, config)


def _alone(reason: str) -> None:
    if rank_and_world_size()[1] > 1:
        raise Error(f"{reason}; start it without torchrun")
