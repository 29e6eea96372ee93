"""One epoch of a run: its batches are trained on, then the held-out lines read."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat

import numpy as np
from tqdm import tqdm

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Config
from hwr.data import Line
from hwr.engines import Engine
from hwr.evaluation import evaluate, metrics
from hwr.images import batches
from hwr.images.cache import Images
from hwr.training import run_folder, schedule
from hwr.training.run_folder import Epoch, Progress

# Between two looks at the losses: each waits for the device.
LOSS_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What stays the same through a run."""

    config: Config
    out: Path
    alphabet: Alphabet
    engine: Engine
    split: str
    train_images: Images
    train_labels: list[np.ndarray]
    val_images: Images
    val_lines: list[Line]
    fingerprint: str  # of the lines and the alphabet
    say: Callable[[str], None]


def _done(task: Task, progress: Progress) -> float:
    """How much of the run is done, 0..1: of its epochs or of its minutes, whichever is further, as this process sees it."""
    settings = task.config.train
    updates = settings.epochs * len(task.train_images) // settings.batch_size
    of_minutes = progress.spent / 60 / settings.minutes if settings.minutes else 0.0
    return max(progress.updates / updates, of_minutes)


def done_anywhere(task: Task, progress: Progress) -> float:
    """Likewise, as the process sees it that has come furthest."""
    return task.engine.group.highest([_done(task, progress)])[0]


def save_state(task: Task, progress: Progress) -> None:
    """Save what an exact continuation needs. All processes take part."""
    state = task.engine.state()
    if not task.engine.group.rank:
        run_folder.save_state(task.out, task.engine, state, progress, task.alphabet, task.fingerprint)


def train_on(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> None:
    """Train what is left of an epoch, or until `train.minutes` are over. Saves the state every so often.

    Raises:
        Stopped: Interrupted after a batch; `progress` tells which.
        Error: The loss is no longer finite.
    """
    settings = task.config.train
    total = batches.count(len(task.train_images), settings.batch_size, progress.epoch)
    group = task.engine.group
    now = saved = heard = time.monotonic()
    started, begun = now - progress.seconds, now - progress.spent
    losses: list[SupportsFloat] = []  # not yet asked for: that waits for the device

    def hear() -> None:
        for number, loss in enumerate(map(float, losses), progress.batch - len(losses) + 1):
            if not math.isfinite(loss):
                raise Error(
                    f"the loss became {loss} in epoch {progress.epoch + 1}, batch {number}: the training has diverged. "
                    f"Lower train.lr (now {settings.lr:g})"
                    + (", or set engine.precision=fp32" if task.engine.precision != "fp32" else "")
                    + f". What was saved before is in {task.out}"
                )
            progress.loss_sum += loss
        losses.clear()
        if progress.batch:
            bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.2f}", refresh=False)

    with tqdm(
        desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
        total=total * settings.batch_size,
        initial=progress.batch * settings.batch_size,
        unit="line",
        disable=True if group.rank else None,
        leave=False,
    ) as bar:
        made = batches.training(
            task.train_images,
            task.train_labels,
            task.config,
            progress.epoch,
            progress.batch,
            (group.rank, group.size),
        )
        done = done_anywhere(task, progress)
        for batch in batches.ahead(made):
            if done >= 1:
                break
            progress.lr = schedule.learning_rate(settings, done)
            center_loss = settings.center_loss if done >= settings.center_from else 0.0
            losses.append(task.engine.train_step(batch, progress.lr, center_loss))
            progress.batch += 1
            progress.updates += 1
            now = time.monotonic()
            if now - heard > LOSS_SECONDS:
                hear()
                heard = now = time.monotonic()
            progress.seconds, progress.spent = now - started, now - begun
            bar.update(len(batch.index) * group.size)
            due = now - saved > settings.save_minutes * 60
            stop, save, done = group.highest([interrupted(), due, _done(task, progress)])
            if stop:
                hear()
                raise evaluate.Stopped
            if save:
                hear()
                save_state(task, progress)
                saved = now
        hear()
        now = time.monotonic()
        progress.seconds, progress.spent = now - started, now - begun


def held_out(task: Task, progress: Progress, interrupted: Callable[[], bool]) -> tuple[Epoch, evaluate.Reading]:
    """Read and score the held-out lines after an epoch.

    Raises:
        Stopped: Interrupted; the epoch's batches are all done.
    """
    begun = time.monotonic() - progress.spent
    reading = evaluate.read(
        task.engine,
        task.val_images,
        task.val_lines,
        task.alphabet,
        task.config,
        title="held-out lines",
        stop=interrupted,
    )
    progress.spent = time.monotonic() - begun
    score = metrics.score([line.text for line in task.val_lines], reading.texts)
    lines = progress.batch * task.config.train.batch_size
    row = Epoch(
        epoch=progress.epoch + 1,
        updates=progress.updates,
        train_loss=progress.loss_sum / progress.batch,
        val_loss=reading.loss,
        val_cer=score.cer,
        val_wer=score.wer,
        lr=progress.lr,
        seconds=progress.seconds,
        lines_per_second=lines / progress.seconds if progress.seconds else math.nan,
    )
    return row, reading
