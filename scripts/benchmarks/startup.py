"""Benchmark whole processes of `hwr predict`, from a cold start to the texts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.common import REPOSITORY, conditions, json_option, write
from hwr.images.load import SUFFIXES


@click.command("start")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder with line images (default: docs/line.png alone)."
)
@click.option("--lines", multiple=True, default=(1,), show_default=True, type=click.IntRange(min=1), help="Repeatable.")
@click.option("--engine", "engines", multiple=True, default=("onnx", "torch"), show_default=True)
@click.option("--decoder", "decoders", multiple=True, default=("beam", "greedy"), show_default=True)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@json_option
def measure_start(
    folder: Path | None,
    lines: tuple[int, ...],
    engines: tuple[str, ...],
    decoders: tuple[str, ...],
    repeats: int,
    json_path: Path | None,
) -> None:
    """Seconds of `hwr predict` with the bundled model: the best of several runs by the clock, and CPU time.

    The engines and decoders take turns, so that a busy machine slows all of them alike. Without --engine auto, the engine
    does not depend on the number of lines.
    """
    about, rows = conditions(), []
    images = [REPOSITORY / "docs/line.png"]
    if folder is not None:
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for number in lines:
        if number > len(images):
            raise click.ClickException(f"{folder or images[0]}: only {len(images)} line images; name a --folder")
        cases = [(engine, decoder) for engine in engines for decoder in decoders]
        found: dict[tuple[str, str], list[tuple[float, float]]] = {case: [] for case in cases}
        _run(images[:1], engines[0], decoders[0])  # compiles the modules
        for _ in range(repeats):
            for case in cases:
                found[case].append(_run(images[:number], *case))
        for (engine, decoder), times in found.items():
            wall, used = min(wall for wall, _ in times), min(used for _, used in times)
            rows.append({"lines": number, "engine": engine, "decoder": decoder, "seconds": wall, "cpu_seconds": used})
            click.echo(f"{number:>6} lines  {engine:>6}  {decoder:>6}  {wall:>8.2f} s  {used:>8.2f} s of CPU time")
        for engine in engines if {"beam", "greedy"} <= set(decoders) else ():
            walls, uses = zip(
                *(map(min, zip(*found[engine, name], strict=True)) for name in ("greedy", "beam")), strict=True
            )
            clock, cpu = walls[0] / walls[1], uses[0] / uses[1]
            click.echo(
                f"{number:>6} lines  {engine:>6}  beam has {clock:.2f} of the greedy speed, {cpu:.2f} in CPU time"
            )
    write(json_path, {"conditions": about, "start": rows})


def _run(images: list[Path], engine: str, decoder: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a process that finds its modules compiled, as an installed `hwr` does."""
    command = [sys.executable, "-m", "hwr", "predict", *map(str, images), "--json"]
    command += ["--engine", engine] if engine != "auto" else []
    command += ["--decoder", "greedy"] if decoder == "greedy" else []
    before, start = os.times(), time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr.strip()[-500:])
    wall, after = time.perf_counter() - start, os.times()
    return wall, (after.children_user - before.children_user) + (after.children_system - before.children_system)
