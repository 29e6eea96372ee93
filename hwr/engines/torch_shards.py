"""A batch divided among the cores of a CPU: each computes the gradients of its share, and waits only at the end of an update.

Threads that share every small step of a network wait for each other hundreds of times per update, which costs time on an idle
machine, and much more beside other programs. docs/performance.md has the figures.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor, nn

from hwr import Error
from hwr.config import Train
from hwr.images.batches import Batch
from hwr.networks.shared.torch import Dropout

# Lines per share with `train.shards: auto`. Batch norm needs the statistics of a few.
LEAST = 4


def number(settings: Train, alone: bool) -> int:
    """Shares per batch.

    Args:
        alone: Whether a single process trains on a CPU.

    Raises:
        Error: Shares are asked for where the work is divided otherwise.
    """
    if settings.shards == "auto":
        usable = alone and not settings.center_loss
        return max(1, min(torch.get_num_threads(), settings.batch_size // LEAST)) if usable else 1
    check(settings.shards, alone)
    return settings.shards


def check(shares: int, alone: bool) -> None:
    """Check that a batch can be divided.

    Raises:
        Error: The work is divided otherwise.
    """
    if shares > 1 and not alone:
        raise Error(
            f"train.shards: {shares} divides each batch among the cores of a CPU, for one process; on a GPU, or with several "
            "processes, set it to 1 and start a new run"
        )


class Shards:
    """Twins of a network, one per share of a batch.

    They have its parameters, but gradients, batch norm's running statistics and a random generator for dropout of their own.
    So the result depends on the number of shares, but not on which is done first. While there are no more cores than shares, it
    does not depend on the number of cores either; with more, several share a sum, which may change its last bits.

    Args:
        net: The network; it is the first twin.
        generators: One for the dropout of each twin.
    """

    def __init__(self, net: Any, generators: Sequence[torch.Generator]) -> None:
        self._nets = [net, *(_twin(net) for _ in generators[1:])]
        for twin, generator in zip(self._nets, generators, strict=True):
            for module in twin.modules():
                if isinstance(module, Dropout):
                    module.generator = generator
        cores = torch.get_num_threads()
        workers = min(len(generators), cores)
        begun = threading.Barrier(workers + 1)

        def begin() -> None:
            torch.get_num_threads()  # a thread's first call of torch sets its number to that of the latest call anywhere
            torch.set_num_threads(cores // workers)
            begun.wait()

        self._pool = ThreadPoolExecutor(workers, "hwr share", begin)
        for _ in range(workers):
            self._pool.submit(int)
        begun.wait()
        torch.set_num_threads(cores)  # for later threads

    def backward(self, batch: Batch, backward: Callable[[Any, Batch], Tensor]) -> Tensor:
        """Compute the first network's gradients, the mean over all lines, and average the running statistics.

        Args:
            batch: At least one line per share.
            backward: Computes the gradients of a network for its share of the lines; returns losses.

        Returns:
            The losses of all shares.
        """
        shares = [batch.share(i, len(self._nets)) for i in range(len(self._nets))]
        futures = [self._pool.submit(backward, net, share) for net, share in zip(self._nets, shares, strict=True)]
        wait(futures)
        losses = [future.result() for future in futures]
        self.beside([lambda: self._gather([len(share.index) / len(batch.index) for share in shares])])
        return torch.cat(losses)

    def beside(self, functions: Sequence[Callable[[], None]]) -> None:
        """Call functions beside each other, each in a thread that need not wait for others."""
        futures = [self._pool.submit(function) for function in functions]
        wait(futures)
        for future in futures:
            future.result()

    @torch.no_grad()
    def _gather(self, parts: Sequence[float]) -> None:
        """Average gradients and running statistics, given each share's part of the lines."""
        _sum(parts, [[p.grad for p in net.parameters() if p.grad is not None] for net in self._nets])
        statistics = [_statistics(net) for net in self._nets]
        _sum(parts, statistics)
        for others in statistics[1:]:
            for other, mean in zip(others, statistics[0], strict=True):
                other.copy_(mean)


def _sum(factors: Sequence[float], tensors: Sequence[list[Any]]) -> None:
    """Replace the first list's tensors by the weighted sums over all lists."""
    if not tensors[0]:
        return
    torch._foreach_mul_(tensors[0], factors[0])
    for factor, others in zip(factors[1:], tensors[1:], strict=True):
        torch._foreach_add_(tensors[0], others, alpha=factor)


def _statistics(net: nn.Module) -> list[Tensor]:
    """The running statistics of batch norm that training changes."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    return [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]


def _twin(net: nn.Module) -> nn.Module:
    twin = copy.deepcopy(net)
    for own, shared in zip(twin.parameters(), net.parameters(), strict=True):
        own.data = shared.data
    return twin
