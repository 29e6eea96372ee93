"""Find the text lines of a page: text map -> fragments -> lines with baseline and polygon, in reading order."""

from dataclasses import dataclass

import cv2
import numpy as np

from hwr.images.load import Polygon
from hwr.pages import detector, fragments, linking, order, outlines

# A line is at least this long, in pitches.
SHORTEST = 0.5


@dataclass(frozen=True)
class Found:
    """A line of a page, in pixels of its image.

    Attributes:
        baseline: From the start of the text to its end, (x, y).
        polygon: Encloses the line, (x, y).
    """

    baseline: Polygon
    polygon: Polygon


def find(grey: np.ndarray) -> list[Found]:
    """Find the lines of a page, in reading order.

    Args:
        grey: (H, W) uint8.

    Raises:
        Error: onnxruntime or rapidocr is not installed.
    """
    return group(detector.text_map(grey), grey)


def group(text: np.ndarray, grey: np.ndarray) -> list[Found]:
    """Make lines of a text map.

    Args:
        text: See `detector.text_map`.
        grey: The page, (H, W) uint8.
    """
    usual = fragments.thickness(text)
    if not usual:
        return []
    small = cv2.resize(grey, text.shape[::-1], interpolation=cv2.INTER_AREA)
    parts = fragments.fragments(text, usual)
    if not parts:
        return []
    step = linking.pitch(parts, usual)
    ruled = linking.rulings(small, step)
    ink = outlines.ink_of(small, ruled, step)
    parts = linking.cut_at_rulings(parts, ruled, ink, step)
    taken = (text > fragments.TEXT) & ~ruled
    chains = linking.link(parts, ruled, step)
    centres = [outlines.centre_line(chain, usual) for chain in chains]
    centres = [outlines.extended(centre, taken, ruled, ink, step) for centre in centres]
    centres = [centre for centre in centres if len(centre.y) >= SHORTEST * step]
    places = [order.Place(c.left, c.right, float(c.y.mean())) for c in centres]
    centres = [centres[i] for i in order.reading_order(places, step)]
    edges = outlines.polygons(centres, text.shape, step)
    scale = (grey.shape[1] / text.shape[1], grey.shape[0] / text.shape[0])
    return [_found(centre, edge, 0.25 * step, scale, step) for centre, edge in zip(centres, edges, strict=True)]


def _found(
    centre: outlines.Centre,
    edges: tuple[np.ndarray, np.ndarray, int],
    drop: float,
    scale: tuple[float, float],
    step: float,
) -> Found:
    """Turn columns into points, in pixels of the page."""
    top, bottom, left = edges
    every = max(1, round(step / 2))

    def points(y: np.ndarray, start: int) -> list[tuple[int, int]]:
        columns = sorted({*range(0, len(y), every), len(y) - 1})
        return [(round((start + x + 0.5) * scale[0]), round((y[x] + 0.5) * scale[1])) for x in columns]

    polygon = (*points(top, left), *reversed(points(bottom, left)))
    return Found(tuple(points(centre.y + drop, centre.left)), polygon)
