import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hwr import Error, config, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.data import Line
from hwr.images import batches, geometry
from hwr.images.cache import Images

from .conftest import encoded, recipe_of

LABELS = [np.array([i], np.int32) for i in range(10)]
IMAGES = Images.of(list(np.arange(10, dtype=np.uint8).repeat(20).reshape(10, 4, 5)))
# Widths are 20 + 7 * i pixels, in mixed order.
WIDE = [20 + 7 * (i * 37 % 100) for i in range(100)]
ANY_WIDTH = Images.of([np.full((8, width), i, np.uint8) for i, width in enumerate(WIDE)])
CRNN = ["model.arch=crnn", "train.batch_size=4", "image.height=8"]


def line(text: str) -> Line:
    return Line("x-00", Path("x.png"), text, "w", "xml/x.xml:7")


def examples(images: Images, labels: list[np.ndarray]) -> batches.Examples:
    lines = [line("x")] * len(images)
    return batches.Examples(images, lines, labels, [""] * len(images))


EXAMPLES = examples(IMAGES, LABELS)


def settings(**train: object) -> config.Config:
    return config.from_dict({"train": {"batch_size": 4, **train}})


def order(epoch: int, start: int = 0, **train: object) -> list[list[int]]:
    return [b.index.tolist() for b in batches.training(EXAMPLES, recipe_of(settings(**train)), epoch, start)]


def any_width(epoch: int, start: int = 0, *overrides: str) -> list[batches.Batch]:
    labels = [np.array([i % 80], np.int32) for i in range(100)]
    return list(
        batches.training(examples(ANY_WIDTH, labels), recipe_of(config.load(None, [*CRNN, *overrides])), epoch, start)
    )


def test_incomplete_batches_roll_over() -> None:
    epochs = [order(e) for e in range(6)]
    assert [len(e) for e in epochs] == [2, 3, 2, 3, 2, 3]
    assert [len(e) for e in epochs] == [batches.count(10, 4, e) for e in range(6)]
    seen = [i for epoch in epochs for batch in epoch for i in batch]
    # Each ten consecutive lines from the start are one pass over the data.
    for turn in range(6):
        assert sorted(seen[turn * 10 : turn * 10 + 10]) == list(range(10))
    # The third epoch starts with the rest of the second.
    assert seen[:10] != seen[10:20]


def test_the_order_depends_on_the_seed_and_batches_can_be_skipped() -> None:
    assert order(1) == order(1)
    assert order(1) != order(1, seed=1)
    assert order(1, start=2) == order(1)[2:]


def test_images_labels_and_warps_stay_aligned() -> None:
    for batch in batches.training(EXAMPLES, recipe_of(settings()), 0):
        assert (batch.images[:, 0, 0] == batch.index).all()
        assert (batch.labels[:, 0] == batch.index).all()
        assert batch.warps is not None
        assert batch.warps.matrix.shape == (4, 2, 3)


@pytest.mark.parametrize("scale", [0.0, 0.4])
def test_lines_of_any_width_are_batched_by_width_and_each_pass_is_complete(scale: float) -> None:
    epochs = [any_width(e, 0, f"augment.scale={scale}", "augment.p=1") for e in range(8)]
    assert [len(e) for e in epochs] == [25] * 8
    seen = [i for epoch in epochs[:4] for batch in epoch for i in batch.index.tolist()]
    assert sorted(seen) == sorted(list(range(100)) * 4)
    widths = [batch.warps.widths for epoch in epochs for batch in epoch if batch.warps is not None]
    assert len(widths) == 200
    # 0.35 without sorting; with a scale of 0.4, 0.2 when sorted by the widths before augmentation.
    assert np.mean([1 - each.mean() / each.max() for each in widths]) < 0.1
    widest = [int(batch.widths.max()) for batch in epochs[0]]
    assert widest[:12] != sorted(widest[:12])  # of one pool


