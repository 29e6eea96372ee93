"""Ink -> ink on paper: pens, pencils, rulings, stains, shades, and what shows through from the other side."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hwr.data.synth.writers import Ink, clouds

RULINGS = ("plain", "ruled", "squared")


@dataclass(frozen=True)
class Sheet:
    """What a writer writes with and on. Grey levels are 0 to 255; lengths are multiples of the height of small letters.

    Attributes:
        ink: Grey level where the ink is full.
        grain: Share of the ink that the paper's grain takes away, 0 (ink) to 1 (pencil).
        fade: Share of the ink that comes and goes along the line, 0 to 1.
        paper: Grey level of the paper.
        noise: Standard deviation of the paper's grain, grey levels.
        uneven: Standard deviation of the paper's smooth shades, grey levels.
        ruling: One of `RULINGS`.
        ruling_grey: How much darker the ruling is than the paper, grey levels.
        ruling_width: px.
        pitch: Distance of neighbouring lines.
        through: Share of the other side's ink that shows, 0 to 1.
        stains: Probability of stains on a line.
        crowded: Probability that the neighbouring lines' ink reaches into a line.
    """

    ink: float
    grain: float
    fade: float
    paper: float
    noise: float
    uneven: float
    ruling: str
    ruling_grey: float
    ruling_width: int
    pitch: float
    through: float
    stains: float
    crowded: float


def make_sheet(rng: np.random.Generator) -> Sheet:
    """Draw a pen and a paper."""
    clean = rng.random() < 0.45  # a modern scan of white paper, or a photo of something older
    paper = rng.uniform(238, 255) if clean else rng.uniform(150, 240)
    pencil = rng.random() < 0.2
    faded = rng.random() < 0.2
    darkest = 0.05 if not (pencil or faded) else 0.35
    return Sheet(
        ink=paper * rng.uniform(darkest, 0.45 if darkest < 0.1 else 0.65),
        grain=rng.uniform(0.3, 0.8) if pencil else rng.uniform(0, 0.25),
        fade=rng.uniform(0.1, 0.6) if faded else rng.uniform(0, 0.3),
        paper=paper,
        noise=rng.uniform(0, 3) if clean else rng.uniform(1, 8),
        uneven=rng.uniform(0, 1.5) if clean else rng.uniform(1, 8),
        ruling=str(rng.choice(RULINGS, p=[0.6, 0.3, 0.1])),
        ruling_grey=rng.uniform(8, 70) if rng.random() < 0.8 else rng.uniform(70, 130),
        ruling_width=int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1])),
        pitch=rng.uniform(2.6, 5.0),
        through=rng.uniform(0.05, 0.35) if not clean and rng.random() < 0.35 else 0.0,
        stains=0.02 if clean else rng.uniform(0, 0.3),
        crowded=rng.uniform(0, 0.6),
    )


def clean(sheet: Sheet) -> Sheet:
    """The sheet for a black and white scan: nobody keeps one whose stains and ruling came out black."""
    return replace(sheet, stains=0.1 * sheet.stains, uneven=min(sheet.uneven, 2.5), ruling_grey=0.5 * sheet.ruling_grey)


def lay(ink: Ink, sheet: Sheet, rng: np.random.Generator) -> np.ndarray:
    """Put a line of ink on paper and cut it out, too tight or too loose at times: (H, W) float32 grey levels."""
    cover, baseline = _cut(ink, sheet, rng)
    if rng.random() < sheet.crowded:
        cover = np.maximum(cover, _neighbours(ink, sheet, rng, cover.shape, baseline))
    shape = cover.shape
    ground = np.full(shape, sheet.paper, np.float32)
    ground += sheet.uneven * clouds(rng, shape[0] // 40 + 2, shape[1] // 70 + 2, shape)
    _rule(ground, sheet, ink.x_height, baseline, rng)
    if sheet.through:
        other = cv2.GaussianBlur(np.roll(cover[:, ::-1], int(rng.integers(shape[1])), 1), (0, 0), rng.uniform(1, 2.5))
        other = np.roll(other, int(rng.integers(-shape[0] // 2, shape[0] // 2 + 1)), 0)
        ground -= sheet.through * other * (ground - sheet.ink) * rng.uniform(0.3, 1)
    if rng.random() < sheet.stains:
        _stain(ground, rng)
    grain = rng.standard_normal(shape, dtype=np.float32)
    density = 1 - sheet.fade * np.clip(0.5 + 0.5 * clouds(rng, 2, shape[1] // 50 + 3, shape), 0, 1)
    rough = (
        np.clip(np.abs(cv2.GaussianBlur(grain, (0, 0), 0.8)) * 1.6, 0, 1) if sheet.grain > 0.25 else np.abs(grain) / 2
    )
    density *= 1 - sheet.grain * np.clip(rough, 0, 1)
    grey = ground - cover * density * (ground - sheet.ink)
    return grey + sheet.noise * grain


def _cut(ink: Ink, sheet: Sheet, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The part of the ink's canvas that is cut out, and its base line."""
    rows, columns = np.flatnonzero(ink.cover.max(1) > 0.3), np.flatnonzero(ink.cover.max(0) > 0.3)
    if not len(rows) or not len(columns):
        return ink.cover, ink.baseline
    kind = rng.random()
    low, high = (-0.18, 0.1) if kind < 0.15 else (0.05, 0.5) if kind < 0.75 else (0.3, 1.3)
    above, below = rng.uniform(low, high, 2) * ink.x_height
    before, after = rng.uniform(-1, 12, 2) if rng.random() < 0.8 else rng.uniform(5, 60, 2)
    # Of the neighbouring lines no more than what hangs down or stands up may come in: else it's unclear which is meant.
    top = max(rows[0] - above, ink.baseline - (sheet.pitch - 0.1) * ink.x_height)
    bottom = min(rows[-1] + below, ink.baseline + (sheet.pitch - 1.15) * ink.x_height)
    top, bottom = min(top, ink.baseline - 1.2 * ink.x_height), max(bottom, ink.baseline + 0.3 * ink.x_height)
    frame = np.round([top, bottom + 1, columns[0] - before, columns[-1] + 1 + after]).astype(int)
    height, width = ink.cover.shape
    pad = [int(max(0, n)) for n in (-frame[0], frame[1] - height, -frame[2], frame[3] - width)]
    padded = np.pad(ink.cover, ((pad[0], pad[1]), (pad[2], pad[3])))
    frame += [pad[0], pad[0], pad[2], pad[2]]
    return padded[frame[0] : frame[1], frame[2] : frame[3]], float(ink.baseline + pad[0] - frame[0])


