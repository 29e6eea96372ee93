"""`hwr augment`: a picture of lines and their warps, for a person to look at."""

from pathlib import Path

import numpy as np
from PIL import Image

from hwr import data
from hwr.atomic import replacing
from hwr.config import Config
from hwr.evaluation.evaluate import lines_of
from hwr.images import augment, cache

GAP = 2  # pixels between two pictures
GREY = 128


def write(path: str | Path, config: Config, split: str, lines: int, times: int) -> None:
    """Draw lines of a split, each as it is and then warped `times` times, drawn as training draws its warps.

    Args:
        lines: So many at most, spread evenly over the split.
    """
    chosen = lines_of(data.read(config.data), split, config)
    chosen = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, lines).astype(int))]
    images = cache.prepared(chosen, config, progress=True)
    rows: list[np.ndarray] = []
    for i in range(len(images)):
        drawn = [(epoch, i) for epoch in range(times)]
        index = np.full(times, i)
        warps = augment.draw(
            config.augment,
            images.height,
            images.widths[index],
            config.train.seed,
            drawn,
            centred=config.model.any_width,
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
