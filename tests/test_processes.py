"""Processes, signals and locks, on systems with and without them."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwr import Error
from hwr.cli import main
from hwr.config import Config
from hwr.system import processes
from hwr.system.processes import rank_and_world_size
from hwr.training import run_folder
from hwr.training.loop import train

from .conftest import REPOSITORY, TINY

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def test_only_all_of_torchruns_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_and_world_size() == (0, 1)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world_size() == (1, 2)
    for name, value in TORCHRUN.items():
        monkeypatch.delenv(name)
        assert rank_and_world_size() == (0, 1)
        monkeypatch.setenv(name, value)


def test_a_batch_systems_world_size_is_not_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["info", str(REPOSITORY / "models/hwr-latin.safetensors")]
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert CliRunner().invoke(main, arguments).exit_code == 0
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "hwr info runs in one process; start it without torchrun" in refused.stderr


def test_training_works_in_any_thread(tiny: Config, tmp_path: Path) -> None:
    done: list[bool] = []
    out = tmp_path / "run"
    settings = tiny.model_copy(update={"train": tiny.train.model_copy(update={"epochs": 1})})
    thread = threading.Thread(target=lambda: done.append(train(settings, out, say=lambda line: None)))
    thread.start()
    thread.join()
    assert done == [True]


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    with run_folder.locked(tmp_path), pytest.raises(Error, match="another process is training here"):  # noqa: SIM117
        with run_folder.locked(tmp_path):
            pass
    with run_folder.locked(tmp_path):
        pass


# The needed part of Windows' msvcrt, implemented with fcntl.
WINDOWS = """
import fcntl, os, signal, subprocess, sys, types
import torch  # looks for the real msvcrt where there is one
taken = set()
def locking(number, mode, size):
    key = os.fstat(number).st_ino
    if key in taken:
        raise PermissionError(13, "Permission denied")
    taken.add(key)
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
sys.modules["fcntl"] = sys.modules["resource"] = None
del signal.SIGHUP
flush = os.fsync
def fsync(number):
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")
    flush(number)
os.fsync = fsync
from hwr.cli import main
"""


@pytest.mark.once
def test_training_without_modules_that_windows_lacks(drawn: Path, tmp_path: Path) -> None:
    """No fcntl, no SIGHUP, and no flushing of read-only handles."""
    pytest.importorskip("torch")
    sets = [part for text in [*TINY, f"data.root={drawn}"] for part in ("--set", text)]
    arguments = ["train", "--config", "iam_line", *sets, "--out", str(tmp_path / "run")]
    resumed = ["train", "--resume", "--out", str(tmp_path / "run"), "--set", "train.epochs=3"]
    for command in (arguments, resumed):
        code = f"{WINDOWS}main({command!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert "resuming after 2 epochs" in done.stdout
    code = f"""{WINDOWS}
from pathlib import Path
from typing import Any
from hwr import Error
from hwr.training import run_folder
with run_folder.locked(Path({str(tmp_path / "run")!r})):
    try:
        with run_folder.locked(Path({str(tmp_path / "run")!r})):
            print("twice")
    except Error as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "another process is training here" in done.stdout, done.stderr


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_prints_the_traceback(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["info", "nowhere.safetensors"]
    assert "Traceback" not in CliRunner().invoke(main, arguments).stderr
    if how == "variable":
        monkeypatch.setenv("HWR_DEBUG", "1")
    else:
        arguments = ["--debug", *arguments]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("hwr: nowhere.safetensors: no such file\n")
    group = CliRunner().invoke(main, ["--debug", "lm", "build", "--text", "nowhere.txt", "--out", "x.arpa"])
    assert "Traceback (most recent call last)" in group.stderr


def test_a_lock_is_free_again_when_its_file_is_closed(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as one:
        assert processes.lock(one)
        with open(tmp_path / "a", "w") as other:
            assert not processes.lock(other)
    with open(tmp_path / "a", "w") as one:
        assert processes.lock(one)
    assert os.listdir(tmp_path) == ["a"]


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7, 9}, raising=False)
    assert processes.usable_cores() == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert processes.usable_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert processes.usable_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert processes.usable_cores() == os.cpu_count()


def test_a_file_system_without_locks_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(number: int) -> Any:
        def flock(*arguments: Any) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    with open(tmp_path / "lock", "w") as file:
        monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOSYS))
        assert processes.lock(file)
        monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            processes.lock(file)
