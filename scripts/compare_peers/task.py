"""What an entrant is given, and what it gives back."""

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
    """An entrant could not do its part; the others go on."""


# What an entrant that goes wrong may raise: reading its logs and files finds other things than were looked for.
FAULTS = (Failed, OSError, ValueError, LookupError, ArithmeticError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Task:
    """What an entrant is given.

    Attributes:
        folder: Its own, for all it writes.
        python: The interpreter of its environment.
        keys: hwr's overrides that tell of the data.
        named: What a path is called in the report, for no path of this machine should stand there.
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
        # Without a width, kraken's log is broken at 80 columns.
        return {**os.environ, **more, "COLUMNS": "500", "TERM": "dumb", "PYTHONWARNINGS": "ignore"}

    def say(self, command: Sequence[object]) -> list[str]:
        """A command as it is run; the report shows it with the names of `named`."""
        words = [str(word) for word in command]
        self.commands.append(self.shown(shlex.join(words)))
        return words

    def shown(self, text: str) -> str:
        """A text with the names of `named` instead of their paths."""
        for path, name in self.named.items():
            text = text.replace(path, name)
        return text

    def run(self, command: Sequence[object], say: bool = True) -> str:
        """Run to the end; its output, which is logged too."""
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
    """What an entrant read on the test lines; `rate` is in lines/s, from image files to texts, the model loaded."""

    texts: list[str]
    rate: float
    parameters: int
    file: Path  # the model
    note: str = ""
    epochs: float | None = None  # where no epoch was finished


@dataclass(frozen=True)
class Entrant:
    """A contestant: what prepares its data and says how it is trained, how far it has come, and what reads with it."""

    about: str
    train: Callable[[Task], list[str]]
    points: Callable[[Task], Points]
    read: Callable[[Task], Reading]
    peer: str = ""  # whose environment; "" is ours
    late: float = 0  # seconds beyond the budget before it is ended
