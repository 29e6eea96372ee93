"""The architectures. Each has a folder with the same modules; the table here is the only place that lists them.

`spec.py` describes an architecture in NumPy; `torch.py` and `mxnet.py` implement it on a tensor library.
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
    """What `networks/*/spec.py` offers. `model` is the architecture's own record of the config.

    Attributes:
        GLUON: Whether its weights are those of a Gluon program, so that `.params` files hold them.
        HEADS: Names of the weights whose rows are characters.
        TRAINING_ONLY: Names of the weights that reading does without.
    """

    @property
    def GLUON(self) -> bool: ...

    @property
    def HEADS(self) -> tuple[str, ...]: ...

    @property
    def TRAINING_ONLY(self) -> tuple[str, ...]: ...

    def geometry(self, model: Any, image: Image) -> Geometry: ...

    def shapes(self, model: Any, image: Image, classes: int) -> Shapes:
        """Name -> shape of every parameter and running statistic, as checkpoints have them."""
        ...

    def normalise(self, pixels: Any) -> Any:
        """Pixels in 0..1, of any shape and library, as the network takes them."""
        ...

    def torch_network(self, model: Any, image: Image, classes: int) -> Any:
        """The network on PyTorch, with torch's initial weights."""
        ...

    def mxnet_network(self, model: Any, image: Image, classes: int) -> Any:
        """The network on MXNet.

        Raises:
            Error: It has none.
        """
        ...


_ARCHITECTURES: dict[str, Spec] = {"original": original, "crnn": crnn}


def spec(config: Config) -> Spec:
    """The description of the config's architecture."""
    return _ARCHITECTURES[config.model.arch]


def geometry(config: Config) -> Geometry:
    """The line images that the config's network takes."""
    return spec(config).geometry(config.model, config.image)


def shapes(config: Config, classes: int) -> Shapes:
    """Name -> shape of every parameter and running statistic of the config's network.

    Args:
        classes: C, the alphabet's characters and the blank.

    Raises:
        Error: The sizes of the config don't fit each other.
    """
    return spec(config).shapes(config.model, config.image, classes)


def torch_network(config: Config, classes: int) -> Any:
    """The config's network on PyTorch, with torch's initial weights."""
    return spec(config).torch_network(config.model, config.image, classes)


def mxnet_network(config: Config, classes: int) -> Any:
    """The config's network on MXNet, not initialised yet."""
    return spec(config).mxnet_network(config.model, config.image, classes)


def normaliser(config: Config) -> Callable[[Any], Any]:
    """The function that makes the network's input of pixels in 0..1."""
    return spec(config).normalise


def from_gluon(weights: Mapping[str, np.ndarray], config: Config) -> tuple[Config, int]:
    """The config of a bare Gluon `.params`, and its number of classes C, from the shapes of its weights.

    Args:
        config: Everything that the shapes don't tell: above all the size of the line images.

    Raises:
        Error: The weights are not such a network's, or not for these line images.
    """
    if not spec(config).GLUON:
        raise Error(f"Gluon files hold the original network, and this config's model.arch is {config.model.arch}")
    given: Any = config.model
    model, classes, features = original.infer(weights, given, config.image)
    found, size = config.model_copy(update={"model": model}), config.image
    try:
        check(weights, shapes(found, classes))
    except Error as error:
        raise Error(
            f"{error}. Its first LSTM takes {features} features a step: was it trained on images of another size than "
            f"{size.height} x {size.width}? Then name its config (--config)"
        ) from None
    return found, classes


def check_gluon(config: Config, path: Path) -> None:
    """Refuse a `.params` file of a network that Gluon programs don't know.

    Raises:
        Error: It is such a network; names the file.
    """
    if not spec(config).GLUON:
        raise Error(f"{path}: .params are for the original network; save a {config.model.arch} as .safetensors")


def check(weights: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare weights with the shapes that a network has.

    Raises:
        Error: A name is missing or unknown, a shape differs, or a value is not finite.
    """
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unknown:
        faults = [f"lacks {', '.join(missing[:3])}"] if missing else []
        faults += [f"has {', '.join(unknown[:3])}, which the network has not"] if unknown else []
        raise Error(f"these are not the network's weights: it {' and '.join(faults)}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise Error(f"{name} is {weights[name].shape} and the network's is {shape}")
        if not np.isfinite(weights[name]).all():
            raise Error(f"{name} holds values that are not finite")
