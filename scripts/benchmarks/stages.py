"""Profile the stages of a training step and of reading, and compare both with the processor's limit."""

import functools
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import REPOSITORY, apart, conditions, drawn_lines, json_option, recipe_of, write
from benchmarks.decoders import made_up
from hwr import Error, config, engines, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.config import Config
from hwr.decoding import Decoder
from hwr.evaluation import metrics
from hwr.images import batches
from hwr.images.batches import Batch

# Sizes of the square matrices whose product gives the limit; slow precisions are not tried on larger ones.
EDGES = (256, 3072)
SLOW = 20e9
# Number of lines for timing decoding and scoring.
SCORED = 2048


@click.command("stages")
@click.option("--config", "paths", multiple=True, metavar="FILE", help="[default: iam_line.yaml and lines_cpu.yaml]")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--repeats", default=7, show_default=True, type=click.IntRange(min=1), help="Repetitions; the median counts."
)
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16"]))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads (default: torch's default).")
@json_option
def measure_stages(
    paths: tuple[str, ...],
    batch: int,
    repeats: int,
    device: str,
    precision: str,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Milliseconds per batch of each stage of training and reading, on synthetic lines.

    Also the network's floating-point operations (convolutions, LSTMs, dense layers; a multiplication and an addition are
    two; backward counts twice forward), what the processor does of them per second when it multiplies large matrices, and
    how much of that training and reading reach. Memory is the most that a process held which did nothing else.
    """
    keys = [f"engine.device={device}", f"engine.precision={precision}", f"engine.threads={threads or 'null'}"]
    paths = paths or tuple(str(REPOSITORY / "configs" / name) for name in ("iam_line.yaml", "lines_cpu.yaml"))
    found: dict[str, Any] = {"conditions": conditions(), "batch": batch, "precision": precision, "recipes": {}}
    try:
        found["peaks"] = apart(peaks, device, threads)
        for kind, value in found["peaks"].items():
            click.echo(f"matrix product, {kind}: {value / 1e9:.0f} GFLOP/s")
        for path in paths:
            recipe = config.load(path, [*keys, f"train.batch_size={batch}"])
            rows = apart(measure, config.to_dict(recipe), batch, repeats, found["peaks"][precision])
            for doing in ("training", "reading"):
                rows[f"memory of {doing}, MB"] = apart(memory, config.to_dict(recipe), batch, doing)
            found["recipes"][Path(path).name] = rows
            click.echo(f"\n{Path(path).name}, batch {batch}, {precision}")
            for name, value in rows.items():
                click.echo(f"{name:>44}{value:>12.4g}")
    except Error as error:
        raise click.ClickException(str(error)) from None
    write(json_path, found)


def peaks(device: str, threads: int | None) -> dict[str, float]:
    """Floating-point operations per second of a matrix product, the best of ten."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    out = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for edge in EDGES:
            a, b = (torch.randn(edge, edge, device=device).to(kind) for _ in range(2))
            seconds = _times(functools.partial(torch.matmul, a, b), 10, device)
            out[name] = 2 * edge**3 / min(seconds)
            if out[name] < SLOW:  # no native instructions
                break
    return out


