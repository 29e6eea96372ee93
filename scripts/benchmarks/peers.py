"""Benchmark hwr's recipes against other toolkits: training and reading speed, not accuracy."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import click
from compare_peers import environments
from compare_peers.entrants import ENTRANTS, entered, few, own
from compare_peers.task import FAULTS, Task

from benchmarks.common import conditions, json_option, write
from hwr import Error, config
from hwr.data import read as read_dataset

SPEEDS = {
    "hwr, lines_cpu": ENTRANTS["hwr"],
    "hwr, iam_line_best": own("iam_line_best.yaml"),
    "hwr, original": ENTRANTS["original"],
    "hwr, original, mxnet": own(
        "iam_line.yaml", "the original recipe on MXNet", "engine.name=mxnet", "model.pretrained=none"
    ),
    "kraken": ENTRANTS["kraken"],
    "kraken, 48 px": ENTRANTS["kraken48"],
    "pylaia": ENTRANTS["pylaia"],
}
LINES = {"train": 256, "val": 8, "test": 128}


@click.command("peers")
@click.option("--data", required=True, metavar="FOLDER", help="Lines in IAM's layout.")
@click.option(
    "--minutes", default=3.0, show_default=True, type=click.FloatRange(min=0.1), help="Training time of each."
)
@click.option("--out", default="runs/bench-peers", show_default=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--only", multiple=True, type=click.Choice(list(SPEEDS)), help="Only these (default: all).")
@click.option("--envs", type=click.Path(path_type=Path), metavar="FOLDER", help="Environments (default: OUT/envs).")
@click.option("--python310", metavar="PATH", help="A Python 3.10 for PyLaia (default: search for one).")
@json_option
def compare_peers(
    data: str,
    minutes: float,
    out: Path,
    only: tuple[str, ...],
    envs: Path | None,
    python310: str | None,
    json_path: Path | None,
) -> None:
    """Lines per second of training and reading, of hwr's recipes and of other toolkits, on the same lines.

    Training time includes occasional validation; reading goes from image files to texts. For MXNet use the
    environment that has it. How well they read is what scripts/compare measures.
    """
    # End all child processes, however this one ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = out.resolve()
    envs = (envs or out / "envs").absolute()
    out.mkdir(parents=True, exist_ok=True)
    try:
        keys = [f"data.root={Path(data).resolve()}"]
        keys += few(config.load(None, keys).data, out, LINES)
        dataset = read_dataset(config.load(None, keys).data)
    except Error as error:
        raise click.ClickException(str(error)) from None
    found, threads = {}, len(os.sched_getaffinity(0))
    about = conditions()
    click.echo(f"{'':>24}{'training':>12}{'reading':>12}   lines/s")
    for number, name in enumerate(only or SPEEDS):
        entrant = SPEEDS[name]
        folder = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=out))
        python = envs / entrant.peer / "bin/python" if entrant.peer else Path(sys.executable)
        task = Task(folder, out, python, dataset, keys, minutes, threads, {}, [])
        task.log.touch()
        try:
            if entrant.peer:
                environments.make(entrant.peer, envs / entrant.peer, python310)
            result = entered(name, entrant, task)
        except (*FAULTS, Error) as error:
            click.echo(f"{name}: {error or type(error).__name__}", err=True)
            continue
        rates = {kind: result[f"{kind}_lines_per_second"] for kind in ("training", "reading")}
        found[name] = rates
        click.echo(f"{name:>24}" + "".join(f"{rate:>12.2f}" if rate else f"{'none':>12}" for rate in rates.values()))
        write(json_path, {"conditions": about, "lines": LINES, "minutes": minutes, "lines_per_second": found})
