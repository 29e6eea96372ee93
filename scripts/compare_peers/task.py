"""An entrant's task and result."""

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwr.data import Dataset

REPOSITORY = Path(__file__).resolve().parents[2]

Points = list[tuple[float, float]]  # epochs done, validation CER


class Failed(Exception):
    """An entrant failed; the others continue."""


# Errors that a failed entrant may cause, because its logs and files have unexpected content.
FAULTS = (Failed, OSError, ValueError, LookupError, ArithmeticError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Task:
    """An entrant's task.

    Attributes:
        folder: The entrant's output folder.
        python: The interpreter of its environment.
        keys: hwr's overrides for the dataset.
        named: Names for paths in the report, which must not contain paths of this machine.
    """

    folder: Path
    out: Path
    python: Path
    dataset: Dataset
    keys: list[str]
    minutes: float
    threads: int
    named: dict[str, str]
    commands: list[str]

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def environment(self) -> dict[str, str]:
        more = {"OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
        # Without a width, kraken's log wraps at 80 columns.
        return {**os.environ, **more, "COLUMNS": "500", "TERM": "dumb", "PYTHONWARNINGS": "ignore"}

    def say(self, command: Sequence[object]) -> list[str]:
        """A command; the report shows it with the names of `named`."""
        words = [str(word) for word in command]
        self.commands.append(self.shown(shlex.join(words)))
        return words

    def shown(self, text: str) -> str:
        """A text with paths replaced by their names in `named`."""
        for path, name in self.named.items():
            text = text.replace(path, name)
        return text

    def run(self, command: Sequence[object], say: bool = True) -> str:
        """Run a command to the end; returns its output, which is also logged."""
        words = self.say(command) if say else [str(word) for word in command]
        with open(self.log, "ab") as log:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, env=self.environment())
            log.write(done.stdout)
        if done.returncode:
            raise Failed(f"{Path(words[0]).name} ended with {done.returncode}:\n{self.tail()}")
        return done.stdout.decode(errors="replace")

    def tail(self) -> str:
        return "\n".join(f"    {row}" for row in self.log.read_text(errors="replace").splitlines()[-15:])


@dataclass(frozen=True)
class Reading:
    """An entrant's predictions for the test lines; `rate` is in lines/s, from image files to texts, the model loaded."""

    texts: list[str]
    rate: float
    parameters: int
    file: Path  # the model
    note: str = ""
    epochs: float | None = None  # None if no epoch was finished


@dataclass(frozen=True)
class Entrant:
    """An entrant: prepares its data, gives the training command, reports progress, and reads lines."""

    about: str
    train: Callable[[Task], list[str]]
    points: Callable[[Task], Points]
    read: Callable[[Task], Reading]
    peer: str = ""  # the environment to use; "" is hwr's
    late: float = 0  # seconds beyond the time limit before it is stopped
