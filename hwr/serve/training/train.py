"""Train on a project's corrected lines, and judge the result on those that were held back."""

import contextlib
import csv
import filecmp
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwr import Error, config
from hwr.data import PARTS, Dataset, formats
from hwr.evaluation import metrics
from hwr.evaluation.metrics import Score
from hwr.images import load
from hwr.recognizer import Recognizer
from hwr.serve.jobs import Stopped, Work
from hwr.serve.project.database import Job
from hwr.serve.project.folder import Project
from hwr.serve.reading.reader import LATER, Reader
from hwr.serve.training import lines, train_process
from hwr.serve.training.models import Models, Trained, judged
from hwr.training import self_training

# The folder of their images, beside that of the corrected lines.
UNCHECKED = "unchecked"

# With more corrected lines, self-training is off unless the server's settings ask for it: with 180 it gained nothing.
FEW = 100

# How the messages of a training begin that say what it does for the next minute.
STEPS = ("first round", "reading ", "second round")


def train(project: Project, models: Models, reader: Reader, work: Work) -> dict[str, Any]:
    """Run a training job: train, judge, and use the new model if it reads the lines that were held back better.

    A job that was stopped continues where it was.

    Args:
        work: The job; its `minutes` limit the training, if they are set.

    Returns:
        The result, as JSON values.

    Raises:
        Stopped: The job was asked to stop; its state is saved.
        Error: It failed.
    """
    run = project.hidden / "runs" / f"job-{work.job.id}"
    if work.job.progress.get("stage") == "done":  # the server was killed after that
        shutil.rmtree(run, ignore_errors=True)
        return work.job.progress
    data = run / "lines"
    # A new job has made no progress. What lies in its place is of a job in a database that is lost.
    if not work.job.progress or not data.is_dir():
        shutil.rmtree(run, ignore_errors=True)
        divided = lines.divide(project)
        lines.write_unchecked(lines.unchecked(project, _most(models, len(divided.train))), run / UNCHECKED)
        lines.write(divided, reader.recognizer, run / "lines.new")
        os.replace(run / "lines.new", data)
    dataset = formats.read(config.Data(root=str(data), format="gt"))
    counts: dict[str, Any] = {part: len(dataset.part(part)) for part in PARTS}
    counts["skipped"] = json.loads((data / "skipped.json").read_text(encoding="utf-8"))
    counts["unchecked"] = len(list((run / UNCHECKED).glob("*.png")))
    minutes = work.job.about.get("minutes")
    overrides = _overrides(models, data, counts, minutes)
    _run(run / "run", overrides, work, counts)
    work.progress({"stage": "judging", **counts})
    model = _judged_before(models, work.job, run / "run" / "best.safetensors")
    if model is None:
        model, content = _judge(models, reader, dataset, run / "run" / "best.safetensors")
        models.add(model, content)
    epochs = _history(run / "run")
    if model.accepted:
        use(models, reader, model.name)
    result = {"stage": "done", **counts, "epochs": epochs, "model": model.__dict__}
    with contextlib.suppress(Stopped):  # there is nothing left to stop
        work.progress(result)  # before its files are removed: without these, a job that is resumed begins anew
    shutil.rmtree(run, ignore_errors=True)
    return result


def use(models: Models, reader: Reader, name: str) -> None:
    """Read with a model from now on.

    Raises:
        Missing: There is no such model.
        Error: It can't be loaded.
    """
    recognizer = models.load(name)
    models.choose(name)
    reader.use(recognizer, name)


def _most(models: Models, corrected: int) -> int:
    """How many unchecked lines a training uses at most; 0 if the server's settings name other lines, or none.

    Args:
        corrected: Corrected lines to train on.
    """
    asked = config.given(None, models.training).keys("self_training")
    if _names_lines(models) or (corrected > FEW and not asked):
        return 0
    return int(str(asked.get("most", config.SelfTraining().most)))


def _names_lines(models: Models) -> bool:
    return any(key.startswith("self_training.unlabelled=") for key in models.training)


