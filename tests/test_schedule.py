import pytest

from hwr import config
from hwr.training.schedule import learning_rate


def rates(*overrides: str) -> list[float]:
    train = config.load(None, ["train.lr=2", *(f"train.{text}" for text in overrides)]).train
    return [learning_rate(train, done) for done in (0, 0.05, 0.1, 0.55, 1, 1.2)]


def test_constant() -> None:
    assert rates() == [2] * 6
    assert rates("warmup=0.1") == pytest.approx([0.01, 1, 2, 2, 2, 2])


def test_cosine_warms_up_then_decays_to_almost_zero() -> None:
    # Halfway down it is the mean of its first and last value.
    assert rates("schedule=cosine", "warmup=0.1") == pytest.approx([0.01, 1, 2, 1.005, 0.01, 0.01])
    assert rates("schedule=cosine")[0] == 2


def test_linear_warms_up_then_decays_to_almost_zero() -> None:
    assert rates("schedule=linear", "warmup=0.1") == pytest.approx([0.01, 1, 2, 1.005, 0.01, 0.01])
    train = config.load(None, ["train.lr=2", "train.schedule=linear"]).train
    assert learning_rate(train, 0.25) == pytest.approx(0.01 + 0.75 * 1.99)
