"""A text -> an image of it, drawn with a pen by one of any number of writers.

The letters are those of `hands`; a line bends each letter once more, and then all of itself smoothly.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hwr import Error
from hwr.data.synth.hands import SUPERSAMPLING, Hand, bend

LEAST_HEIGHT = 50  # px


@dataclass(frozen=True)
class Drawing:
    """A line on paper.

    Attributes:
        image: (H, W) uint8, dark ink on light paper; H is at least 50.
        boxes: (characters without spaces, 4) int: x, y, width, height in pixels.
        threshold: Grey level below which is ink: it is nearer to the paper's, as thin strokes are pale.
    """

    image: np.ndarray
    boxes: np.ndarray
    threshold: int


@dataclass(frozen=True)
class Trace:
    """A line of ink without paper.

    Attributes:
        cover: (H, W) float32, how much of each pixel is under ink, 0 to 1; H is at least 50.
        points: (P, 2) float64, the points of all strokes in pixels.
        owner: (P,) int, the number of the character, spaces not counted, that each belongs to.
    """

    cover: np.ndarray
    points: np.ndarray
    owner: np.ndarray


def draw(text: str, hand: Hand, rng: np.random.Generator) -> Drawing:
    """Write `text` by `hand`, on paper.

    Raises:
        Error: `text` is blank or has a character that the hand can't write.
    """
    found = trace(text, hand, rng)
    points, owner = found.points, found.owner
    image = _paper(found.cover, hand, rng)
    boxes = np.zeros((owner[-1] + 1, 4), int)
    for i in range(len(boxes)):
        mine = points[owner == i]
        start, end = np.floor(mine.min(axis=0) - 3), np.ceil(mine.max(axis=0) + 3)
        boxes[i] = *start, *(end - start)
    return Drawing(image, boxes, int((hand.ink + 2 * hand.paper) / 3))


def trace(text: str, hand: Hand, rng: np.random.Generator) -> Trace:
    """Write `text` by `hand`: its ink alone.

    Raises:
        Error: `text` is blank or has a character that the hand can't write.
    """
    unknown = sorted(set(text) - set(hand.glyphs) - {" "})
    if unknown or not text.strip():
        raise Error(f"{text!r} can't be drawn: it must have characters of the original 80 and nothing else")
    strokes, owner = _strokes(text, hand, rng)
    sizes = [len(stroke) for stroke in strokes]
    points, owner = np.concatenate(strokes), np.repeat(owner, sizes)

    # The line as a whole: unsteady, slanted (not quite evenly), on a base line that drifts.
    points = bend(points, rng, 0.55 * hand.wobble, 12, 45)
    x, y = points.T
    sway, drift = rng.uniform(0, 2 * np.pi, 2)
    x = x - y * (hand.slant + 0.04 * hand.wobble * np.sin(x / 45 + sway))
    y = y - (hand.slope + rng.normal(0, 0.002)) * x + hand.wobble * np.sin(x / rng.uniform(40, 90) + drift)
    points = np.stack([x, y], axis=1) * hand.size  # pixels

    margin = 6 + rng.uniform(0, 5, 4)  # the pen reaches at most 3 px beyond its path
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = np.ceil(high - low + margin[:2] + margin[2:]).astype(int)
    lack = max(0, LEAST_HEIGHT - height)
    points += margin[:2] - low + (0, lack / 2)
    cover = _ink(np.split(points, np.cumsum(sizes)[:-1]), hand.nib, (height + lack, width), rng)
    return Trace(cover, points, owner)


def _strokes(text: str, hand: Hand, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """The strokes of all characters in a row, in units, and the number of the character that each belongs to."""
    strokes: list[np.ndarray] = []
    owner: list[int] = []
    pen, number = 0.0, 0
    ends: list[np.ndarray] = []  # of the strokes of the letter before, if that is a joining one
    letters = hand.wobble * rng.normal(0, (0.05, 0.03, 0.03, 0.05, 0.4, 0.4), (len(text), 6))
    for character, (xx, xy, yx, yy, dx, dy) in zip(text, letters, strict=True):
        if character == " ":
            pen += hand.word_gap * np.exp(rng.normal(0, 0.15))
            ends = []
            continue
        glyph = hand.glyphs[character]
        points = glyph.points @ ((1 + xx, xy), (yx, 1 + yy)) + (pen + dx, dy)
        parts = np.split(points, np.cumsum(glyph.sizes)[:-1])
        before, ends = ends, [end for part in parts for end in (part[0], part[-1])] if glyph.joins else []
        if glyph.joins and before:
            # A joined hand doesn't lift the pen: bridge the gap that bending has torn between two letters.
            gaps = np.hypot(*(np.array(before)[:, None] - points).T).T  # (ends before, points)
            i, j = np.unravel_index(gaps.argmin(), gaps.shape)
            if gaps[i, j] < 5:
                parts.append(np.stack([before[i], points[j]]))
        strokes += parts
        owner += [number] * len(parts)
        pen += glyph.advance + hand.letter_gap + 0.35 * hand.wobble * rng.normal()
        number += 1
    return strokes, np.array(owner)


def _ink(strokes: list[np.ndarray], nib: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """How much of each pixel is under ink: (H, W) float32, 0 to 1. `strokes` are in pixels."""
    canvas = np.zeros((shape[0] * SUPERSAMPLING, shape[1] * SUPERSAMPLING), np.uint8)
    fixed = [np.round(stroke * (SUPERSAMPLING * 16)).astype(np.int32) for stroke in strokes]  # 4 bits of fraction
    cv2.polylines(canvas, fixed, False, 255, 1, cv2.LINE_AA, 4)
    light = cv2.dilate(canvas, nib)
    heavy = cv2.dilate(light, np.ones((2, 2), np.uint8))
    light, heavy = (cv2.resize(c, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) for c in (light, heavy))
    # The pressure changes as the hand moves on: half a pixel more or less.
    press = np.clip(0.5 + 0.6 * _clouds(rng, 3 + shape[1] // 40, *shape), 0, 1)
    return (light + press * (heavy - light)) / 255


def _clouds(rng: np.random.Generator, columns: int, height: int, width: int) -> np.ndarray:
    """Smooth noise of about unit variance, (height, width) float32."""
    coarse = rng.standard_normal((3, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def _paper(cover: np.ndarray, hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Put ink on paper: (H, W) cover, 0 to 1 -> (H, W) uint8 grey."""
    grain = rng.standard_normal(cover.shape, dtype=np.float32)
    density = 1 - hand.fade * np.clip(np.abs(_clouds(rng, 3 + cover.shape[1] // 25, *cover.shape)) / 2, 0, 1)
    density *= 1 - hand.grain * np.clip(np.abs(grain) / 2, 0, 1)
    paper = hand.paper + 2 * _clouds(rng, 6, *cover.shape)
    grey = paper - cover * density * (paper - hand.ink) + hand.noise * grain
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)
