"""Weights and line images that anybody can make again, bit for bit, from NumPy's raw random bits.

The golden numbers beside this file were computed from them, so that no weights and no images need to be stored. Only
`PCG64.random_raw` and exact or correctly rounded operations (+, *, /, sqrt) are used: NumPy promises the bit stream of
a bit generator to be the same in every version, which it does not for `standard_normal` (NEP 19).
"""

import hashlib
import zlib
from collections.abc import Mapping

import numpy as np

# The original's alphabet; the blank is class 80.
ALPHABET = " !\"#&\\'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights for a network: each value depends on the seed, its parameter's name and its place in it alone.

    Args:
        shapes: Parameter name, as `save_parameters` writes it, -> shape.
        seed: Another seed, other weights.

    Returns:
        The same names in the same order -> float32, uniform over the stated mean +- sqrt(3) x standard deviation:

        - `gamma`: mean 1, deviation 0.1; `running_var`: mean 1, deviation 0.25; both positive
        - `beta`, `running_mean`, `bias`: mean 0, deviation 0.1
        - `weight`: mean 0; with fan_in the product of all dimensions but the first, the deviation is 0.7 / sqrt(fan_in)
          in convolutions, 1.5 / sqrt(fan_in) in LSTMs and 4 / sqrt(fan_in) in the decoder: logits are then of order 1,
          the best class changes along the line, and float32's noise is not amplified (the logits agree to 2e-6).
    """
    return {name: _weight(name, tuple(shape), seed) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    kind = name.rpartition(".")[2].rpartition("_")[2]
    if kind == "gamma":
        mean, deviation = 1.0, 0.1
    elif name.endswith("running_var"):
        mean, deviation = 1.0, 0.25
    elif kind in ("beta", "mean", "bias"):
        mean, deviation = 0.0, 0.1
    elif kind == "weight":
        gain = {4: 0.7, 2: 4.0 if name.startswith("decoder") else 1.5}[len(shape)]
        mean, deviation = 0.0, gain / np.sqrt(float(np.prod(shape[1:])))
    else:
        raise ValueError(f"no recipe for a parameter called {name}")
    raw = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(int(np.prod(shape)))
    uniform = (raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0  # 24 bits, in [-1, 1)
    return (mean + np.sqrt(3.0) * deviation * uniform).astype(np.float32).reshape(shape)


def line_image(height: int, width: int, paper: int, ink: int, seed: int) -> np.ndarray:
    """An image without readable text: slanted pen strokes on noisy paper.

    Args:
        height: In pixels.
        width: In pixels.
        paper: Grey value of the paper, 0 to 255; noise takes up to 9 off it. The top-left 4 x 4 pixels have none.
        ink: Grey value of the strokes' core.
        seed: Another seed, other strokes.

    Returns:
        uint8 (height, width).
    """
    bits = np.random.PCG64([seed, height, width])
    noise = (bits.random_raw(height * width) >> np.uint64(32)).astype(np.int64).reshape(height, width) % 10
    noise[:4, :4] = 0
    image = paper - noise
    radius = max(1, height // 30)
    rows, columns = np.mgrid[:height, :width]
    x = height // 3
    while x < width - height // 3:
        # A stroke: from a point to another one up to a third of the height to the right, in whole pixels.
        y0, y1, dx, gap = ((bits.random_raw(4) >> np.uint64(33)).astype(np.int64) % 1000).tolist()
        start = (height // 5 + y0 * (height * 3 // 5) // 1000, x)
        end = (height // 5 + y1 * (height * 3 // 5) // 1000, min(width - 1, x + dx * height // 3000))
        for i in range(height + 1):
            y = start[0] + (end[0] - start[0]) * i // height
            across = start[1] + (end[1] - start[1]) * i // height
            near = np.s_[max(0, y - radius) : y + radius + 1, max(0, across - radius) : across + radius + 1]
            squares = (rows[near] - y) ** 2 + (columns[near] - across) ** 2
            # Full ink in the core, half of it at the rim.
            image[near] = np.minimum(image[near], np.where(squares <= (radius - 1) ** 2, ink, (ink + paper) // 2))
        x += height // 12 + gap * height // 2500
    return image.clip(0, 255).astype(np.uint8)


def sha256(*arrays: np.ndarray) -> str:
    """Hex digest over the arrays' dtypes, shapes and values, little-endian."""
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{little.dtype.str}{array.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()
