"""The original system's network, as an ONNX model."""

from collections.abc import Mapping

import numpy as np

from hwr.config import Image, Original
from hwr.networks.original import spec
from hwr.networks.shared.onnx_graph import Graph, fused


def build(
    model: Original, image: Image, classes: int, weights: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> bytes:
    """The model: `pixels` (n, H, W) uint8 -> `logits` (n, T, C) float32.

    The same as `torch.OriginalNetwork` for reading.

    Args:
        about: The metadata.
    """
    graph = Graph()
    pixels = graph.input("pixels", "uint8", ("n", image.height, image.width))

    def convolution(x: str, conv: str, norm: str, stride: int = 1, residual: str = "") -> str:
        gamma, beta, mean, variance = (
            weights[f"{norm}.{part}"] for part in ("gamma", "beta", "running_mean", "running_var")
        )
        weight, bias = fused(weights[f"{conv}.weight"], gamma, beta, mean, variance, weights.get(f"{conv}.bias"))
        x = graph.convolution(x, weight, bias, (stride, stride), weight.shape[2] // 2)
        return graph.add("Relu", graph.add("Add", x, residual) if residual else x)

    x = graph.normalised(pixels, spec.normalise(0.0), spec.normalise(1.0))
    x = convolution(x, "body.0", "body.1", stride=2)  # (n, c, H/2, W/2)
    x = graph.add("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))  # (n, c, H/4, W/4)
    for block in range(spec.BLOCKS):
        body = f"body.4.{block}.body"
        y = convolution(x, f"{body}.0", f"{body}.1")
        x = convolution(y, f"{body}.3", f"{body}.4", residual=x)
    hidden = []
    for i in range(model.downsamples):
        if i:
            for conv in (0, 3):
                x = convolution(x, f"downsampler.{conv}", f"downsampler.{conv + 1}")
            x = graph.add("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
        # Equal steps, not columns: in the original a step is 1.25 columns wide.
        steps = graph.add("Transpose", x, perm=(0, 3, 1, 2))
        steps = graph.add("Reshape", steps, graph.constant([0, model.steps, -1], "int64"))  # (n, T, W * c * H / T)
        steps = graph.add("Transpose", steps, perm=(1, 0, 2))
        for layer in range(model.layers):
            right, left = (
                tuple(
                    weights[f"encoders.{i}.0.lstm._unfused.{layer}.{side}_cell.{part}"]
                    for part in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
                )
                for side in "lr"  # Gluon's l reads from left to right
            )
            steps = graph.lstm(steps, "", right, left)  # type: ignore[arg-type]
        hidden.append(steps)  # (T, n, 2 * hidden)
    joined = graph.add("Concat", *hidden, axis=2)
    logits = graph.add("MatMul", joined, graph.constant(weights["decoder.weight"].T))
    logits = graph.add("Add", logits, graph.constant(weights["decoder.bias"]))
    return graph.model(graph.add("Transpose", logits, perm=(1, 0, 2)), ("n", model.steps, classes), about)
