"""hwr, with its recipe for the CPU and with the original system's."""

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from compare_peers.task import REPOSITORY, Failed, Points, Reading, Task
from hwr import alphabet, checkpoint, config, networks
from hwr.config import Config
from hwr.evaluation import evaluate
from hwr.images import cache
from hwr.recognizer import Recognizer


def _settings(task: Task, path: Path, keys: Sequence[str] = ()) -> Config:
    return config.load(path, [*task.keys, f"engine.threads={task.threads}", "engine.device=cpu", *keys])


def train(name: str, *more: str) -> Callable[[Task], list[str]]:
    def prepared(task: Task) -> list[str]:
        path, keys = REPOSITORY / "configs" / name, [*more, f"data.cache={task.out / 'data' / 'hwr'}"]
        keys.append(f"train.minutes={float(task.minutes)}")
        settings = _settings(task, path, keys)
        for lines in (task.dataset.train, task.dataset.val):
            cache.prepared(
                lines, networks.geometry(settings), settings.data.cache
            )  # before the clock starts, as for the other toolkits
        keys = [*task.keys, f"engine.threads={task.threads}", "engine.device=cpu", *keys]
        sets = [word for key in keys for word in ("--set", key)]
        return task.say([sys.executable, "-m", "hwr", "train", "--config", path, *sets, "--out", task.folder / "run"])

    return prepared


def points(task: Task) -> Points:
    path, found, lines = task.folder / "run/history.csv", Points(), 0.0
    for row in csv.DictReader(path.read_text().splitlines()) if path.exists() else []:
        lines += float(row["lines_per_second"]) * float(row["seconds"])
        found.append((lines / len(task.dataset.train), float(row["val_cer"])))
    return found


def read(task: Task) -> Reading:
    run, note, epochs = task.folder / "run", "", None
    path = run / "best.safetensors"
    if not path.exists():
        state = run / "state.safetensors"
        if not state.exists():
            raise Failed(f"no checkpoint after {task.minutes:g} minutes")
        arrays, about = checkpoint.read_arrays(state)
        prefix = "weights/"
        weights = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        settings = config.load(run / "config.yaml")
        letters = alphabet.resolve(settings.data.alphabet, [line.text for line in task.dataset.train])
        path = run / "interrupted.safetensors"
        checkpoint.save(path, checkpoint.Checkpoint(weights, settings, letters))
        epochs = about["progress"]["updates"] * settings.train.batch_size / len(task.dataset.train)
        note = f"no checkpoint after {task.minutes:g} minutes, for no epoch was finished: the weights when it was ended"
    loaded = checkpoint.load(path)
    with tempfile.TemporaryDirectory() as empty:
        settings = _settings(task, run / "config.yaml", [f"data.cache={empty}"])
        start = time.perf_counter()
        cache.prepared(task.dataset.test, networks.geometry(settings), empty)
        seconds = time.perf_counter() - start
        reading = evaluate.evaluate(Recognizer(loaded, settings), checkpoint=str(path)).predictions
    rate = len(reading.texts) / (seconds + reading.seconds)
    parameters = sum(array.size for name, array in loaded.weights.items() if "running_" not in name)
    return Reading(reading.texts, rate, parameters, path, note, epochs)
