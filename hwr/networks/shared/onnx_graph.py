"""Build a network as an ONNX model, without the onnx package: the bytes that onnxruntime loads.

An ONNX file is a protocol buffer (onnx.proto3 of the ONNX project). Only the messages and fields that the networks need are
written here; the numbers are those of onnx.proto3.
"""

from collections.abc import Mapping, Sequence

import numpy as np

# Version of the file format, and of the operators: the newest that onnxruntime 1.18 and earlier releases know well.
IR_VERSION, OPERATORS = 8, 17
# TensorProto.DataType of NumPy's types.
TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9}
Attribute = int | float | str | Sequence[int]


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1  # negative numbers have ten bytes
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """A field of a message: an integer, a float32, or anything that has a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + np.float32(value).tobytes()
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _attribute(name: str, value: Attribute) -> bytes:
    out = _field(1, name)
    match value:
        case int():
            return out + _field(3, value) + _field(20, 2)
        case float():
            return out + _field(2, value) + _field(20, 1)
        case str():
            return out + _field(4, value) + _field(20, 3)
        case _:
            return out + b"".join(_field(8, number) for number in value) + _field(20, 7)


def _tensor(name: str, array: np.ndarray) -> bytes:
    dimensions = b"".join(_field(1, size) for size in array.shape)
    content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return dimensions + _field(2, TYPES[array.dtype.name]) + _field(8, name) + _field(9, content)


def _value(name: str, kind: str, shape: Sequence[int | str]) -> bytes:
    """An input or output; a size may have a name instead of a number."""
    sizes = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, TYPES[kind]) + _field(2, sizes)))


class Graph:
    """A graph of operators; a value is known by its name. Methods append operators and return the name of their output."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._inputs: list[bytes] = []

    def input(self, name: str, kind: str, shape: Sequence[int | str]) -> str:
        """Declare an input of a NumPy type."""
        self._inputs.append(_value(name, kind, shape))
        return name

    def constant(self, value: object, kind: str = "float32") -> str:
        name = f"constant{len(self._tensors)}"
        self._tensors.append(_tensor(name, np.asarray(value, kind)))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Append an operator; an input that it does not need is ""."""
        name = f"{operator.lower()}{len(self._nodes)}"
        fields = [_field(1, value) for value in inputs]
        fields += [_field(2, name), _field(3, name), _field(4, operator)]
        fields += [_field(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return name

    def model(self, output: str, shape: Sequence[int | str], about: Mapping[str, str] | None = None) -> bytes:
        """The model with this output, of float32.

        Args:
            about: The metadata.
        """
        out = self.add("Identity", output)
        self._nodes[-1] = self._nodes[-1].replace(_field(2, out), _field(2, "logits"))
        parts = [_field(1, node) for node in self._nodes]
        parts += [_field(2, "hwr"), *(_field(5, tensor) for tensor in self._tensors)]
        parts += [*(_field(11, value) for value in self._inputs), _field(12, _value("logits", "float32", shape))]
        fields = [_field(1, IR_VERSION), _field(7, b"".join(parts)), _field(8, _field(1, "") + _field(2, OPERATORS))]
        fields += [_field(14, _field(1, key) + _field(2, value)) for key, value in (about or {}).items()]
        return b"".join(fields)

    def normalised(self, pixels: str, low: float, high: float) -> str:
        """uint8 pixels (N, H, W) -> (N, 1, H, W), scaled so that 0 becomes `low` and 255 `high`."""
        scaled = self.add("Mul", self.add("Cast", pixels, to=TYPES["float32"]), self.constant((high - low) / 255))
        return self.add("Unsqueeze", self.add("Add", scaled, self.constant(low)), self.constant([1], "int64"))

    def convolution(
        self, x: str, weight: np.ndarray, bias: np.ndarray, stride: Sequence[int] = (1, 1), padding: int = 0
    ) -> str:
        return self.add(
            "Conv",
            x,
            self.constant(weight),
            self.constant(bias),
            kernel_shape=weight.shape[2:],
            strides=tuple(stride),
            pads=(padding,) * 4,
        )

    def lstm(self, x: str, widths: str, right: "Gates", left: "Gates") -> str:
        """A bidirectional layer: (T, N, c) -> (T, N, 2 * hidden). It reads each line backwards from its own end.

        Args:
            widths: (N,) int32, the time steps of each line; "" if all have T.
        """
        hidden = right[1].shape[1]
        w, r = (self.constant(np.stack([_reordered(side[k]) for side in (right, left)])) for k in (0, 1))
        b = self.constant(np.stack([np.concatenate([_reordered(side[k]) for k in (2, 3)]) for side in (right, left)]))
        out = self.add("LSTM", x, w, r, b, widths, hidden_size=hidden, direction="bidirectional")  # (T, 2, N, hidden)
        turned = self.add("Transpose", out, perm=(0, 2, 1, 3))
        return self.add("Reshape", turned, self.constant([0, 0, -1], "int64"))


# Weights of a direction of an LSTM: (4 * hidden, c), (4 * hidden, hidden), and two biases (4 * hidden,), with the gates in the
# order of torch and Gluon: input, forget, cell, output.
Gates = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _reordered(weight: np.ndarray) -> np.ndarray:
    """The gates in ONNX's order: input, output, forget, cell."""
    i, f, c, o = np.split(weight, 4)
    return np.concatenate([i, o, f, c])


def fused(
    weight: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    bias: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a convolution that includes the batch norm after it."""
    scale = gamma / np.sqrt(variance + 1e-5)
    return weight * scale[:, None, None, None], beta + ((0 if bias is None else bias) - mean) * scale
