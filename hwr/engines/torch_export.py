"""Export a network as TorchScript, from pixels to logits."""

import functools
import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwr import networks
from hwr.config import Config
from hwr.engines.torch import TorchEngine
from hwr.images.batches import Batch
from hwr.images.geometry import MULTIPLE
from hwr.networks.shared.torch import Output


class Reader(nn.Module):
    """The exported module: uint8 pixels and widths -> logits, including normalisation."""

    def __init__(self, engine: TorchEngine) -> None:
        super().__init__()
        self.net = engine.network()
        self.normalise = engine.normalise

    def forward(self, pixels: Tensor, widths: Tensor) -> Tensor:
        """(N, H, W) uint8 pixels and (N,) int64 line widths -> (N, T, C) float32."""
        output: Output = self.net(self.normalise(pixels[:, None].float() / 255), widths)
        return output.logits


class FixedReader(nn.Module):
    """`Reader` for the original network, whose lines all have one width."""

    def __init__(self, engine: TorchEngine) -> None:
        super().__init__()
        self.reader = Reader(engine)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, H, W) uint8 -> (N, T, C) float32."""
        out: Tensor = self.reader(pixels, torch.full((pixels.shape[0],), pixels.shape[2]))
        return out


def example(config: Config) -> Batch:
    """Two lines of noise, of different widths if the network allows it."""
    rng = np.random.default_rng(0)
    height, width = config.image.height, config.image.width
    widths = np.array([width, width], np.int32)
    if networks.geometry(config).any_width:
        width = min(width // MULTIPLE, 12) * MULTIPLE
        widths = np.array([width, width - MULTIPLE - 3], np.int32)
    pixels = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
    return Batch(pixels, widths, np.full((2, 1), -1, np.int32), None, np.arange(2))


def torchscript(engine: TorchEngine, config: Config, path: Path) -> None:
    """Write TorchScript, traced."""
    batch, reader = _prepared(engine, config)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()  # on a full disk torch's own writing would abort the process
        torch.jit.save(torch.jit.trace(reader, batch, check_trace=False), buffer)
    path.write_bytes(buffer.getvalue())


def run(path: Path, config: Config, lines: Batch) -> np.ndarray:
    """Run a TorchScript file: logits, (N, T, C) float32."""
    inputs = [torch.from_numpy(lines.images)]
    if networks.geometry(config).any_width:
        inputs.append(torch.from_numpy(lines.widths).long())
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out: np.ndarray = _scripted(path, path.stat().st_mtime_ns)(*inputs).numpy()
    return out


@functools.lru_cache(maxsize=1)
def _scripted(path: Path, changed: int) -> nn.Module:
    found: nn.Module = torch.jit.load(str(path))
    return found


def _prepared(engine: TorchEngine, config: Config) -> tuple[tuple[Tensor, ...], nn.Module]:
    reader = (Reader if networks.geometry(config).any_width else FixedReader)(engine).eval().cpu()
    lines = example(config)
    inputs = (torch.from_numpy(lines.images), torch.from_numpy(lines.widths).long())
    return (inputs if networks.geometry(config).any_width else inputs[:1]), reader