def measure(settings: dict[str, Any], size: int, repeats: int, peak: float) -> dict[str, float]:
    """The rows of one recipe: milliseconds per batch, then rates and fractions."""

    from hwr.engines import torch, torch_trainer

    recipe, alphabet = config.from_dict(settings), Alphabet(ORIGINAL)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=_random_trunk(recipe))})
    lines = drawn_lines(recipe, alphabet, 8 * size)
    images, texts = lines.images, [line.text for line in lines.lines]
    made = list(batches.training(lines, recipe_of(recipe), 0))
    batch = sorted(made, key=lambda b: b.images.shape[2])[len(made) // 2]
    engine = engines.trainer(recipe, alphabet.classes)
    assert isinstance(engine, torch_trainer.TorchTrainer)
    device = recipe.engine.device
    rows: dict[str, float] = {}

    def stage(name: str, work: Callable[[], object], times: int = repeats) -> None:
        rows[name] = 1e3 * statistics.median(_times(work, times, device))

    plain = Batch(batch.images, batch.widths, batch.labels, None, batch.index)
    pixels, widths = engine._pixels(batch)
    keys = [(0, line) for line in batch.index.tolist()]
    stage("cache: gather a batch", lambda: images.batch(batch.index, networks.geometry(recipe).multiple))
    stage("augmentation: draw", lambda: batches.warped(lines, recipe_of(recipe), keys))
    rows["augmentation: draw"] -= rows["cache: gather a batch"]
    stage("augmentation: apply, normalise", lambda: engine._pixels(batch))
    engine._net.train()
    stage("forward", lambda: engine._forward(engine._net, pixels, widths))
    output = engine._forward(engine._net, pixels, widths)

    stage("CTC loss", lambda: torch.ctc_loss(output.logits, batch.labels))

    def there_and_back() -> None:
        engine._net.zero_grad()
        out = engine._forward(engine._net, pixels, widths)
        loss = torch.ctc_loss(out.logits, batch.labels).mean()
        if out.shortcut is not None:
            loss = loss + torch.ctc_loss(out.shortcut, batch.labels).mean()
        loss.backward()

    stage("forward, loss and backward", there_and_back)

    def one_by_one(parts: Sequence[Callable[[], None]]) -> None:
        for part in parts:
            part()

    def update() -> None:
        engine._optimizer.step(0.0, 1, one_by_one)
        if recipe.train.ema:
            engine._average(recipe.train.ema)

    stage("clip, optimizer, average", update)
    stage("training step, whole", lambda: float(engine.train_step(batch, 0.0)))
    stage("reading, whole", lambda: engine.logits(plain))
    # The network is untrained, so simulate the output of a trained one.
    rng, truth = np.random.default_rng(0), [texts[i % len(texts)][:55] for i in range(SCORED)]
    many = np.stack([made_up(text, alphabet, rng) for text in truth])
    decoder = Decoder(alphabet, edge_spaces=recipe.model.edge_spaces)
    read, _ = decoder(many)
    stage("decode, greedy", lambda: decoder(many), 3)
    stage("score", lambda: metrics.score(truth, read), 3)
    for name in ("decode, greedy", "score"):
        rows[name] *= size / SCORED
    ours = sum(rows[n] for n in ("cache: gather a batch", "augmentation: draw", "augmentation: apply, normalise"))
    rows = {f"{name}, ms": value for name, value in rows.items()}
    rows["data and augmentation / step"] = ours / rows["training step, whole, ms"]
    rows["training, lines/s"] = 1e3 * size / rows["training step, whole, ms"]
    rows["reading, lines/s"] = 1e3 * size / rows["reading, whole, ms"]
    # Augmentation changes the widths, so training and reading differ.
    training = _operations(engine._net, pixels, widths)
    reading = _operations(engine.network(), *engine._pixels(plain), without="shortcut")
    rows["a line read, GFLOP"] = reading / size / 1e9
    rows["a line trained on, GFLOP"] = 3 * training / size / 1e9
    rows["training / limit"] = 3 * training / peak / rows["training step, whole, ms"] * 1e3
    rows["reading / limit"] = reading / peak / rows["reading, whole, ms"] * 1e3
    return rows


def memory(settings: dict[str, Any], size: int, doing: str) -> float:
    """Peak memory in megabytes of a process that trains on, or reads, synthetic lines of all widths."""
    recipe, alphabet = config.from_dict(settings), Alphabet(ORIGINAL)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=_random_trunk(recipe))})
    lines = drawn_lines(recipe, alphabet, 8 * size)
    engine = engines.trainer(recipe, alphabet.classes)
    if doing == "training":
        for batch in batches.training(lines, recipe_of(recipe), 0):
            float(engine.train_step(batch, 1e-4))
    else:
        for batch in batches.reading(lines.images, None, size, networks.geometry(recipe).multiple):
            engine.logits(batch)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _random_trunk(recipe: Config) -> dict[str, str]:
    return {"pretrained": "none"} if recipe.model.arch == "original" else {}


def _times(work: Callable[[], object], number: int, device: str) -> list[float]:
    """Seconds of each call, after one warm-up."""
    import torch

    out = []
    for turn in range(number + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        if turn:
            out.append(time.perf_counter() - start)
    return out


def _operations(net: Any, pixels: Any, widths: Any, without: str = "") -> float:
    """Floating-point operations of a forward pass, from the sizes of each layer's input and output.

    Args:
        without: A layer that does not count.
    """
    import torch
    from torch import nn

    total = 0.0

    def count(layer: nn.Module, taken: Any, given: Any) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d | nn.Conv1d):
            kernel = layer.weight[0].numel()  # input channels and area
            total += 2.0 * given.numel() * kernel
        elif isinstance(layer, nn.Linear):
            total += 2.0 * given.numel() * layer.in_features
        elif isinstance(layer, nn.LSTM):
            steps = taken[0].shape[0] * taken[0].shape[1]
            total += 2.0 * steps * sum(w.numel() for name, w in layer.named_parameters() if name.startswith("weight"))

    def lstm(x: Any, state: Any, weights: Any, *more: Any) -> Any:
        """`torch.lstm`, which a network calls without its layer to read one direction."""
        nonlocal total
        total += 2.0 * x.shape[0] * x.shape[1] * sum(w.numel() for w in weights if w.ndim == 2)
        return real(x, state, weights, *more)

    hooks = [layer.register_forward_hook(count) for name, layer in net.named_modules() if name != without]
    real, torch.lstm = torch.lstm, lstm  # type: ignore[assignment]
    net.train()  # when reading, convolutions are fused with batch norm and not called as layers
    try:
        with torch.no_grad():
            net(pixels, widths)
    finally:
        torch.lstm = real
        for hook in hooks:
            hook.remove()
    return total
