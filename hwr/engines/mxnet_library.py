"""Import Apache MXNet 1.9.1, or say in one sentence why that can't be and what to do.

MXNet ended with 1.9.1. Its wheel needs NumPy before 1.24 (it uses `np.bool`), which exists for Python up to 3.11. That
of `mxnet-cu112` is linked against CUDA 11, cuDNN 8 and NCCL 2 and finds none of them by itself; the nvidia-*-cu11 wheels
hold all but libcuda.so.1, which comes with the driver.
"""

import ctypes
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error

# Folder below site-packages/nvidia, and names that libmxnet.so asks for, each after those that it needs itself.
LIBRARIES = [
    ("cuda_runtime", "libcudart.so.11.0"),
    ("cublas", "libcublasLt.so.11"),
    ("cublas", "libcublas.so.11"),
    ("cufft", "libcufft.so.10"),
    ("curand", "libcurand.so.10"),
    ("cusolver", "libcusolver.so.11"),
    ("cuda_nvrtc", "libnvrtc.so.11.2"),
    ("nvtx", "libnvToolsExt.so.1"),
    ("nccl", "libnccl.so.2"),
    ("cudnn", "libcudnn.so.8"),
]
# The wheel holds machine code for compute capability 5.0, 6.0, 7.0, 8.0 and 8.6, which later minor versions of the same
# majors run too, and no PTX from which a driver could make code for others.
MAJORS = range(5, 9)


def load() -> Any:
    """The module `mxnet`.

    Raises:
        Error: It is not installed or can't run here.
    """
    reason = obstacle(sys.version_info[:2], np.__version__, importlib.util.find_spec("mxnet") is not None)
    if reason:
        raise Error(reason)
    if for_cuda():
        preload()
    try:
        import mxnet
    except OSError as error:
        raise Error(unloadable(str(error))) from error
    return mxnet


def obstacle(python: tuple[int, ...], numpy: str, installed: bool) -> str:
    """Why mxnet can't be imported, as far as versions tell; "" if they allow it."""
    if python > (3, 11):
        return (
            f"engine mxnet needs Python 3.11 or older and this is {python[0]}.{python[1]}: make an environment with "
            "python3.11, or use --engine torch"
        )
    if not installed:
        return "engine mxnet: mxnet is not installed: pip install -e '.[mxnet]' (CPU) or -e '.[mxnet-cu112]' (GPU)"
    if tuple(int(part) for part in numpy.split(".")[:2]) >= (1, 24):
        return f"engine mxnet needs numpy older than 1.24 and this is {numpy}: pip install numpy==1.23.5"
    return ""


def unloadable(error: str) -> str:
    """What to do about an error of the dynamic linker."""
    if "libcuda.so" in error:
        return (
            "engine mxnet: mxnet-cu112 needs an NVIDIA driver, and there is none here (libcuda.so.1 is missing): install "
            "the driver, or '.[mxnet]' in a fresh environment to compute on the CPU"
        )
    return f"engine mxnet: its library can't be loaded ({error}): pip install -e '.[mxnet]' or -e '.[mxnet-cu112]' anew"


def for_cuda() -> bool:
    """Whether the mxnet that is installed is the one for GPUs."""
    try:
        metadata.version("mxnet-cu112")
    except metadata.PackageNotFoundError:
        return False
    return True


def preload() -> None:
    """Load the CUDA libraries out of the nvidia-*-cu11 wheels, so that libmxnet.so finds them by their names.

    One that no wheel holds is left to the system's search path.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for folder, name in LIBRARIES:
            path = Path(root) / folder / "lib" / name
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def capabilities() -> list[tuple[int, int]]:
    """The compute capability (major, minor) of each GPU that this process may see, in CUDA's order.

    The driver is asked and not nvidia-smi, which knows nothing of CUDA_VISIBLE_DEVICES.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = []
    for i in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), i)
        # cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        found.append((major.value, minor.value))
    return found


def gpus(device: str) -> list[int]:
    """The numbers of the GPUs that `engine.device` names; none for the CPU.

    Args:
        device: `auto` (the first GPU if mxnet-cu112 is installed and there is one, else the CPU), `cpu`, `cuda`,
            `cuda:1`, or several as `cuda:0,cuda:1`.

    Raises:
        Error: Not such a name, no such GPU, or one that MXNet can't run on.
    """
    if device == "cpu" or (device == "auto" and not for_cuda()):
        return []
    wanted = [int(number or 0) for number in re.findall(r"cuda:?(\d*)", device)]
    named = re.fullmatch(r"cuda(:\d+)?(,cuda(:\d+)?)*", device, re.ASCII) and len(set(wanted)) == len(wanted)
    if device != "auto" and not named:
        raise Error(f"engine.device: {device!r} is no device; use auto, cpu, cuda, cuda:1 or cuda:0,cuda:1")
    if not for_cuda():
        raise Error(
            f"engine.device: {device} is for GPUs and this mxnet is for the CPU; install '.[mxnet-cu112]' in a fresh "
            "environment, or set engine.device=cpu"
        )
    there = capabilities()
    if device == "auto":
        wanted = [0] if there else []
    for number in wanted:
        if number >= len(there):
            raise Error(f"engine.device: there is no cuda:{number}; the driver knows {len(there)} GPUs")
        if there[number][0] not in MAJORS:
            major, minor = there[number]
            raise Error(
                f"engine.device: cuda:{number} has compute capability {major}.{minor} and MXNet, whose development has "
                f"ended, runs on 5.0 to 8.9 (Maxwell to Ada); use --engine torch, or engine.device=cpu"
            )
    return wanted
