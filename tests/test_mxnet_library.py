"""Finding MXNet and its CUDA libraries: what is said where that fails, and that the wheels hold what they should.

Needs neither mxnet nor a GPU, but for the last test, which needs the wheels of hwr[mxnet-cu112].
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwr import Error
from hwr.engines import mxnet_library


def test_unsupported_versions_are_refused() -> None:
    assert mxnet_library.obstacle((3, 11), "1.23.5", True) == ""
    assert mxnet_library.obstacle((3, 10), "1.22.0", True) == ""
    for installed in (True, False):
        python = mxnet_library.obstacle((3, 12), "2.1.0", installed)
        assert "needs Python 3.11 or older, this is 3.12" in python
        assert "--engine torch" in python
    assert "pip install -e '.[mxnet]'" in mxnet_library.obstacle((3, 11), "1.23.5", False)
    for numpy in ("1.24.0", "1.26.4", "2.0.0rc1"):
        message = mxnet_library.obstacle((3, 11), numpy, True)
        assert f"older than 1.24, this is {numpy}" in message
        assert "pip install numpy==1.23.5" in message


def test_mxnet_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Error, match=r"not installed: pip install -e '\.\[mxnet\]'|needs Python 3\.11 or older"):
        mxnet_library.load()


def test_a_missing_driver_and_a_missing_library() -> None:
    linker = "libcuda.so.1: cannot open shared object file: No such file or directory"
    assert "needs an NVIDIA driver, but" in mxnet_library.unloadable(linker)
    other = mxnet_library.unloadable("libcudnn.so.8: cannot open shared object file: No such file or directory")
    assert "libcudnn.so.8" in other
    assert ".[mxnet-cu112]" in other


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pretend that mxnet-cu112 is installed and that the driver has these GPUs: V100, T4, A10, L4, H100, B200."""
    found = [(7, 0), (7, 5), (8, 6), (8, 9), (9, 0), (10, 0)]
    monkeypatch.setattr(mxnet_library, "for_cuda", lambda: True)
    monkeypatch.setattr(mxnet_library, "capabilities", lambda: found)
    return found


def test_which_gpus_a_device_is(cards: list[tuple[int, int]]) -> None:
    wanted = {"cpu": [], "auto": [0], "cuda": [0], "cuda:0": [0], "cuda:3": [3], "cuda:0,cuda:2": [0, 2]}
    assert {name: mxnet_library.gpus(name) for name in wanted} == wanted
    cards.clear()
    assert mxnet_library.gpus("auto") == []


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,cpu", "cuda:1,cuda:1", "cuda,", "", "auto,cpu"]
)
def test_an_invalid_device_is_refused(cards: list[tuple[int, int]], name: str) -> None:
    with pytest.raises(Error, match=r"engine\.device: .* is not a device; use auto, cpu, cuda, cuda:1"):
        mxnet_library.gpus(name)


def test_missing_and_too_new_gpus_are_refused(cards: list[tuple[int, int]]) -> None:
    with pytest.raises(Error, match=r"no cuda:6; the driver reports 6 GPUs"):
        mxnet_library.gpus("cuda:6")
    for name, capability in (("cuda:4", "9.0"), ("cuda:0,cuda:5", "10.0")):
        with pytest.raises(
            Error, match=rf"has compute capability {re.escape(capability)}, but MXNet.*use --engine torch"
        ):
            mxnet_library.gpus(name)
    cards[0] = (9, 0)
    with pytest.raises(Error, match=r"engine\.device=cpu"):  # never silently on the CPU
        mxnet_library.gpus("auto")


def test_a_gpu_with_the_mxnet_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mxnet_library, "for_cuda", lambda: False)
    assert mxnet_library.gpus("auto") == mxnet_library.gpus("cpu") == []
    with pytest.raises(Error, match=r"needs a GPU version of mxnet; install '\.\[mxnet-cu112\]'"):
        mxnet_library.gpus("cuda")


@pytest.mark.skipif(not mxnet_library.for_cuda(), reason="the wheels of hwr[mxnet-cu112] (3.7 GB) are not installed")
def test_the_wheels_hold_every_cuda_library_but_the_drivers() -> None:
    """Libraries of libmxnet.so that the linker does not find must be found by name after `preload`."""
    spec = importlib.util.find_spec("mxnet")
    assert spec is not None
    assert spec.origin is not None
    libmxnet = Path(spec.origin).parent / "libmxnet.so"
    listed = subprocess.run(["ldd", str(libmxnet)], capture_output=True, text=True, check=True).stdout
    missing = set(re.findall(r"^\s*(\S+) => not found", listed, re.MULTILINE))
    code = (
        "import ctypes, sys\nfrom hwr.engines import mxnet_library\nmxnet_library.preload()\nleft = []\n"
        "for name in sys.argv[1:]:\n  try: ctypes.CDLL(name)\n  except OSError: left.append(name)\nprint(*left)"
    )
    done = subprocess.run([sys.executable, "-c", code, *missing], capture_output=True, text=True, check=True)
    assert len(missing) >= 8
    assert done.stdout.split() == ["libcuda.so.1"] * ("libcuda.so.1" in missing)
