"""`hwr export`: write a trained network in a format that other programs can run."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, checkpoint, engines, gluon_params, networks
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.system.atomic import replacing
from hwr.system.terminal import unicode

FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "params": ".params", "safetensors": ".safetensors"}
# Largest accepted difference between the logits of an exported network and of the engine: rounding of fp32, and of 8 or 16
# bits.
EXACT, ROUNDED = 1e-3, 0.5


def export(loaded: Checkpoint, config: Config, out: Path, kind: str, quantize: str | None = None) -> float:
    """Write a checkpoint in another format, and compare its outputs with the engine's.

    ONNX and TorchScript map (N, H, W) uint8 pixels (and, with arch crnn, (N,) int64 widths in pixels) to (N, T, C) float32
    logits, for any N (and any W with arch crnn). ONNX includes the config and the alphabet, so that hwr can read with it.

    Args:
        kind: onnx, torchscript, params (original network only) or safetensors.
        quantize: `int8` (onnx: the weights of LSTMs and matrix products) or `fp16` (safetensors: all weights), or None.

    Returns:
        The largest difference from the engine's logits, over two test lines.

    Raises:
        Error: The format does not support the network, the file's suffix is that of another format, or the written
            network's outputs differ.
    """
    if loaded.exported:
        raise Error(f"{loaded.exported} is an exported network; export its .safetensors")
    if quantize and (kind, quantize) not in (("onnx", "int8"), ("safetensors", "fp16")):
        raise Error(f"--quantize {quantize}: int8 needs --format onnx, fp16 needs --format safetensors")
    # By its suffix a file is read. TorchScript, which hwr does not read, has no fixed one.
    foreign = {".onnx", ".params", ".safetensors"} - {FORMATS[kind]}
    if out.suffix in foreign or (kind != "torchscript" and out.suffix != FORMATS[kind]):
        raise Error(f"{out}: --format {kind} needs a file name that ends in {FORMATS[kind]}")
    if kind == "safetensors":
        return _safetensors(loaded, out, quantize)
    if kind == "params":
        networks.check_gluon(config, out)
        gluon_params.write(out, loaded.weights)
        return 0.0
    engines.require_torch(f"--format {kind}")
    from hwr.engines import torch_export
    from hwr.engines.torch import TorchEngine

    engine = TorchEngine(config, loaded.alphabet.classes, loaded.weights)
    lines = torch_export.example(config)
    expected = engine.logits(lines)
    writers: dict[str, Callable[[Path], None]] = {
        "onnx": lambda path: _onnx(loaded, config, path, quantize),
        "torchscript": lambda path: torch_export.torchscript(engine, config, path),
    }
    if kind in ("onnx", "torchscript") and unicode(str(out)) != str(out):
        raise Error(f"{out}: the libraries can't write files whose names are not UTF-8; name another file with --out")
    with replacing(out) as temporary:
        writers[kind](temporary)
        found = _run(temporary, kind, config, lines, loaded.alphabet.classes)
        real = np.abs(expected) < 1e3  # right of a line's end the blank has huge logits
        away = float(np.abs(found - expected)[real].max())
        limit = (ROUNDED if quantize else EXACT) * max(1.0, float(np.abs(expected[real]).max()))
        if not away <= limit or not np.array_equal(found[~real], expected[~real]):
            raise Error(f"{out}: the exported network's logits differ from the engine's by up to {away:g}")
    return away


def _safetensors(loaded: Checkpoint, out: Path, quantize: str | None) -> float:
    weights = loaded.weights
    if quantize:
        weights = {name: array.astype(np.float16) for name, array in weights.items()}
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise Error(f"{out}: a weight is too large for fp16")
    checkpoint.save(out, replace(loaded, weights=weights))
    return max(float(np.abs(a - weights[name]).max()) for name, a in loaded.weights.items())


def _onnx(loaded: Checkpoint, config: Config, path: Path, quantize: str | None) -> None:
    about = {"hwr": checkpoint.about(replace(loaded, config=config))}
    path.write_bytes(networks.onnx_model(config, loaded.alphabet.classes, loaded.weights, about))
    if quantize:
        _to_int8(path)


def _to_int8(path: Path) -> None:
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise Error(f"--quantize int8 needs onnx and onnxruntime: pip install -e '.[onnx]' ({error})") from error
    # Not convolutions: onnxruntime's are slower in int8 than in fp32 on a CPU.
    kinds = ["LSTM", "MatMul", "Gemm"]
    logging.getLogger().addFilter(_no_advice)
    try:
        quantize_dynamic(str(path), str(path), weight_type=QuantType.QInt8, op_types_to_quantize=kinds)
    finally:
        logging.getLogger().removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    """Hide onnxruntime's advice on preprocessing, which makes no difference here."""
    return "pre-processing before quantization" not in record.getMessage()


def _run(path: Path, kind: str, config: Config, lines: Any, classes: int) -> np.ndarray:
    if kind == "onnx":
        from hwr.engines.onnx import OnnxEngine

        return OnnxEngine(path.read_bytes(), config, "the exported network", classes).logits(lines)
    from hwr.engines import torch_export

    return torch_export.run(path, config, lines)
