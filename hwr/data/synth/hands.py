"""Writers of stroke letters: their letter forms, pen and paper.

The letters are skeletons of the Hershey fonts (A. V. Hershey, "Calligraphy for Computers", U.S. Naval Weapons
Laboratory, 1967), by way of the PyPI package Hershey-Fonts. A writer (`Hand`) is a choice of faces, each letter bent in
a way of its own, with a pen and a paper.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from HersheyFonts import HersheyFonts

from hwr.alphabet import ORIGINAL

SUPERSAMPLING = 2  # drawn at this multiple of the final size, so that a pen can be a fraction of a pixel wider
BASELINE = 9  # of every Hershey face, in its units (y points down); capitals are 21 units high
X_HEIGHT = 11  # units, of the small letters of every face here, so that a hand can mix them


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


def bend(points: np.ndarray, rng: np.random.Generator, reach: float, shortest: float, longest: float) -> np.ndarray:
    """Displace (P, 2) points smoothly: by waves of the given lengths, with a root mean square of `reach`."""
    waves = 6
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    wavenumber = 2 * np.pi / rng.uniform(shortest, longest, waves)
    sines = np.sin(points @ (np.stack([np.cos(angle), np.sin(angle)]) * wavenumber) + phase)  # (P, waves)
    return points + sines @ rng.normal(0, reach / np.sqrt(waves / 2), (waves, 2))


def make_hand(seed: int, *key: int) -> Hand:
    """Draw the hand of a writer of this seed, see `rng_of`."""
    rng = rng_of(seed, *key)
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
        points = bend(points, rng, 0.55 * strange, 14, 40)
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


def in_capitals(hand: Hand, size: float) -> Hand:
    """A hand whose small letters are its capitals, `size` times as large."""
    glyphs = dict(hand.glyphs)
    for character, glyph in hand.glyphs.items():
        if character.isupper():
            points, advance = glyph.points * size, glyph.advance * size
            glyphs[character.lower()] = replace(glyph, points=points, advance=advance)
    return replace(hand, glyphs=glyphs)


def _nib(length: float, width: float, angle: float) -> np.ndarray:
    """An ellipse with these axes in supersampled pixels: broad nibs make strokes thick one way and thin the other."""
    y, x = np.mgrid[-3:4, -3:4]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((2 * u / length) ** 2 + (2 * v / width) ** 2 <= 1).astype(np.uint8)
