"""PyLaia: https://github.com/jpuigcerver/PyLaia"""

import csv
import re
import subprocess
import time

from compare_peers.lines import prepared
from compare_peers.task import Failed, Points, Reading, Task

HEIGHT = 48  # pixels
BATCH = 8  # lines, its default


def train(task: Task) -> list[str]:
    data, folder = prepared(task, "pylaia", HEIGHT), task.folder
    common, command = ["--common.train_path", folder], task.python.with_name
    # The documentation's network, at 48 instead of 128 pixels. So the last pooling keeps the width (at 1/8 of it some lines had
    # fewer steps than characters), and the LSTMs are smaller.
    network = {"num_features": "[12,24,48,48]", "batchnorm": "[true,true,true,true]"}
    network["poolsize"] = "[[2,2],[2,2],0,[2,1]]"
    sizes = [word for key, value in network.items() for word in (f"--crnn.cnn_{key}", value)]
    sizes += ["--crnn.rnn_layers", "2", "--crnn.rnn_units", "192"]
    made = ["--fixed_input_height", HEIGHT, *sizes, *common, data / "syms.txt"]
    task.run([command("pylaia-htr-create-model"), *made])
    bounds = ["--train.early_stopping_patience", 100_000, "--trainer.max_epochs", 100_000]  # it is stopped from outside
    recipe = ["--data.batch_size", BATCH, "--train.augment_training", "true", "--scheduler.active", "true"]
    quiet = ["--trainer.progress_bar_refresh_rate", 0, "--trainer.weights_summary", "null"]
    tables = [data / "syms.txt", f"[{data}]", data / "train.txt", data / "val.txt"]
    return task.say(
        [command("pylaia-htr-train-ctc"), *tables, *common, *recipe, *bounds, "--train.checkpoint_k", 1, *quiet]
    )


def points(task: Task) -> Points:
    path = task.folder / "experiment/metrics.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    return [(float(row["epoch"]) + 1, float(row["va_cer"])) for row in rows if row.get("va_cer")]


def read(task: Task) -> Reading:
    found = sorted((task.folder / "experiment").glob("*lowest_va_cer*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise Failed(f"no checkpoint after {task.minutes:g} minutes:\n{task.tail()}")
    data = prepared(task, "pylaia", HEIGHT)
    command: list[object] = [task.python.with_name("pylaia-htr-decode-ctc"), data / "syms.txt", data / "test.lst"]
    command += ["--img_dirs", f"[{data}]", "--common.train_path", task.folder, "--common.checkpoint", found[-1]]
    command += ["--data.batch_size", BATCH, "--trainer.progress_bar_refresh_rate", 0]
    times, read, ids = list[float](), dict[str, str](), (data / "test.lst").read_text().split()
    with open(task.log, "ab") as log:
        process = subprocess.Popen(
            task.say(command), stdout=subprocess.PIPE, stderr=log, text=True, env=task.environment()
        )
        assert process.stdout
        with process:
            for row in process.stdout:
                name, *symbols = row.split() or [""]
                if name in ids:
                    read[name] = "".join(" " if symbol == "<space>" else symbol for symbol in symbols)
                    times.append(time.perf_counter())
    if process.returncode or set(read) != set(ids):
        raise Failed(f"read {len(read)} of {len(ids)} lines, and ended with {process.returncode}:\n{task.tail()}")
    first = min(BATCH, len(ids) - 1)  # the clock starts with the first batch, after start-up
    said = re.findall(r"Model has (\d+) parameters", task.log.read_text(errors="replace"))
    rate = (len(ids) - first) / (times[-1] - times[first - 1])
    return Reading([read[name] for name in ids], rate, int(said[0]), found[-1])
