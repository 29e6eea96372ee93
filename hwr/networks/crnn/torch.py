"""The network for lines of any width, on PyTorch."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hwr.config import CRNN
from hwr.networks.crnn import spec
from hwr.networks.shared.torch import Dropout, Output, by_cudnn, normed


class Block(nn.Module):
    """Residual block (ResNet v1): two 3x3 convolutions, with a 1x1 convolution as skip if the channels change."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.skip: nn.Sequential | None = None
        if channels_in != channels:
            self.skip = nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, c, H, W); both are 0 right of each line."""
        # Mask before the ReLU. In place is safe, because batch norm keeps its input, not its output.
        y = F.relu_(normed(self.conv1, self.norm1, x).mul_(mask))
        residual = x if self.skip is None else normed(*self.skip, x)  # type: ignore[call-arg]
        y = normed(self.conv2, self.norm2, y) + residual
        return F.relu_(y.mul_(mask))


def read_padded(lstm: nn.LSTM, x: Tensor, turned: Tensor) -> Tensor:
    """One bidirectional layer over padded lines, each read backwards from its own end.

    The second of two passes reads each line reversed within its own length. Packed sequences give the same result, but on a
    CPU they train 1.6 to 1.9 times slower (lines_cpu.yaml, one thread), and read slower unless widths differ a lot.

    Args:
        x: (T, N, c).
        turned: (T, N); for each step, its counterpart in the reversed line.

    Returns:
        (T, N, 2 * hidden); meaningless right of a line's end.
    """
    zeros = torch.zeros(1, x.shape[1], lstm.hidden_size, dtype=x.dtype, device=x.device)
    right, left = (
        # The function that nn.LSTM calls, for one direction.
        torch.lstm(steps, (zeros, zeros), tuple(weights), True, 1, 0.0, lstm.training, False, False)[0]
        for steps, weights in zip((x, _turn(x, turned)), lstm.all_weights, strict=True)
    )
    return torch.cat([right, _turn(left, turned)], 2)


def read_packed(lstms: Iterable[nn.Module], dropout: nn.Module, x: Tensor, widths: Tensor) -> Tensor:
    """All layers over packed lines, for cuDNN: both directions at once, no steps outside a line, in fp32.

    On autocast see `hwr.networks.shared.torch.recurrent`.

    Args:
        x: (T, N, c).
        widths: (N,) time steps of each line, on the CPU, as packing requires.

    Returns:
        (T, N, 2 * hidden) float32; 0 right of a line's end.
    """
    steps, lines = x.shape[:2]
    widths, order = widths.sort(descending=True)
    inside = torch.arange(steps)[:, None] < widths  # (T, N), the lines from the longest to the shortest
    # The row of each packed step in the padded lines. Torch's own packing copies step by step: 560 launches per batch of 128.
    rows = _on((torch.arange(steps)[:, None] * lines + order)[inside], x.device)
    sizes = inside.sum(1)
    with torch.autocast(x.device.type, enabled=False):
        packed = PackedSequence(x.float().reshape(steps * lines, -1).index_select(0, rows), sizes[sizes > 0])
        for i, lstm in enumerate(lstms):
            if i:
                packed = packed._replace(data=dropout(packed.data))
            packed = lstm(packed)[0]
        padded = packed.data.new_zeros(steps * lines, packed.data.shape[1]).index_copy(0, rows, packed.data)
        return padded.reshape(steps, lines, -1)


def _turn(x: Tensor, turned: Tensor) -> Tensor:
    return x.gather(0, turned[:, :, None].expand(-1, -1, x.shape[2]))


class Network(nn.Module):
    """Residual CNN, maximum over each column, biLSTMs, one dense layer, and a shortcut for training.

    After Retsinas et al., "Best Practices for a Handwritten Text Recognition System" (DAS 2022): aspect ratios are kept,
    columns are max-pooled, and an auxiliary convolutional CTC head on the column features trains the CNN before the LSTMs
    have learned anything.

    Features right of a line are set to 0 before every convolution, as if the image ended there, and the LSTMs read each
    line backwards from its own end. So predictions do not depend on the other lines of the batch.

    Args:
        classes: C, with the blank.
    """

    has_unused = False
    normalise = staticmethod(spec.normalise)

    def __init__(self, model: CRNN, classes: int) -> None:
        super().__init__()
        self.shortcut_weight = model.shortcut
        self.model, self.classes = model, classes
        self.stem = nn.Conv2d(1, model.stem, 7, model.stride, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(model.stem)
        self.stages = nn.ModuleList()
        channels = model.stem
        for number, out_channels in model.blocks:
            blocks = [Block(channels if b == 0 else out_channels, out_channels) for b in range(number)]
            self.stages.append(nn.ModuleList(blocks))
            channels = out_channels
        self.lstms = nn.ModuleList()
        features = channels
        for _ in range(model.layers):
            self.lstms.append(nn.LSTM(features, model.hidden, bidirectional=True))
            features = 2 * model.hidden
        self.dropout = Dropout(model.dropout)
        self.head_dropout = Dropout(model.head_dropout)
        self.head = nn.Linear(features, classes * model.frames)
        self.shortcut = nn.Conv1d(channels, classes * model.frames, 3, padding=1) if model.shortcut else None

    def forward(self, x: Tensor, widths: Tensor) -> Output:
        """(N, 1, H, W) normalised pixels (paper is 0) -> (N, T, C) logits.

        Args:
            widths: (N,) int64 width of each line in pixels, on the CPU, to avoid waiting for a GPU.
        """
        x = x * _mask(x, widths)
        widths = _shrunk(widths, self.model.stride[1])
        x = normed(self.stem, self.norm, x)  # (N, c, H / 4, W / 2) with the default strides
        mask = _mask(x, widths)
        x = F.relu_(x.mul_(mask))
        for i, stage in enumerate(self.stages):
            if i:
                pool = self.model.pools[i - 1]
                x = F.max_pool2d(x, pool, ceil_mode=True)
                widths = _shrunk(widths, pool[1])
                mask = _mask(x, widths)
            for block in stage.children():
                x = block(x, mask)
        columns = x.amax(2)  # (N, c, T)
        hidden = columns.permute(2, 0, 1).contiguous()  # (T, N, c)
        hidden = self._read(hidden, widths)
        logits = self._frames(self.head(self.head_dropout(hidden)).transpose(0, 1), mask)
        if not self.training:
            return Output(logits)
        shortcut = None
        if self.shortcut is not None:
            shortcut = self._frames(self.shortcut(self.head_dropout(columns)).transpose(1, 2), mask)
        return Output(logits, shortcut, hidden.transpose(0, 1))

    def initial(self, seed: int) -> tuple[dict[str, np.ndarray] | None, list[str]]:
        """None: training starts from torch's own initial values."""
        return None, []

    def matrices(self) -> dict[nn.Parameter, int]:
        """The parameters that are matrices inside the network, and how many are stacked in each: the gates of an LSTM.

        The first convolution and the heads are not among them.
        """
        return {
            parameter: 4 if name.startswith("lstms.") else 1
            for name, parameter in self.named_parameters()
            if parameter.ndim > 1 and name.startswith(("lstms.", "stages."))
        }

    def saved_name(self, name: str) -> str:
        """The name of a parameter or running statistic in checkpoints; "" if it is not saved.

        Checkpoints have an LSTM per direction: lstms.0.weight_ih_l0_reverse is called lstms.0.left.weight_ih_l0.
        """
        if name.endswith("num_batches_tracked"):
            return ""
        if name.startswith("lstms."):
            _, layer, weight = name.split(".")
            direction = "left" if weight.endswith("_reverse") else "right"
            return f"lstms.{layer}.{direction}.{weight.removesuffix('_reverse')}"
        return name

    def _read(self, x: Tensor, widths: Tensor) -> Tensor:
        """(T, N, c) -> (T, N, 2 * hidden); unchanged without LSTMs."""
        if self.lstms and by_cudnn(x):
            return read_packed(self.lstms, self.dropout, x, widths.cpu())
        widths = _on(widths, x.device)
        step = torch.arange(x.shape[0], device=x.device)[:, None]  # (T, 1)
        turned = torch.where(step < widths, widths - 1 - step, step)  # (T, N)
        for i, lstm in enumerate(self.lstms):
            x = read_padded(lstm, self.dropout(x) if i else x, turned)  # type: ignore[arg-type]
        return x

    def _frames(self, logits: Tensor, mask: Tensor) -> Tensor:
        """(N, steps, C * frames) -> (N, T, C), with only blanks right of each line."""
        inside = mask[:, 0, 0, :, None] > 0  # (N, steps, 1)
        nothing = logits.new_full((self.classes,), -spec.SURE)
        nothing[-1] = spec.SURE
        logits = torch.where(inside, logits, nothing.repeat(self.model.frames))
        return logits.reshape(logits.shape[0], -1, self.classes)


def _shrunk(widths: Tensor, factor: int) -> Tensor:
    return (widths + factor - 1) // factor


def _mask(x: Tensor, widths: Tensor) -> Tensor:
    """(N, 1, 1, W): 1 inside a line and 0 right of it."""
    inside = torch.arange(x.shape[3], device=x.device) < _on(widths, x.device)[:, None]
    return inside.to(x.dtype)[:, None, None]


def _on(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device, without waiting for a GPU."""
    return values if values.device == device else values.pin_memory().to(device, non_blocking=True)
