import itertools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr.cli import main
from hwr.config import Augment
from hwr.images import augment

H, W = 60, 800


def test_a_warp_depends_only_on_seed_pass_and_line() -> None:
    all_at_once = augment.draw(Augment(), H, np.full(3, W), 3, [(0, 5), (0, 6), (1, 5)])
    for i, key in enumerate([(0, 5), (0, 6), (1, 5)]):
        alone = augment.draw(Augment(), H, np.array([W]), 3, [key])
        assert np.array_equal(alone.matrix[0], all_at_once.matrix[i])
        assert alone.gamma[0] == all_at_once.gamma[i]
    assert len(np.unique(all_at_once.gamma)) == 3
    assert augment.draw(Augment(), H, np.array([W]), 4, [(0, 5)]).gamma[0] != all_at_once.gamma[0]


def test_the_ranges_are_the_originals() -> None:
    warps = augment.draw(Augment(), H, np.full(4000, W), 0, [(0, i) for i in range(4000)])
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


def test_empty_ranges_change_nothing(rng: np.random.Generator) -> None:
    none = Augment(gamma=(1.0, 1.0), translate=0, scale=0, shear=0)
    images = rng.integers(0, 256, (2, 20, 30), np.uint8)
    out = augment.apply(images, augment.draw(none, 20, np.array([30, 30]), 0, [(0, 0), (0, 1)]))
    assert np.allclose(out, images / 255, atol=1e-6)


def test_a_known_shift_brings_white_in() -> None:
    image = np.zeros((1, 4, 6), np.uint8)
    warps = augment.Warps(np.ones(1, np.float32), np.array([[[1, 0, 2], [0, 1, 0]]], np.float32), np.array([6]))
    # Output x comes from input x + 2: the image moves left, and white enters from the right.
    assert np.array_equal(augment.apply(image, warps)[0], np.tile([0, 0, 0, 0, 1, 1], (4, 1)))


def centred(settings: Augment, widths: np.ndarray, lines: int, **more: np.ndarray) -> augment.Warps:
    return augment.draw(settings, 40, widths, 0, [(0, i) for i in range(lines)], centred=True, **more)


def still(**settings: object) -> Augment:
    return Augment(**{"gamma": (1.0, 1.0), "translate": 0.0, "scale": 0.0, "shear": 0.0, **settings})  # type: ignore[arg-type]


def line_with_edges(width: int) -> np.ndarray:
    """White, with a black column at each end of the writing."""
    pixels = np.full((1, 40, width), 255, np.uint8)
    pixels[:, 10:30, [4, width - 5]] = 0
    return pixels


