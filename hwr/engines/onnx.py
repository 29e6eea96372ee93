"""An exported network on onnxruntime: it reads, and does not train."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error
from hwr.config import Config
from hwr.engines import Group, Weights
from hwr.images.batches import Batch


class OnnxEngine:
    """See `hwr.engines.Engine`; what belongs to training raises Error.

    Args:
        path: A file of `hwr export --format onnx`.
        config: Its own; `engine.threads` counts.

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
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise Error(f"{path}: onnxruntime can't run it: {str(error).splitlines()[0]}") from error
        self._any_width = config.model.any_width
        self._path = path
        self.notes: list[str] = []
        self.group = Group()

    def logits(self, batch: Batch) -> np.ndarray:
        feed = {"pixels": batch.images}
        if self._any_width:
            feed["widths"] = batch.widths.astype(np.int64)
        out: np.ndarray = self._session.run(None, feed)[0]
        return out

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """NaN: what an exported network reads is scored by its text alone."""
        return np.full(len(logits), np.nan)

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> float:
        raise self._refused()

    def weights(self) -> Weights:
        raise self._refused()

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        raise self._refused()

    def state(self) -> Weights:
        raise self._refused()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        raise self._refused()

    def _refused(self) -> Error:
        return Error(f"{self._path}: an exported network can only read; train its .safetensors")
