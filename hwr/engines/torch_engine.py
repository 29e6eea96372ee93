"""The engine on PyTorch: any current CPU or GPU."""

import math
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwr import Error
from hwr.batches import Batch
from hwr.config import Config, Model
from hwr.engines import Weights, original
from hwr.image import MEAN, STD


class BasicBlock(nn.Module):
    """ResNet v1's block of two 3x3 convolutions, no change of size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


class OriginalNetwork(nn.Module):
    """Truncated ResNet-34, a biLSTM on each of several scales, one dense layer over all of them.

    Args:
        step_sizes: Features per time step of each scale.
        classes: C, with the blank.
    """

    def __init__(self, model: Model, step_sizes: list[int], classes: int) -> None:
        super().__init__()
        c = model.channels
        self.steps = model.steps
        self.conv = nn.Conv2d(1, c, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(c)
        self.stage1 = nn.Sequential(*(BasicBlock(c) for _ in range(original.BLOCKS)))
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
        self.dropout = nn.Dropout(model.dropout)
        self.decoder = nn.Linear(2 * model.hidden * len(step_sizes), classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) normalised pixels -> (N, T, C) logits."""
        x = F.relu(self.bn(self.conv(x)), inplace=True)  # (N, c, H/2, W/2)
        features = self.stage1(F.max_pool2d(x, 3, stride=2, padding=1))  # (N, c, H/4, W/4)
        hidden = []
        for i, lstm in enumerate(self.encoders):
            if i:
                features = self.downsampler(features)  # (N, c, H/4/2^i, W/4/2^i)
            # Cut evenly, not by columns: in the original a step is 1.25 columns wide.
            steps = features.permute(0, 3, 1, 2).reshape(len(x), self.steps, -1)  # (N, T, W * c * H / T)
            hidden.append(self.dropout(lstm(steps)[0]))  # (N, T, 2 * hidden)
        logits: Tensor = self.decoder(torch.cat(hidden, 2))  # (N, T, C)
        return logits

    def gluon_name(self, name: str) -> str:
        """The name that Gluon gives to a parameter or running statistic of this module; "" where it has none."""
        *path, last = name.split(".")
        if last == "num_batches_tracked":
            return ""
        match path:
            case ["encoders", i]:
                # weight_ih_l0_reverse -> layer 0, right to left, i2h_weight. The gates' order is the same.
                kind, way, layer, *reverse = last.split("_")
                cell = f"encoders.{i}.0.lstm._unfused.{layer[1:]}.{'r' if reverse else 'l'}_cell"
                return f"{cell}.{'i2h' if way == 'ih' else 'h2h'}_{kind}"
            case ["stage1", block, layer]:
                path = ["body", "4", block, "body", {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4"}[layer]]
            case ["conv"]:
                path = ["body", "0"]
            case ["bn"]:
                path = ["body", "1"]
        # Batch norm calls its factor gamma in Gluon, and its offset beta.
        if path[-1] in ("1", "4"):
            last = {"weight": "gamma", "bias": "beta"}.get(last, last)
        return ".".join([*path, last])


class TorchEngine:
    """See `hwr.engines.Engine`."""

    name = "torch"

    def __init__(self, config: Config, classes: int, fresh: bool = True) -> None:
        self._device = _device(config.engine.device)
        self.device = str(self._device)
        if self._device.type == "cuda":
            self.device += f" ({torch.cuda.get_device_name(self._device)})"
            # By default cuDNN rounds fp32 to TF32's 10 bits in convolutions and LSTMs.
            torch.backends.cudnn.allow_tf32 = False
        if config.engine.threads:
            torch.set_num_threads(config.engine.threads)
        self._bf16 = config.engine.precision == "bf16"
        self.steps = config.model.steps
        self.notes: list[str] = []
        self._shapes = original.shapes(config.model, config.image, classes)
        self._net = OriginalNetwork(config.model, original.step_sizes(config.model, config.image), classes)
        if fresh:
            weights = original.initial(self._shapes, config.train.seed)
            path, note = original.pretrained(config.model.pretrained, weights, pth=True)
            if path is not None:
                weights |= _read_trunk(path)
            self.notes.append(note)
            self.load(weights)
        # Convolutions run faster with the channels innermost: reading by 7 to 19 %, training by 3 to 10 on a CPU.
        self._net.to(self._device)
        self._net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._weight = config.train.loss_weight
        # Dropout draws from torch's global generators; `state` keeps them.
        torch.manual_seed(config.train.seed)
        self._optimizer = torch.optim.Adam(self._net.parameters())
        self._updates = 0

    def train_step(self, batch: Batch, lr: float) -> float:
        self._net.train()
        logits = self._forward(self._pixels(batch))
        losses = _ctc(logits, torch.from_numpy(batch.labels))
        self._optimizer.zero_grad()
        (losses.mean() * self._weight).backward()
        self._updates += 1
        for group in self._optimizer.param_groups:
            group["lr"] = lr
            # MXNet's Adam adds 1e-8 to the root of the second moment before that is corrected for its bias, torch's
            # after (mxnet/optimizer/adam.py); this makes them the same.
            group["eps"] = 1e-8 / math.sqrt(1 - 0.999**self._updates)
        self._optimizer.step()
        return float(losses.detach().mean())

    def logits(self, batch: Batch) -> np.ndarray:
        self._net.eval()
        with torch.inference_mode():
            out: np.ndarray = self._forward(self._pixels(batch)).cpu().numpy()
        return out

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            out: np.ndarray = _ctc(torch.from_numpy(logits), torch.from_numpy(labels)).numpy()
        return out

    def weights(self) -> Weights:
        return {
            gluon: np.array(tensor.detach().cpu().numpy(), order="C")
            for name, tensor in self._net.state_dict().items()
            if (gluon := self._net.gluon_name(name))
        }

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        original.check(weights, self._shapes)
        state = self._net.state_dict()
        for name in state:
            if gluon := self._net.gluon_name(name):
                state[name] = torch.from_numpy(np.array(weights[gluon], np.float32))
        self._net.load_state_dict(state)

    def state(self) -> Weights:
        out = {"updates": np.array(self._updates), "rng.cpu": torch.get_rng_state().numpy()}
        if self._device.type == "cuda":
            out["rng.cuda"] = torch.cuda.get_rng_state(self._device).numpy()
        for name, parameter in self._net.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                out[f"adam.{self._net.gluon_name(name)}.{key}"] = np.array(value.detach().cpu().numpy(), order="C")
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._updates = int(state["updates"])
        self._optimizer.state.clear()
        for name, parameter in self._net.named_parameters():
            prefix = f"adam.{self._net.gluon_name(name)}."
            moments = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if moments:
                self._optimizer.state[parameter] = {
                    # The step count stays on the CPU, as Adam itself keeps it; the others lie as their parameter does.
                    key: torch.tensor(value)
                    if key == "step"
                    else torch.empty_like(parameter).copy_(torch.tensor(value))
                    for key, value in moments.items()
                }
        torch.set_rng_state(torch.from_numpy(np.array(state["rng.cpu"])))
        if self._device.type == "cuda" and "rng.cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(np.array(state["rng.cuda"])), self._device)

    def _forward(self, pixels: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self._net(pixels)
        return logits.float()  # CTC and everything after it in fp32

    def _pixels(self, batch: Batch) -> Tensor:
        """(N, 1, H, W) float32 on the device: warped if the batch says so, normalised."""
        images = torch.from_numpy(batch.images).to(self._device).float() / 255
        images = images[:, None]  # (N, 1, H, W)
        if batch.warps is not None:
            gamma = torch.from_numpy(batch.warps.gamma).to(self._device)
            matrix = torch.from_numpy(batch.warps.matrix).to(self._device)
            images = _warp(images ** gamma[:, None, None, None], matrix)
        return (images - MEAN) / STD


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """`augment.apply` for a whole batch on its device: bilinear, white outside.

    Args:
        images: (N, 1, H, W) in 0..1.
        matrix: (N, 2, 3), output pixel -> input pixel.
    """
    n, _, height, width = images.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=torch.float32),
        torch.arange(width, device=images.device, dtype=torch.float32),
        indexing="ij",
    )
    points = torch.stack([x.ravel(), y.ravel(), torch.ones_like(x).ravel()])  # (3, H * W)
    source = (matrix @ points).transpose(1, 2).reshape(n, height, width, 2)
    # grid_sample counts pixel centres from -1 to 1.
    span = torch.tensor([max(1, width - 1), max(1, height - 1)], device=images.device)
    # Outside is 0 there, and must be white here.
    return 1 - F.grid_sample(1 - images, source * 2 / span - 1, padding_mode="zeros", align_corners=True)


def _ctc(logits: Tensor, labels: Tensor) -> Tensor:
    """CTC loss, (N,) nats per line, the blank last.

    Args:
        logits: (N, T, C) float32.
        labels: (N, L) integers, -1 where a label has ended.
    """
    log_p = logits.log_softmax(2).transpose(0, 1)  # (T, N, C)
    lengths = (labels >= 0).sum(1)
    labels = labels.clamp(min=0).to(logits.device)
    steps = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.long)
    # Torch's own CTC, also on a GPU: cuDNN's wants the blank first. Its gradient there is summed in no fixed order.
    return F.ctc_loss(log_p, labels.long(), steps, lengths, blank=logits.shape[2] - 1, reduction="none")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Error(f"engine.device: {name!r} is no device; use auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise Error(f"engine.device: {name!r} is not supported; use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise Error(
            f"engine.device: {name} is not there; torch {torch.__version__} sees {torch.cuda.device_count()} GPUs"
        )
    return device


def _read_trunk(path: Path) -> Weights:
    if path.suffix != ".pth":
        return original.read_trunk(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise Error(f"{path}: not a file of torch weights: {error}") from error
    if not isinstance(found, dict):
        raise Error(f"{path}: not a file of torch weights by name, but of a {type(found).__name__}")
    return original.trunk({k: v.numpy() for k, v in found.items() if isinstance(v, Tensor)}, path)
