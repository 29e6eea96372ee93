"""A batch divided among the cores of a CPU: the same gradients, whatever the number of cores."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hwr import Error, config, engines
from hwr.config import Config
from hwr.engines.torch_trainer import TorchTrainer
from hwr.images import batches
from hwr.images.batches import Batch, Examples
from hwr.images.cache import Images

from .conftest import TINY, TINY_CRNN, recipe_of

NO_DROPOUT = ("model.dropout=0", "model.head_dropout=0")


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def settings_of(*overrides: str) -> Config:
    return config.load(None, [*TINY_CRNN, "engine.device=cpu", *overrides])


def engine_of(settings: Config) -> TorchTrainer:
    built = engines.trainer(settings, 81)
    assert isinstance(built, TorchTrainer)
    return built


def drawn(settings: Config, lines: int = 5) -> Batch:
    """Lines of noise with augmentation, and a second view if the settings have one."""
    rng = np.random.default_rng(3)
    images = Images.of([rng.integers(0, 256, (24, width), np.uint8) for width in (33, 57, 64, 129, 250)[:lines]])
    labels = [np.array(label, np.int32) for label in ([1, 2], [3], [4, 4], [5], [6, 7, 8])[:lines]]
    return batches.warped(
        Examples(images, [], labels, [""] * lines), recipe_of(settings), [(0, i) for i in range(lines)]
    )


def gradients(engine: TorchTrainer) -> np.ndarray:
    found = [p.grad for p in engine._net.parameters()]
    return torch.cat([each.ravel() for each in found if each is not None]).numpy()


@pytest.mark.parametrize("shares", [2, 3, 5])
@pytest.mark.parametrize("views", [(), ("train.consistency=0.5",)], ids=["one view", "two views"])
def test_shares_have_the_gradients_of_the_whole_batch(shares: int, views: tuple[str, ...]) -> None:
    """Without dropout and batch norm's statistics, which are of a share, nothing depends on the division."""
    fixed = (*NO_DROPOUT, *views, "train.freeze_norm=true")
    whole, parts = (engine_of(settings_of(*fixed, f"train.shards={n}")) for n in (1, shares))
    batch = drawn(settings_of(*views))
    losses = [float(engine.train_step(batch, 1e-3)) for engine in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    np.testing.assert_allclose(
        gradients(parts), gradients(whole), rtol=1e-3, atol=1e-5 * np.abs(gradients(whole)).max()
    )
    assert all(
        np.array_equal(parts.weights()[name], whole.weights()[name]) for name in parts.weights() if "running" in name
    )


def test_a_network_may_have_unused_parameters() -> None:
    """The original network with a single scale has a downsampler that nothing uses."""
    fixed = ("model.downsamples=1", "model.dropout=0", "train.freeze_norm=true")
    whole, parts = (engine_of(config.load(None, [*TINY, *fixed, f"train.shards={n}"])) for n in (1, 2))
    pixels = np.random.default_rng(3).integers(0, 256, (8, 32, 320), np.uint8)
    batch = Batch(pixels, np.full(8, 320, np.int32), np.array([[1, 2]] * 8, np.int32), None, np.arange(8))
    losses = [float(engine.train_step(batch, 1e-3)) for engine in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    np.testing.assert_allclose(
        gradients(parts), gradients(whole), rtol=1e-3, atol=1e-5 * np.abs(gradients(whole)).max()
    )


def test_batch_norm_has_the_mean_statistics_of_the_shares() -> None:
    batch = drawn(settings_of())
    alone = []
    for k in range(2):
        engine = engine_of(settings_of(*NO_DROPOUT))
        engine.train_step(batch.share(k, 2), 0.0)
        alone.append(engine.weights())
    parts = engine_of(settings_of(*NO_DROPOUT, "train.shards=2"))
    parts.train_step(batch, 0.0)
    for name, array in parts.weights().items():
        if "running" in name:
            np.testing.assert_allclose(array, 0.6 * alone[0][name] + 0.4 * alone[1][name], rtol=1e-5, atol=1e-6)


OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adam", "muon"])


@OPTIMIZERS
def test_the_number_of_cores_changes_nothing(optimizer: str) -> None:
    weights = []
    for number in (1, 2, 3):
        keys = ("train.shards=3", "train.ema=0.9", "train.consistency=0.2", f"train.optimizer={optimizer}")
        settings = settings_of(f"engine.threads={number}", *keys)
        engine = engine_of(settings)
        for _ in range(3):
            engine.train_step(drawn(settings), 1e-2)
        weights.append(engine.weights())
        assert torch.get_num_threads() == number
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])
        np.testing.assert_array_equal(array, weights[2][name])


@OPTIMIZERS
def test_a_run_resumes_with_its_shares_on_a_machine_with_other_cores(optimizer: str) -> None:
    keys = ("train.shards=auto", "train.batch_size=8", "train.ema=0.9", f"train.optimizer={optimizer}")
    batch = drawn(settings_of(*keys))
    one = engine_of(settings_of(*keys, "engine.threads=2"))
    for _ in range(2):
        one.train_step(batch, 1e-3)
    weights, state = one.weights(), one.state()
    assert len(one._dropout) == 2
    wanted = [float(one.train_step(batch, 1e-3)) for _ in range(3)]
    other = engine_of(settings_of(*keys, "engine.threads=1"))
    assert len(other._dropout) == 1
    other.load(weights)
    other.load_state(state)
    assert [float(other.train_step(batch, 1e-3)) for _ in range(3)] == wanted
    for name, array in one.weights().items():
        np.testing.assert_array_equal(other.weights()[name], array)


@pytest.mark.parametrize(
    ("threads", "size", "more", "shares"),
    [(1, 8, (), 1), (2, 8, (), 2), (8, 8, (), 2), (8, 32, (), 8), (8, 3, (), 1), (2, 8, ("train.center_loss=1",), 1)],
)
def test_auto_gives_each_core_a_few_lines(threads: int, size: int, more: tuple[str, ...], shares: int) -> None:
    keys = [f"engine.threads={threads}", "train.shards=auto", f"train.batch_size={size}", *more]
    engine = engine_of(settings_of(*keys))
    assert len(engine._dropout) == shares


def test_settings_that_contradict_each_other_or_the_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for keys, message in (
        (["train.shards=2", "train.center_loss=1"], r"train\.center_loss: .*train\.shards"),
        (["train.shards=9", "train.batch_size=8"], r"train\.shards: 9 shares need at least 9 lines"),
        (["train.shards=65"], r"train\.shards"),
        (["train.consistency_from=0.5"], r"train\.consistency_from: has no effect without train\.consistency"),
        (["train.center_from=0.5"], r"train\.center_from: has no effect without train\.center_loss"),
    ):
        with pytest.raises(Error, match=message):
            settings_of(*keys)
    with pytest.raises(Error, match=r"train\.shards: the mxnet engine does not support it"):
        config.load(None, ["engine.name=mxnet", "train.shards=2"])
    config.load(None, ["engine.name=mxnet", "train.shards=auto"])
    begun = engine_of(settings_of("train.shards=2"))
    begun.train_step(drawn(settings_of()), 0.0)
    state = begun.state()
    assert "dropout.1" in state
    monkeypatch.setattr("hwr.engines.torch_parallel.rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr("hwr.engines.torch_parallel.dist.is_initialized", lambda: True)
    with pytest.raises(Error, match=r"train\.shards: 2 .*set it to 1"):
        engine_of(settings_of("train.shards=2"))
    several = engine_of(settings_of("train.shards=auto"))
    assert len(several._dropout) == 1
