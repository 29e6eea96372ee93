"""Which of two grey levels is the ink: dark writing on light paper, light writing on a blackboard, paper amid black margins.

The background of a pixel is the median of its surroundings, which strokes are too thin to change. What differs from it is a
stroke: darker on paper, lighter on a blackboard.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from hwr.images import unlike

# Height in pixels at which an image is looked at, and the height of the median's window as a fraction of it.
LOOK, WINDOW = 48, 0.6

# Differences from the background up to this are grain, in grey levels.
GRAIN = 16

# A margin is at least this much darker (or lighter) than the paper, in grey levels.
MARGIN = 60

# A margin covers this fraction of the upper or lower side, or of the left or right side; there it is this wide at least, in
# heights of the image, because a thick letter may also fill a side.
LONG_SIDE, SHORT_SIDE, THICK = 0.6, 0.9, 0.35

# Margins on a smaller fraction of the image are ignored: it may be a rule under the line.
LEAST = 0.01

# If ink covered more of an image than this, there may be margins. A sheet of paper amid margins is a rectangle, filled to at
# least `SOLID`, and at least this fraction of the image.
MUCH, SOLID, SHEET = 0.12, 0.7, 0.25

# Energy of strokes is the sum of squared differences. Of light writing, it exceeds that of dark by this factor. In 3,600 lines
# of eleven collections the largest ratio of lines on paper is 1.2 and the next 0.4.
RATIO = 4.0

# The edge of the paper may be in the image; writing is also in the rows between these fractions of the height.
MIDDLE_ROWS = (0.2, 0.8)

# All grey levels, for lookup tables.
LEVELS = np.arange(256)


@dataclass(frozen=True)
class Polarity:
    """What an image looks like.

    Attributes:
        inverted: Whether the writing is lighter than the background.
        margin: (H, W) bool, margins to be painted over, in the image's pixels; None if there are none.
        paper: The grey level of the background of the writing, before inverting.
        written: Parts of another background with writing on them: half of the line in shadow, or inverted.
    """

    inverted: bool
    margin: np.ndarray | None
    paper: float
    written: tuple[unlike.Part, ...] = ()


def normalise(image: np.ndarray) -> np.ndarray:
    """Make an image dark on light and its margins paper. An ordinary image, dark writing on paper, is returned as it is.

    Positions stay: margins are painted over, not cropped.

    Args:
        image: (H, W) uint8.

    Returns:
        (H, W) uint8.
    """
    found = detect(image)
    if not found.inverted and found.margin is None and not found.written:
        return image
    out = image.copy()
    if found.margin is not None:
        out[found.margin] = np.uint8(round(found.paper))
    for part in found.written:
        unlike.bring(out, part, found.paper)
    if found.inverted:
        # The background becomes white; differences from it stay.
        out = cv2.LUT(out, np.clip(255 + found.paper - LEVELS, 0, 255).astype(np.uint8))
    return out


def describe(image: np.ndarray) -> str:
    """What is unusual about an image, for a list of suspicious lines; "" of dark writing on paper."""
    found = detect(image)
    what = ["light writing on a dark background"] if found.inverted else []
    if found.margin is not None:
        colour = "white" if found.inverted else "black"
        what.append(f"{colour} margins on {found.margin.mean():.0%} of the image")
    what += [f"writing on another background on {part.area.mean():.0%} of the image" for part in found.written]
    return " and ".join(what)


def detect(image: np.ndarray) -> Polarity:
    """Find the polarity and the margins of a line image, (H, W) uint8."""
    h, w = image.shape
    low, middle, high = np.percentile(image[:: max(1, h // 64), :: max(1, w // 2048)], (1, 50, 99))
    sides = _have_margins(image, low, middle, high)
    if not sides and high - middle <= max(GRAIN, (middle - low) / 2):
        return Polarity(False, None, middle)
    if not sides:
        return _without_margins(image)
    top, bottom, left, right = _inner(image)
    inner = image[top:bottom, left:right]
    found = _on_sheet(inner) or _with_margins(inner) or _without_margins(inner)
    margin = np.zeros(image.shape, bool)
    if found.margin is not None:
        margin[top:bottom, left:right] = found.margin
    for part in (np.s_[:top], np.s_[bottom:], np.s_[top:bottom, :left], np.s_[top:bottom, right:]):
        if image[part].size and abs(float(np.median(image[part])) - found.paper) >= MARGIN:
            margin[part] = True
    if margin.mean() < LEAST:
        return Polarity(found.inverted, None, found.paper)
    written = unlike.parts(image, margin, found.inverted, found.paper)
    for own in written:
        margin &= ~own.area
    return Polarity(found.inverted, margin if margin.any() else None, found.paper, written)


def _without_margins(image: np.ndarray) -> Polarity:
    low, middle, high = np.percentile(image, (1, 50, 99))
    small = _small(image)
    rows = slice(*(round(share * small.shape[0]) for share in MIDDLE_ROWS))
    dark, light = (energy[rows] for energy in _energies(small, _background(small)))
    inverted = float(light.sum()) > RATIO * float(dark.sum())
    # Without any strokes, a dark image is an empty blackboard.
    inverted |= not dark.any() and not light.any() and middle < 255 - 2 * MARGIN and high - low < MARGIN
    return Polarity(bool(inverted), None, float(middle))


def _small(image: np.ndarray) -> np.ndarray:
    """The image, at most `LOOK` pixels high."""
    h, w = image.shape
    factor = min(1.0, LOOK / h)
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _inner(image: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is inside the margins that are straight."""

    def peeled(lines: np.ndarray) -> int:
        """Number of the first rows that are all of the first row's level, if paper of another level follows."""
        if not lines.size:
            return 0
        level = np.median(lines[0])
        plain = (np.abs(lines.astype(np.int16) - level) <= 2 * GRAIN).mean(1) >= SHORT_SIDE
        end = int(np.argmin(plain))
        after = lines[end : end + 1 + end // 8]  # the margin's edge may be blurred
        return end if end and len(after) and abs(float(np.median(after)) - level) >= MARGIN else 0

    top, bottom = peeled(image), image.shape[0] - peeled(image[::-1])
    middle = image[top:bottom].T
    left, right = peeled(middle), image.shape[1] - peeled(middle[::-1])
    if top >= bottom or left >= right:  # two levels and nothing between them
        return 0, image.shape[0], 0, image.shape[1]
    return top, bottom, left, right


def _have_margins(image: np.ndarray, low: float, middle: float, high: float) -> bool:
    """Whether there may be margins: a side differs from the middle, or is dark in an image that has light parts.

    Light margins may also enclose a dark background, which is then more of the image than ink is.
    """
    sides = [float(np.median(side)) for side in (image[0], image[-1], image[:, 0], image[:, -1])]
    levels = [*sides, middle]
    dark = float((image[::4, ::4] < (low + high) / 2).mean()) if high - low >= MARGIN else 0.0
    return max(levels) - min(levels) >= MARGIN or high - min(sides) >= MARGIN or dark > MUCH


def _background(small: np.ndarray) -> np.ndarray:
    """(H, W) uint8: each pixel's background."""
    return np.asarray(cv2.medianBlur(small, max(3, int(small.shape[0] * WINDOW) | 1)))


def _energies(small: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float, the energies of dark and of light strokes."""
    away = small.astype(np.float64) - background
    return np.maximum(-away - GRAIN, 0) ** 2, np.maximum(away - GRAIN, 0) ** 2


def _with_margins(image: np.ndarray) -> Polarity | None:
    """The polarity of an image with margins; None if it has none."""
    small = _small(image)
    background = _background(small)
    limit, light_area = cv2.threshold(background, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    areas: dict[Literal["dark", "light"], np.ndarray] = {"dark": light_area == 0, "light": light_area > 0}
    if not areas["dark"].any() or not areas["light"].any():
        return None
    levels = {key: float(np.median(background[area])) for key, area in areas.items()}
    if levels["light"] - levels["dark"] < MARGIN:
        return None
    dark, light = _energies(small, background)
    # Where two backgrounds meet, both have what looks like strokes of the other.
    near = np.ones((max(3, small.shape[0] // 8) | 1,) * 2, np.uint8)
    inside = {key: cv2.erode(area.astype(np.uint8), near) > 0 for key, area in areas.items()}
    on_light, on_dark = float(dark[inside["light"]].sum()), float(light[inside["dark"]].sum())
    inverted = on_dark > RATIO * on_light
    paper: Literal["dark", "light"] = "dark" if inverted else "light"
    other: Literal["dark", "light"] = "light" if inverted else "dark"
    strokes = dark if paper == "light" else light
    # A shadow has writing in it, and is not as dark as the ink.
    written, own = strokes[inside[paper]], strokes[inside[other]]
    if not written.size or (own.size and (not written.any() or own.mean() > 0.1 * written.mean())):
        return None
    ink = np.percentile(small[inside[paper]], 1 if paper == "light" else 99)
    if abs(levels[other] - levels[paper]) < 0.75 * abs(ink - levels[paper]):
        return None
    margin = _at_sides(areas[other])
    if not margin.any():
        return None
    return Polarity(inverted, _full(margin, image, limit, other == "dark"), levels[paper])


def _full(margin: np.ndarray, image: np.ndarray, limit: float, dark: bool, beside: int = 16) -> np.ndarray:
    """A margin in the image's own pixels: what is beyond the limit belongs to it, also a little beside it (the height / `beside`).

    The margin was found in a small picture, in which its edge is blurred and its corners are round.
    """
    full = cv2.resize(margin.astype(np.uint8), (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST) > 0
    reach = np.ones((2 * max(1, image.shape[0] // beside) + 1,) * 2, np.uint8)
    own = image < limit if dark else image > limit
    return np.asarray(full | (own & (cv2.dilate(full.astype(np.uint8), reach) > 0)))


def _on_sheet(image: np.ndarray) -> Polarity | None:
    """The polarity of an image of a skewed sheet amid margins; None if there is none."""
    small = _small(image)
    limit, light = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    for of_sheet, inverted in ((light, False), (255 - light, True)):
        number, parts, stats, _ = cv2.connectedComponentsWithStats(of_sheet)
        if number < 2:
            continue
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        corners = cv2.boxPoints(cv2.minAreaRect(np.argwhere(parts == largest)[:, ::-1].astype(np.float32)))
        rectangle = np.zeros(small.shape, np.uint8)
        cv2.fillConvexPoly(rectangle, np.rint(corners).astype(np.int32), (1.0,))
        inside, outside = rectangle > 0, rectangle == 0
        if (
            outside.mean() < LEAST
            or inside.mean() < SHEET
            or of_sheet[inside].mean() < 255 * SOLID
            or of_sheet[outside].mean() > 255 * (1 - SHORT_SIDE)
        ):
            continue
        paper, level = float(np.median(small[inside])), float(np.median(small[outside]))
        strokes, others = _strokes(small, inside, paper), _strokes(small, outside, level)
        # As in `_with_margins`, a shadow has writing in it, and is not as dark as the ink.
        ink = np.percentile(small[inside], 99 if inverted else 1)
        if (
            strokes[inverted] > RATIO * strokes[not inverted]
            and others[inverted] <= 0.1 * strokes[inverted]
            and abs(level - paper) >= max(MARGIN, 0.75 * abs(ink - paper))
        ):
            return Polarity(inverted, _full(outside, image, limit, not inverted, 40), paper)
    return None


def _strokes(small: np.ndarray, area: np.ndarray, level: float) -> list[float]:
    """The mean energies of dark and of light strokes in an area, of which `level` is the background."""
    alone = np.where(area, small, np.uint8(level))
    return [float(energy[area].mean()) for energy in _energies(alone, _background(alone))]


def _at_sides(area: np.ndarray) -> np.ndarray:
    """(H, W) bool: the connected parts of an area that cover a side of the image."""
    h, w = area.shape
    _, parts = cv2.connectedComponents(area.astype(np.uint8), connectivity=4)
    out = np.zeros(area.shape, bool)
    for part in {int(p) for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1]) for p in np.unique(side)} - {0}:
        own = parts == part
        long = max(own[0].mean(), own[-1].mean()) >= LONG_SIDE
        short = max(own[:, 0].mean(), own[:, -1].mean()) >= SHORT_SIDE and own.any(0).sum() >= min(THICK * h, w / 2)
        if long or short:
            out |= own
    return out
