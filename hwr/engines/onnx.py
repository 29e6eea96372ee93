"""An exported network on onnxruntime, for reading only."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, files, networks
from hwr.config import Config
from hwr.engines.base import Group
from hwr.images.batches import Batch


class OnnxEngine:
    """See `hwr.engines.base.Engine`.

    Args:
        path: A file from `hwr export --format onnx`.
        config: The settings; of `engine`, only `threads` matters.

    Raises:
        Error: onnxruntime is not installed, or can't run the file.
    """

    name = "onnx"
    device = "cpu"
    precision = "fp32"

    def __init__(self, path: Path, config: Config) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise Error(f"{path} needs onnxruntime: pip install -e '.[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if config.engine.threads:
            options.intra_op_num_threads = config.engine.threads
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise Error(f"{path}: onnxruntime can't run it: {str(error).splitlines()[0]}") from error
        self._any_width = networks.geometry(config).any_width
        self.group = Group()

    def logits(self, batch: Batch) -> np.ndarray:
        feed = {"pixels": batch.images}
        if self._any_width:
            feed["widths"] = batch.widths.astype(np.int64)
        out: np.ndarray = self._session.run(None, feed)[0]
        return out

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """NaN: exported networks are scored on their text only."""
        return np.full(len(logits), np.nan)


def metadata(path: Path) -> dict[str, Any]:
    """The metadata that `hwr export` stored in an ONNX file: see `hwr.checkpoint.from_metadata`.

    Raises:
        Error: The file does not exist or is another program's, or onnx is not installed.
    """
    files.check(path)
    try:
        import onnx
    except ImportError as error:
        raise Error(f"{path} needs onnx and onnxruntime: pip install -e '.[onnx]'") from error
    try:
        properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    except Exception as error:  # protobuf raises several kinds
        raise Error(f"{path}: not a complete .onnx file: {error}") from error
    if "hwr" not in properties:
        raise Error(f"{path}: was not exported by hwr (no hwr entry in its metadata)")
    found: dict[str, Any] = json.loads(properties["hwr"])
    return found
