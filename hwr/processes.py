"""Which of the processes that torchrun started this one is."""

import os

# torchrun sets them all; a batch system may set WORLD_SIZE alone, for its own purposes.
_OF_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and the number of processes that torchrun started with it: (0, 1) without torchrun."""
    if not all(name in os.environ for name in _OF_TORCHRUN):
        return 0, 1
    size = int(os.environ["WORLD_SIZE"])
    return (int(os.environ["RANK"]), size) if size > 1 else (0, 1)
