import numpy as np

from hwr import augment
from hwr.config import Augment

H, W = 60, 800


def test_a_warp_depends_on_seed_pass_and_line_alone() -> None:
    all_at_once = augment.draw(Augment(), H, W, 3, [(0, 5), (0, 6), (1, 5)])
    for i, key in enumerate([(0, 5), (0, 6), (1, 5)]):
        alone = augment.draw(Augment(), H, W, 3, [key])
        assert np.array_equal(alone.matrix[0], all_at_once.matrix[i])
        assert alone.gamma[0] == all_at_once.gamma[i]
    assert len(np.unique(all_at_once.gamma)) == 3
    assert augment.draw(Augment(), H, W, 4, [(0, 5)]).gamma[0] != all_at_once.gamma[0]


def test_the_ranges_are_the_originals() -> None:
    warps = augment.draw(Augment(), H, W, 0, [(0, i) for i in range(4000)])
    m = warps.matrix
    assert m.shape == (4000, 2, 3)

    def spans(values: np.ndarray, low: float, high: float) -> bool:
        edge = 0.01 * (high - low)
        return low <= values.min() < low + edge and high - edge < values.max() <= high

    assert spans(warps.gamma, 0.001, 2)
    assert spans(m[:, 0, 2], -0.03 * W, 0.03 * W)
    assert spans(m[:, 1, 2], -0.03 * H, 0.03 * H)
    assert spans(m[:, 0, 0], 0.9, 1.1)
    assert (m[:, 1, 0] == 0).all()
    # -sy sin s over sy cos s is -tan s.
    assert spans(np.arctan2(-m[:, 0, 1], m[:, 1, 1]), -0.7, 0.7)
    assert spans(np.hypot(m[:, 0, 1], m[:, 1, 1]), 0.9, 1.1)


def test_ranges_of_nothing_change_nothing(rng: np.random.Generator) -> None:
    none = Augment(gamma=(1.0, 1.0), translate=0, scale=0, shear=0)
    images = rng.integers(0, 256, (2, 20, 30), np.uint8)
    out = augment.apply(images, augment.draw(none, 20, 30, 0, [(0, 0), (0, 1)]))
    assert np.allclose(out, images / 255, atol=1e-6)


def test_a_known_shift_brings_white_in() -> None:
    image = np.zeros((1, 4, 6), np.uint8)
    warps = augment.Warps(np.ones(1, np.float32), np.array([[[1, 0, 2], [0, 1, 0]]], np.float32))
    # Output x comes from input x + 2: the picture moves left, and white follows.
    assert np.array_equal(augment.apply(image, warps)[0], np.tile([0, 0, 0, 0, 1, 1], (4, 1)))
