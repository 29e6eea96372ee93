"""The architectures. Each has a folder; only the table here lists them.

`spec.py` describes an architecture in NumPy; `torch.py`, and for the original network `mxnet.py`, implement it on a
tensor library; `onnx.py` builds it for onnxruntime. `shared/` holds what architectures have in common.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hwr import Error
from hwr.config import Config, Image
from hwr.images.geometry import Geometry
from hwr.networks.crnn import spec as crnn
from hwr.networks.original import spec as original

Shapes = dict[str, tuple[int, ...]]
Pixels = TypeVar("Pixels")


class Spec(Protocol):
    """The interface of `networks/*/spec.py`. `model` is the architecture's record in the config.

    Attributes:
        GLUON: Whether Gluon programs have this network, so that `.params` files can hold its weights.
        HEADS: Names of the weights with one row per character.
        TRAINING_ONLY: Names of the weights that reading does not need.
    """

    @property
    def GLUON(self) -> bool: ...

    @property
    def HEADS(self) -> tuple[str, ...]: ...

    @property
    def TRAINING_ONLY(self) -> tuple[str, ...]: ...

    def geometry(self, model: Any, image: Image) -> Geometry: ...

    def shapes(self, model: Any, image: Image, classes: int) -> Shapes:
        """Name in checkpoints -> shape of every parameter and running statistic."""
        ...

    def normalise(self, pixels: Any) -> Any:
        """Normalise pixels in 0..1, of any shape and library."""
        ...

    def onnx_model(
        self, model: Any, image: Image, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str]
    ) -> bytes:
        """The network as an ONNX model with these weights and metadata, from pixels to logits."""
        ...

    def torch_network(self, model: Any, image: Image, classes: int) -> Any:
        """The network on PyTorch, with torch's initial weights."""
        ...

    def mxnet_network(self, model: Any, image: Image, classes: int) -> Any:
        """The network on MXNet.

        Raises:
            Error: MXNet does not have this network.
        """
        ...


_ARCHITECTURES: dict[str, Spec] = {"original": original, "crnn": crnn}


def spec(config: Config) -> Spec:
    """The description of the config's architecture."""
    return _ARCHITECTURES[config.model.arch]


def geometry(config: Config) -> Geometry:
    """The shape of the line images of the config's network."""
    return spec(config).geometry(config.model, config.image)


def shapes(config: Config, classes: int) -> Shapes:
    """Name -> shape of every parameter and running statistic of the config's network.

    Args:
        classes: C, the alphabet's characters and the blank.

    Raises:
        Error: The sizes in the config are inconsistent.
    """
    return spec(config).shapes(config.model, config.image, classes)


def onnx_model(
    config: Config, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str] | None = None
) -> bytes:
    """The config's network as an ONNX model: `pixels` (n, H, w) uint8 -> `logits` (n, t, C) float32.

    With lines of any width it also takes `widths`, (n,) int64, in pixels.

    Args:
        weights: Checked by `check`.
        about: The metadata.
    """
    return spec(config).onnx_model(config.model, config.image, classes, weights, about or {})


def torch_network(config: Config, classes: int) -> Any:
    """The config's network on PyTorch, with torch's initial weights."""
    return spec(config).torch_network(config.model, config.image, classes)


def mxnet_network(config: Config, classes: int) -> Any:
    """The config's network on MXNet, not initialised yet."""
    return spec(config).mxnet_network(config.model, config.image, classes)


def normaliser(config: Config) -> Callable[[Any], Any]:
    """The function that normalises pixels in 0..1 for the network."""
    return spec(config).normalise


def from_gluon(weights: Mapping[str, np.ndarray], config: Config) -> tuple[Config, int]:
    """Infer the config of a bare Gluon `.params`, and its number of classes C, from the shapes of its weights.

    Args:
        config: Provides what the shapes don't determine, above all the size of the line images.

    Raises:
        Error: The weights are not of such a network, or not for this image size.
    """
    if not spec(config).GLUON:
        raise Error(
            f"Gluon files hold the original network, but model.arch is {config.model.arch}; choose a recipe for that "
            "network (--config iam_line)"
        )
    given: Any = config.model
    model, classes, features = original.infer(weights, given, config.image)
    found, size = config.model_copy(update={"model": model}), config.image
    try:
        check(weights, shapes(found, classes))
    except Error as error:
        raise Error(
            f"{error}. Its first LSTM takes {features} features per step, so it was probably trained on another image size "
            f"than {size.height} x {size.width}; name its config with --config"
        ) from None
    return found, classes


def check_gluon(config: Config, path: Path) -> None:
    """Refuse to write a `.params` file for a network that Gluon programs don't have.

    Raises:
        Error: The network is not the original; names the file.
    """
    if not spec(config).GLUON:
        raise Error(
            f"{path}: .params files are for the original network only; save arch {config.model.arch} as .safetensors"
        )


def check(weights: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check weights against the shapes of a network.

    Raises:
        Error: A name is missing or unknown, a shape differs, or a value is not finite.
    """
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unknown:
        faults = [f"lacks {', '.join(missing[:3])}"] if missing else []
        faults += [f"has {', '.join(unknown[:3])}, which the network lacks"] if unknown else []
        raise Error(f"the weights do not fit the network: the file {' and '.join(faults)}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise Error(f"{name} has the shape {weights[name].shape}, but the network needs {shape}")
        if not np.isfinite(weights[name]).all():
            raise Error(f"{name} contains values that are not finite")