def _neighbours(
    ink: Ink, sheet: Sheet, rng: np.random.Generator, shape: tuple[int, ...], baseline: float
) -> np.ndarray:
    """The lines above and below, as cover of this shape: the line's own ink, shifted along."""
    out = np.zeros(shape, np.float32)
    for side in (-1, 1):
        other = np.roll(ink.cover, int(rng.integers(ink.cover.shape[1])), 1)
        other = other[:, : shape[1]]
        start = round(baseline + side * sheet.pitch * ink.x_height * rng.uniform(0.95, 1.1) - ink.baseline)
        first, last = max(0, start), min(shape[0], start + other.shape[0])
        if first < last:
            part = out[first:last, : other.shape[1]]
            np.maximum(part, other[first - start : last - start], out=part)
    return out


def _rule(ground: np.ndarray, sheet: Sheet, x_height: float, baseline: float, rng: np.random.Generator) -> None:
    """Draw the ruling, in place."""
    if sheet.ruling == "plain":
        return
    height, width = ground.shape
    mark = np.zeros(ground.shape, np.uint8)
    step = sheet.pitch * x_height if sheet.ruling == "ruled" else rng.uniform(1.0, 2.2) * x_height
    first = baseline + rng.normal(0.1, 0.12) * x_height
    tilt = rng.normal(0, 0.004) * width
    for y in np.arange(first - step * (first // step), height, step):
        cv2.line(
            mark,
            (0, round(16 * (y - tilt))),
            (16 * width, round(16 * (y + tilt))),
            255,
            sheet.ruling_width,
            cv2.LINE_AA,
            4,
        )
    if sheet.ruling == "squared":
        for x in np.arange(rng.uniform(0, step), width, step):
            cv2.line(mark, (round(x), 0), (round(x), height), 255, sheet.ruling_width, cv2.LINE_AA)
    elif rng.random() < 0.06:
        x = round(rng.uniform(0, min(60, width)))  # the margin
        cv2.line(mark, (x, 0), (x, height), 255, sheet.ruling_width, cv2.LINE_AA)
    fade = 1.0 + 0.2 * clouds(rng, 2, width // 60 + 2, ground.shape)
    ground -= mark.astype(np.float32) / 255 * sheet.ruling_grey * fade


def _stain(ground: np.ndarray, rng: np.random.Generator) -> None:
    """Darken one to three blots, or a fold, in place."""
    height, width = ground.shape
    if rng.random() < 0.25:
        x = rng.uniform(0, width)
        near = np.exp(-(((np.arange(width) - x) / rng.uniform(1, 6)) ** 2)).astype(np.float32)
        ground -= rng.uniform(10, 50) * near
        return
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(0.1, 1.2) * height
        away = np.hypot(x - rng.uniform(0, width), (y - rng.uniform(0, height)) * rng.uniform(0.7, 1.4)) / radius
        away += 0.15 * clouds(rng, 4, width // 30 + 2, ground.shape)
        ground -= rng.uniform(8, 60) * np.clip(4 * (1 - away), 0, 1)
