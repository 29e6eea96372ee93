"""Batches computed side by side on a CPU."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from hwr import Error, config, networks
from hwr.engines import side_by_side
from hwr.images import batches
from hwr.images.batches import Batch
from hwr.images.cache import Images

GEOMETRY = networks.geometry(config.load("lines_cpu"))
CORES = 6


class _Engine:
    """Computes two batches at a time, or none: each waits for the other. The logits are the first line's number."""

    def __init__(self, cores: int = CORES, fails_at: int = -1) -> None:
        self.side_by_side = cores
        self.threads: dict[str, int] = {}
        self.fails_at = fails_at
        self.done = 0
        self.together = threading.Barrier(2, timeout=20)

    def limit_threads(self, number: int) -> None:
        self.threads[threading.current_thread().name] = number

    def logits(self, batch: Batch) -> np.ndarray:
        if self.side_by_side > 1:
            self.together.wait()
        if batch.index[0] == self.fails_at:
            raise Error("out of memory")
        self.done += 1
        return np.full((len(batch.index), 3, 2), batch.index[0], np.float32)


def _batches(number: int, begun: list[int] | None = None) -> Iterator[Batch]:
    for i in range(number):
        if begun is not None:
            begun.append(i)
        pixels = np.zeros((1, GEOMETRY.height, 64), np.uint8)
        yield Batch(pixels, np.array([64]), np.zeros((1, 0), np.int32), None, np.array([i]))


def test_batches_are_computed_at_the_same_time_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "MOST", 2)
    engine = _Engine()
    found = list(side_by_side.logits(engine, _batches(8), GEOMETRY, 4))
    assert [int(batch.index[0]) for batch, _ in found] == list(range(8))
    assert [int(logits[0, 0, 0]) for _, logits in found] == list(range(8))
    assert engine.threads.pop(threading.current_thread().name) == CORES  # as before, for later calls
    assert sorted(engine.threads.values()) == [CORES // 2] * 2


def test_a_single_batch_has_all_cores() -> None:
    engine = _Engine(cores=1)
    engine.side_by_side = CORES
    engine.together = threading.Barrier(1)
    assert len(list(side_by_side.logits(engine, _batches(1), GEOMETRY, 4))) == 1
    assert engine.threads == {}


def test_one_core_computes_one_batch_after_the_other() -> None:
    engine, begun = _Engine(cores=1), list[int]()
    for number, _ in enumerate(side_by_side.logits(engine, _batches(5, begun), GEOMETRY, 4), 1):
        assert engine.done == number
        assert len(begun) <= max(2, number)
    assert engine.threads == {}


def test_few_batches_wait_in_memory() -> None:
    engine, begun = _Engine(cores=2), list[int]()
    engine.together = threading.Barrier(1)
    running = side_by_side.logits(engine, _batches(100, begun), GEOMETRY, 4)
    next(running)
    assert len(begun) == 3


def test_an_error_reaches_the_caller_and_the_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "MOST", 2)
    engine = _Engine(fails_at=3)
    engine.together = threading.Barrier(1)
    running = side_by_side.logits(engine, _batches(8), GEOMETRY, 4)
    assert [int(next(running)[0].index[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Error, match="out of memory"):
        next(running)
    assert engine.threads[threading.current_thread().name] == CORES
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hwr batch")]


@pytest.mark.parametrize(
    ("cores", "lines", "most", "size"),
    [(1, 30, 16, 16), (2, 30, 16, 15), (2, 100, 16, 16), (2, 1, 16, 1), (64, 9, 16, 2), (2, 0, 16, 1)],
)
def test_each_core_has_a_batch(cores: int, lines: int, most: int, size: int) -> None:
    assert side_by_side.batch_size(_Engine(cores), lines, most) == size


def test_pytorch_computes_the_same_side_by_side(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from hwr.engines.torch import TorchEngine

    recipe = config.load("lines_cpu", ["engine.device=cpu", "engine.precision=fp32", "model.hidden=16"])
    weights = {
        name: np.ones(shape, np.float32) if "var" in name else rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in networks.shapes(recipe, 20).items()
    }
    before = torch.get_num_threads()
    engine = TorchEngine(recipe, 20, weights)
    images = Images.of([rng.integers(0, 256, (GEOMETRY.height, 40 + 30 * i), dtype=np.uint8) for i in range(9)])
    given = list(batches.reading(images, None, 2, GEOMETRY.multiple, GEOMETRY.width))
    try:
        torch.set_num_threads(2)
        assert engine.side_by_side == 2
        found = list(side_by_side.logits(engine, given, GEOMETRY, 2))
        assert torch.get_num_threads() == 2
        for batch, logits in found:
            np.testing.assert_allclose(logits, engine.logits(batch), rtol=1e-4, atol=1e-5)
        torch.set_num_threads(1)
        assert engine.side_by_side == 1
    finally:
        torch.set_num_threads(before)
