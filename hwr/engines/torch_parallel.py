"""Data parallelism over the processes that torch's launcher starts: `torchrun -m hwr …`."""

import atexit
import functools
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hwr import Error
from hwr.engines.base import Group
from hwr.system.processes import rank_and_world_size

# The other processes may wait long while one prepares all lines. They wait in a gloo collective, so only gloo needs the long
# limit. NCCL keeps its own, so that a GPU that hangs is noticed within minutes.
PATIENCE = timedelta(hours=6)


class TorchGroup(Group):
    """See `Group`. Objects and CPU tensors use gloo, the default group; GPU tensors use NCCL."""

    def __init__(self) -> None:
        self.rank, self.size = rank_and_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0)) if self.size > 1 else 0
        if self.size > 1 and not dist.is_initialized():
            try:
                dist.init_process_group("gloo", timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                raise Error(f"torchrun's {self.size} processes could not connect: {error}") from error
            atexit.register(_leave)

    def all_gather(self, value: Any) -> list[Any]:
        out: list[Any] = [value] * self.size
        if self.size > 1:
            with _all_there():
                dist.all_gather_object(out, value)
        return out

    def highest(self, values: list[float]) -> list[float]:
        if self.size == 1:
            return values
        out = torch.tensor(values, dtype=torch.float64)
        with _all_there():
            dist.all_reduce(out, dist.ReduceOp.MAX)
        found: list[float] = out.tolist()
        return found

    def parallel(self, net: nn.Module, device: torch.device, unused: bool) -> nn.Module:
        """Wrap the network so that each backward pass averages its gradients over the processes.

        Args:
            unused: Whether some of its parameters are unused.
        """
        if self.size == 1:
            return net
        # Without device_ids, inputs stay on the device that the engine chose.
        return DistributedDataParallel(net, process_group=_group(device), find_unused_parameters=unused)

    def add(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their sums over the processes, in one collective."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with _all_there():
                dist.all_reduce(flat, group=_group(flat.device))
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one collective."""
        if self.size > 1:
            self.add(tensors)
            torch._foreach_div_(tensors, self.size)


def _group(device: torch.device) -> dist.ProcessGroup | None:
    """The process group for tensors on the device; None is the default group."""
    return _nccl() if device.type == "cuda" else None


@functools.cache
def _nccl() -> dist.ProcessGroup:
    group: dist.ProcessGroup = dist.new_group(backend="nccl")
    return group


@contextmanager
def _all_there() -> Iterator[None]:
    """Turn the failure of a collective into an Error: another process has ended, and reports the cause itself."""
    try:
        yield
    except RuntimeError as error:
        raise Error(f"another process has ended; see its message ({str(error).splitlines()[0]})") from error


def _leave() -> None:
    """Leave the group while the interpreter is still running.

    DistributedDataParallel is in reference cycles and holds the group. If it were collected only at interpreter shutdown,
    gloo's threads could wait for a lock that no longer exists, and abort the process. torchrun would then report a failure
    although the work is done.
    """
    gc.collect()
    dist.destroy_process_group()
