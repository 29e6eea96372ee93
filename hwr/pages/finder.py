"""Find the text lines of a page: text map -> fragments -> lines with baseline and polygon, in reading order."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hwr.images import load
from hwr.images.load import Polygon
from hwr.pages import columns, deskew, detector, fragments, linking, order, outlines

# A line is at least this long, in pitches.
SHORTEST = 0.5

# A page is turned if its lines rise or fall by this many degrees; from `STEEP` on, the text is looked for again.
LEVEL, STEEP = 3.0, 15.0

# So many lines tell whether a page is upside down: the fewest that did on all of 158 validation and training pages.
SAMPLE = 3

# A page without text is inverted, and searched again, if its median grey level is below this.
DARK = 100

Judge = Callable[[list[np.ndarray]], bool]
"""Takes the pixels of lines, (H, W) uint8 each, and tells whether most stand on their feet."""


@dataclass(frozen=True)
class Found:
    """A line of a page, in pixels of its image.

    Attributes:
        baseline: From the start of the text to its end, (x, y).
        polygon: Encloses the line, (x, y).
    """

    baseline: Polygon
    polygon: Polygon


def find(grey: np.ndarray, upright: Judge | None = None) -> list[Found]:
    """Find the lines of a page, in reading order.

    Lines may have any direction, but most of a page's must share one. Its writing is dark on light, or light on dark.

    Args:
        grey: (H, W) uint8.
        upright: Tells whether lines stand on their feet; None: they do, or run up the page.

    Raises:
        Error: onnxruntime is not installed.
    """
    text = detector.text_map(grey)
    if light_on_dark(text, grey):
        grey = 255 - grey
        text = detector.text_map(grey)
    angle = deskew.direction(text)
    if abs(angle) < LEVEL and upright is None:
        return group(text, grey)
    turned = deskew.frame(grey.shape, angle if abs(angle) >= LEVEL else 0.0)
    page = turned.turned(grey, round(float(np.median(grey)))) if turned.angle else grey
    if abs(turned.angle) > STEEP:
        text = detector.text_map(page)
    elif turned.angle:
        text = deskew.frame(text.shape, turned.angle).turned(text, 0)
    found = group(text, page)
    if upright is not None and found and not upright(_crops(page, found)):
        turned = deskew.frame(grey.shape, turned.angle + 180)
        found = group(np.ascontiguousarray(text[::-1, ::-1]), np.ascontiguousarray(page[::-1, ::-1]))

    def placed(points: Polygon) -> Polygon:
        """On the page: a line at the edge of a tilted page would reach beyond it, where PAGE allows no point."""
        x, y = np.clip(np.transpose(turned.on_page(points)), 0, [[grey.shape[1] - 1], [grey.shape[0] - 1]]).tolist()
        return tuple(zip(x, y, strict=True))

    return [Found(placed(line.baseline), placed(line.polygon)) for line in found]


def light_on_dark(text: np.ndarray, grey: np.ndarray) -> bool:
    """Whether the writing of a page is lighter than what is around it.

    Strokes are few pixels far from the mean of their surroundings, so the differences are skewed towards the strokes' side. Of
    210 pages of paper, the skewness was between -4.3 and -1.5.

    Args:
        text: See `detector.text_map`.
        grey: The page, (H, W) uint8.
    """
    usual = fragments.thickness(text)
    if not usual:
        return float(np.median(grey)) < DARK
    small = cv2.resize(grey, text.shape[::-1], interpolation=cv2.INTER_AREA)
    window = max(3, round(3 * usual) | 1)
    lines = cv2.dilate((text > fragments.TEXT).astype(np.uint8), np.ones((max(1, round(usual)), 1), np.uint8))
    apart = cv2.subtract(small, cv2.blur(small, (window, window)), dtype=cv2.CV_32F)[lines > 0]
    return float((apart**3).mean()) > 0


def _crops(page: np.ndarray, lines: list[Found]) -> list[np.ndarray]:
    """The pixels of some long lines, (H, W) uint8 each."""
    longest = sorted(lines, key=lambda line: line.baseline[0][0] - line.baseline[-1][0])[:SAMPLE]
    return [load.cut(page, line.polygon) for line in longest]


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
    rulings = linking.rulings(small, step)
    ink = outlines.ink_of(small, rulings, step)
    ruled = linking.separators(parts, rulings, ink, step)
    parts = linking.cut_at_rulings(parts, ruled, ink, step)
    taken = (text > fragments.TEXT) & ~rulings
    places = [order.Place(*outlines.reach(p, ink, step), p.level) for p in parts]
    page = columns.page(places, text.shape[1], step)
    gutters = sorted({*columns.respected(places, step), *page} - {0, text.shape[1]})  # no cut at the edges
    parts = linking.cut_at_gutters(parts, gutters, ink, step)
    chains = linking.link(parts, ruled, step, gutters)
    centres = [outlines.centre_line(chain, usual) for chain in chains]
    centres = [outlines.extended(centre, taken, ruled, ink, step) for centre in centres]
    centres = [centre for centre in centres if len(centre.y) >= SHORTEST * step]
    places = [order.Place(c.left, c.right, float(c.y.mean())) for c in centres]
    centres = [centres[i] for i in order.reading_order(places, step, page)]
    edges = outlines.polygons(centres, text.shape, step)
    scale = (grey.shape[1] / text.shape[1], grey.shape[0] / text.shape[0])
    return [_found(centre, edge, scale, step) for centre, edge in zip(centres, edges, strict=True)]


def _found(
    centre: outlines.Centre, edges: tuple[np.ndarray, np.ndarray, int], scale: tuple[float, float], step: float
) -> Found:
    """Turn columns into points, in pixels of the page."""
    top, bottom, left = edges
    every = max(1, round(step / 2))

    def points(y: np.ndarray, start: int) -> list[tuple[int, int]]:
        columns = sorted({*range(0, len(y), every), len(y) - 1})
        return [(round((start + x + 0.5) * scale[0]), round((y[x] + 0.5) * scale[1])) for x in columns]

    polygon = (*points(top, left), *reversed(points(bottom, left)))
    return Found(tuple(points(centre.y + 0.25 * step, centre.left)), polygon)
