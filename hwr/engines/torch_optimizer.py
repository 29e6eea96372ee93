"""How gradients change the weights: AdamW, with Muon for matrices if asked for."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hwr.config import Train
from hwr.engines.torch_muon import Muon

# Runs functions, in any order or side by side.
Run = Callable[[Sequence[Callable[[], None]]], None]


class Optimizer:
    """AdamW; with `train.optimizer: muon`, Muon for the matrices inside the network.

    Weight decay applies to convolutions, LSTMs and dense layers, not to biases and batch norm.

    Args:
        net: Its gradients are the mean over all lines and processes.
        precision: Of Muon's products.
        parts: The number of parts of Muon's work that may run side by side.

    Attributes:
        state: The moments of each parameter, by their names.
    """

    def __init__(self, net: Any, settings: Train, precision: torch.dtype, parts: int) -> None:
        self._net, self._clip = net, settings.clip
        decay = settings.weight_decay
        matrices = net.matrices() if settings.optimizer == "muon" else {}
        others = [parameter for parameter in net.parameters() if parameter not in matrices]
        groups = [
            {"params": [p for p in others if (p.ndim > 1) == decays], "weight_decay": decays * decay}
            for decays in (True, False)
        ]
        # A fused update is three times as fast on a CPU as separate operations.
        self._adam = torch.optim.AdamW(groups, fused=True)
        self.state: dict[Tensor, Any] = self._adam.state
        self._muon = Muon(matrices, self.state, decay, precision)
        self._parts = self._muon.parts(parts) if matrices else []

    def step(self, lr: float, number: int, run: Run) -> None:
        """Change the weights by their gradients.

        Args:
            number: Of this update, from 1.
        """
        if self._clip is not None:
            run([self._clipped])
        if self._parts:
            run([functools.partial(self._muon.step, lr, part) for part in self._parts])
        for group in self._adam.param_groups:
            group["lr"] = lr
            # MXNet's Adam adds 1e-8 to the root of the second moment before bias correction, torch's after it
            # (mxnet/optimizer/adam.py). This makes them equal.
            group["eps"] = 1e-8 / math.sqrt(1 - 0.999**number)
        run([self._others])

    def _clipped(self) -> None:
        nn.utils.clip_grad_norm_(self._net.parameters(), self._clip)  # type: ignore[arg-type]

    def _others(self) -> None:
        self._adam.step()
