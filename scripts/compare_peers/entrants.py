"""The entrants, and how each is trained and evaluated."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

from compare_peers import environments, kraken, ours, pylaia
from compare_peers.task import Entrant, Failed, Task
from hwr import config
from hwr.data import Line
from hwr.data import read as read_dataset
from hwr.data.formats import writing
from hwr.evaluation import metrics


def own(name: str, about: str = "", *more: str) -> Entrant:
    """hwr with one of its configs."""
    return Entrant(about or f"configs/{name}", ours.train(name, *more), ours.points, ours.read, late=60)


ENTRANTS = {
    "hwr": own("lines_cpu.yaml"),
    "original": own(
        "iam_line.yaml",
        "the original system's recipe, configs/iam_line.yaml, without ImageNet weights",
        "train.save_minutes=5",
        "model.pretrained=none",
    ),
    "kraken": Entrant(
        "its default network (120 px), --augment", kraken.train(0.125), kraken.points(0.125), kraken.read, "kraken"
    ),
    "kraken48": Entrant(
        "a smaller network (48 px), --augment",
        kraken.train(0.25, "-s", kraken.SPEC48),
        kraken.points(0.25),
        kraken.read,
        "kraken",
    ),
    "pylaia": Entrant(
        "its documentation's recipe at 48 px with 2 x 192 LSTM units",
        pylaia.train,
        pylaia.points,
        pylaia.read,
        "pylaia",
    ),
}


def _trained(entrant: Entrant, task: Task, command: list[str]) -> tuple[list[list[float]], float]:
    """Train until the time is up; returns the [seconds, epochs, validation CER] seen, and the seconds used."""
    points: list[list[float]] = []

    def look(now: float) -> None:
        with suppress(OSError, ValueError, KeyError):  # the file is being written: read it next time
            points.extend([now, *point] for point in entrant.points(task)[len(points) :])

    with open(task.log, "ab") as log:
        start, end = time.monotonic(), time.monotonic() + 60 * task.minutes + entrant.late
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=task.environment(),
            cwd=task.folder,
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.5)
                look(time.monotonic() - start)
        finally:
            seconds = time.monotonic() - start
            _end(process)
    look(seconds)
    return points, seconds


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: SIGTERM first, then SIGKILL."""
    for number, patience in ((signal.SIGINT, 60), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it


def entered(name: str, entrant: Entrant, task: Task) -> dict[str, Any]:
    """Run one entrant; returns its result."""
    lines = task.dataset.test
    command = entrant.train(task)
    click.echo(f"{name}: training for {task.minutes:g} minutes, {task.log}")
    busy, own = _busy(), _own()
    points, seconds = _trained(entrant, task, command)
    others = max(0.0, (_busy() - busy) - (_own() - own)) / seconds
    click.echo(f"{name}: ended after {seconds:.0f} s, {len(points)} validations; reading {len(lines)} lines")
    if seconds < 30 * task.minutes:
        raise Failed(f"ended by itself after {seconds:.0f} s:\n{task.tail()}")
    reading = entrant.read(task)
    early = f"ended by itself after {seconds:.0f} s" if seconds < 60 * task.minutes - 10 else ""
    score = metrics.score([x.text for x in lines], reading.texts, [x.writer for x in lines])
    low, high, over = score.cer_interval(1000)
    last, epochs = (points[-1][0], points[-1][1]) if points else (seconds, reading.epochs)
    texts = [{"id": x.id, "reference": x.text, "read": text} for x, text in zip(lines, reading.texts, strict=True)]
    (task.folder / "texts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {
        **{"cer": score.cer, "cer_ci95": [low, high], "over": over, "wer": score.wer, "note": reading.note or early},
        "training_lines_per_second": epochs * len(task.dataset.train) / last if epochs else None,
        "reading_lines_per_second": reading.rate,
        "epochs": epochs,
        "seconds": seconds,
        "parameters": reading.parameters,
        "megabytes": reading.file.stat().st_size / 1e6,
        "other_cpus": others,
        "versions": environments.versions(entrant.peer, task.python),
        "commands": task.commands,
        "points": points,
    }


def _busy() -> float:
    """CPU seconds used by all programs on this machine."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """CPU seconds of this program and its finished children."""
    return sum(os.times()[:4])


def few(data: config.Data, out: Path, lines: dict[str, int]) -> list[str]:
    """Write lists with a limited number of lines per split; returns the overrides that select them."""
    dataset, keys = read_dataset(data), [f"data.lists={out / 'lists'}"]
    (out / "lists").mkdir(parents=True, exist_ok=True)
    for part, number in lines.items():
        all_: list[Line] = dataset.part(part)
        some = [all_[i].id for i in sorted(set(np.linspace(0, len(all_) - 1, number).astype(int).tolist()))]
        writing.id_list(out / "lists" / f"{part}.txt", some)
        keys.append(f"data.{part}=[{part}]")
    return keys