def test_each_pass_is_complete_with_few_lines_of_any_width() -> None:
    few = Images.of([ANY_WIDTH[i] for i in range(22)])
    for epoch in range(6):
        made = batches.training(
            examples(few, [np.array([1], np.int32)] * 22), recipe_of(config.load(None, CRNN)), epoch
        )
        seen = [i for batch in made for i in batch.index.tolist()]
        assert len(set(seen)) >= len(seen) - 3  # the incomplete batch comes at the start of the next pass


def test_lines_of_any_width_are_padded_to_few_shapes() -> None:
    for batch in any_width(0):
        assert batch.images.shape[2] % geometry.MULTIPLE == 0
        for pixels, width, i in zip(batch.images, batch.widths, batch.index, strict=True):
            assert width == WIDE[i]
            assert (pixels[:, :width] == i).all()
            assert (pixels[:, width:] == 255).all()


def test_batches_of_any_width_can_be_skipped() -> None:
    whole, rest = any_width(1), any_width(1, 13)
    assert [b.index.tolist() for b in rest] == [b.index.tolist() for b in whole[13:]]
    assert any_width(1, 0, "train.seed=1")[0].index.tolist() != whole[0].index.tolist()


def test_reading_takes_every_line_once_the_widest_first() -> None:
    got = list(batches.reading(IMAGES, LABELS, 4))
    assert [len(b.index) for b in got] == [4, 4, 2]
    assert np.concatenate([b.index for b in got]).tolist() == list(range(10))
    assert all(b.warps is None for b in got)
    widths = np.concatenate([b.widths for b in batches.reading(ANY_WIDTH, None, 7, 32)])
    assert widths.tolist() == sorted(WIDE, reverse=True)
    # Lines that are read in pieces are alone.
    sizes = [(len(b.index), int(b.widths.max())) for b in batches.reading(ANY_WIDTH, None, 7, 32, widest=692)]
    assert sizes[:4] == [(1, 713), (1, 706), (1, 699), (7, 692)]
    assert sum(size for size, _ in sizes) == 100


def test_similar_lines_make_the_cheapest_batches() -> None:
    def cost(groups: Iterable[Sequence[int]]) -> float:
        return sum(100 + max(widths[i] for i in group) * (len(group) + 1 / 3) for group in groups)

    def divisions(order: list[int]) -> Iterator[list[list[int]]]:
        if not order:
            yield []
        for first in range(1, min(3, len(order)) + 1):
            yield from ([order[:first], *rest] for rest in divisions(order[first:]))

    for widths in ([300, 700, 310, 720, 1500, 290], [50, 60, 55, 40, 1, 52], [400] * 6):
        found = batches.similar(widths, 3, 100)
        assert sorted(i for group in found for i in group) == list(range(6))
        assert max(map(len, found)) <= 3
        best = min(map(cost, divisions(sorted(range(6), key=lambda i: widths[i]))))
        assert cost(found) == pytest.approx(best)
    assert batches.similar([300, 700, 310, 720], 8, 100) == [[3, 1], [2, 0]]
    assert batches.similar([300, 700, 310, 720], 8, 100_000) == [[3, 1, 2, 0]]
    assert batches.similar([900, 700], 8, 100) == [[0, 1]]  # two batches cost the network's time for their widths twice
    assert batches.similar([], 8, 100) == []


def test_time_steps_follow_from_the_strides() -> None:
    fixed, free = config.Config(), config.load(None, ["model.arch=crnn", "model.frames=2"])
    assert networks.geometry(fixed).time_steps(np.array([800, 800])).tolist() == [160, 160]
    # Every stride rounds up: 801 -> 401 -> 201 -> 101.
    assert networks.geometry(free).time_steps(np.array([8, 800, 801, 1])).tolist() == [2, 200, 202, 2]


def test_too_few_lines_for_a_batch_are_refused() -> None:
    with pytest.raises(
        Error, match=r"train\.batch_size is 4, but there are only 3 training lines; set it to at most 3"
    ):
        next(batches.training(examples(Images.of([IMAGES[i] for i in range(3)]), LABELS[:3]), recipe_of(settings()), 0))


def test_padding() -> None:
    assert batches.pad([np.array([1, 2], np.int32), np.array([], np.int32)]).tolist() == [[1, 2], [-1, -1]]
    assert batches.pad([np.array([], np.int32)]).tolist() == [[-1]]


