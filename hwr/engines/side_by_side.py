"""The logits of many batches, computed side by side on a CPU."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

import numpy as np

from hwr.engines.base import Engine
from hwr.images import pieces
from hwr.images.batches import Batch
from hwr.images.geometry import Geometry

# The memory of this many batches is bearable. More cores share the work on each batch.
MOST = 8


def logits(engine: Engine, given: Iterable[Batch], geometry: Geometry, size: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches with their logits, (N, T, C), in order; lines that are too wide for the network are read in pieces.

    Where the engine allows it, each core computes a batch of its own. That is a quarter faster than all cores sharing a batch,
    and threads that need not wait for each other get their fair share of a busy machine (`scripts/bench busy`).

    Args:
        given: See `batches.reading`. At most one more than there are cores is taken ahead of the caller.
        size: Most lines or pieces in a batch.

    Raises:
        Error: Out of memory; names the setting to lower.
    """
    rest = iter(given)
    first = list(islice(rest, 2))
    cores = engine.side_by_side
    workers = min(cores, MOST)
    if workers == 1 or len(first) < 2:
        for batch in chain(first, rest):
            yield batch, pieces.logits(engine.logits, batch, geometry, size)
        return
    pool = ThreadPoolExecutor(workers, "hwr batch", engine.limit_threads, (cores // workers,))
    begun: deque[tuple[Batch, Future[np.ndarray]]] = deque()
    try:
        for batch in chain(first, rest):
            begun.append((batch, pool.submit(pieces.logits, engine.logits, batch, geometry, size)))
            if len(begun) > workers:  # one more than the workers, so that none waits for the caller
                done, future = begun.popleft()
                yield done, future.result()
        for done, future in begun:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        engine.limit_threads(cores)  # torch's number for later threads is that of the latest call


def batch_size(engine: Engine, lines: int, most: int) -> int:
    """Lines per batch with which each core has one; at most `most`."""
    return max(1, min(most, -(-lines // min(engine.side_by_side, MOST))))
