"""The network for lines of any width, without a tensor library: its input and its parameters' names and shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwr import Error
from hwr.config import CRNN, Image
from hwr.images.geometry import Geometry

GLUON = False
HEADS = ("head.weight", "head.bias", "shortcut.weight", "shortcut.bias")
TRAINING_ONLY = ("shortcut.weight", "shortcut.bias")

# Logit of the blank in the time steps right of a line; all other classes have the negative. So padding is certainly blank, and
# adds nothing to the loss.
SURE = 1e4


def geometry(model: CRNN, image: Image) -> Geometry:
    return Geometry(
        image.height,
        image.width,
        strides=(model.stride[1], *(pool[1] for pool in model.pools)),
        frames=model.frames,
        margin=image.margin,
        straighten=image.straighten,
        edge_spaces=model.edge_spaces,
    )


def normalise(pixels: Any) -> Any:
    """Scale pixels in 0..1, of any shape, so that paper is 0, the value that convolutions pad with."""
    return (1 - pixels) * 2


def torch_network(model: CRNN, image: Image, classes: int) -> Any:
    from hwr.networks.crnn.torch import Network

    return Network(model, classes)


def mxnet_network(model: CRNN, image: Image, classes: int) -> Any:
    raise Error("the mxnet engine does not support crnn; set engine.name=torch")


def onnx_model(
    model: CRNN, image: Image, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> bytes:
    from hwr.networks.crnn.onnx import build

    return build(model, image, classes, weights, about)


def shapes(model: CRNN, image: Image, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and running statistic, as `hwr.networks.crnn.torch.Network` names them."""
    out: dict[str, tuple[int, ...]] = {}

    def batch_norm(name: str, channels: int) -> None:
        out.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    def convolution(name: str, norm: str, out_channels: int, in_channels: int, kernel: int) -> None:
        out[f"{name}.weight"] = (out_channels, in_channels, kernel, kernel)
        batch_norm(norm, out_channels)

    convolution("stem", "norm", model.stem, 1, 7)
    channels = model.stem
    for s, (number, out_channels) in enumerate(model.blocks):
        for b in range(number):
            block = f"stages.{s}.{b}"
            convolution(f"{block}.conv1", f"{block}.norm1", out_channels, channels, 3)
            convolution(f"{block}.conv2", f"{block}.norm2", out_channels, out_channels, 3)
            if channels != out_channels:
                convolution(f"{block}.skip.0", f"{block}.skip.1", out_channels, channels, 1)
            channels = out_channels
    features = channels
    for layer in range(model.layers):
        for direction in ("right", "left"):
            lstm = f"lstms.{layer}.{direction}"
            out[f"{lstm}.weight_ih_l0"] = (4 * model.hidden, features)
            out[f"{lstm}.weight_hh_l0"] = (4 * model.hidden, model.hidden)
            out[f"{lstm}.bias_ih_l0"] = out[f"{lstm}.bias_hh_l0"] = (4 * model.hidden,)
        features = 2 * model.hidden
    out["head.weight"], out["head.bias"] = (classes * model.frames, features), (classes * model.frames,)
    if model.shortcut:
        out["shortcut.weight"] = (classes * model.frames, channels, 3)
        out["shortcut.bias"] = (classes * model.frames,)
    return out
