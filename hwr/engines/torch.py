"""The engine on PyTorch: any current CPU or GPU."""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwr import Error, networks
from hwr.config import Config
from hwr.engines import torch_augment
from hwr.engines.torch_augment import upload
from hwr.engines.torch_parallel import TorchGroup
from hwr.images.batches import Batch
from hwr.networks.shared.torch import Output
from hwr.system import memory


class TorchEngine:
    """See `hwr.engines.base.Engine`: reads with given weights."""

    name = "torch"

    def __init__(self, config: Config, classes: int, weights: Mapping[str, np.ndarray]) -> None:
        self._begin(config, classes)
        # The meta device skips the initial values, which would draw from the caller's random generator.
        with torch.device("meta"):
            net = networks.torch_network(config, classes)
        self._reader: Any = net.to_empty(device="cpu")
        for buffer in self._reader.buffers():
            buffer.zero_()
        networks.check(weights, self._shapes)
        self._fill(self._reader, weights)
        self._place(self._reader)

    def _begin(self, config: Config, classes: int) -> None:
        """Set up everything except the network."""
        self.group = TorchGroup()
        self._device = _device(config.engine.device, self.group)
        self.device = str(self._device)
        if self._device.type == "cuda":
            self.device += f" ({torch.cuda.get_device_name(self._device)})"
        _prepare_for_forks()
        if config.engine.threads:
            if _forked and config.engine.threads > 1:
                raise Error(
                    "engine.threads: must be 1 in a process that was forked after PyTorch has computed; use spawn"
                )
            torch.set_num_threads(config.engine.threads)
        self._config = config
        bf16 = (
            _multiplies_bf16(self._device) if config.engine.precision == "auto" else config.engine.precision == "bf16"
        )
        self.precision = "bf16" if bf16 else "fp32"
        self._shapes = networks.shapes(config, classes)
        self._multiple = networks.geometry(config).multiple

    def logits(self, batch: Batch) -> np.ndarray:
        self._reader.eval()
        with (
            self._computing(),
            torch.inference_mode(),
            memory.errors(f"evaluate.batch_size (now {len(batch.images)}) or image.width"),
        ):
            out: np.ndarray = self._forward(self._reader, *self._pixels(batch)).logits.cpu().numpy()
        return out

    @property
    def side_by_side(self) -> int:
        return torch.get_num_threads() if self._device.type == "cpu" else 1

    def limit_threads(self, number: int) -> None:
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)  # of this thread, and of those that begin later

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            out: np.ndarray = ctc_loss(torch.from_numpy(logits), labels).numpy()
        return out

    def network(self) -> Any:
        """The network for reading."""
        return self._reader

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise pixels in 0..1 for the network."""
        out: Tensor = self._reader.normalise(images)
        return out

    def _place(self, net: nn.Module) -> None:
        # Channels-last convolutions are faster on a CPU: 7 to 19 % in reading, 3 to 10 % in training.
        net.to(self._device)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Set the CUDA state that the engine needs, the current device and cuDNN's TF32 flag, and restore it afterwards.

        In fp32 cuDNN must not round to TF32's 10 bits, its default. In bf16 only the LSTMs stay in fp32; for them TF32 is
        faster and still more precise than bf16.
        """
        if self._device.type != "cuda":
            yield
            return
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = self.precision == "bf16"
        try:
            with torch.cuda.device(self._device):
                yield
        finally:
            torch.backends.cudnn.allow_tf32 = before

    def _forward(self, net: nn.Module, pixels: Tensor, widths: Tensor) -> Output:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output: Output = net(pixels, widths)
        # CTC and everything after it is computed in fp32.
        shortcut, features = (None if part is None else part.float() for part in output[1:])
        return Output(output.logits.float(), shortcut, features)

    def _pixels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) float32 pixels on the device, augmented if the batch has warps; and (N,) line widths on the CPU."""
        images = upload(batch.images, self._device).float() / 255
        images, widths = images[:, None], batch.widths  # (N, 1, H, W)
        if batch.warps is not None:
            widths, step = batch.warps.widths, self._multiple
            images = torch_augment.apply(images, batch.warps, -(-int(widths.max()) // step) * step)
        return self.normalise(images), torch.from_numpy(widths).long()

    def _fill(self, net: Any, weights: Mapping[str, np.ndarray]) -> None:
        state = net.state_dict()
        for name in state:
            if saved := net.saved_name(name):
                state[name] = torch.from_numpy(np.array(weights[saved], np.float32))
        net.load_state_dict(state)


def ctc_loss(logits: Tensor, labels: np.ndarray) -> Tensor:
    """CTC loss, (N,) nats per line, the blank last.

    Args:
        logits: (N, T, C) float32.
        labels: (N, L) int32, padded with -1.
    """
    log_p = logits.log_softmax(2).transpose(0, 1)  # (T, N, C)
    targets = upload(labels, logits.device).long().clamp(min=0)
    # Lengths on the CPU, where torch needs them: copying them from a GPU would wait.
    lengths = torch.from_numpy((labels >= 0).sum(1))
    steps = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.long)
    # Torch's own CTC, on a GPU too, because cuDNN's needs the blank first. Its GPU gradient is not deterministic.
    return F.ctc_loss(log_p, targets, steps, lengths, blank=logits.shape[2] - 1, reduction="none")


_forked = False  # from a process that had an engine


@functools.cache
def _prepare_for_forks() -> None:
    """Let processes that are forked from this one compute with one thread: more would wait for threads that are only here."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


def _device(name: str, group: TorchGroup) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{group.local_rank}"  # the first GPU, or one per process
    elif name.startswith("cuda") and group.size > 1:
        raise Error(f"engine.device: {group.size} processes can't share {name}; set cuda, so that each uses its own")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Error(f"engine.device: {name!r} is not a device; use auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise Error(f"engine.device: {name!r} is not supported; use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise Error(
            f"engine.device: {name} does not exist; torch {torch.__version__} sees {torch.cuda.device_count()} GPUs"
        )
    return device


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively; other devices emulate it, slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Older versions of torch lack these functions.
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
