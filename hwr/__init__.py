"""Turns photographed handwriting into text."""

import os

__version__ = "0.1.0"


class Error(Exception):
    """Something the user can put right: the message names the file, line or key, and says what would be right.

    The command line prints the message alone and exits with status 2.
    """


def launched() -> tuple[int, int]:
    """This process's rank, and the number of processes that torchrun started with it: (0, 1) without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    return (int(os.environ.get("RANK", 0)), size) if size > 1 else (0, 1)
