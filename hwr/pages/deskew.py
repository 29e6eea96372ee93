"""Turn a page so that its lines run from left to right, and bring the lines found back onto the page."""

from dataclasses import dataclass

import cv2
import numpy as np

from hwr.images.load import Polygon

# The map value from which a pixel is text (of 255), and how long a stretch of text must be to tell a direction, in thicknesses.
TEXT, LONG = 77, 3.0


@dataclass(frozen=True)
class Frame:
    """A page turned about its centre.

    Attributes:
        angle: By which lines rise on the page before it is turned, in degrees, counter-clockwise; they are level after it.
        matrix: (2, 3); maps points of the turned page to the page, in pixels.
        size: Width and height of the turned page.
    """

    angle: float
    matrix: np.ndarray
    size: tuple[int, int]

    def turned(self, image: np.ndarray, fill: int) -> np.ndarray:
        """The page, (H, W) uint8, turned; corners without page are filled with a grey level."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out: np.ndarray = cv2.warpAffine(image, self.matrix, self.size, flags=flags, borderValue=(float(fill),))
        return out

    def on_page(self, points: Polygon) -> Polygon:
        """Points of the turned page as points of the page."""
        found = np.array(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return tuple((round(x), round(y)) for x, y in found.tolist())


def frame(shape: tuple[int, int], angle: float) -> Frame:
    """The frame of a page of this height and width whose lines rise by an angle, in degrees."""
    height, width = shape
    turn = np.deg2rad(angle)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    size = (
        max(1, round(abs(width * cos) + abs(height * sin))),
        max(1, round(abs(width * sin) + abs(height * cos))),
    )
    # y points down: a step to the right on the turned page is one to the right and, for a rising line, up on the page.
    linear = np.array([[cos, sin], [-sin, cos]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - linear @ np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    return Frame(angle, np.column_stack([linear, offset]), size)


def direction(text: np.ndarray) -> float:
    """The angle by which the lines of a map rise, in degrees, -90 to 90; 0 if it shows none.

    The median over long stretches of text, weighted by length, among those near the most frequent angle.

    Args:
        text: See `detector.text_map`.
    """
    contours, _ = cv2.findContours((text > TEXT).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    angles, weights = [], []
    for contour in contours:
        _, (a, b), _ = box = cv2.minAreaRect(contour)
        if max(a, b) < LONG * max(min(a, b), 4):
            continue
        corners = cv2.boxPoints(box)
        side = max((corners[1] - corners[0], corners[2] - corners[1]), key=lambda s: float(np.hypot(*s)))
        rise = float(np.rad2deg(np.arctan2(-side[1], side[0])))
        angles.append((rise + 90) % 180 - 90)
        weights.append(max(a, b))
    if not angles:
        return 0.0
    found, weight = np.array(angles), np.array(weights)
    away = np.abs((found[:, None] - found[None] + 90) % 180 - 90)  # between any two
    most = found[int(np.argmax((weight * (away < 5)).sum(1)))]
    near = (found - most + 90) % 180 - 90
    order = np.argsort(near)
    order = order[np.abs(near[order]) < 10]
    half = np.searchsorted(np.cumsum(weight[order]), weight[order].sum() / 2)
    return float((most + near[order][half] + 90) % 180 - 90)
