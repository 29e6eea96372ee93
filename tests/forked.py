"""New Python processes that have PyTorch from the start: each is forked from one that has imported it.

Importing it, and what its optimizers import, takes seconds in every process that a shell starts. In all else these are alike.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from .conftest import REPOSITORY

CONTEXT = multiprocessing.get_context("forkserver")
# Those that are not installed are ignored. torch's optimizers import torch._dynamo when they are made.
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "hwr.engines.torch_trainer", "hwr.training.loop", "hwr.serve.run", "tests.conftest"]
)


def start(out: Path, *command: object, environment: Mapping[str, str] | None = None) -> ForkServerProcess:
    """Start what `python COMMAND…` runs, in the repository's folder; its output and errors go to the file `out`.

    Args:
        command: `-c CODE` or `-m MODULE`, and the program's arguments.
        environment: Variables besides those of this process.
    """
    variables = os.environ | (environment or {})
    process = CONTEXT.Process(target=_run, args=(out, [str(part) for part in command], variables))
    process.start()
    return process


def run(out: Path, *command: object, timeout: float = 300) -> tuple[int, str]:
    """`start`, and wait. Returns the exit status (minus the signal that killed it) and what was written to `out`."""
    return end(start(out, *command), timeout), out.read_text()


def end(process: ForkServerProcess, timeout: float = 300) -> int:
    """Wait for the end of a process. Returns its exit status."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"did not end in {timeout} seconds")
    return process.exitcode


def _run(out: Path, command: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    kind, program, *arguments = command
    sys.argv = [kind, *arguments]
    try:
        if kind == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without them
