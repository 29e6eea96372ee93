"""Benchmark reading and training beside other busy programs."""

import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from benchmarks.common import conditions, drawn, json_option, start, write
from hwr import Error, config
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.images.batches import Batch
from hwr.system.processes import usable_cores

# How cores share the work and their threads wait: environment, and overrides of the recipe. 300,000 turns is what GNU's OpenMP
# does by itself (its manual, GOMP_SPINCOUNT).
POLICIES: Mapping[str, tuple[Mapping[str, str], Sequence[str]]] = {
    "hwr": ({}, ["train.shards=auto"]),
    "whole batches": ({}, ["train.shards=1"]),
    "spinning": ({"GOMP_SPINCOUNT": "300000", "OMP_WAIT_POLICY": "active"}, ["train.shards=1"]),
    "one thread": ({"OMP_NUM_THREADS": "1"}, []),
}
WORK = ("training", "reading", "reading, onnx")


@click.command("busy")
@click.option("--config", "names", multiple=True, default=("lines_cpu", "latin", "iam_line_best"), show_default=True)
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--neighbours", multiple=True, default=(2, 8), show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="The median counts.")
@click.option(
    "--policy", "policies", multiple=True, default=tuple(POLICIES), show_default=True, type=click.Choice(list(POLICIES))
)
@click.option("--only", default="", help="Only works whose name contains this: training, reading or onnx.")
@json_option
def measure_busy(
    names: tuple[str, ...],
    batch: int,
    neighbours: tuple[int, ...],
    repeats: int,
    policies: tuple[str, ...],
    only: str,
    json_path: Path | None,
) -> None:
    """Lines per second alone, and beside programs that each keep a core busy, for several ways to share the work.

    "hwr" divides each training batch among the cores; with "whole batches" they share every step; "spinning" is how the
    libraries wait by themselves. They take turns. The fair share of N neighbours
    on C cores is C / (C + N). If other programs run, the figures say how much of the CPUs they took while hwr was alone.
    """
    works = [work for work in WORK if only in work]
    if not works:
        raise click.UsageError(f"--only {only}: no work's name contains this; they are {', '.join(WORK)}")
    about, rows = conditions(), []
    click.echo(about["cpu"])
    for name in names:
        try:
            rows += _measure(name, batch, neighbours, repeats, policies, works)
        except Error as error:
            raise click.ClickException(str(error)) from None
    write(json_path, {"conditions": about, "batch": batch, "repeats": repeats, "rows": rows})


def _measure(
    name: str, size: int, neighbours: tuple[int, ...], repeats: int, policies: Sequence[str], works: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows of a recipe."""
    alphabet, cores = Alphabet(ORIGINAL), usable_cores()
    rows: list[dict[str, Any]] = []
    common = ["engine.device=cpu", f"train.batch_size={size}", "data.alphabet=auto"]
    recipe = config.load(name, [*common, "engine.name=torch"])
    batch = drawn(recipe, alphabet, size)
    exported = config.load(name, [*common, "engine.name=onnx", "engine.precision=fp32"])
    engines = {
        kind: {policy: _started(settings, alphabet.classes, *POLICIES[policy]) for policy in policies}
        for kind, settings in (("torch", recipe), ("onnx", exported))
    }
    for what in works:
        workers = engines["onnx" if what.endswith("onnx") else "torch"]
        given = batch if what == "training" else dataclasses.replace(batch, warps=None)
        task = "training a while" if what == "training" else "reading many"
        alone, others = _rates(workers, task, given, repeats)
        mine: list[dict[str, Any]] = [
            {"config": name, "what": what, "policy": policy, "others": others, "rates": {0: rate}}
            for policy, rate in alone.items()
        ]
        for number in neighbours:
            with _neighbours(number):
                busy, _ = _rates(workers, task, given, repeats)
            for row in mine:
                row["rates"][number] = busy[row["policy"]]
        click.echo(f"\n{name}, {what}; other programs took {100 * others:.0f} % of the CPUs while hwr was alone")
        for row in mine:
            cells = [f"{row['policy']:>12}{row['rates'][0]:>10.1f} lines/s alone"]
            for number in neighbours:
                share = row["rates"][number] / row["rates"][0]
                cells.append(f"{share:>7.2f} beside {number} (fair: {cores / (cores + number):.2f})")
            click.echo("".join(cells))
        rows += mine
    for worker in itertools.chain.from_iterable(group.values() for group in engines.values()):
        worker.send(None)
    return rows


def _started(
    settings: config.Config, classes: int, environment: Mapping[str, str], overrides: Sequence[str]
) -> Connection:
    """An engine in a process with these variables in its environment."""
    settings = config.override(config.to_dict(settings), list(overrides))
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        worker = start(settings, classes)
    finally:
        os.environ.clear()
        os.environ.update(before)
    about = worker.recv()
    if isinstance(about, str):
        raise Error(about)
    return worker


def _rates(workers: Mapping[str, Connection], task: str, batch: Batch, repeats: int) -> tuple[dict[str, float], float]:
    """Lines per second of each worker, and the share of the CPUs that other programs took meanwhile."""
    seconds: dict[str, list[float]] = {policy: [] for policy in workers}
    clock, own, busy = 0.0, 0.0, 0.0
    for turn in range(repeats + 1):
        for policy, worker in workers.items():
            before = _busy_seconds()
            worker.send((task, batch))
            took, used, times = worker.recv()
            if turn:  # the first is the warm-up
                seconds[policy].append(took / times)
                clock, own, busy = clock + took, own + used, busy + _busy_seconds() - before
    rates = {policy: len(batch.images) / statistics.median(times) for policy, times in seconds.items()}
    return rates, max(0.0, busy - own) / (clock * (os.cpu_count() or 1))


def _busy_seconds() -> float:
    """Seconds that all CPUs have worked since the machine started; 0 where /proc is missing."""
    try:
        user, nice, system = map(int, Path("/proc/stat").read_text().split(maxsplit=4)[1:4])
    except OSError:
        return 0.0
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _neighbours(number: int) -> Iterator[None]:
    """Run so many programs that keep a core busy."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()
