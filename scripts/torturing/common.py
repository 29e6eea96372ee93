"""What the commands of scripts/torture share: hwr in child processes that can be killed and limited, and the results."""

import contextlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hwr import checkpoint, config
from hwr.data import synth
from torturing.readers import SMALL, small_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
# A run of a few seconds: small network, few lines, many saves.
TRAINING = [
    *SMALL,
    "image.height=24",
    "image.width=480",
    "train.batch_size=8",
    "train.shards=2",
    "train.lr=0.01",
    "augment.p=0.5",
    "engine.threads=1",
    "engine.device=cpu",
]
# Where a command ends that is not killed, in seconds.
LONGEST = 300.0


@dataclass
class Result:
    """A count of trials, and what went wrong in them.

    Attributes:
        name: What was tried.
        trials: How many times.
        faults: What went wrong, a sentence each.
        about: Further figures, for the report.
    """

    name: str
    trials: int = 0
    faults: list[str] = field(default_factory=list)
    about: str = ""

    def check(self, right: bool, fault: str) -> None:
        """Count a trial."""
        self.trials += 1
        if not right:
            self.faults.append(fault)

    def __str__(self) -> str:
        failed = f"{len(self.faults)} failed" if self.faults else "all right"
        line = f"{self.name:<52}{self.trials:>7} trials, {failed}" + (f"; {self.about}" if self.about else "")
        return "\n    ".join([line, *self.faults])


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (minus the signal, if one killed it), what it printed, and its seconds."""

    status: int
    said: str
    seconds: float

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said

    @property
    def unescaped(self) -> bool:
        """Whether it printed a control character other than line feeds, tabs, and the carriage returns of progress bars."""
        return any((ord(c) < 32 and c not in "\n\t\r") or 127 <= ord(c) < 160 for c in self.said)


def warm() -> None:
    """Import what commands need, so that their processes, which are forks of this one, start at once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)  # threads would not survive the forks
    for name in (
        "hwr.__main__",
        "hwr.cli",
        "hwr.training.loop",
        "hwr.engines.torch_trainer",
        "hwr.evaluation.report_html",
        "hwr.pages",
    ):
        importlib.import_module(name)
    for name in (
        "hwr.engines.torch_export",
        "hwr.decoding.beam_compiled",
        "hwr.data.convert",
        "hwr.data.summary",
    ):
        importlib.import_module(name)
    from torturing.readers import READERS

    with tempfile.TemporaryDirectory() as folder:  # compiles the beam search
        path = Path(folder, "lm.bin")
        path.write_bytes(READERS["lm"].good()[0])
        READERS["lm"].read(path)


class Command:
    """A command of hwr in a process of its own, a fork of this one."""

    def __init__(
        self,
        arguments: Sequence[object],
        folder: Path,
        before: Callable[[], None] = lambda: None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            folder: Its working folder.
            before: Called in the process first, to limit it.
            environment: What to add to the environment.
        """
        self._started = time.monotonic()
        # Not a file, which would count as one of the command's files.
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self._said = b""
        # A signal that comes before the child can handle it must not unwind this process's code there.
        waiting = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
        self.process = os.fork()
        if self.process:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)
            os.close(theirs)
            return
        status = 1
        try:
            os.close(self._pipe)
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (theirs, 1), (theirs, 2)):
                os.dup2(source, target)
            os.chdir(folder)
            os.environ.update(environment or {})
            for number in waiting:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            sys.argv = ["hwr", *map(str, arguments)]
            before()
            status = _run(waiting)
        finally:
            os._exit(status)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        if not self.process:
            return True
        self._drain()
        done, status = os.waitpid(self.process, os.WNOHANG)
        if done:
            self._drain()
            self._status, self.process = os.waitstatus_to_exitcode(status), 0
            os.close(self._pipe)
        return bool(done)

    def _drain(self) -> None:
        """Take what it has printed, so that the pipe does not fill."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                self._said += part

    def send(self, number: int) -> None:
        """Send it a signal; with SIGKILL, to its workers too."""
        if self.process:  # 0 would be this process and its group
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(self.process, number)

    def wait(self, seconds: float = LONGEST) -> Ended:
        """Wait for its end. After `seconds` it is killed, with the status -9."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
            time.sleep(0.005)
        return Ended(self._status, self._said.decode("utf-8", "replace"), time.monotonic() - self._started)


def _run(waiting: Sequence[int]) -> int:
    """Run the command line in this process; returns its exit status."""
    from hwr.__main__ import run

    status = 0
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)
        run()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def hwr(*arguments: object, folder: Path, **options: Any) -> Ended:
    """Run a command to its end."""
    return Command(arguments, folder, **options).wait()


def limit(which: int, value: int) -> Callable[[], None]:
    """A function for `Command`'s `before` that sets a resource limit of the process."""

    def before() -> None:
        if which == resource.RLIMIT_FSIZE:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
        if which == resource.RLIMIT_AS:
            base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(which, (base + value, base + value))
        else:
            resource.setrlimit(which, (value, value))

    return before


@contextlib.contextmanager
def full_disk(size: str = "1m") -> Iterator[Path | None]:
    """A small file system of its own, or None if this user may not mount one."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        try:
            yield None if mounted.returncode else Path(folder)
        finally:
            if not mounted.returncode:
                subprocess.run(["umount", folder], check=True)


def world(folder: Path, lines: int = 60) -> Path:
    """A folder with lines (data), a checkpoint (model.safetensors), texts (text.txt) and a config (small.yaml)."""
    synth.write(folder / "data", lines, 6, 1)
    checkpoint.save(folder / "model.safetensors", small_checkpoint())
    (folder / "text.txt").write_text("".join(f"line {i} of many lines\n" for i in range(3000)), encoding="utf-8")
    (folder / "empty.yaml").write_text("{}\n", encoding="utf-8")
    settings = config.load(None, [*TRAINING, f"data.root={folder / 'data'}", f"data.cache={folder / 'cache'}"])
    (folder / "small.yaml").write_text(config.dump(settings), encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder, without those whose content is the time: name -> content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tfevents" not in path.name and path.name != ".lock"
    }


def picture(path: Path, width: int = 60) -> Path:
    """A small line image."""
    Image.fromarray(np.full((20, width), 230, np.uint8)).save(path, "PNG")
    return path
