"""Where a page holds text: a map from a text detector, run with onnxruntime.

The network, `models/hwr-lines.onnx`, is bundled. It marks the middle of each line, narrower than the letters, so that close
lines stay apart.
"""

import functools
from typing import Any

import cv2
import numpy as np

from hwr import Error, bundled
from hwr.pages import contrast
from hwr.system.threads import onnx_options

# The sides of what the network sees are multiples of so many pixels; its values are -1..1.
MULTIPLE = 32

# Longest side in pixels at which the network sees a page; smaller images are enlarged to it, by at most the factor.
SIDE = 1280
ENLARGE = 2.0


def text_map(grey: np.ndarray) -> np.ndarray:
    """The probability that a pixel lies in the middle of a line of text.

    The network sees the page with its contrast evened, without which it misses pale writing.

    Args:
        grey: (H, W) uint8.

    Returns:
        (H', W') uint8, 0 to 255 for a probability of 0 to 1; the page scaled to `scaled_size`.

    Raises:
        Error: onnxruntime is not installed, or the network is missing.
    """
    even = contrast.evened(scaled(grey)).astype(np.float32)
    x = np.broadcast_to(even / 127.5 - 1, (1, 3, *even.shape))  # (1, 3, H', W')
    session = _session()
    (found,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})  # (1, 1, H', W')
    return np.rint(found[0, 0] * 255).astype(np.uint8)


def scaled_size(grey: np.ndarray) -> tuple[int, int]:
    """Height and width of the map for a page, in pixels."""
    factor = min(SIDE / max(grey.shape), ENLARGE)
    height, width = (max(MULTIPLE, round(length * factor / MULTIPLE) * MULTIPLE) for length in grey.shape)
    return height, width


def scaled(grey: np.ndarray) -> np.ndarray:
    """A page, (H, W) uint8, in the size of its map."""
    height, width = scaled_size(grey)
    shrink = height < grey.shape[0] or width < grey.shape[1]
    small: np.ndarray = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return small


@functools.cache
def _session() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise Error(f"finding the lines of a page needs onnxruntime: pip install -e '.[pages]' ({error})") from error
    model = str(bundled.line_detector())
    return onnxruntime.InferenceSession(model, onnx_options(), providers=["CPUExecutionProvider"])
