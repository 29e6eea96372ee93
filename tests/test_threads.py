"""How threads wait for each other."""

import importlib.util
import os
import subprocess
import sys

import pytest

from hwr.system import threads

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
