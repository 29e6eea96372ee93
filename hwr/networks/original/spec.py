"""The original network without a tensor library: its parameters' names and shapes, initial values, and sizes inferred from shapes.

Names are those of Gluon's `save_parameters`. Both engines start from the values drawn here, so a seed means the same network
on either.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwr import Error
from hwr.config import Image, Original
from hwr.images.geometry import Geometry

BLOCKS = 3  # of ResNet-34's first stage

GLUON = True
HEADS = ("decoder.weight", "decoder.bias")
TRAINING_ONLY: tuple[str, ...] = ()

# Mean and standard deviation of IAM's line pixels (0..1), measured by the authors of the original system.
MEAN = 0.942532484060557
STD = 0.15926149044640417


def geometry(model: Original, image: Image) -> Geometry:
    return Geometry(image.height, image.width, steps=model.steps)


def normalise(pixels: Any) -> Any:
    """Normalise pixels in 0..1, of any shape, to mean 0 and standard deviation 1 over IAM's lines."""
    return (pixels - MEAN) / STD


def torch_network(model: Original, image: Image, classes: int) -> Any:
    from hwr.networks.original.torch import OriginalNetwork

    return OriginalNetwork(model, image, classes)


def mxnet_network(model: Original, image: Image, classes: int) -> Any:
    from hwr.networks.original.mxnet import OriginalNetwork

    return OriginalNetwork(model, image, classes)


def onnx_model(
    model: Original, image: Image, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> bytes:
    from hwr.networks.original.onnx import build

    return build(model, image, classes, weights, about)


def scales(model: Original, image: Image) -> list[tuple[int, int, int]]:
    """Channels, height and width of each scale's features.

    Conv 7x7 / 2, pool 3x3 / 2 (both round up), then for each further scale a 2x2 pool (rounds down).
    """
    height, width = math.ceil(math.ceil(image.height / 2) / 2), math.ceil(math.ceil(image.width / 2) / 2)
    return [(model.channels, height >> i, width >> i) for i in range(model.downsamples)]


def step_sizes(model: Original, image: Image) -> list[int]:
    """Features per time step of each scale.

    Raises:
        Error: A scale is empty, or can't be split into `model.steps` equal steps; suggests other numbers of steps.
    """
    sizes = [math.prod(scale) for scale in scales(model, image)]
    if 0 in sizes:
        raise Error(f"image.height {image.height} is too small for model.downsamples {model.downsamples}")
    if any(size % model.steps for size in sizes):
        common = math.gcd(*sizes)
        small = [n for n in range(1, math.isqrt(common) + 1) if common % n == 0]
        fits = sorted({*small, *(common // n for n in small)}, key=lambda n: abs(n - model.steps))[:4]
        raise Error(
            f"model.steps {model.steps}: the features of a {image.height} x {image.width} image can't be split "
            f"into equal steps; possible are {', '.join(map(str, sorted(fits)))}"
        )
    return [size // model.steps for size in sizes]


def shapes(model: Original, image: Image, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and running statistic."""
    c, hidden = model.channels, model.hidden
    out: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, channels_in: int, kernel: int, bias: bool) -> None:
        out[f"{name}.weight"] = (c, channels_in, kernel, kernel)
        if bias:
            out[f"{name}.bias"] = (c,)

    def batch_norm(name: str) -> None:
        out.update({f"{name}.{part}": (c,) for part in ("gamma", "beta", "running_mean", "running_var")})

    convolution("body.0", 1, 7, bias=False)
    batch_norm("body.1")
    for block in range(BLOCKS):
        for conv in (0, 3):
            convolution(f"body.4.{block}.body.{conv}", c, 3, bias=False)
            batch_norm(f"body.4.{block}.body.{conv + 1}")
    for conv in (0, 3):  # present even if no second scale uses it
        convolution(f"downsampler.{conv}", c, 3, bias=True)
        batch_norm(f"downsampler.{conv + 1}")
    for i, size in enumerate(step_sizes(model, image)):
        for layer in range(model.layers):
            for direction in "lr":
                cell = f"encoders.{i}.0.lstm._unfused.{layer}.{direction}_cell"
                out[f"{cell}.i2h_weight"] = (4 * hidden, size if layer == 0 else 2 * hidden)
                out[f"{cell}.h2h_weight"] = (4 * hidden, hidden)
                out[f"{cell}.i2h_bias"] = out[f"{cell}.h2h_bias"] = (4 * hidden,)
    out["decoder.weight"] = (classes, 2 * hidden * model.downsamples)
    out["decoder.bias"] = (classes,)
    return out


def initial(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Initial weights as in the original, except for the trunk, which the original always took from ImageNet.

    Encoders and decoder: Gluon's Xavier, U(-b, b) with b = sqrt(6 / (fan in + fan out)). Downsampler: N(0, 0.01). Trunk:
    He's N(0, sqrt(2 / fan out)), as in torchvision's ResNet. Biases 0; batch norm 1 and 0.
    """

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        # Each parameter has its own generator, so that adding one changes no other.
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        last = name.rsplit(".", 1)[1]
        if last in ("gamma", "running_var"):
            return np.ones(shape)
        if last in ("beta", "running_mean") or last.endswith("bias"):
            return np.zeros(shape)
        if name.startswith("downsampler"):
            return rng.normal(0, 0.01, shape)
        if name.startswith("body"):
            return rng.normal(0, math.sqrt(2 / (shape[0] * shape[2] * shape[3])), shape)
        bound = math.sqrt(6 / (shape[0] + shape[1]))
        return rng.uniform(-bound, bound, shape)

    return {name: draw(name, shape).astype(np.float32) for name, shape in shapes.items()}


def infer(weights: Mapping[str, np.ndarray], given: Original, image: Image) -> tuple[Original, int, int]:
    """Infer the network's sizes, number of classes and features per time step from the shapes of its weights.

    The shapes do not contain the number of steps. It follows from the image size, which must therefore be the size that the
    network was trained with.

    Args:
        given: Provides what the shapes don't determine.

    Raises:
        Error: The weights are not those of the original network.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in weights or weights[name].ndim != dimensions:
            raise Error(f"not the original network: no {name} with {dimensions} dimensions")
        return weights[name].shape

    def layers(pattern: str) -> int:
        n = 0
        while pattern.format(n) in weights:
            n += 1
        return n

    cell = "encoders.{}.0.lstm._unfused.{}.l_cell.{}"
    classes = shape("decoder.weight", 2)[0]
    hidden = shape(cell.format(0, 0, "h2h_weight"), 2)[1]
    model = Original(
        channels=max(1, shape("body.0.weight", 4)[0]),
        downsamples=min(4, max(1, layers("encoders.{}.0.lstm._unfused.0.l_cell.i2h_weight"))),
        hidden=max(1, hidden),
        layers=max(1, layers("encoders.0.0.lstm._unfused.{}.l_cell.i2h_weight")),
    )
    size = shape(cell.format(0, 0, "i2h_weight"), 2)[1]
    model = model.model_copy(update={"steps": math.prod(scales(model, image)[0]) // max(1, size)})
    model = model.model_copy(update={"dropout": given.dropout, "pretrained": "none"})
    return model, classes, size
