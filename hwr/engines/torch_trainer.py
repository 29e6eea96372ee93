"""Training on PyTorch."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwr import Error, networks
from hwr.config import Config
from hwr.engines import torch_shards
from hwr.engines.base import Weights
from hwr.engines.torch import TorchEngine, ctc_loss
from hwr.engines.torch_optimizer import Optimizer
from hwr.engines.torch_shards import Shards
from hwr.images.batches import Batch
from hwr.networks.shared.torch import Output
from hwr.system import memory

# Weight of a batch in the running centre of each character's features (center loss).
CENTER_RATE = 0.1


class TorchTrainer(TorchEngine):
    """See `hwr.engines.base.Trainer`.

    Initial values and dropout draw from torch's global generators, which are part of `state`.

    Args:
        fresh: Whether to set initial weights; if not, the caller loads weights.
    """

    def __init__(self, config: Config, classes: int, fresh: bool = True) -> None:
        self._begin(config, classes)
        torch.manual_seed(config.train.seed)
        self._net: Any = networks.torch_network(config, classes)
        # `_net` trains; `_reader` is the same network, or the moving average of its weights. Copy it before moving it to a
        # GPU, where an LSTM's weights are one block of memory, which a copy would split.
        self._reader = copy.deepcopy(self._net) if config.train.ema else self._net
        for net in (self._net, self._reader):
            self._place(net)
        self._reader.requires_grad_(not config.train.ema)
        initial, notes = self._net.initial(config.train.seed) if fresh else (None, [])
        self.notes: list[str] = notes
        if initial is not None:
            self.load(initial)
            torch.manual_seed(config.train.seed)
        # All processes start from the same weights, but draw their own dropout.
        if self.group.rank:
            torch.manual_seed(config.train.seed + self.group.rank)
        self._updates = 0
        self._centers: Tensor | None = None
        self._anchors: list[Tensor] = []
        self._alone = self._device.type == "cpu" and self.group.size == 1
        shares = torch_shards.number(config.train, self._alone)
        # Of each share; other random streams than those of the seeds themselves, which are below 2^32.
        self._dropout = [torch.Generator().manual_seed(config.train.seed + (i + 1 << 32)) for i in range(shares)]
        self._optimizer = self._new_optimizer()

    @functools.cached_property
    def _shards(self) -> Shards:
        """Created by the first training step, because it copies the network."""
        return Shards(self._net, self._dropout)

    @functools.cached_property
    def _trainer(self) -> nn.Module:
        """The network, wrapped to average gradients if there are several processes.

        Created by the first training step, because reading does not need it.
        """
        return self.group.parallel(self._net, self._device, self._net.has_unused)

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> Tensor:
        settings = self._config.train
        with self._computing(), memory.errors(f"train.batch_size (now {settings.batch_size}) or image.width"):
            if len(self._dropout) > 1:
                loss = self._shards.backward(batch, self._backward).mean()
                self._optimizer.step(lr, self._updates + 1, self._shards.beside)
                self._shards.beside([lambda: self._updated(lr, loss)])
            else:
                loss = self._backward(self._trainer, batch, center_loss).mean()
                self._optimizer.step(lr, self._updates + 1, _in_turn)
                self._updated(lr, loss)
        return loss

    def _new_optimizer(self) -> Optimizer:
        precision = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return Optimizer(self._net, self._config.train, precision, len(self._dropout))

    def _updated(self, lr: float, loss: Tensor) -> None:
        """What follows the optimizer's step; averages the loss over the processes."""
        self._updates += 1
        self._pull(lr)
        self.group.mean([loss, *(buffer for buffer in self._net.buffers() if buffer.is_floating_point())])
        if self._config.train.ema:
            # Early on, average over all updates so far.
            self._average(min(self._config.train.ema, (1 + self._updates) / (10 + self._updates)))

    def _backward(self, net: nn.Module, batch: Batch, center_loss: float = 0.0) -> Tensor:
        """Compute the gradients of a batch; returns the CTC losses, (views,) nats per line."""
        settings = self._config.train
        weight = settings.loss_weight
        net.train()
        if settings.freeze_norm:
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        (pixels, widths), labels = self._pixels(batch), batch.labels
        if batch.second is not None:
            pixels = torch.cat([pixels, self._pixels(replace(batch, warps=batch.second))[0]])
            widths, labels = widths.repeat(2), np.tile(labels, (2, 1))
        output = self._forward(net, pixels, widths)
        losses = ctc_loss(output.logits, labels)
        total = losses.mean() * weight
        if output.shortcut is not None:
            total = total + self._net.shortcut_weight * weight * ctc_loss(output.shortcut, labels).mean()
        if batch.second is not None:
            total = total + settings.consistency * weight * disagreement(output.logits).mean()
        if center_loss:
            total = total + center_loss * self._center_loss(output, labels)
        net.zero_grad()
        total.backward()
        return losses.detach()

    def rehearse(self, batch: Batch) -> None:
        buffers = [buffer.clone() for buffer in self._net.buffers()]
        devices = [self._device] if self._device.type == "cuda" else []
        remedy = f"train.batch_size (now {self._config.train.batch_size}) or image.width"
        with self._computing(), torch.random.fork_rng(devices), memory.errors(remedy):
            self._backward(self._net, batch, 0.0)
        self._net.zero_grad()
        with torch.no_grad():
            for buffer, before in zip(self._net.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def weights(self) -> Weights:
        return self._arrays(self._reader)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        networks.check(weights, self._shapes)
        for net in (self._net, self._reader):
            self._fill(net, weights)
        if self._config.train.anchor:
            self._anchors = [parameter.detach().clone() for parameter in self._net.parameters()]

    def state(self) -> Weights:
        out = {"updates": np.array(self._updates)}
        generators = {"cpu": torch.get_rng_state().numpy()}
        if self._device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self._device).numpy()
        for rank, each in enumerate(self.group.all_gather(generators)):
            out |= {f"rng.{rank}.{name}": values for name, values in each.items()}
        if len(self._dropout) > 1:
            out |= {f"dropout.{i}": generator.get_state().numpy() for i, generator in enumerate(self._dropout)}
        for name, parameter in self._net.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                out[f"adam.{self._net.saved_name(name)}.{key}"] = _array(value)
        if self._reader is not self._net:
            out |= {f"trained.{name}": array for name, array in self._arrays(self._net).items()}
        if self._centers is not None:
            out["centers"] = _array(self._centers)
        for (name, _), anchor in zip(self._net.named_parameters(), self._anchors, strict=False):
            out[f"anchor.{self._net.saved_name(name)}"] = _array(anchor)
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        processes = sum(name.startswith("rng.") and name.endswith(".cpu") for name in state)
        if processes != self.group.size:
            raise Error(
                f"the run was trained by {processes} processes, not {self.group.size}; resume with the same number"
            )
        # A run keeps its shares of a batch, whatever `auto` would choose on this machine.
        shares = max(1, sum(name.startswith("dropout.") for name in state))
        torch_shards.check(shares, self._alone)
        self._dropout = [torch.Generator() for _ in range(shares)]
        if shares > 1:
            for i, generator in enumerate(self._dropout):
                generator.set_state(torch.from_numpy(np.array(state[f"dropout.{i}"])))
        self._updates = int(state["updates"])
        self._optimizer = self._new_optimizer()
        for name, parameter in self._net.named_parameters():
            prefix = f"adam.{self._net.saved_name(name)}."
            moments = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if moments:
                self._optimizer.state[parameter] = {
                    # The moments need the memory layout of their parameter.
                    key: torch.tensor(value, device=parameter.device)
                    if key == "step"
                    else torch.empty_like(parameter).copy_(torch.tensor(value))
                    for key, value in moments.items()
                }
        if self._reader is not self._net:
            prefix = "trained."
            self._fill(self._net, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._centers = torch.tensor(state["centers"], device=self._device) if "centers" in state else None
        if self._config.train.anchor:
            arrays = [np.array(state[f"anchor.{self._net.saved_name(n)}"]) for n, _ in self._net.named_parameters()]
            self._anchors = [
                torch.empty_like(parameter).copy_(torch.from_numpy(array))
                for parameter, array in zip(self._net.parameters(), arrays, strict=True)
            ]
        own = f"rng.{self.group.rank}"
        torch.set_rng_state(torch.from_numpy(np.array(state[f"{own}.cpu"])))
        if self._device.type == "cuda" and f"{own}.cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(np.array(state[f"{own}.cuda"])), self._device)

    def _pull(self, lr: float) -> None:
        """Move the weights towards those that were loaded: L2-SP (Li, Grandvalet and Davoine, "Explicit inductive bias for
        transfer learning with convolutional networks", ICML 2018), decoupled from the gradients as AdamW's weight decay is.
        """
        if self._anchors:
            with torch.no_grad():
                rate = min(1.0, lr * self._config.train.anchor)
                torch._foreach_lerp_(list(self._net.parameters()), self._anchors, rate)

    def _average(self, decay: float) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(_averaged(self._reader), _averaged(self._net), 1 - decay)

    def _center_loss(self, output: Output, labels: np.ndarray) -> Tensor:
        """Mean squared distance of the features at each character from the running centre of its class.

        After Corbillé and Barney Smith (IJCNN 2025): features pass a sigmoid; only lines read without error count; blank
        and space (class 0 of the original alphabet and of those that extend it) are excluded.
        """
        assert output.features is not None
        best = output.logits.detach().argmax(2)  # (N, T)
        frames = best.shape[1] // output.features.shape[1]
        features = torch.sigmoid(output.features).repeat_interleave(frames, 1)  # (N, T, features)
        blank = output.logits.shape[2] - 1
        right = []
        for path, label in zip(best.cpu().numpy(), labels, strict=True):
            runs = path[np.flatnonzero(np.diff(path, prepend=-1))]
            right.append(np.array_equal(runs[runs != blank], label[label >= 0]))
        chosen = torch.tensor(right, device=best.device)[:, None] & (best != blank) & (best != 0)
        classes, found = best[chosen], features[chosen]
        if self._centers is None:
            self._centers = torch.full((blank, found.shape[1]), 0.5, device=best.device)
        with torch.no_grad():
            number = torch.bincount(classes, minlength=blank).float()[:, None]
            total = torch.zeros_like(self._centers).index_add_(0, classes, found)
            self.group.add([number, total])
        # The mean over all processes, whose gradients will be averaged; 0 if no process has features.
        share = self.group.size / (number.sum() * found.shape[1]).clamp(min=1)
        loss = F.mse_loss(found, self._centers[classes], reduction="sum") * share
        self._centers += CENTER_RATE * (total / number.clamp(min=1) - self._centers) * (number > 0)
        return loss

    def _arrays(self, net: Any) -> Weights:
        state = net.state_dict()
        return {saved: _array(tensor) for name, tensor in state.items() if (saved := net.saved_name(name))}


def disagreement(logits: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between two views of each line, summed over the time steps.

    The consistency of CR-CTC (Yao et al., "CR-CTC: Consistency regularization on CTC for improved speech recognition",
    ICLR 2025): each view is a fixed target for the other. Time steps right of a line are blank in both and add nothing.

    Args:
        logits: (2 * N, T, C); line i and line N + i are two views of one line.

    Returns:
        (N,) nats per line.
    """
    first, second = logits.log_softmax(2).chunk(2)

    def divergence(predicted: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(predicted, target.detach(), reduction="none", log_target=True).sum((1, 2))

    return (divergence(first, second) + divergence(second, first)) / 2


def _in_turn(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _array(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy(), order="C")


def _averaged(net: nn.Module) -> list[Tensor]:
    """The averaged tensors: parameters and batch norm's running statistics."""
    return [*net.parameters(), *(buffer for buffer in net.buffers() if buffer.is_floating_point())]
