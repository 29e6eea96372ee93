"""Lines -> batches of NumPy arrays, in an order that depends on the seed and the epoch alone."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hwr import Error, augment
from hwr.alphabet import Alphabet
from hwr.config import Config
from hwr.datasets import Line


@dataclass(frozen=True)
class Batch:
    """What an engine takes.

    Attributes:
        images: (N, H, W) uint8.
        labels: (N, L) int32, padded with -1; L is the longest label's length, at least 1.
        warps: How to warp the images, or None to leave them as they are.
        index: (N,) the lines' positions in the dataset, for messages.
    """

    images: np.ndarray
    labels: np.ndarray
    warps: augment.Warps | None
    index: np.ndarray


def encode(lines: Sequence[Line], alphabet: Alphabet, steps: int) -> list[np.ndarray]:
    """Label ids of every line, checked: CTC can write them all with this alphabet in so many steps.

    Raises:
        Error: Characters that the alphabet lacks, or a text that is too long; names the place of the text.
    """
    labels, faults = [], []
    for line in lines:
        fault = unwritable(line.text, alphabet, steps)
        if fault:
            faults.append(f"{line.source}: line {line.id}: {fault}")
        else:
            labels.append(alphabet.encode(line.text))
    if faults:
        more = f"\n… and {len(faults) - 5} more lines like these" if len(faults) > 5 else ""
        raise Error("\n".join(faults[:5]) + more)
    return labels


def unwritable(text: str, alphabet: Alphabet, steps: int) -> str:
    """Why CTC can't write the text, in words that say what to do; "" if it can."""
    missing = alphabet.missing(text)
    if missing:
        return (
            f"the alphabet lacks {' '.join(missing)!r}; set data.alphabet=auto for the characters of the training "
            "text, or give a file of characters"
        )
    # CTC needs a step per character and a blank between equal neighbours.
    need = len(text) + sum(a == b for a, b in itertools.pairwise(text))
    if need > steps:
        return f"its {len(text)} characters need {need} steps and the network has {steps}; raise model.steps"
    return ""


def pad(labels: Sequence[np.ndarray]) -> np.ndarray:
    """(N, L) int32, each row a label followed by -1."""
    out = np.full((len(labels), max(1, *(len(label) for label in labels), 0)), -1, np.int32)
    for row, label in zip(out, labels, strict=True):
        row[: len(label)] = label
    return out


def check_size(lines: int, batch_size: int) -> None:
    """Raises:
    Error: Fewer lines than a batch holds.
    """
    if lines < batch_size:
        raise Error(f"train.batch_size is {batch_size}, but there are only {lines} training lines; set it to {lines}")


def count(lines: int, batch_size: int, epoch: int) -> int:
    """Batches in an epoch (from 0): what does not fill a batch is rolled over to the next, as in the original."""
    return (epoch + 1) * lines // batch_size - epoch * lines // batch_size


def training(
    images: np.ndarray, labels: Sequence[np.ndarray], config: Config, epoch: int, start: int = 0
) -> Iterator[Batch]:
    """The batches of an epoch, shuffled and with warps to apply.

    The data is one endless stream of passes, each a permutation of all lines; batch k takes its lines
    [k * batch_size, (k + 1) * batch_size), and epoch e the batches that end within pass e. So the rolled-over lines
    come first in the next epoch, and any batch can be made without those before it.

    Args:
        images: (lines, H, W) uint8.
        labels: Label ids per line.
        epoch: From 0.
        start: Batches of this epoch to leave out, to go on in mid-epoch.

    Raises:
        Error: Fewer lines than a batch holds.
    """
    n, size, seed = len(images), config.train.batch_size, config.train.seed
    check_size(n, size)
    first = epoch * n // size
    orders: dict[int, np.ndarray] = {}
    for k in range(first + start, first + count(n, size, epoch)):
        drawn = []
        for position in range(k * size, (k + 1) * size):
            turn, place = divmod(position, n)
            if turn not in orders:
                orders[turn] = np.random.default_rng((seed, turn)).permutation(n)
            drawn.append((turn, int(orders[turn][place])))
        index = np.array([line for _, line in drawn])
        warps = augment.draw(config.augment, images.shape[1], images.shape[2], seed, drawn)
        yield Batch(images[index], pad([labels[i] for _, i in drawn]), warps, index)


def reading(images: np.ndarray, labels: Sequence[np.ndarray], batch_size: int) -> Iterator[Batch]:
    """All lines in their order, as they are; the last batch may be smaller."""
    for start in range(0, len(images), batch_size):
        part = slice(start, min(start + batch_size, len(images)))
        yield Batch(np.array(images[part]), pad(labels[part]), None, np.arange(part.start, part.stop))
