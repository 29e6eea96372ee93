"""The network for lines of any width, as an ONNX model."""

from collections.abc import Mapping

import numpy as np

from hwr.config import CRNN, Image
from hwr.networks.crnn import spec
from hwr.networks.shared.onnx_graph import TYPES, Graph, fused


def build(
    model: CRNN, image: Image, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> bytes:
    """The model: `pixels` (n, H, w) uint8 and `widths` (n,) int64, in pixels -> `logits` (n, t, C) float32.

    The same as `torch.Network` for reading: features right of a line are set to 0 after every convolution.

    Args:
        about: The metadata.
    """
    graph = Graph()
    pixels = graph.input("pixels", "uint8", ("n", image.height, "w"))
    widths = graph.input("widths", "int64", ("n",))

    def convolution(
        x: str, conv: str, norm: str, stride: tuple[int, int] = (1, 1), residual: str = "", relu: bool = True
    ) -> str:
        batch_norm = (weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        weight, bias = fused(weights[f"{conv}.weight"], *batch_norm)
        x = graph.convolution(x, weight, bias, stride, weight.shape[2] // 2)
        x = graph.add("Add", x, residual) if residual else x
        return graph.add("Relu", x) if relu else x

    x = graph.normalised(pixels, spec.normalise(0.0), spec.normalise(1.0))
    x = graph.add("Mul", x, _mask(graph, x, widths))
    widths = _shrunk(graph, widths, model.stride[1])
    x = convolution(x, "stem", "norm", model.stride)
    mask = _mask(graph, x, widths)
    x = graph.add("Mul", x, mask)
    channels = model.stem
    for s, (number, out_channels) in enumerate(model.blocks):
        if s:
            pool = model.pools[s - 1]
            x = graph.add("MaxPool", x, kernel_shape=pool, strides=pool, ceil_mode=1)
            widths = _shrunk(graph, widths, pool[1])
            mask = _mask(graph, x, widths)
        for b in range(number):
            block = f"stages.{s}.{b}"
            y = graph.add("Mul", convolution(x, f"{block}.conv1", f"{block}.norm1"), mask)
            if channels != out_channels:
                x = convolution(x, f"{block}.skip.0", f"{block}.skip.1", relu=False)
            y = convolution(y, f"{block}.conv2", f"{block}.norm2", residual=x)
            x, channels = graph.add("Mul", y, mask), out_channels
    columns = graph.add("ReduceMax", x, axes=(2,), keepdims=0)  # (n, c, steps)
    hidden = graph.add("Transpose", columns, perm=(2, 0, 1))
    steps = graph.add("Cast", widths, to=TYPES["int32"])
    for layer in range(model.layers):
        right, left = (
            tuple(
                weights[f"lstms.{layer}.{side}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            for side in ("right", "left")
        )
        hidden = graph.lstm(hidden, steps, right, left)  # type: ignore[arg-type]
    logits = graph.add("MatMul", hidden, graph.constant(weights["head.weight"].T))
    logits = graph.add("Add", logits, graph.constant(weights["head.bias"]))
    logits = graph.add("Transpose", logits, perm=(1, 0, 2))  # (n, steps, C * frames)
    nothing = np.full(classes, -spec.SURE)
    nothing[-1] = spec.SURE
    inside = graph.add("Reshape", graph.add("Cast", mask, to=TYPES["bool"]), graph.constant([0, -1, 1], "int64"))
    logits = graph.add("Where", inside, logits, graph.constant(np.tile(nothing, model.frames)))
    logits = graph.add("Reshape", logits, graph.constant([0, -1, classes], "int64"))
    return graph.model(logits, ("n", "t", classes), about)


def _shrunk(graph: Graph, widths: str, factor: int) -> str:
    """Divide, rounding up."""
    return graph.add(
        "Div", graph.add("Add", widths, graph.constant([factor - 1], "int64")), graph.constant([factor], "int64")
    )


def _mask(graph: Graph, x: str, widths: str) -> str:
    """(n, 1, 1, W) float32: 1 inside a line and 0 right of it, for x of (n, c, H, W)."""
    width = graph.add("Gather", graph.add("Shape", x), graph.constant(3, "int64"))
    columns = graph.add("Range", graph.constant(0, "int64"), width, graph.constant(1, "int64"))
    inside = graph.add("Less", columns, graph.add("Unsqueeze", widths, graph.constant([1], "int64")))
    return graph.add("Unsqueeze", graph.add("Cast", inside, to=TYPES["float32"]), graph.constant([1, 2], "int64"))
