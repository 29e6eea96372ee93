"""Networks on tensor libraries. Only this package and `networks/*/{torch,mxnet}.py` import one."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from hwr import Error, networks
from hwr.config import Config
from hwr.engines.base import Engine, Group, Trainer, Weights
from hwr.system import files, memory, threads
from hwr.system.processes import rank_and_world_size

__all__ = ["Engine", "Group", "Trainer", "Weights", "chosen", "exported", "reader", "require_torch", "trainer"]

threads.wait_briefly()  # before a module of this package imports a library

# Up to this number of lines, `auto` reads with onnxruntime: torch takes two seconds longer to start, and in bf16 or on a GPU
# saves about six milliseconds per line (docs/performance.md).
FEW_LINES = 300


def chosen(config: Config, lines: int | None = None) -> Literal["torch", "onnx", "mxnet"]:
    """The engine that reads: `engine.name`, or if that is `auto`, the engine that suits this machine and the task.

    It is onnxruntime where torch is not installed, or if there are at most `FEW_LINES` lines, unless the config asks for
    what only torch has: a GPU, bf16, or several processes.

    Args:
        lines: About how many lines will be read; None: unknown.

    Raises:
        Error: No installed engine can run the network.
    """
    if config.engine.name != "auto":
        return config.engine.name
    only_torch = (
        config.engine.device not in ("auto", "cpu") or config.engine.precision == "bf16" or rank_and_world_size()[1] > 1
    )
    onnx = not only_torch and _installed("onnxruntime")
    if onnx and (not _installed("torch") or (lines is not None and lines <= FEW_LINES)):
        return "onnx"
    if not _installed("torch") and not only_torch:
        if _installed("mxnet") and networks.spec(config).GLUON:
            return "mxnet"
        raise Error("no engine is installed: pip install '.[read]' to read with onnxruntime, or '.[torch]'")
    return "torch"


def require_torch(what: str) -> None:
    """Check that PyTorch is installed, before work that would be lost without it.

    Args:
        what: Needs it; begins the message.

    Raises:
        Error: It is not installed.
    """
    if not _installed("torch"):
        raise Error(f"{what} needs PyTorch: pip install '.[torch]'")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


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
        case "torch" | "auto":
            require_torch("training")
            from hwr.engines.torch_trainer import TorchTrainer

            with memory.errors(_SIZES):
                return TorchTrainer(config, classes, fresh)
        case "mxnet":
            _alone("the mxnet engine can't share a run with other processes")
            from hwr.engines.mxnet import MXNetEngine

            return MXNetEngine(config, classes, fresh)
        case "onnx":
            raise Error("engine.name: onnx only reads; train with torch")


def reader(config: Config, classes: int, weights: Mapping[str, np.ndarray], lines: int | None = None) -> Engine:
    """Build an engine for reading, with these weights. Torch's random generators and flags stay unchanged.

    Args:
        lines: See `chosen`.

    Raises:
        Error: As in `trainer` and `chosen`; or the weights do not fit the network.
    """
    match chosen(config, lines):
        case "torch":
            require_torch("this way of reading")
            from hwr.engines.torch import TorchEngine

            with memory.errors(_SIZES):
                return TorchEngine(config, classes, weights)
        case "onnx":
            _alone("the onnx engine can't share its lines with other processes")
            networks.check(weights, networks.shapes(config, classes))
            from hwr.engines.onnx import OnnxEngine

            with memory.errors(_SIZES):
                return OnnxEngine(networks.onnx_model(config, classes, weights), config, "the network", classes)
        case "mxnet":
            engine = trainer(config, classes, fresh=False)
            engine.load(weights)
            return engine


def exported(path: Path, config: Config, classes: int) -> Engine:
    """The engine for an exported network, with C classes.

    Raises:
        Error: onnxruntime is not installed or can't run the file, the config asks for another device, or torchrun started
            several processes.
    """
    _alone(f"{path}: an exported network can't share its lines with other processes")
    from hwr.engines.onnx import OnnxEngine

    with memory.errors(_SIZES):
        return OnnxEngine(files.read_bytes(path), config, str(path), classes)


def _alone(reason: str) -> None:
    if rank_and_world_size()[1] > 1:
        raise Error(f"{reason}; start it without torchrun")