def test_unwritable_texts_are_reported_with_their_place() -> None:
    alphabet, wide = Alphabet(ORIGINAL), np.array([800])
    with pytest.raises(Error, match=r"xml/x\.xml:7: line x-00: the alphabet lacks 'é'.*data\.alphabet=auto"):
        encoded([line("été")], alphabet, config.Config(), wide)
    few = config.load(None, ["model.steps=4"])
    assert [label.tolist() for label in encoded([line("aab")], alphabet, few, wide)] == [[54, 54, 55]]
    with pytest.raises(Error, match=r"its 3 characters need 4 time steps but the network has 3; raise model\.steps"):
        encoded([line("aab")], alphabet, config.load(None, ["model.steps=3"]), wide)
    with pytest.raises(Error, match="and 2 more such lines"):
        encoded([line("é")] * 7, alphabet, few, np.full(7, 800))


def test_edge_spaces_need_time_steps() -> None:
    alphabet, settings = Alphabet(ORIGINAL), config.load(None, CRNN)
    assert [label.tolist() for label in encoded([line("ab")], alphabet, settings, np.array([32]))] == [[0, 54, 55, 0]]
    with pytest.raises(Error, match=r"its 5 characters need 5 time steps but the network has 4; check the text"):
        encoded([line("abc")], alphabet, settings, np.array([32]))


def test_warps_leave_enough_time_steps_for_every_text() -> None:
    # One character per time step: no line may become narrower.
    labels = [np.tile(np.array([1, 2], np.int32), -(-width // 16) + 1)[: -(-width // 8)] for width in WIDE]
    for more in ([], ["model.stride=[2, 3]"]):  # 32 is not a multiple of 3
        settings = config.load(None, [*CRNN, "augment.scale=0.5", *more])
        steps = networks.geometry(settings).time_steps(ANY_WIDTH.widths).tolist()
        shorter = [label[:n] for label, n in zip(labels, steps, strict=True)]
        for batch in batches.training(examples(ANY_WIDTH, shorter), recipe_of(settings), 0):
            assert batch.warps is not None
            assert (networks.geometry(settings).time_steps(batch.warps.widths) >= (batch.labels >= 0).sum(1)).all()
            assert (batch.warps.widths > batch.widths).any()
    # Equal neighbours need a blank between them.
    settings = config.load(None, [*CRNN, "augment.scale=0.5"])
    steps = networks.geometry(settings).time_steps(ANY_WIDTH.widths).tolist()
    doubled = [np.ones((n + 1) // 2, np.int32) for n in steps]
    for batch in batches.training(examples(ANY_WIDTH, doubled), recipe_of(settings), 0):
        assert batch.warps is not None
        needed = [geometry.steps_needed(label[label >= 0]) for label in batch.labels]
        assert (networks.geometry(settings).time_steps(batch.warps.widths) >= needed).all()


def test_the_order_and_the_warps_use_different_random_streams() -> None:
    """A warp's stream is (seed, pass, line); NumPy pads keys with zeros, so (seed, pass) would be that of line 0."""
    for seed, turn in itertools.product(range(3), range(3)):
        drawn = np.random.default_rng((seed, turn, 0)).permutation(1000).tolist()
        many = examples(Images.of([np.zeros((1, 1), np.uint8)] * 1000), [LABELS[0]] * 1000)
        taken = [i for batch in batches.training(many, recipe_of(settings(seed=seed)), turn) for i in batch.index]
        assert taken != drawn


def test_the_widest_batch_has_the_widest_lines() -> None:
    labels = [np.array([i % 80], np.int32) for i in range(100)]
    settings_ = config.load(None, CRNN)
    batch = batches.widest(examples(ANY_WIDTH, labels), recipe_of(settings_))
    assert sorted(batch.widths.tolist()) == sorted(WIDE)[-4:]
    parts = [batches.widest(examples(ANY_WIDTH, labels), recipe_of(settings_), (k, 2)) for k in (0, 1)]
    assert sorted(i for part in parts for i in part.index.tolist()) == sorted(batch.index.tolist())
