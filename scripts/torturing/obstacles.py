"""Obstacles: full and read-only disks, limits, signals, broken streams, two of everything. A command says what is wrong."""

import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torturing.common import Command, Ended, Result, content, full_disk, hwr, limit, world
from torturing.kills import VICTIMS, Victim

# Each command that writes, and further ones that write elsewhere or nothing.
COMMANDS: dict[str, Victim] = {
    **{name: victim for name, victim in VICTIMS.items() if name != "build the cache"},
    "report": Victim(
        (
            "evaluate",
            "--checkpoint",
            "model.safetensors",
            "--set",
            "data.root=data",
            "data.cache=cache",
            "--report",
            "r.html",
        ),
        "r.html",
        lambda path: path.read_text(encoding="utf-8"),
        lambda one, other: True,
    ),
    "export torchscript": Victim(
        ("export", "model.safetensors", "--format", "torchscript", "--out", "out.pt"),
        "out.pt",
        lambda path: path.read_bytes(),
        lambda one, other: True,
    ),
    "summary": Victim(("data", "summary", "data", "--picture", "s.png"), "s.png", lambda path: None, lambda a, b: True),
    "info": Victim(("info", "model.safetensors"), "nothing", lambda path: None, lambda a, b: True),
}


def meet(say: Callable[[str], None], number: int, times: int = 3) -> list[Result]:
    """Run every command against every obstacle.

    Args:
        number: The random seed.
        times: How many random moments or limits per obstacle.
    """
    rng, results = random.Random(number), []
    with tempfile.TemporaryDirectory(prefix="torture") as name:
        made = world(Path(name, "world"))
        hwr("data", "convert", "data", "pages", "--to", "page", folder=made)
        for obstacle in (_full_disks, _size_limits, _read_only, _open_files, _memory, _signals, _streams, _two_at_once):
            result = Result(str(obstacle.__doc__).rstrip("."))
            for chosen, victim in COMMANDS.items():
                obstacle(made, chosen, victim, result, rng, times)
            results.append(result)
            say(str(result))
    return results


@contextmanager
def _copy(made: Path, under: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="torture", dir=under) as name:
        here = Path(name, "w")
        shutil.copytree(made, here)
        yield here


def _judge(result: Result, name: str, ended: Ended, victim: Victim, here: Path, *allowed: int) -> None:
    """A command must end as it should, without a traceback, and leave all of its output or none."""
    fault = ""
    if ended.status not in allowed:
        fault = f"status {ended.status}: {ended.said[-300:]}"
    elif ended.traceback:
        fault = f"a traceback: {ended.said[-300:]}"
    elif ended.status == 2 and "hwr: " not in ended.said:
        fault = f"no message: {ended.said[-300:]}"
    else:
        try:
            if (here / victim.out).exists():
                victim.readable(here / victim.out)
        except Exception as error:
            fault = f"left something that can't be read: {error}"
    result.check(not fault, f"{name}: {fault}")


def _full_disks(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """A full disk."""
    for _ in range(times):
        with full_disk("6m") as disk:
            if disk is None:
                result.about = "skipped: this user may not mount a file system"
                return
            with _copy(made, disk) as here:
                free = shutil.disk_usage(disk).free
                left = rng.choice([0, 4096, rng.randrange(60_000)])
                (disk / "filler").write_bytes(bytes(max(0, free - left)))
                _judge(result, f"{name}, {left} bytes left", hwr(*victim.start, folder=here), victim, here, 0, 1, 2)


def _size_limits(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """A limit for the size of files."""
    for _ in range(times):
        with _copy(made) as here:
            most = rng.choice([0, rng.randrange(1000), rng.randrange(60_000)])
            ended = hwr(*victim.start, folder=here, before=limit(resource.RLIMIT_FSIZE, most))
            _judge(result, f"{name}, {most} bytes", ended, victim, here, 0, 1, 2)


def _read_only(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """A read-only file system."""
    with full_disk("6m") as disk:
        if disk is None:
            result.about = "skipped: this user may not mount a file system"
            return
        with _copy(made, disk) as here:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            ended = hwr(*victim.start, folder=here)
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            _judge(result, name, ended, victim, here, *((0,) if name == "info" else (1, 2)))


def _open_files(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """Few open files."""
    for _ in range(times):
        with _copy(made) as here:
            most = rng.randint(8, 40)  # Python itself needs a few
            ended = hwr(*victim.start, folder=here, before=limit(resource.RLIMIT_NOFILE, most))
            _judge(result, f"{name}, {most} files", ended, victim, here, 0, 1, 2)


def _memory(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """Little memory."""
    for _ in range(times):
        with _copy(made) as here:
            most = rng.choice([1, 8, 32, 100]) << 20
            ended = hwr(*victim.start, folder=here, before=limit(resource.RLIMIT_AS, most))
            _judge(result, f"{name}, {most >> 20} MB", ended, victim, here, 0, 1, 2)


def _signals(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """Ctrl-C, SIGTERM or SIGHUP at a random moment."""
    with _copy(made) as here:
        seconds = hwr(*victim.start, folder=here).seconds
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        for _ in range(times):
            with _copy(made) as here:
                before = set(here.iterdir())
                command = Command(victim.start, here)
                end = time.monotonic() + rng.uniform(0.02, seconds)
                while time.monotonic() < end and not command.ended():
                    time.sleep(0.002)
                command.send(number)
                # A signal in the first milliseconds comes before Python can handle it.
                ended = command.wait()
                _judge(result, f"{name}, {number.name}", ended, victim, here, 0, status, 130, -number)
                new = {path.name for path in set(here.iterdir()) - before} - {victim.out, "cache", "r.html"}
                # What `hwr predict` has written is kept for the next run.
                left = {name for name in new if not name.startswith(f".{victim.out}.part")}
                result.check(not left, f"{name}, {number.name}: left {', '.join(left)}")


def _streams(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """Closed and full streams."""
    import os

    def closed(*descriptors: int) -> Callable[[], None]:
        def before() -> None:
            import sys

            for descriptor in descriptors:
                os.close(descriptor)
                setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)

        return before

    def full(descriptor: int) -> Callable[[], None]:
        def before() -> None:
            os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)

        return before

    for what, before in (
        *(("closed stdin", closed(0)), ("closed stderr", closed(2)), ("all closed", closed(0, 1, 2))),
        *(("full stderr", full(2)), ("full stdout", full(1))),
    ):
        with _copy(made) as here:
            ended = hwr(*victim.start, folder=here, before=before)
            _judge(result, f"{name}, {what}", ended, victim, here, *((0,) if what != "full stdout" else (0, 2)))


def _two_at_once(made: Path, name: str, victim: Victim, result: Result, rng: random.Random, times: int) -> None:
    """Two of the same command in one folder."""
    with _copy(made) as whole, _copy(made) as here:
        hwr(*victim.start, folder=whole)
        pair = [Command(victim.start, here) for _ in range(2)]
        for ended in [command.wait() for command in pair]:
            _judge(result, name, ended, victim, here, 0, 2)
        out = victim.out
        same = not (whole / out).exists() or victim.same(here / out, whole / out)
        result.check(same, f"{name}: two at once wrote something else than one alone")
        left = [path for path in content(here) if path.endswith(".tmp")]
        result.check(not left, f"{name}: two at once left {left}")
