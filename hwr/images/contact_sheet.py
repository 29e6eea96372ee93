"""`hwr augment`: an image that shows lines and their augmentation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hwr.config import Augment
from hwr.data import Line
from hwr.images import augment
from hwr.images.cache import Images
from hwr.images.geometry import Geometry
from hwr.system.atomic import replacing

GAP = 2  # pixels between two lines
GREY = 128


def spread(lines: Sequence[Line], number: int) -> list[Line]:
    """At most `number` lines, evenly spaced."""
    return [lines[i] for i in np.unique(np.linspace(0, len(lines) - 1, number).astype(int))]


def write(
    path: str | Path,
    lines: Sequence[Line],
    images: Images,
    geometry: Geometry,
    ranges: Augment,
    seed: int,
    times: int,
) -> None:
    """Draw lines, each followed by `times` augmented versions, as in training (PNG).

    Args:
        images: The lines, prepared for this geometry.
        ranges: The ranges of the augmentation.
    """
    rows: list[np.ndarray] = []
    for i, line in enumerate(lines):
        drawn = [(epoch, i) for epoch in range(times)]
        index = np.full(times, i)
        # With any alphabet, a text needs as many time steps.
        label = np.array([*map(ord, geometry.written(line.text))])
        warps = augment.draw(
            ranges,
            images.height,
            images.widths[index],
            seed,
            drawn,
            centred=geometry.any_width,
            least=geometry.least_widths([label] * times),
        )
        warped = np.rint(augment.apply(images.batch(index), warps) * 255).astype(np.uint8)
        rows.append(images[i])
        rows += [row[:, :width] for row, width in zip(warped, warps.widths, strict=True)]
    sheet = np.full(((images.height + GAP) * len(rows), max(row.shape[1] for row in rows)), GREY, np.uint8)
    for place, row in enumerate(rows):
        top = place * (images.height + GAP)
        sheet[top : top + images.height, : row.shape[1]] = row
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")
