"""What the architectures share on PyTorch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Output(NamedTuple):
    """The output of a network.

    Attributes:
        logits: (N, T, C), the blank last.
        shortcut: (N, T, C) logits of the auxiliary head for training; None when reading.
        features: (N, steps, features), the input of the last layer; None when reading.
    """

    logits: Tensor
    shortcut: Tensor | None = None
    features: Tensor | None = None


class Dropout(nn.Dropout):
    """Dropout that draws from a generator of its own, if it has one.

    Attributes:
        generator: None: torch's global generator.
    """

    generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.generator is None or not self.training or not self.p:
            return super().forward(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept.div_(1 - self.p)


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A convolution without bias, then batch norm. For reading they are fused, which saves a tenth of the time on a CPU."""
    if norm.training:
        out: Tensor = norm(conv(x))
        return out
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


def by_cudnn(x: Tensor) -> bool:
    """Whether cuDNN runs LSTMs on this input."""
    return x.is_cuda


def recurrent(lstm: nn.Module, x: Tensor) -> Tensor:
    """The output of an LSTM at each time step; on cuDNN in fp32, even under autocast.

    Autocast runs cuDNN's LSTMs in fp16 even if its type is bf16 (PyTorch's aten/src/ATen/cudnn/AutocastRNN.cpp), and fp16
    gradients underflow without a scaler. Before cuDNN 9.13, bf16 input falls back to slow per-step kernels.
    """
    if not by_cudnn(x):
        out: Tensor = lstm(x)[0]
        return out
    with torch.autocast(x.device.type, enabled=False):
        out = lstm(x.float())[0]
    return out
