from pathlib import Path

import numpy as np
import pytest

from hwr import Error, batches, config
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.datasets import Line

LABELS = [np.array([i], np.int32) for i in range(10)]
IMAGES = np.arange(10, dtype=np.uint8).repeat(20).reshape(10, 4, 5)


def line(text: str) -> Line:
    return Line("x-00", Path("x.png"), text, "w", "xml/x.xml:7")


def settings(**train: object) -> config.Config:
    return config.from_dict({"train": {"batch_size": 4, **train}})


def order(epoch: int, start: int = 0, **train: object) -> list[list[int]]:
    return [b.index.tolist() for b in batches.training(IMAGES, LABELS, settings(**train), epoch, start)]


def test_what_fills_no_batch_rolls_over() -> None:
    epochs = [order(e) for e in range(6)]
    assert [len(e) for e in epochs] == [2, 3, 2, 3, 2, 3]
    assert [len(e) for e in epochs] == [batches.count(10, 4, e) for e in range(6)]
    seen = [i for epoch in epochs for batch in epoch for i in batch]
    # Every ten lines in a row, counted from the start, are one pass over the data.
    for turn in range(6):
        assert sorted(seen[turn * 10 : turn * 10 + 10]) == list(range(10))
    # The third epoch begins with what the second left over.
    assert seen[:10] != seen[10:20]


def test_the_order_depends_on_the_seed_and_any_batch_can_be_the_first() -> None:
    assert order(1) == order(1)
    assert order(1) != order(1, seed=1)
    assert order(1, start=2) == order(1)[2:]


def test_images_labels_and_warps_belong_together() -> None:
    for batch in batches.training(IMAGES, LABELS, settings(), 0):
        assert (batch.images[:, 0, 0] == batch.index).all()
        assert (batch.labels[:, 0] == batch.index).all()
        assert batch.warps is not None
        assert batch.warps.matrix.shape == (4, 2, 3)


def test_reading_takes_every_line_once_in_order() -> None:
    got = list(batches.reading(IMAGES, LABELS, 4))
    assert [len(b.index) for b in got] == [4, 4, 2]
    assert np.concatenate([b.index for b in got]).tolist() == list(range(10))
    assert all(b.warps is None for b in got)


def test_too_few_lines_for_a_batch() -> None:
    with pytest.raises(Error, match=r"train\.batch_size is 4, but there are only 3 training lines; set it to 3"):
        next(batches.training(IMAGES[:3], LABELS[:3], settings(), 0))


def test_padding() -> None:
    assert batches.pad([np.array([1, 2], np.int32), np.array([], np.int32)]).tolist() == [[1, 2], [-1, -1]]
    assert batches.pad([np.array([], np.int32)]).tolist() == [[-1]]


def test_texts_that_ctc_cannot_write_are_named_with_their_place() -> None:
    alphabet = Alphabet(ORIGINAL)
    with pytest.raises(Error, match=r"xml/x\.xml:7: line x-00: the alphabet lacks 'é'.*data\.alphabet=auto"):
        batches.encode([line("été")], alphabet, 160)
    assert [label.tolist() for label in batches.encode([line("aab")], alphabet, 4)] == [[54, 54, 55]]
    with pytest.raises(Error, match=r"its 3 characters need 4 steps and the network has 3; raise model\.steps"):
        batches.encode([line("aab")], alphabet, 3)
    with pytest.raises(Error, match="and 2 more lines like these"):
        batches.encode([line("é")] * 7, alphabet, 3)