def test_centred_warps_lose_nothing_of_a_line() -> None:
    settings = still(scale=0.3, shear=0.7, rotate=0.05, elastic=0.03)
    for width in (12, 80, 700):
        warps = centred(settings, np.full(50, width), 50)
        assert (warps.widths != width).any()
        warped = augment.apply(np.repeat(line_with_edges(width), 50, 0), warps)
        for out, wide in zip(warped, warps.widths, strict=True):
            ink = 1 - out[:, :wide]
            assert ink[:, : wide // 2].max() > 0.3
            assert ink[:, wide // 2 :].max() > 0.3
            assert (out[:, wide:] > 0.99).all()


def test_centred_warps_turn_about_the_middle_of_the_line() -> None:
    """The centre stays, and lines grow and shrink by `scale`, vertically by a quarter of it at most."""
    warps = centred(still(scale=0.4, shear=0.5, rotate=0.05), np.full(2000, 200), 2000)
    middle = np.stack([(warps.widths - 1) / 2, np.full(2000, 19.5), np.ones(2000)], 1)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", warps.matrix, middle), [[99.5, 19.5]] * 2000, atol=1e-3)
    along, up = 1 / warps.matrix[:, 0, 0], 1 / warps.matrix[:, 1, 1]  # the maps lead back
    for values, low, high in ((along, 0.6, 1.4), (up, 0.6, 1.1)):
        assert low - 1e-4 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-4
    wide = np.ceil(200 * along + 40 * np.abs(warps.matrix[:, 0, 1] * along))
    assert np.abs(warps.widths - wide).max() <= 1


def test_a_lines_warp_does_not_depend_on_the_batch() -> None:
    settings = Augment(p=0.5, elastic=0.05, thickness=1, contrast=0.5, brightness=0.2, mask=0.5, rotate=0.1)
    widths = np.array([50, 300, 120])
    together = augment.draw(settings, 40, widths, 7, [(2, 5), (2, 6), (3, 5)], centred=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 300), np.uint8)
    for i, key in enumerate([(2, 5), (2, 6), (3, 5)]):
        alone = augment.draw(settings, 40, widths[[i]], 7, [key], centred=True)
        assert alone.widths[0] == together.widths[i]
        one = augment.apply(pixels[[i], :, : widths[i]], alone)[0]
        padded = pixels[i].copy()
        padded[:, widths[i] :] = 255
        among = augment.apply(np.stack([padded] * 3), together)[i, :, : alone.widths[0]]
        # Both are white outside; at the edge of the line a pixel is a mixture.
        assert np.abs(one - among)[:, 2:-2].mean() < 5e-3


def test_each_augmentation_applies_with_its_probability() -> None:
    settings = Augment(p=0.3, elastic=0.05, thickness=1, contrast=0.5, brightness=0.2, mask=0.5)
    warps = centred(settings, np.full(4000, 200), 4000)
    applied = [
        warps.gamma != 1,
        warps.thickness != 0,
        warps.contrast != 1,
        warps.brightness != 0,
        np.abs(warps.grid).max((1, 2, 3)) != 0,  # type: ignore[arg-type]
        (warps.masks[..., 1] - warps.masks[..., 0]).max(1) != 0,  # type: ignore[index]
        warps.matrix[:, 0, 1] != 0,
    ]
    for one in applied:
        assert np.mean(one) == pytest.approx(0.3, abs=0.03)
    for one, other in itertools.combinations(applied, 2):
        assert np.mean(one & other) == pytest.approx(0.3**2, abs=0.02)


def test_the_ranges_of_the_other_augmentations() -> None:
    settings = still(elastic=0.05, thickness=0.8, contrast=0.4, brightness=0.2, mask=0.5, rotate=0.02)
    warps = centred(settings, np.full(3000, 200), 3000)
    assert warps.thickness is not None
    assert warps.contrast is not None
    assert warps.brightness is not None
    assert warps.grid is not None
    assert warps.masks is not None
    for values, low, high in (
        (warps.thickness, -0.8, 0.8),
        (warps.contrast, 0.6, 1),
        (warps.brightness, -0.2, 0.2),
        (warps.masks[..., 1] - warps.masks[..., 0], 0, 20),
        (warps.matrix[:, 1, 0], -0.02, 0.02),
    ):
        assert low - 1e-4 <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-4
    assert warps.grid.std() == pytest.approx(0.05 * 40, rel=0.02)
    assert (warps.masks[..., 0] >= 0).all()
    assert 0.98 * 200 < warps.masks[..., 0].max() <= 200  # anywhere in the line
    assert warps.masks[..., 0].mean() == pytest.approx(100, rel=0.05)
    # The ends of a long line rise by at most 15 % of the height.
    long = centred(still(rotate=0.3), np.full(500, 2000), 500)
    assert np.abs(long.matrix[:, 1, 0] * 1000).max() == pytest.approx(0.15 * 40, rel=0.02)


def test_strokes_grow_and_shrink() -> None:
    pixels = np.full((2, 9, 9), 255, np.uint8)
    pixels[:, 3:6, 3:6] = 0
    warps = centred(still(), np.full(2, 9), 2)
    out = augment.apply(pixels, augment.Warps(warps.gamma, warps.matrix, warps.widths, thickness=np.array([1.0, -1.0])))
    assert [(row == 0).sum() for row in out] == [25, 1]


def test_the_command_draws_a_sheet(tmp_path: Path, drawn: Path) -> None:
    sheet = tmp_path / "sheet.png"
    sets = ["--set", f"data.root={drawn}", "model.arch=crnn", "image.height=30", "augment.mask=0.5"]
    arguments = ["augment", *sets, "--lines", "3", "--times", "2", "--out", str(sheet)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with Image.open(sheet) as picture:
        assert picture.height == 3 * 3 * 32
        assert picture.width > 200
    assert CliRunner().invoke(main, [*arguments[:-1], str(tmp_path / "no/sheet.png")]).exit_code == 2


def test_a_second_view_looks_different_in_the_same_places() -> None:
    settings = Augment(p=0.5, elastic=0.04, thickness=0.5, contrast=0.4, brightness=0.1, mask=0.6)
    widths, lines = np.full(400, 300), [(2, i) for i in range(400)]
    first = augment.draw(settings, 40, widths, 7, lines, centred=True)
    second = augment.second_view(settings, 40, first, 7, lines)
    for name in ("matrix", "widths", "grid"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    for name in ("gamma", "thickness", "contrast", "brightness", "masks"):
        one, two = getattr(first, name), getattr(second, name)
        if name == "masks":
            one, two = one[..., 1] - one[..., 0], two[..., 1] - two[..., 0]
        assert one.dtype == two.dtype == np.float32
        assert one.shape == two.shape
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.2
        # The same distribution: as many lines change, and by as much.
        still = {"gamma": 1, "contrast": 1}.get(name, 0)
        for view in (one, two):
            assert 0.4 < (view.reshape(400, -1) != still).any(1).mean() < 0.6
        assert two.mean() == pytest.approx(one.mean(), abs=0.1 * float(np.ptp(one)))
    # Each applies independently of the others, in both views.
    for view in (first, second):
        looks = (view.gamma != 1, view.thickness != 0, view.contrast != 1, view.brightness != 0)
        applied = [*looks, (view.masks[..., 1] > view.masks[..., 0]).any(1)]
        assert np.abs(np.corrcoef(applied) - np.eye(5)).max() < 0.2
    alone = augment.second_view(
        settings, 40, augment.draw(settings, 40, widths[:1], 7, [(2, 9)], centred=True), 7, [(2, 9)]
    )
    assert alone.gamma[0] == second.gamma[9]
