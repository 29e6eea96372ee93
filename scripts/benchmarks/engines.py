"""Benchmark torch against MXNet."""

import dataclasses
import statistics
from pathlib import Path

import click

from benchmarks.common import REPOSITORY, conditions, drawn, json_option, start, write
from hwr import Error, config
from hwr.alphabet import ORIGINAL, Alphabet


@click.command("engines")
@click.option(
    "--config", "config_path", default=REPOSITORY / "configs/iam_line.yaml", show_default=True, metavar="FILE"
)
@click.option("--batch", "sizes", multiple=True, default=(1, 8, 32), show_default=True, type=click.IntRange(min=1))
@click.option(
    "--repeats", default=7, show_default=True, type=click.IntRange(min=1), help="Repetitions; the median counts."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of both (default: each library's default; torch: all cores, MXNet: half of the CPUs).",
)
@click.option("--device", default="cpu", show_default=True, help="As engine.device.")
@click.option("--bf16", is_flag=True, help="Also torch in bfloat16.")
@json_option
def compare_engines(
    config_path: Path,
    sizes: tuple[int, ...],
    repeats: int,
    threads: int | None,
    device: str,
    bf16: bool,
    json_path: Path | None,
) -> None:
    """Lines per second of torch and mxnet, training and reading, and their ratio.

    Both have the same weights and lines. Training is a whole update, warps included (torch warps on its device, mxnet by
    scikit-image); reading is from pixels to logits. Each engine is alone in a process of its own, as in use (in one, MXNet
    takes half of torch's threads away), and they take turns, so that what else the machine does meets both.
    """
    kinds = {"torch": ["engine.name=torch"], "mxnet": ["engine.name=mxnet"]}
    if bf16:
        kinds["torch bf16"] = ["engine.name=torch", "engine.precision=bf16"]
    common = [f"engine.device={device}", "model.pretrained=none", f"engine.threads={threads or 'null'}"]
    alphabet = Alphabet(ORIGINAL)
    try:
        settings = {kind: config.load(config_path, [*common, *more]) for kind, more in kinds.items()}
        batches_ = {size: drawn(settings["torch"], alphabet, size) for size in sizes}
    except Error as error:
        raise click.ClickException(str(error)) from None
    workers = {kind: start(each, alphabet.classes) for kind, each in settings.items()}
    about = {kind: worker.recv() for kind, worker in workers.items()}
    if faults := [words for words in about.values() if isinstance(words, str)]:
        raise click.ClickException("\n".join(faults))
    about_it = conditions() | {
        "threads": {kind: words["threads"] for kind, words in about.items()},
        "device": {kind: words["device"] for kind, words in about.items()},
        "precision": "fp32" + (", and bf16 where it says so" if bf16 else ""),
        "network": f"{config_path}, {about['torch']['numbers']:,} numbers",
        "lines": "drawn by hwr synth",
        "repeats": repeats,
    }
    for name, value in about_it.items():
        click.echo(
            f"{name}: {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}"
        )
    others = [kind for kind in kinds if kind != "mxnet"]
    titles = [*(f"{kind} lines/s" for kind in kinds), *(f"{kind} : mxnet" for kind in others)]
    click.echo("".join(f"{title:>20}" for title in ["what", "batch", *titles]))
    rows = []
    for what in ("training", "reading"):
        for size, batch in batches_.items():
            given = batch if what == "training" else dataclasses.replace(batch, warps=None)
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for turn in range(repeats + 1):
                for kind, worker in workers.items():
                    worker.send((what, given))
                    took, _, _ = worker.recv()
                    if turn:  # skip the warm-up
                        seconds[kind].append(took)
            rates = {kind: size / statistics.median(times) for kind, times in seconds.items()}
            ratios = {kind: rates[kind] / rates["mxnet"] for kind in others}
            rows.append({"what": what, "batch": size, "lines_per_second": rates, "ratio": ratios, "seconds": seconds})
            cells = [what, size, *(f"{rate:.2f}" for rate in rates.values()), *(f"{r:.2f}" for r in ratios.values())]
            click.echo("".join(f"{cell:>20}" for cell in cells))
    for worker in workers.values():
        worker.send(None)
    write(json_path, {"conditions": about_it, "rows": rows})
