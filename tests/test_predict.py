from collections.abc import Iterator
from pathlib import Path

import pytest

from hwr import checkpoint, config, datasets, predict
from hwr.evaluate import opened
from hwr.inputs import Target


def test_what_is_read_depends_on_neither_batches_nor_workers(model: Path, drawn: Path) -> None:
    loaded = checkpoint.load(model)
    engine = opened(loaded, loaded.config)
    dataset = datasets.read(config.Data(root=str(drawn)))
    targets = [Target(line.image) for line in (*dataset.train, *dataset.val, *dataset.test)]
    readings = []
    for size, workers in ((1, 1), (3, 4), (16, 2), (64, None)):
        settings = config.override(config.to_dict(loaded.config), [f"evaluate.batch_size={size}"])
        readings.append(list(predict.predict(engine, loaded.alphabet, settings, targets, workers)))
    assert [reading.target for reading in readings[0]] == targets
    assert len({reading.text for reading in readings[0]}) > 30
    for others in readings[1:]:
        assert [reading.text for reading in others] == [reading.text for reading in readings[0]]
        assert [x.confidence for x in others] == pytest.approx([x.confidence for x in readings[0]], abs=1e-4)


def test_images_are_taken_as_they_are_needed(model: Path, drawn: Path) -> None:
    """Of endless images the first ones are read."""
    loaded = checkpoint.load(model)
    image = datasets.read(config.Data(root=str(drawn))).test[0].image
    taken = 0

    def endless() -> Iterator[Target]:
        nonlocal taken
        while True:
            taken += 1
            yield Target(image)

    settings = config.override(config.to_dict(loaded.config), ["evaluate.batch_size=2"])
    reading = predict.predict(opened(loaded, settings), loaded.alphabet, settings, endless())
    assert len({next(reading).text for _ in range(40)}) == 1
    assert taken <= 40 + 2 * predict.CHUNK * 2