def _overrides(models: Models, data: Path, counts: Mapping[str, Any], minutes: float | None) -> list[str]:
    """The settings of a training. It starts from the model that the project began with, on all corrections."""
    base = models.base if isinstance(models.base, str) else str(models.base.resolve())
    paths = [f"data.root={data}", f"data.cache={data.parent / 'cache'}", f"train.init={base}"]
    limit = [] if minutes is None else [f"train.minutes={minutes}"]
    size = min(config.load(train_process.RECIPE).train.batch_size, counts["train"])
    asked = models.training
    more = [f"self_training.unlabelled={data.parent / UNCHECKED}"] if counts["unchecked"] else []
    if not more and not _names_lines(models):  # no second round, so its other settings have no meaning
        asked = [key for key in asked if not key.startswith("self_training.")]
    return [*paths, "data.format=gt", f"train.batch_size={size}", *limit, *more, *asked]


def _run(out: Path, overrides: Sequence[str], work: Work, counts: dict[str, Any]) -> None:
    """Run the training process to its end."""
    resume = "resume" if (out / "config.yaml").is_file() else "new"
    if resume == "new":
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", train_process.__name__, str(out), resume, *overrides]
    # The process prints nothing to the error stream that a user needs, except the traceback of a bug.
    errors = out.parent / "errors.txt"
    said: list[str] = []
    started = time.monotonic()
    with (
        open(errors, "wb") as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file) as process,
    ):
        assert process.stdout is not None
        threading.Thread(target=_stop_on_request, args=(process, work), name="hwr training", daemon=True).start()
        try:
            for line in process.stdout:
                said.append(line.decode("utf-8", "replace").strip())
                step = next((line for line in reversed(said) if line.startswith(STEPS)), "")
                seconds = time.monotonic() - started
                found = {"stage": "training", **counts, "message": said[-1], "step": step, "seconds": seconds}
                if not work.stop:
                    work.progress({**found, "epochs": _history(out)})
        finally:
            _end(process)
            process.stdout.read()  # until it has saved
            status = process.wait()
    if status == train_process.STOPPED or (work.stop and status):
        raise Stopped
    if status:
        tail = errors.read_text("utf-8", "replace").strip().rpartition("\n")[2]
        # The last that the process says, in one or more lines.
        reason = "\n".join(itertools.dropwhile(lambda line: not line.startswith("error: "), said))
        raise Error(f"the training failed: {reason.removeprefix('error: ') or tail or f'status {status}'}")


def _stop_on_request(process: "subprocess.Popen[bytes]", work: Work) -> None:
    """End the training process when its job is asked to stop."""
    while process.poll() is None:
        if work.stop:
            _end(process)
            return
        time.sleep(0.2)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the training process to save and stop, by ending its standard input."""
    assert process.stdin is not None
    process.stdin.close()


def _history(out: Path) -> list[dict[str, float]]:
    """The epochs so far, of both rounds if there are two: validation CER and seconds of each."""
    rows: list[dict[str, float]] = []
    for folder in (out / self_training.FIRST, out):
        try:
            with open(folder / "history.csv", newline="", encoding="utf-8") as file:
                rows += [
                    {"cer": float(row["val_cer"]), "seconds": float(row["seconds"])} for row in csv.DictReader(file)
                ]
        except (OSError, KeyError, ValueError):
            continue
    return rows


def _judge(models: Models, reader: Reader, dataset: Dataset, best: Path) -> tuple[Trained, bytes]:
    """Read the lines held back with the model that reads now and with the new one."""
    texts, cuts = [line.text for line in dataset.test], [load.read(line.image) for line in dataset.test]
    content = best.read_bytes()
    new = models.load_file(best)

    def read(recognizer: Recognizer) -> Score:
        readings = recognizer.read_prepared([recognizer.prepare(cut) for cut in cuts])
        return metrics.score(texts, [reading.text for reading in readings])

    before = reader.call(read, LATER).result()
    after = reader.call(lambda _: read(new), LATER).result()
    trained_on = len(dataset.train) + len(dataset.val)
    return judged(models.new_name(), trained_on, before, after, gain(before, after), len(texts)), content


def _judged_before(models: Models, job: Job, best: Path) -> Trained | None:
    """The model that this job added before it was killed."""
    added = (model for model in models.trained() if model.created >= job.created)
    return next((model for model in added if filecmp.cmp(models.file(model.name), best, shallow=False)), None)


def gain(before: Score, after: Score) -> tuple[float, float, float]:
    """How much the CER fell, and its 95 % percentile bootstrap interval: both scores on the same resampled lines."""
    fewer = before.characters.edits - after.characters.edits
    low, high = metrics.bootstrap(fewer, before.characters.units, 1000)
    return before.cer - after.cer, low, high
