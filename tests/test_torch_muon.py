"""Muon: orthogonal updates of the matrices, AdamW for the rest."""

import numpy as np
import pytest
import torch

from hwr import Error, config
from hwr.engines import torch_muon

from .test_torch_shards import drawn, engine_of, settings_of

# As lr times the root mean square of an update.
LR = 1e-3


def moved(*keys: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The changes of the weights by one update; and the weights before it."""
    engine = engine_of(settings_of(*keys))
    before = engine.weights()
    engine.train_step(drawn(settings_of()), LR)
    return {name: array - before[name] for name, array in engine.weights().items()}, before


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24, 100), (1, 1, 9)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_directions_of_a_matrix_become_equally_long(shape: tuple[int, ...], size: float) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, values, v = torch.linalg.svd(x, full_matrices=False)
    for precision, close in ((torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        out = torch_muon.orthogonal((x * size).to(precision)).float()
        directions = u.mT @ out @ v.mT  # diagonal, if the directions have not turned
        lengths = directions.diagonal(dim1=1, dim2=2)
        large = values > 0.02 * values.norm(dim=1, keepdim=True)
        assert ((lengths[large] > 0.4) & (lengths[large] < 1.6)).all()
        assert (directions - torch.diag_embed(lengths)).abs().max() < close


def test_no_gradient_moves_nothing() -> None:
    assert not torch_muon.orthogonal(torch.zeros(2, 3, 4)).any()


def test_muon_moves_matrices_and_adam_the_rest() -> None:
    by_muon, _ = moved("train.optimizer=muon", "engine.precision=fp32")
    by_adam, _ = moved("engine.precision=fp32")
    inside = [name for name, array in by_muon.items() if array.ndim > 1 and name.startswith(("lstms", "stages"))]
    assert inside
    for name, change in by_muon.items():
        if name not in inside:
            np.testing.assert_array_equal(change, by_adam[name])
            continue
        # Each gate of an LSTM is a matrix; a convolution is one.
        for matrix in change.reshape(4 if name.startswith("lstms") else 1, -1, change[0].size):
            values = np.linalg.svd(matrix / (LR * torch_muon.SIZE * max(matrix.shape) ** 0.5), compute_uv=False)
            assert values.max() < 1.6
            assert np.median(values) > 0.4


def test_weight_decay_applies_to_matrices() -> None:
    plain, before = moved("train.optimizer=muon", "engine.precision=fp32")
    decayed, _ = moved("train.optimizer=muon", "engine.precision=fp32", "train.weight_decay=0.5")
    for name in ("stages.0.0.conv1.weight", "lstms.0.left.weight_hh_l0", "head.weight"):
        np.testing.assert_allclose(decayed[name] - plain[name], -LR * 0.5 * before[name], atol=1e-7)


def test_the_work_is_divided_once_and_evenly() -> None:
    engine = engine_of(settings_of("train.optimizer=muon", "train.shards=3"))
    parts = engine._optimizer._parts
    together = [id(parameter) for part in parts for parameter in part]
    assert len(parts) == 3
    assert sorted(together) == sorted(map(id, engine._net.matrices()))
    assert all(parts)


def test_where_muon_is_refused() -> None:
    with pytest.raises(Error, match=r"train\.optimizer: muon needs model\.arch crnn"):
        config.load(None, ["train.optimizer=muon"])
    with pytest.raises(Error, match=r"train\.optimizer: the mxnet engine does not support it"):
        config.load(None, ["train.optimizer=muon", "engine.name=mxnet"])
    with pytest.raises(Error, match=r"train\.optimizer"):
        config.load(None, ["train.optimizer=sgd"])
