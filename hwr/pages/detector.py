"""Where a page holds text: a map from rapidocr's text detector (PP-OCRv6 small), run with onnxruntime.

rapidocr's package holds the network; its own code is not imported. The network marks the middle of each line, narrower than
the letters, so that close lines stay apart.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hwr import Error
from hwr.pages import contrast
from hwr.system.threads import onnx_options

# The network's file in the package, and its input: sides in multiples of 32 pixels, values -1..1 (rapidocr/config.yaml).
MODEL = "models/PP-OCRv6_det_small.onnx"
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
        Error: onnxruntime or rapidocr is not installed.
    """
    height, width = scaled_size(grey)
    shrink = height < grey.shape[0] or width < grey.shape[1]
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    even = contrast.evened(small).astype(np.float32)
    x = np.broadcast_to(even / 127.5 - 1, (1, 3, height, width))  # (1, 3, H', W')
    session = _session()
    (found,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})  # (1, 1, H', W')
    return np.rint(found[0, 0] * 255).astype(np.uint8)


def scaled_size(grey: np.ndarray) -> tuple[int, int]:
    """Height and width of the map for a page, in pixels."""
    factor = min(SIDE / max(grey.shape), ENLARGE)
    height, width = (max(MULTIPLE, round(length * factor / MULTIPLE) * MULTIPLE) for length in grey.shape)
    return height, width


@functools.cache
def _session() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise Error(f"finding the lines of a page needs onnxruntime: pip install -e '.[pages]' ({error})") from error
    return onnxruntime.InferenceSession(str(_model()), onnx_options(), providers=["CPUExecutionProvider"])


def _model() -> Path:
    """The network's file in rapidocr's package."""
    package = importlib.util.find_spec("rapidocr")
    if package is None or not package.submodule_search_locations:
        raise Error("finding the lines of a page needs rapidocr: pip install -e '.[pages]'")
    path = Path(package.submodule_search_locations[0]) / MODEL
    if not path.is_file():
        raise Error(f"{path}: missing; this release of rapidocr brings another network: pip install -e '.[pages]'")
    return path
