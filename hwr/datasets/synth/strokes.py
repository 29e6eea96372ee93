"""A text -> an image of it, drawn by one of any number of writers.

The letters are skeletons of the Hershey fonts (A. V. Hershey, "Calligraphy for Computers", U.S. Naval Weapons
Laboratory, 1967), by way of the PyPI package Hershey-Fonts. A writer (`Hand`) is a choice of faces, each letter bent in
a way of its own, with a pen and a paper; a line bends each letter once more, and then all of itself smoothly.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from HersheyFonts import HersheyFonts

from hwr import Error
from hwr.alphabet import ORIGINAL

SUPERSAMPLING = 2  # drawn at this multiple of the final size, so that a pen can be a fraction of a pixel wider
LEAST_HEIGHT = 50  # px
BASELINE = 9  # of every Hershey face, in its units (y points down); capitals are 21 units high
X_HEIGHT = 11  # units, of the small letters of every face here, so that a hand can mix them

# --- Hands ---


@dataclass(frozen=True)
class Glyph:
    """A character's skeleton in Hershey units: x from where the pen starts, y down from the base line.

    Attributes:
        points: (P, 2) float64, the points of all strokes, one stroke after the other.
        sizes: Number of points of each stroke.
        advance: How far the pen moves on.
        joins: Whether it runs into a neighbour that joins, too.
    """

    points: np.ndarray
    sizes: tuple[int, ...]
    advance: float
    joins: bool


@dataclass(frozen=True)
class Hand:
    """One writer: letter forms, pen and paper. Lengths are Hershey units (a capital is 21 high) unless said otherwise.

    Attributes:
        glyphs: By character; all of the original 80 but the space.
        size: Pixels per unit.
        slant: Horizontal shift per unit of height, forwards positive.
        wobble: How unsteady the hand is, about 0.5 (calm) to 1.3.
        letter_gap: Added between letters.
        word_gap: Width of a space.
        slope: Rise of the base line per unit of width.
        nib: The pen's shape at `SUPERSAMPLING`, uint8, 0 or 1.
        ink: Grey level where the ink is full, 0 to 255.
        fade: Share of the ink that comes and goes along the line, 0 to 1.
        grain: Share of the ink that the paper's grain takes away, 0 (ink) to 1 (pencil).
        paper: Grey level of the paper.
        noise: Standard deviation of the paper's grain, grey levels.
    """

    glyphs: dict[str, Glyph]
    size: float
    slant: float
    wobble: float
    letter_gap: float
    word_gap: float
    slope: float
    nib: np.ndarray
    ink: float
    fade: float
    grain: float
    paper: float
    noise: float


def rng_of(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of writer `key[0]`, or of its line `key[1]`: no other writer or line changes them."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@cache
def _face(name: str) -> dict[str, Glyph]:
    """A Hershey face, resampled to steps of about two units, its corners rounded, its small letters X_HEIGHT high."""
    font = HersheyFonts()
    font.load_default_font(name)
    script = name == "scripts"
    glyphs = {}
    for character in ORIGINAL.replace(" ", ""):
        source = font.all_glyphs[character]
        strokes = [_round(np.array(s, float) - (source.left_offset, BASELINE)) for s in source.strokes]
        points, wider = np.concatenate(strokes), 1.0
        if character.islower():  # the font's own: 9 units high and descenders of 12 (script), 14 and 7 (print)
            cut, wider = (9, 1.1) if script else (14, 0.9)
            points = _zones(points, cut, (21 - X_HEIGHT) / (21 - cut), X_HEIGHT / cut, 10 / 12 if script else 9 / 7)
        elif character == "-":  # the font's is a minus sign, as long as a dash
            wider = 0.55
        sizes = tuple(len(s) for s in strokes)
        glyphs[character] = Glyph(points * (wider, 1), sizes, wider * source.char_width, script and character.islower())
    return glyphs


def _zones(points: np.ndarray, cut: float, above: float, middle: float, below: float) -> np.ndarray:
    """Stretch (P, 2) points vertically: by `middle` between base line and height `cut`, and beyond."""
    x, y = points.T
    y = middle * np.clip(y, -cut, 0) + above * np.minimum(y + cut, 0) + below * np.maximum(y, 0)
    return np.stack([x, y], axis=1)


def _round(stroke: np.ndarray) -> np.ndarray:
    lengths = np.r_[0, np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))]
    if lengths[-1] < 8:  # a dot or a comma, which smoothing would wear away
        return stroke
    steps = np.linspace(0, lengths[-1], int(lengths[-1] / 2) + 2)
    stroke = np.stack([np.interp(steps, lengths, stroke[:, i]) for i in (0, 1)], axis=1)
    for _ in range(2):
        stroke[1:-1] = (stroke[:-2] + 2 * stroke[1:-1] + stroke[2:]) / 4
    return stroke


def _bend(points: np.ndarray, rng: np.random.Generator, reach: float, shortest: float, longest: float) -> np.ndarray:
    """Displace (P, 2) points smoothly: by waves of the given lengths, with a root mean square of `reach`."""
    waves = 6
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    wavenumber = 2 * np.pi / rng.uniform(shortest, longest, waves)
    sines = np.sin(points @ (np.stack([np.cos(angle), np.sin(angle)]) * wavenumber) + phase)  # (P, waves)
    return points + sines @ rng.normal(0, reach / np.sqrt(waves / 2), (waves, 2))


def make_hand(seed: int, writer: int) -> Hand:
    """Draw writer number `writer` of this seed."""
    rng = rng_of(seed, writer)
    # Small letters printed, joined or some of each. Script capitals are rare even in joined hands, and the script face's
    # digits and signs have thick strokes that are drawn double, so they are always printed.
    style = rng.choice(["print", "script", "mixed"], p=[0.4, 0.35, 0.25])
    small_script = {"print": 0.0, "script": 1.0, "mixed": rng.uniform(0.2, 0.8)}[style]
    large_script = 1.0 if style == "script" and rng.random() < 0.35 else 0.0
    plain, slanted = _face(str(rng.choice(["futural", "rowmans"]))), _face("scripts")

    squeeze = rng.uniform(0.68, 0.92) if style == "print" else rng.uniform(0.78, 1.05)
    zones = rng.uniform([0.9, 0.85, 0.8], [1.2, 1.2, 1.2])  # ascenders, small letters, descenders
    strange = rng.uniform(0.4, 1.0)  # how far this writer's letters are from the font's
    glyphs = {}
    for character in plain:
        share = small_script if character.islower() else large_script if character.isupper() else 0.0
        glyph = (slanted if rng.random() < share else plain)[character]
        points = glyph.points @ (np.eye(2) + strange * rng.normal(0, 0.05, (2, 2)))
        points = _bend(points, rng, 0.55 * strange, 14, 40)
        points = _zones(points, X_HEIGHT, *zones) * (squeeze, 1)
        advance = squeeze * glyph.advance * (1 + 0.04 * strange * rng.normal())
        glyphs[character] = Glyph(points, glyph.sizes, advance, glyph.joins)

    width, thinness, angle = rng.uniform([2.5, 0.6, 0], [5.2, 1, np.pi])
    ink = rng.uniform(15, 95)
    return Hand(
        glyphs=glyphs,
        size=rng.uniform(1.4, 1.85),
        slant=rng.uniform(-0.12, 0.45) if style == "print" else rng.uniform(-0.3, 0.25),
        wobble=rng.uniform(0.5, 1.3),
        letter_gap=rng.uniform(-1.8, 1.2) if style == "print" else rng.uniform(-0.4, 0.4),
        word_gap=rng.uniform(11, 20),
        slope=rng.normal(0, 0.005),
        nib=_nib(width, width * thinness, angle),
        ink=ink,
        fade=rng.uniform(0.05, 0.3),
        grain=rng.uniform(0, 0.25) if ink < 70 else rng.uniform(0.1, 0.5),
        paper=rng.uniform(236, 252),
        noise=rng.uniform(0.8, 3.5),
    )


def _nib(length: float, width: float, angle: float) -> np.ndarray:
    """An ellipse with these axes in supersampled pixels: broad nibs make strokes thick one way and thin the other."""
    y, x = np.mgrid[-3:4, -3:4]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((2 * u / length) ** 2 + (2 * v / width) ** 2 <= 1).astype(np.uint8)


# --- Lines ---


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
    points = _bend(points, rng, 0.55 * hand.wobble, 12, 45)
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
