"""Benchmark a checkpoint in its export formats."""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import conditions, json_option, write
from hwr import Error, config, decoding, networks
from hwr import data as datasets
from hwr.config import Config
from hwr.engines import Engine, Group, export, torch_export
from hwr.engines.onnx import OnnxEngine
from hwr.evaluation import evaluate, metrics
from hwr.images.batches import Batch
from hwr.loading import load_checkpoint
from hwr.recognizer import Recognizer

# Exported formats, and torch's precisions.
FORMS = {
    "torch": ("safetensors", None, "fp32"),
    "torch, bf16": ("safetensors", None, "bf16"),
    "torch, kept in fp16": ("safetensors", "fp16", "fp32"),
    "TorchScript": ("torchscript", None, "fp32"),
    "ONNX": ("onnx", None, "fp32"),
    "ONNX, int8": ("onnx", "int8", "fp32"),
}


class Scripted(OnnxEngine):
    """A TorchScript file with an engine's interface."""

    group = Group()

    def __init__(self, path: Path, config: Config) -> None:
        self._path, self._config = path, config

    side_by_side = 1

    def limit_threads(self, number: int) -> None:
        """It has torch's threads."""

    def logits(self, batch: Batch) -> np.ndarray:
        return torch_export.run(self._path, self._config, batch)


@click.command("forms")
@click.option("--checkpoint", "path", required=True, metavar="FILE")
@click.option("--data", metavar="FOLDER", help="Dataset (default: that of the checkpoint's run).")
@click.option("--split", default="test", show_default=True, type=click.Choice(["train", "val", "test"]))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads (default: each library's default).")
@json_option
def compare_forms(path: str, data: str | None, split: str, threads: int | None, json_path: Path | None) -> None:
    """CER, lines per second and size of a checkpoint, its ONNX and TorchScript exports, and quantised versions."""
    rows: dict[str, Any] = {}
    about = conditions()
    try:
        loaded = load_checkpoint(path)
        keys = [
            f"engine.threads={threads or 'null'}",
            "engine.device=cpu",
            "engine.precision=fp32",  # which the exports have
            *([f"data.root={json.dumps(data)}"] if data else []),
        ]
        settings = config.override(config.to_dict(loaded.config), keys)
        dataset = datasets.read(settings.data)
        lines = datasets.lines_of(dataset, split, settings.data)
        geometry = networks.geometry(settings)
        stored = (loaded.language_model, loaded.lexicon)
        decoder = decoding.build(settings.decode, loaded.alphabet, settings.model.edge_spaces, *stored)
        examples = evaluate.prepared(lines, loaded.alphabet, geometry, settings.data.cache)
        click.echo(f"{len(lines)} lines, {split} of {dataset.name}")
        click.echo(f"{'':>24}{'CER':>10}{'lines/s':>12}{'MB':>8}")
        with tempfile.TemporaryDirectory() as folder:
            for name, (kind, quantize, precision) in FORMS.items():
                out = Path(folder) / f"{len(rows)}{export.FORMATS[kind]}"
                export.export(loaded, settings, out, kind, quantize)
                own = config.override(config.to_dict(settings), [f"engine.precision={precision}"])
                engine: Engine = (
                    Scripted(out, own) if kind == "torchscript" else Recognizer(load_checkpoint(out), own).engine
                )
                for _ in range(2):  # skip the warm-up
                    reading = evaluate.read(
                        engine,
                        decoder,
                        examples,
                        settings.evaluate.batch_size,
                        geometry,
                    )
                seconds = reading.seconds
                score = metrics.score([line.text for line in lines], reading.texts)
                rows[name] = {
                    "cer": score.cer,
                    "lines_per_second": len(lines) / seconds,
                    "mb": out.stat().st_size / 1e6,
                }
                click.echo(
                    f"{name:>24}{100 * score.cer:>9.2f} %{rows[name]['lines_per_second']:>11.1f}{rows[name]['mb']:>8.1f}"
                )
    except Error as error:
        raise click.ClickException(str(error)) from None
    write(json_path, {"conditions": about, "lines": len(lines), "forms": rows})
