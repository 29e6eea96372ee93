"""The direction of a line on its page, from its baseline, and its image turned so that it runs from left to right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

Polygon = tuple[tuple[int, int], ...]

# Lines that slope less than this are ordinary, in degrees: straightening levels them.
LEVEL = 15.0

# A shorter baseline gives no direction, in pixels.
SHORTEST = 8.0

# Without a baseline, an outline that is this many times as long as wide gives the direction of a slanting line.
ELONGATED = 4.0


@dataclass(frozen=True)
class Turn:
    """How a crop of a page becomes the image of a line.

    Attributes:
        quarters: Quarter turns counter-clockwise, as of `np.rot90`.
        angle: Instead, the angle of the line in the crop, in degrees clockwise; 0 if only quarters are turned.
        size: Width and height of the line's image.
        matrix: (2, 3), from (x, y, 1) in the line's image to (x, y) in the crop.
    """

    quarters: int
    angle: float
    size: tuple[int, int]
    matrix: np.ndarray


def angle(baseline: Polygon, region: Polygon) -> float:
    """The direction in which a line runs, in degrees clockwise from left to right: -180 to 180; 0 if it is ordinary.

    A line that was drawn from its end has its region on the wrong side of the baseline, and is turned round. Without a
    baseline, a long outline shows that a line slants; a vertical one does not tell whether it runs upwards or downwards.

    Args:
        baseline: Points from the line's start to its end, (x, y).
        region: Its polygon, or ().
    """
    if len(baseline) < 2:
        return _slant(region)
    (x0, y0), (x1, y1) = baseline[0], baseline[-1]
    dx, dy = float(x1 - x0), float(y1 - y0)
    if math.hypot(dx, dy) < SHORTEST:
        return 0.0
    found = math.degrees(math.atan2(dy, dx))
    if abs(found) > LEVEL and len(region) > 2:
        centre, middle = np.mean(_moments(region), axis=0), np.mean(np.array(baseline, float), axis=0)
        # The letters are above the baseline: to its left, seen in its direction.
        if (centre - middle) @ np.array([dy, -dx]) < 0:
            found = found - 180 if found > 0 else found + 180
    return 0.0 if abs(found) <= LEVEL else found


def _slant(region: Polygon) -> float:
    """The slope of a long outline, in degrees clockwise; 0 if it is nearly level or vertical, or not long."""
    if len(region) < 3:
        return 0.0
    corners = cv2.boxPoints(cv2.minAreaRect(np.array(region, np.float32)))
    sides = sorted((corners[1] - corners[0], corners[2] - corners[1]), key=lambda side: float(np.hypot(*side)))
    short, long = (float(np.hypot(*side)) for side in sides)
    if long < SHORTEST or long < ELONGATED * short:
        return 0.0
    x, y = sides[1].tolist()
    found = math.degrees(math.atan2(y, x) if x > 0 else math.atan2(-y, -x))
    return found if LEVEL < abs(found) < 90 - LEVEL else 0.0


def _moments(region: Polygon) -> np.ndarray:
    """The centre of a polygon, (1, 2); of its corners if it has no area."""
    points = np.array(region, np.float32)
    found = cv2.moments(points)
    if abs(found["m00"]) < 1:
        return points.mean(0, keepdims=True)
    return np.array([[found["m10"] / found["m00"], found["m01"] / found["m00"]]])


def turn(degrees: float, size: tuple[int, int], region: Sequence[tuple[float, float]]) -> Turn:
    """How to turn the crop of a line.

    Args:
        degrees: The line's `angle`.
        size: Width and height of the crop.
        region: The line's polygon in the crop.
    """
    width, height = size
    quarters = round(degrees / 90) % 4
    rest = (degrees - 90 * round(degrees / 90) + 180) % 360 - 180
    if abs(rest) <= LEVEL:
        # From the turned image back to the crop.
        matrix = {
            0: [[1, 0, 0], [0, 1, 0]],
            1: [[0, -1, width], [1, 0, 0]],
            2: [[-1, 0, width], [0, -1, height]],
            3: [[0, 1, 0], [-1, 0, height]],
        }[quarters]
        turned = (height, width) if quarters % 2 else (width, height)
        return Turn(quarters, 0.0, turned, np.array(matrix, float))
    radians = math.radians(degrees)
    along = np.array([math.cos(radians), math.sin(radians)])
    down = np.array([-along[1], along[0]])
    points = np.array(region, float)
    x, y = points @ along, points @ down
    left, top = float(x.min()), float(y.min())
    turned = (max(1, math.ceil(x.max() - left)), max(1, math.ceil(y.max() - top)))
    origin = left * along + top * down
    return Turn(0, degrees, turned, np.array([[along[0], down[0], origin[0]], [along[1], down[1], origin[1]]]))


def turned(crop: np.ndarray, how: Turn, paper: int) -> np.ndarray:
    """Turn a crop, (H, W) uint8.

    Args:
        paper: Grey level of what lies outside.
    """
    if not how.angle:
        return np.ascontiguousarray(np.rot90(crop, how.quarters))
    # Pillow's pixels are the same in every version, unlike those of OpenCV's warpAffine.
    data = tuple(how.matrix.ravel().tolist())
    found = Image.fromarray(crop).transform(
        how.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC, fillcolor=paper
    )
    return np.asarray(found).copy()


def on_page(x: np.ndarray, height: int, region: Polygon, baseline: Polygon) -> np.ndarray:
    """Where columns of a line's image are on the page: (N, 2), left and right of each span.

    Args:
        x: (N, 2), left and right edges of the spans, in pixels of the line's image.
        height: Height of that image.
        region: The line's polygon; () if its image is the whole page.
    """
    if not region or not len(x):
        return x
    points = np.array(region, float)
    corner = np.maximum(points.min(0), 0)
    if not (degrees := angle(baseline, region)):
        return x + corner[0]
    size = np.maximum(1, points.max(0) + 1 - corner)
    how = turn(degrees, (int(size[0]), int(size[1])), [(px, py) for px, py in (points - corner).tolist()])
    at = np.stack([x[:, [0, 1, 1, 0]], np.broadcast_to([0, 0, height, height], (len(x), 4))], 2)  # (N, 4, 2)
    across = at @ how.matrix[0, :2] + how.matrix[0, 2] + corner[0]  # (N, 4)
    return np.stack([across.min(1), across.max(1)], 1)
