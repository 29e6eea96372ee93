"""Import Apache MXNet 1.9.1, or explain in one sentence why it can't be imported and what to do.

1.9.1 is MXNet's last release. Its wheel needs NumPy before 1.24 (it uses `np.bool`), which supports Python up to 3.11. The
`mxnet-cu112` wheel is linked against CUDA 11, cuDNN 8 and NCCL 2 but can't find them; the nvidia-*-cu11 wheels contain all
but libcuda.so.1, which is part of the driver.
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

# Folders in site-packages/nvidia, and the names that libmxnet.so asks for, dependencies first.
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
# The wheel contains machine code for compute capabilities 5.0, 6.0, 7.0, 8.0 and 8.6, which also runs on later minor versions,
# but no PTX from which a driver could compile code for other GPUs.
MAJORS = range(5, 9)


def load() -> Any:
    """Import the module `mxnet`.

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
    """Why these versions rule out importing mxnet; "" if they don't."""
    if python > (3, 11):
        return (
            f"engine mxnet needs Python 3.11 or older, this is {python[0]}.{python[1]}: create an environment with "
            "python3.11, or use --engine torch"
        )
    if not installed:
        return "engine mxnet: mxnet is not installed: pip install -e '.[mxnet]' (CPU) or -e '.[mxnet-cu112]' (GPU)"
    if tuple(int(part) for part in numpy.split(".")[:2]) >= (1, 24):
        return f"engine mxnet needs numpy older than 1.24, this is {numpy}: pip install numpy==1.23.5"
    return ""


def unloadable(error: str) -> str:
    """The message for an error of the dynamic linker."""
    if "libcuda.so" in error:
        return (
            "engine mxnet: mxnet-cu112 needs an NVIDIA driver, but libcuda.so.1 is missing: install the driver, or use "
            "'.[mxnet]' in a new environment to run on the CPU"
        )
    return f"engine mxnet: its library can't be loaded ({error}): reinstall it with pip install -e '.[mxnet]' or -e '.[mxnet-cu112]'"


def for_cuda() -> bool:
    """Whether the installed mxnet is the GPU version."""
    try:
        metadata.version("mxnet-cu112")
    except metadata.PackageNotFoundError:
        return False
    return True


def preload() -> None:
    """Load the CUDA libraries from the nvidia-*-cu11 wheels, so that libmxnet.so finds them by name.

    A library that no wheel contains is left to the system's search path.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for folder, name in LIBRARIES:
            path = Path(root) / folder / "lib" / name
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def capabilities() -> list[tuple[int, int]]:
    """The compute capability (major, minor) of each visible GPU, in CUDA's order.

    This asks the driver, because nvidia-smi ignores CUDA_VISIBLE_DEVICES.
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
    """The numbers of the GPUs that `engine.device` names; empty for the CPU.

    Args:
        device: `auto` (the first GPU if one is available and mxnet-cu112 is installed, else the CPU), `cpu`, `cuda`,
            `cuda:1`, or several as `cuda:0,cuda:1`.

    Raises:
        Error: The name is invalid, the GPU does not exist, or MXNet does not support it.
    """
    if device == "cpu" or (device == "auto" and not for_cuda()):
        return []
    wanted = [int(number or 0) for number in re.findall(r"cuda:?(\d*)", device)]
    named = re.fullmatch(r"cuda(:\d+)?(,cuda(:\d+)?)*", device, re.ASCII) and len(set(wanted)) == len(wanted)
    if device != "auto" and not named:
        raise Error(f"engine.device: {device!r} is not a device; use auto, cpu, cuda, cuda:1 or cuda:0,cuda:1")
    if not for_cuda():
        raise Error(
            f"engine.device: {device} needs a GPU version of mxnet; install '.[mxnet-cu112]' in a new "
            "environment, or set engine.device=cpu"
        )
    there = capabilities()
    if device == "auto":
        wanted = [0] if there else []
    for number in wanted:
        if number >= len(there):
            raise Error(f"engine.device: no cuda:{number}; the driver reports {len(there)} GPUs")
        if there[number][0] not in MAJORS:
            major, minor = there[number]
            raise Error(
                f"engine.device: cuda:{number} has compute capability {major}.{minor}, but MXNet, whose development has "
                f"ended, supports 5.0 to 8.9 (Maxwell to Ada); use --engine torch, or engine.device=cpu"
            )
    return wanted
