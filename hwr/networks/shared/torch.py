"""What the architectures share on PyTorch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Output(NamedTuple):
    """What a network computes.

    Attributes:
        logits: (N, T, C), the blank last.
        shortcut: (N, T, C) likewise, of a second head that only training uses; None in reading.
        features: (N, steps, features), what the logits are made of; None in reading.
    """

    logits: Tensor
    shortcut: Tensor | None = None
    features: Tensor | None = None


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A convolution without bias, and batch norm. In reading they are one convolution, which saves a tenth of the time on a CPU."""
    if norm.training:
        out: Tensor = norm(conv(x))
        return out
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


def by_cudnn(x: Tensor) -> bool:
    """Whether cuDNN runs the LSTMs that take this."""
    return x.is_cuda


def recurrent(lstm: nn.Module, x: Tensor) -> Tensor:
    """The output of an LSTM at each time step; by cuDNN in fp32 even under autocast.

    Autocast gives cuDNN's LSTMs fp16 even where its own type is bf16 (PyTorch's aten/src/ATen/cudnn/AutocastRNN.cpp), and
    fp16's gradients underflow without a scaler. Before cuDNN 9.13, bf16 input is not cuDNN's at all, but goes step by step.
    """
    if not by_cudnn(x):
        out: Tensor = lstm(x)[0]
        return out
    with torch.autocast(x.device.type, enabled=False):
        out = lstm(x.float())[0]
    return out
