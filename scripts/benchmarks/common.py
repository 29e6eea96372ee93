"""What the benchmarks share: options, synthetic lines, engines in separate processes, the conditions."""

import json
import math
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np

from hwr import Error, config, engines, networks
from hwr.alphabet import Alphabet
from hwr.config import Config
from hwr.data import read as read_dataset
from hwr.data import synth
from hwr.engines import side_by_side
from hwr.images import augment, batches, cache
from hwr.images.batches import Batch, Examples, Recipe
from hwr.images.cache import Images
from hwr.system.processes import usable_cores

# Batches in the task "reading many", and the seconds of "training a while".
MANY, WHILE = 8, 1.5

REPOSITORY = Path(__file__).resolve().parents[2]

json_option = click.option(
    "--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), help="Also write the results as JSON."
)


def write(path: Path | None, found: dict[str, Any]) -> None:
    """Write the results with their conditions, if a file was named."""
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def start(settings: Config, classes: int) -> Connection:
    """Start a process with one engine; yields our end of the pipe."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=_serve, args=(theirs, config.to_dict(settings), classes), daemon=True).start()
    return ours


def _serve(pipe: Connection, settings: dict[str, Any], classes: int) -> None:
    """Build an engine, send its description (or the error), then time calls on request.

    Its answers are seconds by the clock, CPU seconds, and the number of batches.
    """
    recipe = config.from_dict(settings)
    engine: Any
    try:
        if recipe.engine.name == "onnx":
            engine = engines.reader(recipe, classes, _weights(recipe, classes))
        else:
            engine = engines.trainer(recipe, classes)
    except Error as error:
        pipe.send(str(error))
        return
    threads, finish = recipe.engine.threads or usable_cores(), lambda: None
    if engine.name == "mxnet":
        import mxnet

        threads, finish = engine.threads, mxnet.nd.waitall
    elif engine.name == "torch":
        import torch

        threads = torch.get_num_threads()
        finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    numbers = sum(math.prod(shape) for shape in networks.shapes(recipe, classes).values())
    pipe.send({"threads": threads, "device": engine.device, "numbers": numbers})
    while asked := pipe.recv():
        what, batch = asked
        start, used, times = time.perf_counter(), time.process_time(), 1
        if what.startswith("training"):
            engine.train_step(batch, 0.0)  # learning rate 0: equal work in each step, and constant weights
            while what == "training a while" and time.perf_counter() - start < WHILE:
                engine.train_step(batch, 0.0)
                times += 1
        elif what == "reading many":
            times = MANY
            for _ in side_by_side.logits(engine, [batch] * MANY, networks.geometry(recipe), len(batch.images)):
                pass
        else:
            engine.logits(batch)
        finish()  # MXNet may still be updating, and a GPU computing
        pipe.send((time.perf_counter() - start, time.process_time() - used, times))


def _weights(settings: Config, classes: int) -> dict[str, np.ndarray]:
    """Random weights: speed does not depend on them."""
    rng, shapes = np.random.default_rng(0), networks.shapes(settings, classes)
    return {
        name: np.ones(shape, np.float32) if "var" in name else rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def drawn_lines(settings: Config, alphabet: Alphabet, number: int) -> Examples:
    """Synthetic lines, preprocessed for the network."""
    geometry = networks.geometry(settings)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        synth.write(root, number + 16, 8, 0)
        data = settings.data.model_copy(update={"root": str(root), "cache": folder})
        found = read_dataset(data)
        lines = found.lines[:number]
        images = cache.prepared(lines, geometry, folder)
        images = Images(np.array(images.pixels), images.widths, images.height)
    return batches.all_writable(batches.encode(lines, images, alphabet, geometry))


def recipe_of(settings: Config) -> Recipe:
    """How training lines become batches."""
    views = 2 if settings.train.consistency else 1
    return Recipe(networks.geometry(settings), settings.train.batch_size, settings.train.seed, settings.augment, views)


def drawn(settings: Config, alphabet: Alphabet, size: int) -> Batch:
    """A batch of synthetic lines, augmented as in training."""
    lines = drawn_lines(settings, alphabet, size)
    images = lines.images
    pairs = [(0, i) for i in range(size)]
    warps = augment.draw(settings.augment, images.height, images.widths, settings.train.seed, pairs)
    return Batch(images.batch(np.arange(size)), images.widths, batches.pad(lines.labels), warps, np.arange(size))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a fresh process.

    Raises:
        Error: It raised one.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def conditions() -> dict[str, Any]:
    """The conditions of a measurement."""
    about = Path("/proc/cpuinfo")
    models = [row.split(":")[1].strip() for row in about.read_text().splitlines() if row.startswith("model name")]
    versions = {}
    for package in ("torch", "mxnet", "mxnet-cu112", "numpy", "scikit-image"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": f"{models[0] if models else platform.processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "python": platform.python_version(),
        "versions": versions,
    }
