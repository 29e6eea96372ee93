"""Cut a line out of a page along its baseline, whatever its direction or curve: the result runs from left to right."""

import cv2
import numpy as np

from hwr import Error
from hwr.images.load import Polygon

# The baseline is smoothed over this many line heights, because clicked points would bend the letters.
SMOOTH = 2.0


def unroll(page: np.ndarray, region: Polygon, baseline: Polygon) -> np.ndarray:
    """Straighten a line along its baseline.

    Each column of the result is perpendicular to the baseline. Pixels outside the polygon get the median inside it, the paper.

    Args:
        page: (H, W) uint8.
        region: The line's polygon, (x, y) in pixels.
        baseline: At least two different points from the start of the text to its end, (x, y).

    Returns:
        (H', W') uint8; W' is the length of the line in pixels, H' the height of its polygon across the baseline.

    Raises:
        Error: The line has no area on the page.
    """
    edge = np.array(region, np.float64)
    centre, normal = _path(edge, np.array(baseline, np.float64))  # (W', 2)
    nearest = np.abs(edge[:, None] - centre[None]).sum(2).argmin(1)
    away = ((edge - centre[nearest]) * normal[nearest]).sum(1)
    rows = np.arange(np.floor(away.min() + 0.01), np.ceil(away.max() - 0.01) + 1)[:, None]  # (H', 1)
    x, y = (centre[None, :, i] + rows * normal[None, :, i] for i in (0, 1))  # (H', W')
    inside = np.zeros(page.shape, np.uint8)
    cv2.fillPoly(inside, [np.rint(edge).astype(np.int32)], (1.0,))
    maps = x.astype(np.float32), y.astype(np.float32)
    mask = cv2.remap(inside, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(0.0,))
    if not mask.any():
        raise Error(f"the line at {region[0]} has no area on the page of {page.shape[1]} x {page.shape[0]} pixels")
    out: np.ndarray = cv2.remap(page, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out[mask == 0] = np.uint8(np.median(out[mask > 0]))
    return out


def _path(edge: np.ndarray, baseline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of a baseline at steps of a pixel, prolonged to the ends of the polygon, and the normals (downwards) there.

    Args:
        edge: (N, 2), the polygon.
        baseline: (M, 2).

    Returns:
        Two arrays (W, 2).
    """
    steps = np.hypot(*np.diff(baseline, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    whole = at[-1]
    height = cv2.contourArea(edge.astype(np.float32)) / max(whole, 1.0)
    ahead = _direction(baseline[0], baseline[-1])
    start = max(0.0, float(((baseline[0] - edge) @ ahead).max()))
    end = max(0.0, float(((edge - baseline[-1]) @ ahead).max()))
    window = max(1, round(SMOOTH * height))
    # At the ends the baseline goes on in the direction of its last stretch.
    places = np.arange(-np.ceil(start) - window, whole + np.ceil(end) + window + 1)
    stretch = min(whole, window)
    points = np.stack([np.interp(places, at, baseline[:, i]) for i in (0, 1)], 1)
    first = _direction(baseline[0], np.array([np.interp(stretch, at, baseline[:, i]) for i in (0, 1)]))
    last = _direction(np.array([np.interp(whole - stretch, at, baseline[:, i]) for i in (0, 1)]), baseline[-1])
    points += np.minimum(places, 0)[:, None] * first + np.maximum(places - whole, 0)[:, None] * last
    kernel = np.ones(2 * (window // 2) + 1) / (2 * (window // 2) + 1)
    even = np.stack([np.convolve(points[:, i], kernel, "same") for i in (0, 1)], 1)
    tangent = np.gradient(even, axis=0)
    tangent /= np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    return even[window:-window], normal[window:-window]


def _direction(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The unit vector from one point to another; to the right if they are equal."""
    length = float(np.hypot(*(end - start)))
    return (end - start) / length if length > 0 else np.array([1.0, 0.0])
