"""A network on onnxruntime, for reading only."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, networks
from hwr.config import Config
from hwr.engines import onnx_file
from hwr.engines.base import Group
from hwr.images.batches import Batch
from hwr.system import files, memory
from hwr.system.processes import usable_cores
from hwr.system.threads import onnx_options


class OnnxEngine:
    """See `hwr.engines.base.Engine`.

    Args:
        model: The bytes of an ONNX model: `networks.onnx_model`, or a file from `hwr export --format onnx`.
        config: The settings.
        name: Of the model, for messages.
        classes: C, the alphabet's characters and the blank.

    Raises:
        Error: onnxruntime is not installed or can't run the model, or the config asks for a GPU.
    """

    name = "onnx"
    device = "cpu"
    precision = "fp32"

    def __init__(self, model: bytes, config: Config, name: str, classes: int) -> None:
        if config.engine.device not in ("auto", "cpu"):
            raise Error(f"{name}: onnxruntime runs on the CPU only; set engine.device=cpu")
        self._name, self._classes, self._config = name, classes, config
        self._model, self._lock, self._own = model, threading.Lock(), threading.local()
        self._threads = config.engine.threads or usable_cores()
        self._sessions = {self._threads: _session(model, name, self._threads)}
        self._any_width = networks.geometry(config).any_width
        self.group = Group()

    def __reduce__(self) -> tuple[type["OnnxEngine"], tuple[bytes, Config, str, int]]:
        """Pickled as what it is made from: onnxruntime's sessions can't be sent to another process."""
        return OnnxEngine, (self._model, self._config, self._name, self._classes)

    def logits(self, batch: Batch) -> np.ndarray:
        feed = {"pixels": batch.images}
        if self._any_width:
            feed["widths"] = batch.widths.astype(np.int64)
        with memory.errors(f"evaluate.batch_size (now {len(batch.images)})"):
            try:
                out: np.ndarray = self._session().run(None, feed)[0]
            except Exception as error:
                raise error if memory.is_short(error) else _cannot_run(self._name, error) from error
        lines, classes = len(batch.images), self._classes
        fits = isinstance(out, np.ndarray) and out.ndim == 3 and out.dtype == np.float32
        if not fits or (len(out), out.shape[2]) != (lines, classes) or not out.shape[1]:
            found = f"{out.shape} {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise Error(f"{self._name}: its logits should be ({lines}, T, {classes}) float32, but are {found}")
        return out

    @property
    def side_by_side(self) -> int:
        return getattr(self._own, "threads", self._threads)

    def limit_threads(self, number: int) -> None:
        self._own.threads = number  # of the calling thread

    def _session(self) -> Any:
        """A session with the calling thread's number of threads; a session's own number can't be changed."""
        with self._lock:
            if self.side_by_side not in self._sessions:
                self._sessions[self.side_by_side] = _session(self._model, self._name, self.side_by_side)
            return self._sessions[self.side_by_side]

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """NaN: exported networks are scored on their text only."""
        return np.full(len(logits), np.nan)


def metadata(path: Path) -> dict[str, Any]:
    """The metadata that `hwr export` stored in an ONNX file: see `hwr.checkpoint.from_metadata`.

    Raises:
        Error: The file does not exist or is another program's, or onnxruntime is not installed.
    """
    content = files.read_bytes(path)
    try:
        if fault := onnx_file.fault(content):
            raise Error(f"{path}: was not exported by hwr, or has been changed: {fault}")
    except ValueError as error:
        raise Error(f"{path}: not a complete .onnx file: {error}") from None
    try:
        properties = _session(content, str(path), 1, optimise=False).get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise Error(f"{path}: its metadata are not UTF-8: {error}") from error
    if "hwr" not in properties:
        raise Error(f"{path}: was not exported by hwr (no hwr entry in its metadata)")
    try:
        found = files.parse_json(properties["hwr"])
    except ValueError as error:
        raise Error(f"{path}: its hwr entry is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Error(f"{path}: its hwr entry is not a JSON object")
    return found


def _session(model: bytes, name: str, threads: int | None, optimise: bool = True) -> Any:
    """A session of onnxruntime.

    Raises:
        Error: It is not installed, or can't run the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise Error(f"{name} needs onnxruntime: pip install '.[read]' ({error})") from error
    options = onnx_options(threads)
    options.log_severity_level = 4  # errors are raised too; printed, they might contain escape sequences
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise error if memory.is_short(error) else _cannot_run(name, error) from error


def _cannot_run(name: str, error: Exception) -> Error:
    return Error(f"{name}: onnxruntime can't run it: {(str(error).splitlines() or [type(error).__name__])[0]}")
