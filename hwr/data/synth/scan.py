"""Ink on paper -> what a scanner or a camera makes of it."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hwr.data.synth.paper import Sheet, lay
from hwr.data.synth.writers import Ink

HIGHEST = 64  # px, of a line


@dataclass(frozen=True)
class Camera:
    """How a writer's lines are taken; each line departs a little.

    Attributes:
        kind: grey | binary: black on white by a threshold | cleaned: grey ink on paper made white.
        height: px, of a usual line.
        blur: Standard deviation, px of the drawn line, before it is shrunk.
        uneven: How much darker than the lightest place of a line the darkest is, 0 to 1.
        contrast: Share of the contrast that is left.
        jpeg: Quality in percent, or None.
        noise: Standard deviation, grey levels.
    """

    kind: str
    height: float
    blur: float
    uneven: float
    contrast: float
    jpeg: int | None
    noise: float


def make_camera(rng: np.random.Generator) -> Camera:
    """Draw a way to take lines."""
    small = rng.random() < 0.08
    return Camera(
        kind=str(rng.choice(["grey", "binary", "cleaned"], p=[0.55, 0.15, 0.3])),
        height=rng.uniform(28, 40) if small else rng.uniform(42, 70),
        blur=rng.uniform(0, 0.8) if rng.random() < 0.8 else rng.uniform(0.8, 1.4),
        uneven=rng.uniform(0, 0.08) if rng.random() < 0.65 else rng.uniform(0.08, 0.35),
        contrast=1.0 if rng.random() < 0.7 else rng.uniform(0.5, 1),
        jpeg=int(rng.integers(25, 92)) if rng.random() < 0.5 else None,
        noise=rng.uniform(0, 3),
    )


def photograph(ink: Ink, sheet: Sheet, camera: Camera, characters: int, rng: np.random.Generator) -> np.ndarray:
    """Put a line's ink on its sheet and take its picture: see `take`."""
    # No pen is equally dark.
    own = replace(sheet, ink=float(np.clip(sheet.ink + rng.normal(0, 8), 0, 0.8 * sheet.paper)))
    return take(lay(ink, own, rng), own.ink, own.paper, camera, characters, rng)


def take(
    grey: np.ndarray, ink: float, paper: float, camera: Camera, characters: int, rng: np.random.Generator
) -> np.ndarray:
    """Take a picture of a line.

    Args:
        grey: (H, W) float32 grey levels.
        ink: Grey level of the ink.
        paper: Grey level of the paper.
        camera: How.
        characters: Of its text: a line is never so narrow that they'd run together.

    Returns:
        (height, width) uint8, at most `HIGHEST` px high.
    """
    if camera.blur > 0.25:
        grey = cv2.GaussianBlur(grey, (0, 0), camera.blur * rng.uniform(0.7, 1.3))
    if camera.uneven > 0.01:
        grey = grey * _light(grey.shape, camera.uneven, rng)
    if camera.kind != "grey":
        # Thin, faded strokes are lighter than their ink, and have to stay.
        ink = max(ink, float(np.percentile(grey, 5)))
    if camera.kind == "binary":
        grey = _binary(grey, ink, paper, camera.uneven, rng)
    elif camera.kind == "cleaned":
        # Paper lighter than the threshold turns white, and the ink keeps its shades, as in IAM.
        threshold = ink + rng.uniform(0.6, 0.85) * (paper - ink)
        soft = np.clip((threshold - grey) / (0.15 * (paper - ink) + 1) + 0.5, 0, 1)
        grey = 255 - soft * (255 - np.minimum(grey * rng.uniform(0.6, 1), 250))
    elif camera.contrast < 1:
        grey = paper - camera.contrast * (paper - grey)
    height = round(min(HIGHEST, max(22, camera.height * rng.uniform(0.9, 1.1))))
    width = grey.shape[1] * height / grey.shape[0]
    width = round(max(width, (1.3 * characters + 2) * max(5.0, height / 8)))
    how = cv2.INTER_NEAREST if camera.kind == "binary" and rng.random() < 0.12 else cv2.INTER_AREA
    small = cv2.resize(grey.astype(np.float32), (width, height), interpolation=how)
    if camera.kind == "grey":
        small = small + camera.noise * rng.standard_normal(small.shape, dtype=np.float32)
    pixels = np.clip(np.round(small), 0, 255).astype(np.uint8)
    if camera.jpeg and camera.kind != "binary":
        _, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return pixels


def _light(shape: tuple[int, ...], uneven: float, rng: np.random.Generator) -> np.ndarray:
    """Factors of 1 - uneven to 1: a slope of light, or a shadow's edge."""
    height, width = shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * x + np.sin(angle) * y * 0.4
    if rng.random() < 0.25:
        slope = np.tanh((slope - rng.uniform(-0.7, 0.7)) * rng.uniform(3, 20))
    slope = slope - slope.min()
    return 1 - uneven * slope / max(float(slope.max()), 1e-6)


def _binary(grey: np.ndarray, ink: float, paper: float, uneven: float, rng: np.random.Generator) -> np.ndarray:
    """Black on white, by Otsu's threshold, by a fixed one, or by one that follows the neighbourhood's mean."""
    pixels = np.clip(grey, 0, 255).astype(np.uint8)
    # One threshold for all would make a shadow black.
    kind = rng.random() if uneven * paper < 0.3 * (paper - ink) else 1.0
    if kind < 0.5:
        return cv2.threshold(pixels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
    if kind < 0.8:
        level = ink + rng.uniform(0.4, 0.75) * (min(paper, float(np.median(pixels))) - ink)
        return np.where(pixels < level, 0, 255).astype(np.uint8)
    less = max(6.0, 0.22 * (paper - ink))
    return cv2.adaptiveThreshold(pixels, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 41, less)
