"""The original network without a tensor library: its parameters' names and shapes, initial values, sizes from shapes.

Names are those that Gluon's `save_parameters` writes. Both engines start from the values drawn here, so that the same
seed means the same network on either.
"""

import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwr import Error
from hwr.config import Image, Original
from hwr.engines import gluon_params

BLOCKS = 3  # of ResNet-34's first stage


def scales(model: Original, image: Image) -> list[tuple[int, int, int]]:
    """Channels, height and width of each scale's features.

    Conv 7x7 / 2, pool 3x3 / 2 (both round up), then for each further scale a 2x2 pool (rounds down).
    """
    height, width = math.ceil(math.ceil(image.height / 2) / 2), math.ceil(math.ceil(image.width / 2) / 2)
    return [(model.channels, height >> i, width >> i) for i in range(model.downsamples)]


def step_sizes(model: Original, image: Image) -> list[int]:
    """Features per time step of each scale.

    Raises:
        Error: A scale is empty or can't be cut into `model.steps` equal steps; says which number of steps would do.
    """
    sizes = [math.prod(scale) for scale in scales(model, image)]
    if 0 in sizes:
        raise Error(f"image.height {image.height} is too small for model.downsamples {model.downsamples}")
    if any(size % model.steps for size in sizes):
        common = math.gcd(*sizes)
        fits = sorted((n for n in range(1, common + 1) if common % n == 0), key=lambda n: abs(n - model.steps))[:4]
        raise Error(
            f"model.steps {model.steps}: the features of a {image.height} x {image.width} image can't be cut into so "
            f"many equal steps; {', '.join(map(str, sorted(fits)))} would do"
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
    for conv in (0, 3):  # is there whether or not a second scale uses it
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
    """Weights to start from: the original's, but for the trunk, which the original always took from ImageNet.

    Encoders and decoder: Gluon's Xavier, U(-b, b) with b = sqrt(6 / (fan in + fan out)). Downsampler: N(0, 0.01). Trunk:
    He's N(0, sqrt(2 / fan out)), as torchvision's ResNet starts. Biases 0; batch norm 1 and 0.
    """

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        # Each parameter has a generator of its own: adding one changes no other.
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


def check(weights: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises:
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


def sizes(weights: Mapping[str, np.ndarray], image: Image) -> tuple[Original, int]:
    """The network's sizes and number of classes, from the shapes of its weights.

    The number of steps is not among the shapes; it follows from the image's size, which therefore must be the one that
    the network was trained with.

    Raises:
        Error: The weights are not those of the original network, or of another image size.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in weights or weights[name].ndim != dimensions:
            raise Error(f"not the original network: there is no {name} of {dimensions} dimensions")
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
    try:
        check(weights, shapes(model, image, classes))
    except Error as error:
        raise Error(
            f"{error}. Its first LSTM takes {size} features a step: was it trained on images of another size than "
            f"{image.height} x {image.width}? Then name its config (--config)"
        ) from None
    return model, classes


def pretrained(choice: str, weights: dict[str, np.ndarray], pth: bool) -> tuple[Path | None, str]:
    """Find the ImageNet trunk that `model.pretrained` names.

    Args:
        choice: `auto`, `none`, or a file: Gluon's `.params`, or torchvision's `.pth` or `.safetensors` of a ResNet-34.
        weights: The initial weights; tell whether the trunk fits.
        pth: Whether the engine can read torch's `.pth`; if not, `auto` looks for none.

    Returns:
        The file, or None, and a sentence that says what was done.

    Raises:
        Error: A file is named that is not there, or the trunk is not 64 channels wide.
    """
    if choice == "none":
        return None, "trunk: random initial weights (model.pretrained=none)"
    wide = weights["body.0.weight"].shape[0] == 64
    if choice != "auto":
        if not Path(choice).is_file():
            raise Error(f"model.pretrained: {choice} is neither auto nor none, and there is no such file")
        if not wide:
            raise Error("model.pretrained: a ResNet-34 has 64 channels; set model.channels=64 or model.pretrained=none")
        return Path(choice), f"trunk: ImageNet weights from {choice}"
    if not wide:
        return None, "trunk: random initial weights (ImageNet's have 64 channels)"
    torch = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch"))
    gluon = Path(os.environ.get("MXNET_HOME") or "~/.mxnet")
    found = sorted((torch.expanduser() / "hub/checkpoints").glob("resnet34-*.pth")) if pth else []
    found += sorted((gluon.expanduser() / "models").glob("resnet34_v1-*.params"))
    if found:
        return found[0], f"trunk: ImageNet weights from {found[0]}"
    return None, (
        "trunk: random initial weights, for no ImageNet file was found. The original began from one: get it by "
        "`python -c 'import torchvision; torchvision.models.resnet34(weights=\"IMAGENET1K_V1\")'` or name a file in "
        "model.pretrained"
    )


def trunk(found: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The trunk's weights out of a whole ResNet-34, named as torchvision or Gluon name them; RGB averaged to grey.

    Raises:
        Error: It is no ResNet-34.
    """
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    if "conv1.weight" in found:  # torchvision
        names = {"body.0.weight": "conv1.weight"}
        norms = {"body.1": "bn1"}
        for b in range(BLOCKS):
            for ours, theirs in ((0, "1"), (3, "2")):
                names[f"body.4.{b}.body.{ours}.weight"] = f"layer1.{b}.conv{theirs}.weight"
                norms[f"body.4.{b}.body.{ours + 1}"] = f"layer1.{b}.bn{theirs}"
        names |= {f"{ours}.{gluon}": f"{norms[ours]}.{t}" for ours in norms for t, gluon in parts.items()}
    else:  # Gluon: features.0 to features.4, as in the trunk
        wanted = ["0.weight", *(f"1.{p}" for p in parts.values())]
        for b in range(BLOCKS):
            wanted += [f"4.{b}.body.{i}.weight" for i in (0, 3)]
            wanted += [f"4.{b}.body.{i}.{p}" for i in (1, 4) for p in parts.values()]
        names = {f"body.{name}": f"features.{name}" for name in wanted}
    lacking = [theirs for theirs in names.values() if theirs not in found]
    if lacking:
        raise Error(f"{path}: not a ResNet-34: it has no {lacking[0]}")
    out = {ours: np.asarray(found[theirs], np.float32) for ours, theirs in names.items()}
    if out["body.0.weight"].shape != (64, 3, 7, 7):
        raise Error(f"{path}: not a ResNet-34: its first convolution is {out['body.0.weight'].shape}")
    out["body.0.weight"] = out["body.0.weight"].mean(1, keepdims=True)  # (64, 3, 7, 7) -> (64, 1, 7, 7)
    return out


def read_trunk(path: Path) -> dict[str, np.ndarray]:
    """The trunk from a `.params` or `.safetensors` file; a `.pth` is for the torch engine to read."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return trunk(load_file(path), path)
        except SafetensorError as error:
            raise Error(f"{path}: not a whole .safetensors file: {error}") from error
    return trunk(gluon_params.read(path), path)
