"""Several processes that train or read as one, as torch's own launcher starts them: `torchrun -m hwr …`."""

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
from hwr.processes import rank_and_world_size

# One process may prepare all lines while the others wait for it. That wait is a message, and messages go by gloo; NCCL keeps
# its own time limit, so that a GPU that hangs is noticed within minutes.
PATIENCE = timedelta(hours=6)


class TorchGroup(Group):
    """See `Group`. Messages and tensors on the CPU go by gloo, the default group; tensors on GPUs by NCCL."""

    def __init__(self) -> None:
        self.rank, self.size = rank_and_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0)) if self.size > 1 else 0
        if self.size > 1 and not dist.is_initialized():
            try:
                dist.init_process_group("gloo", timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                raise Error(f"the {self.size} processes of torchrun could not meet: {error}") from error
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
        """The network, its gradients the means over the processes after each backward pass.

        Args:
            unused: Whether it has parameters that take no part.
        """
        if self.size == 1:
            return net
        # Without device_ids: its inputs stay where the engine puts them.
        return DistributedDataParallel(net, process_group=_group(device), find_unused_parameters=unused)

    def add(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their sums over the processes, in one message."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with _all_there():
                dist.all_reduce(flat, group=_group(flat.device))
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one message."""
        if self.size > 1:
            self.add(tensors)
            torch._foreach_div_(tensors, self.size)


def _group(device: torch.device) -> dist.ProcessGroup | None:
    """The group that tensors on the device take; None is the default one."""
    return _nccl() if device.type == "cuda" else None


@functools.cache
def _nccl() -> dist.ProcessGroup:
    group: dist.ProcessGroup = dist.new_group(backend="nccl")
    return group


@contextmanager
def _all_there() -> Iterator[None]:
    """Should another process end meanwhile, that is our end too, but it is the other that knows why."""
    try:
        yield
    except RuntimeError as error:
        raise Error(f"another process has ended; it says why ({str(error).splitlines()[0]})") from error


def _leave() -> None:
    """Leave the group while the interpreter still runs.

    DistributedDataParallel is part of reference cycles and holds the group. Were it collected only as the interpreter ends, gloo's
    threads could ask for a lock that is no longer given, which aborts the process: its work is done, but torchrun would report a failure.
    """
    gc.collect()
    dist.destroy_process_group()
