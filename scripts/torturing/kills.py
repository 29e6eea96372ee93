"""Kills: commands that write are killed at random moments and while they save, then started again."""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, checkpoint, data
from hwr.config import Data
from hwr.decoding import language_model
from hwr.loading import load_checkpoint
from hwr.system import atomic
from torturing.common import Command, Result, content, hwr, world


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes:
        start: Its arguments.
        again: The arguments to start it again; None: the same.
        out: What it writes, in the working folder.
        readable: Checks what is at `out` after a kill, if anything is; raises if it can't be read.
        same: Compares what is at `out` at the end with the unbroken command's.
    """

    start: tuple[str, ...]
    out: str
    readable: Callable[[Path], object]
    same: Callable[[Path, Path], bool]
    again: tuple[str, ...] | None = None


def _same_files(one: Path, other: Path) -> bool:
    return content(one) == content(other) if one.is_dir() else one.read_bytes() == other.read_bytes()


def _pages(folder: Path) -> list[str]:
    """The pages of a folder; they hold the time. The record of what was read is named after the process."""
    return [name for name in content(folder) if not name.startswith(".hwr/")]


def _same_run(one: Path, other: Path) -> bool:
    """Whether two run folders have the same weights, optimiser and history, and neither has anything left over."""

    def arrays(path: Path) -> dict[str, np.ndarray]:
        return checkpoint.read_arrays(path)[0]

    def history(path: Path) -> list[Any]:
        rows: list[Any] = checkpoint.read_about(path / "state.safetensors")["progress"]["history"]
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]

    names = ("best.safetensors", "last.safetensors", "state.safetensors")
    same = history(one) == history(other) and content(one).keys() == content(other).keys()
    return same and all(
        set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in ((arrays(one / name), arrays(other / name)) for name in names)
    )


def _readable_run(out: Path) -> None:
    """Whatever a run folder has can be read."""
    for name in ("best.safetensors", "last.safetensors"):
        if (out / name).exists():
            load_checkpoint(out / name)
    if (out / "state.safetensors").exists():
        checkpoint.read_arrays(out / "state.safetensors")


def _train(kind: str) -> Victim:
    start = ("train", "--config", "small.yaml", "--out", "run", "--set", "train.epochs=4", "train.save_minutes=0.0001")
    if kind == "cache":  # the lines are prepared anew
        start = (*start[:-3], "--set", "train.epochs=1", f"data.cache={kind}")
    return Victim(start, "run", _readable_run, _same_run, (*start, "--resume"))


VICTIMS: dict[str, Victim] = {
    "train": _train("train"),
    "build the cache": _train("cache"),
    "predict to a file": Victim(
        (
            "predict",
            "--checkpoint",
            "model.safetensors",
            "data/lines",
            "--json",
            "--out",
            "read.jsonl",
            "--workers",
            "1",
        ),
        "read.jsonl",
        lambda path: path.read_text(encoding="utf-8"),
        _same_files,
    ),
    "predict to pages": Victim(
        (
            "predict",
            "--checkpoint",
            "model.safetensors",
            "pages",
            "--format",
            "page",
            "--out",
            "read",
            "--workers",
            "1",
        ),
        "read",
        lambda path: [data.formats.xml.parse(page) for page in path.glob("*.xml")],
        lambda one, other: _pages(one) == _pages(other),
    ),
    "convert": Victim(
        ("data", "convert", "data", "converted", "--to", "gt"),
        "converted",
        lambda path: data.read(Data(root=str(path))),
        _same_files,
    ),
    "synth": Victim(
        ("synth", "--out", "drawn", "--lines", "60", "--writers", "6"),
        "drawn",
        lambda path: data.read(Data(root=str(path))),
        _same_files,
    ),
    "lm build": Victim(
        ("lm", "build", "--text", "text.txt", "--out", "lm.bin", "--order", "6"),
        "lm.bin",
        language_model.load,
        _same_files,
    ),
    "export": Victim(
        ("export", "model.safetensors", "--format", "onnx", "--out", "out.onnx"),
        "out.onnx",
        load_checkpoint,
        lambda one, other: one.stat().st_size == other.stat().st_size,
    ),
}


def kill(names: tuple[str, ...], kills: int, number: int, say: Callable[[str], None]) -> list[Result]:
    """Kill each command, half of the times at a random moment, half while it saves; each trial ends when it is complete.

    Args:
        kills: How many times in all.
        number: The random seed.
    """
    results = []
    rng = random.Random(number)
    with tempfile.TemporaryDirectory(prefix="torture") as name:
        made = world(Path(name, "world"))
        hwr("data", "convert", "data", "pages", "--to", "page", folder=made)
        for i, chosen in enumerate(names):
            share = kills // len(names) + (i < kills % len(names))
            results.append(_kill_one(chosen, made, share, rng))
            say(str(results[-1]))
    return results


def _kill_one(name: str, made: Path, kills: int, rng: random.Random) -> Result:
    victim, result, done, aimed = VICTIMS[name], Result(f"killed and started again: {name}"), 0, 0
    with tempfile.TemporaryDirectory(prefix="torture") as folder:
        whole = Path(folder, "whole")
        shutil.copytree(made, whole)
        unbroken = hwr(*victim.start, folder=whole)
        result.check(not unbroken.status, f"failed without a kill: {unbroken.said[-300:]}")
        if unbroken.status:
            return result
        trial = 0
        while done < kills:
            trial += 1
            here = Path(folder, str(trial))
            shutil.copytree(made, here)
            died, saving, fault = _trial(victim, here, whole, unbroken.seconds, kills - done, rng)
            done, aimed = done + died, aimed + saving
            result.check(not fault, f"trial {trial}: {fault}")
            shutil.rmtree(here)
    result.about = f"{done} kills, {aimed} of them while saving"
    return result


def _trial(
    victim: Victim, here: Path, whole: Path, seconds: float, most: int, rng: random.Random
) -> tuple[int, int, str]:
    """Start a command, kill it up to five times, and let it end; returns the kills, those while saving, and what is wrong."""
    died = saving = 0
    out = here / victim.out
    for _ in range(min(most, rng.randint(1, 5))):
        again = victim.again if victim.again and (out / "config.yaml").exists() else victim.start
        command = Command(again, here, _alone)
        aimed = _strike(command, here, seconds, rng)
        ended = command.wait()
        if ended.status != -signal.SIGKILL:
            if ended.status and "exists already" not in ended.said:
                return died, saving, f"could not be started again: {ended.said[-300:]}"
            break
        died, saving = died + 1, saving + aimed
        try:
            if out.exists():
                victim.readable(out)
        except Error as error:
            return died, saving, f"left something that can't be read: {error}"
    finished = _finish(victim, here)
    if finished:
        return died, saving, finished
    return died, saving, "" if victim.same(out, whole / victim.out) else "did not end as without kills"


def _alone() -> None:
    """Nothing else writes here, so that a temporary file need not be a minute old to be a killed process's."""
    atomic.ABANDONED = 0


def _finish(victim: Victim, here: Path) -> str:
    out = here / victim.out
    again = victim.again if victim.again and (out / "config.yaml").exists() else victim.start
    ended = hwr(*again, folder=here, before=_alone)
    if ended.status and not (victim.again is None and "exists already" in ended.said):
        return f"could not be started again: {ended.said[-300:]}"
    return ""


def _strike(command: Command, folder: Path, seconds: float, rng: random.Random) -> bool:
    """Kill a command at a random moment, or as soon as a temporary file appears; returns whether it was saving."""
    start, aim = time.monotonic(), rng.random() < 0.5
    moment = rng.uniform(0, seconds)
    skipped = rng.randint(0, 6)  # saves to let pass
    before: set[Path] = set()
    while not command.ended():
        temporary = {path for place in (".", "run", "cache", "read") for path in folder.glob(f"{place}/.*.tmp")}
        if aim and temporary - before:
            before |= temporary
            if not skipped:
                time.sleep(rng.uniform(0, 0.01))
                command.send(signal.SIGKILL)
                return True
            skipped -= 1
        elif not aim and time.monotonic() - start > moment:
            command.send(signal.SIGKILL)
            return bool(temporary)
        time.sleep(0 if aim else 0.002)
    return False
