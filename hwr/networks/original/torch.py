"""The original system's network on PyTorch."""

import pickle
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwr import Error
from hwr.config import Image, Original
from hwr.networks.original import spec, trunk
from hwr.networks.shared.torch import Dropout, Output, normed, recurrent


class BasicBlock(nn.Module):
    """ResNet v1's block of two 3x3 convolutions that keep the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(normed(self.conv1, self.bn1, x), inplace=True)
        return F.relu(normed(self.conv2, self.bn2, y) + x, inplace=True)


class OriginalNetwork(nn.Module):
    """Truncated ResNet-34, a biLSTM on each of several scales, one dense layer over all of them.

    Args:
        image: The size of the line images.
        classes: C, with the blank.
    """

    shortcut_weight = 0.0
    normalise = staticmethod(spec.normalise)

    def __init__(self, model: Original, image: Image, classes: int) -> None:
        super().__init__()
        step_sizes = spec.step_sizes(model, image)  # features per time step of each scale
        self.shapes = spec.shapes(model, image, classes)
        self.pretrained = model.pretrained
        # A single scale needs no downsampler.
        self.has_unused = model.downsamples == 1
        c = model.channels
        self.steps = model.steps
        self.conv = nn.Conv2d(1, c, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(c)
        self.stage1 = nn.Sequential(*(BasicBlock(c) for _ in range(spec.BLOCKS)))
        self.downsampler = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.encoders = nn.ModuleList(
            nn.LSTM(size, model.hidden, model.layers, bidirectional=True, batch_first=True) for size in step_sizes
        )
        self.dropout = Dropout(model.dropout)
        self.decoder = nn.Linear(2 * model.hidden * len(step_sizes), classes)

    def forward(self, x: Tensor, widths: Tensor) -> Output:
        """(N, 1, H, W) normalised pixels -> (N, T, C) logits. Lines fill the width, so `widths` is not used."""
        x = F.relu(normed(self.conv, self.bn, x), inplace=True)  # (N, c, H/2, W/2)
        features = self.stage1(F.max_pool2d(x, 3, stride=2, padding=1))  # (N, c, H/4, W/4)
        hidden = []
        for i, lstm in enumerate(self.encoders):
            if i:
                features = self.downsampler(features)  # (N, c, H/4/2^i, W/4/2^i)
            # Equal steps, not columns: in the original a step is 1.25 columns wide.
            steps = features.permute(0, 3, 1, 2).reshape(x.shape[0], self.steps, -1)  # (N, T, W * c * H / T)
            hidden.append(self.dropout(recurrent(lstm, steps)))  # (N, T, 2 * hidden)
        return Output(self.decoder(torch.cat(hidden, 2)))  # (N, T, C)

    def initial(self, seed: int) -> tuple[dict[str, np.ndarray] | None, list[str]]:
        """Initial weights, the same on every engine, and a sentence on the source of the trunk's weights."""
        weights = spec.initial(self.shapes, seed)
        path, note = trunk.pretrained(self.pretrained, weights, pth=True)
        if path is not None:
            weights |= read_trunk(path)
        return weights, [note]

    def saved_name(self, name: str) -> str:
        """Gluon's name for a parameter or running statistic of this module; "" if it has none."""
        *path, last = name.split(".")
        if last == "num_batches_tracked":
            return ""
        match path:
            case ["encoders", i]:
                # weight_ih_l0_reverse -> layer 0, right to left, i2h_weight. The gates' order is the same.
                kind, source, layer, *reverse = last.split("_")
                cell = f"encoders.{i}.0.lstm._unfused.{layer[1:]}.{'r' if reverse else 'l'}_cell"
                return f"{cell}.{'i2h' if source == 'ih' else 'h2h'}_{kind}"
            case ["stage1", block, layer]:
                path = ["body", "4", block, "body", {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4"}[layer]]
            case ["conv"]:
                path = ["body", "0"]
            case ["bn"]:
                path = ["body", "1"]
        # Gluon calls batch norm's scale gamma and its offset beta.
        if path[-1] in ("1", "4"):
            last = {"weight": "gamma", "bias": "beta"}.get(last, last)
        return ".".join([*path, last])


def read_trunk(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".pth":
        return trunk.read_trunk(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise Error(f"{path}: not a file of torch weights: {error}") from error
    if not isinstance(found, dict):
        raise Error(f"{path}: holds a {type(found).__name__} instead of a dict of torch weights")
    return trunk.trunk({k: v.numpy() for k, v in found.items() if isinstance(v, Tensor)}, path)
