"""`hwr export`: a trained network in a form that other programs run."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, checkpoint, gluon_params, networks
from hwr.atomic import replacing
from hwr.checkpoint import Checkpoint
from hwr.config import Config

FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "params": ".params", "safetensors": ".safetensors"}
# How far an exported network's logits may be from the engine's: float noise, and of 8 or 16 bits their rounding.
EXACT, ROUNDED = 1e-3, 0.5


def export(loaded: Checkpoint, config: Config, out: Path, kind: str, quantize: str | None = None) -> float:
    """Write a checkpoint in another form, and compare what it then reads with what the engine reads.

    ONNX and TorchScript take (N, H, W) uint8 pixels (and, with arch crnn, (N,) int64 widths in pixels) and give (N, T, C)
    float32 logits, for any N (and any W with arch crnn). ONNX holds the config and the alphabet too, so that hwr reads with it.

    Args:
        kind: onnx, torchscript, params (of the original network) or safetensors.
        quantize: `int8` (onnx: the weights of LSTMs and matrix products) or `fp16` (safetensors: all weights), or None.

    Returns:
        The greatest difference of two lines' logits from the engine's.

    Raises:
        Error: The form can't hold the network, or what was written reads otherwise.
    """
    if loaded.exported:
        raise Error(f"{loaded.exported}: is an exported network; export its .safetensors")
    if quantize and (kind, quantize) not in (("onnx", "int8"), ("safetensors", "fp16")):
        raise Error(f"--quantize {quantize}: int8 is for --format onnx, fp16 for --format safetensors")
    if kind in ("params", "safetensors") and out.suffix != FORMATS[kind]:
        raise Error(f"{out}: --format {kind} writes a file whose name ends in {FORMATS[kind]}")
    if kind == "safetensors":
        return _safetensors(loaded, config, out, quantize)
    if kind == "params":
        networks.check_gluon(config, out)
        gluon_params.write(out, loaded.weights)
        return 0.0
    from hwr.engines import torch_export
    from hwr.engines.torch import TorchEngine

    engine = TorchEngine(config, loaded.alphabet.classes, loaded.weights)
    lines = torch_export.example(config)
    expected = engine.logits(lines)
    writers: dict[str, Callable[[Path], None]] = {
        "onnx": lambda path: _onnx(engine, loaded, config, path, quantize),
        "torchscript": lambda path: torch_export.torchscript(engine, config, path),
    }
    with replacing(out) as temporary:
        writers[kind](temporary)
        found = _run(temporary, kind, config, lines)
        real = np.abs(expected) < 1e3  # right of a line's end stands a certain blank
        away = float(np.abs(found - expected)[real].max())
        limit = (ROUNDED if quantize else EXACT) * max(1.0, float(np.abs(expected[real]).max()))
        if not away <= limit or not np.array_equal(found[~real], expected[~real]):
            raise Error(f"{out}: what was exported reads otherwise than the engine: logits are up to {away:g} apart")
    return away


def _safetensors(loaded: Checkpoint, config: Config, out: Path, quantize: str | None) -> float:
    weights = loaded.weights
    if quantize:
        weights = {name: array.astype(np.float16) for name, array in weights.items()}
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise Error(f"{out}: a weight is too large for fp16")
    checkpoint.save(out, replace(loaded, weights=weights))
    return max(float(np.abs(a - weights[name]).max()) for name, a in loaded.weights.items())


def _onnx(engine: Any, loaded: Checkpoint, config: Config, path: Path, quantize: str | None) -> None:
    try:
        import onnx
    except ImportError as error:
        raise Error(f"--format onnx needs onnx and onnxruntime: pip install -e '.[onnx]' ({error})") from error
    from hwr.engines import torch_export

    torch_export.onnx(engine, config, path)
    if quantize:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Not convolutions: onnxruntime's in int8 are slower on a CPU than those in fp32.
        kinds = ["LSTM", "MatMul", "Gemm"]
        logging.getLogger().addFilter(_no_advice)
        quantize_dynamic(str(path), str(path), weight_type=QuantType.QInt8, op_types_to_quantize=kinds)
        logging.getLogger().removeFilter(_no_advice)
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"hwr": checkpoint.about(replace(loaded, config=config))})
    onnx.save(model, str(path))


def _no_advice(record: logging.LogRecord) -> bool:
    """Keeps onnxruntime's advice on preprocessing, which makes no difference here, off the screen."""
    return "pre-processing before quantization" not in record.getMessage()


def _run(path: Path, kind: str, config: Config, lines: Any) -> np.ndarray:
    if kind == "onnx":
        from hwr.engines.onnx import OnnxEngine

        return OnnxEngine(path, config).logits(lines)
    from hwr.engines import torch_export

    return torch_export.run(path, config, lines)
