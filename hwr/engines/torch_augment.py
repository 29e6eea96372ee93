"""`augment.apply` on PyTorch: augments a whole batch on its device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwr.images.augment import Warps, grid_step


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to the device; for a GPU from pinned memory, without waiting."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def apply(images: Tensor, warps: Warps, width: int) -> Tensor:
    """Warp a batch: bilinear, white outside.

    Args:
        images: (N, 1, H, W) float32 in 0..1.
        width: Width of the result in pixels; at least the maximum of `warps.widths`.

    Returns:
        (N, 1, H, width) float32 in 0..1.
    """
    device = images.device

    def each(values: np.ndarray) -> Tensor:
        """(N,) -> (N, 1, 1, 1); arrays with more dimensions stay as they are."""
        tensor = upload(values, device)
        return tensor[:, None, None, None] if tensor.ndim == 1 else tensor

    x = _warp(images ** each(warps.gamma), warps, width)
    if warps.thickness is not None:
        amount = each(warps.thickness)
        thicker, thinner = -F.max_pool2d(-x, 3, 1, 1), F.max_pool2d(x, 3, 1, 1)
        x = x + amount.abs() * (torch.where(amount > 0, thicker, thinner) - x)
    if warps.contrast is not None:
        x = 1 - (1 - x) * each(warps.contrast)
    if warps.brightness is not None:
        x = (x + each(warps.brightness)).clamp(0, 1)
    if warps.masks is not None:
        start, end = each(warps.masks)[..., None].unbind(2)  # (N, K, 1)
        column = torch.arange(width, device=device)
        hidden = ((column >= start) & (column < end)).any(1)  # (N, width)
        x = x.masked_fill(hidden[:, None, None], 1)
    return x


def _warp(images: Tensor, warps: Warps, width: int) -> Tensor:
    n, _, height, width_in = images.shape
    device = images.device
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    points = torch.stack([x.ravel(), y.ravel(), torch.ones_like(x).ravel()])  # (3, H * W)
    source = (upload(warps.matrix, device) @ points).reshape(n, 2, height, width)  # (x, y)
    if warps.grid is not None:
        grid = upload(warps.grid, device)
        columns = (grid.shape[3] - 1) * grid_step(height) + 1
        move = F.interpolate(grid, (height, columns), mode="bilinear", align_corners=True)[..., :width]
        source[..., : move.shape[3]] += move
    # grid_sample's coordinates run from -1 to 1 between the outer pixel centres.
    span = upload(np.array([max(1, width_in - 1), max(1, height - 1)]), device)
    # grid_sample pads with 0, but the padding must be white: invert before and after.
    places = source.permute(0, 2, 3, 1) * 2 / span - 1
    return 1 - F.grid_sample(1 - images, places, padding_mode="zeros", align_corners=True)
