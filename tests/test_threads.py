"""How threads wait for each other."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hwr.system import atomic, threads

from .conftest import REPOSITORY

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    for library in ("torch", "mxnet"):
        monkeypatch.delitem(sys.modules, library, raising=False)


def test_openmp_soon_sleeps_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.wait_briefly()
    assert os.environ.pop("GOMP_SPINCOUNT") == str(threads.SPINS)
    for name in NAMES:
        monkeypatch.setenv(name, "7")
        threads.wait_briefly()
        assert [os.environ.get(other) for other in NAMES if other != name] == [None] * 3
        assert os.environ[name] == "7"
        monkeypatch.delenv(name)


@pytest.mark.parametrize("library", ["torch", "mxnet"])
def test_the_environment_is_not_changed_after_the_library_has_read_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, pytest)
    threads.wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_onnxruntime_sleeps_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    key = "session.intra_op.allow_spinning"
    options = threads.onnx_options(3)
    assert (options.intra_op_num_threads, options.get_session_config_entry(key)) == (3, "0")
    assert threads.onnx_options().intra_op_num_threads == threads.usable_cores()
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with pytest.raises(RuntimeError, match=key):
        threads.onnx_options().get_session_config_entry(key)


def test_the_engine_sets_it_before_torch_reads_it() -> None:
    """In a process, since OpenMP reads its environment once."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    code = (
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT')); sys.exit()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import hwr.engines.torch\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert out.stdout.strip() == str(threads.SPINS), out.stderr


def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def _running(name: str) -> bool:
    return name in {thread.name for thread in threading.enumerate()}


def test_a_second_team_exists_while_a_thread_is_displaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PAUSE", 0.01)
    waits, calls, times = tmp_path / "schedstat", list[str](), [0, 0]

    def passes(ran: int, waited: int) -> None:
        times[0] += ran
        times[1] += waited
        with atomic.replacing(waits) as temporary:
            temporary.write_text(f"{times[0]} {times[1]} 7\n")

    passes(0, 0)
    watch = threading.Thread(
        target=threads._watch, args=(waits, lambda: calls.append(threading.current_thread().name)), daemon=True
    )
    watch.start()
    for _ in range(10):
        passes(2 * 10**9, 2 * 10**9)  # beside 2 programs
        time.sleep(0.01)
    assert not _running("hwr second team")
    assert calls == []
    for _ in range(2):
        assert _until(lambda: passes(10**9, 4 * 10**9) or _running("hwr second team"))  # type: ignore[func-returns-value]
        assert _until(lambda: passes(10**9, 0) or not _running("hwr second team"))  # type: ignore[func-returns-value]
    assert calls == ["hwr second team"] * 2
    assert _until(lambda: passes(10**9, 4 * 10**9) or _running("hwr second team"))  # type: ignore[func-returns-value]
    waits.unlink()
    watch.join(20)
    assert not watch.is_alive()
    assert _until(lambda: not _running("hwr second team"))


def test_a_training_thread_is_watched_once_and_not_against_the_users_will(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("the kernel does not count how long threads wait")
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    started: list[threading.Thread] = []

    def train(*environment: tuple[str, str]) -> int:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment:
            monkeypatch.setenv(name, value)

        def run() -> None:
            before = set(threading.enumerate())
            for _ in range(2):
                threads.sleep_on_a_busy_machine(lambda: None)
            started.extend(set(threading.enumerate()) - before)

        started.clear()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return len(started)

    ours = ("GOMP_SPINCOUNT", str(threads.SPINS))
    assert train(ours) == 1
    assert train(("GOMP_SPINCOUNT", "5")) == 0
    assert train(ours, ("OMP_WAIT_POLICY", "passive")) == 0
    assert train() == 0
