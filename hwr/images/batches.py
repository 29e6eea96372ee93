"""Lines -> batches of NumPy arrays, in an order that depends on the seed and the epoch alone."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Config, Original
from hwr.data import Line
from hwr.images import augment
from hwr.images.cache import Images

# Lines of any width: so many batches' lines are sorted by width before they are cut into batches, so that little is
# padding; and batches are padded to multiples of so many pixels, so that an engine meets few different shapes.
POOL = 20
MULTIPLE = 32


@dataclass(frozen=True)
class Batch:
    """What an engine takes.

    Attributes:
        images: (N, H, W) uint8.
        widths: (N,) int32, the columns of each that are line; what is right of them is padding.
        labels: (N, L) int32, padded with -1; L is the longest label's length, at least 1.
        warps: How to warp the images, or None to leave them as they are.
        index: (N,) the lines' positions in the dataset.
    """

    images: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    warps: augment.Warps | None
    index: np.ndarray


def frames(config: Config, widths: np.ndarray) -> np.ndarray:
    """Time steps that the network has for lines of these widths: (N,) int."""
    model = config.model
    if isinstance(model, Original):
        return np.full(len(widths), model.steps)
    steps = np.asarray(widths)
    for factor in (model.stride[1], *(pool[1] for pool in model.pools)):
        steps = -(-steps // factor)
    return steps * model.frames


def encode(lines: Sequence[Line], alphabet: Alphabet, config: Config, widths: np.ndarray) -> list[np.ndarray]:
    """Label ids of every line, checked: CTC can write them all with this alphabet in the network's time steps.

    Args:
        widths: (lines,) of the prepared lines, in pixels.

    Raises:
        Error: Characters that the alphabet lacks, or a text that is too long; names the place of the text.
    """
    labels, faults = [], []
    for line, steps in zip(lines, frames(config, widths).tolist(), strict=True):
        fault = unwritable(line.text, alphabet, config, steps)
        if fault:
            faults.append(f"{line.source}: line {line.id}: {fault}")
        else:
            labels.append(alphabet.encode(written(line.text, config)))
    if faults:
        more = f"\n… and {len(faults) - 5} more lines like these" if len(faults) > 5 else ""
        raise Error("\n".join(faults[:5]) + more)
    return labels


def written(text: str, config: Config) -> str:
    """What the network learns to write for a line: its text, with `model.edge_spaces` between spaces.

    The spaces are paper to the left and right of the ink, and take the pressure off the first and last character
    (Retsinas et al. 2022); `decode.greedy` drops them.
    """
    return f" {text} " if config.model.edge_spaces else text


def unwritable(text: str, alphabet: Alphabet, config: Config, steps: int) -> str:
    """Why CTC can't write the text, in words that say what to do; "" if it can."""
    text = written(text, config)
    missing = alphabet.missing(text)
    if missing:
        return (
            f"the alphabet lacks {' '.join(missing)!r}; set data.alphabet=auto (fine-tuning: --charset union) for the "
            "characters of the training text, or give a file of characters"
        )
    need = needed(alphabet.encode(text))
    if need > steps:
        if config.model.any_width:
            remedy = "is it the right text? If so raise model.frames or image.height, or leave it out (data.exclude)"
        else:
            remedy = "raise model.steps"
        return f"its {len(text)} characters need {need} steps and the network has {steps}; {remedy}"
    return ""


def needed(label: np.ndarray) -> int:
    """Time steps that CTC needs for a label: one per character, and a blank between equal neighbours."""
    return len(label) + int((label[1:] == label[:-1]).sum())


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
    images: Images,
    labels: Sequence[np.ndarray],
    config: Config,
    epoch: int,
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The batches of an epoch, shuffled and with warps to apply.

    The data is one endless stream of passes, each a permutation of all lines; batch k takes its lines
    [k * batch_size, (k + 1) * batch_size), and epoch e the batches that end within pass e. So the rolled-over lines
    come first in the next epoch, and any batch can be made without those before it. Where lines have any width, `POOL`
    batches in a row of an epoch first share out their lines among them by width.

    Args:
        labels: Label ids per line.
        epoch: From 0.
        start: Batches of this epoch to leave out, to go on in mid-epoch.
        part: (k, n): of every batch the k-th, the k + n-th, … line, the share of process k of n.

    Raises:
        Error: Fewer lines than a batch holds.
    """
    n, size, seed = len(images), config.train.batch_size, config.train.seed
    check_size(n, size)
    first = epoch * n // size
    last = first + count(n, size, epoch)
    order = _Order(images.widths, size, seed, first, last, POOL if config.model.any_width else 1)
    for k in range(first + start, last):
        yield warped(images, labels, config, order.batch(k)[part[0] :: part[1]])


def warped(images: Images, labels: Sequence[np.ndarray], config: Config, drawn: Sequence[tuple[int, int]]) -> Batch:
    """A batch of training.

    Args:
        drawn: (pass, line) of each of its lines; with the seed they tell its warp.
    """
    index = np.array([line for _, line in drawn])
    chosen = [labels[i] for i in index]
    widths = images.widths[index]
    least = _least(config, chosen) if config.model.any_width else None
    warps = augment.draw(
        config.augment, images.height, widths, config.train.seed, drawn, centred=config.model.any_width, least=least
    )
    return Batch(images.batch(index, multiple(config)), widths, pad(chosen), warps, index)


def ahead(batches: Iterator[Batch], number: int = 2) -> Iterator[Batch]:
    """The same batches, the next ones made by a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, batches, None) for _ in range(number))
        while (batch := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, batches, None))
            yield batch


class _Order:
    """Which lines are in batch k of the endless stream, for the batches `first` .. `last` - 1 of an epoch.

    A pool ends with its epoch: if it went on, a small dataset's lines would be in it several times, side by side.
    """

    def __init__(self, widths: np.ndarray, size: int, seed: int, first: int, last: int, pool: int) -> None:
        self._widths, self._size, self._seed, self._sorts = widths, size, seed, pool > 1
        number = -(-(last - first) // pool)
        self._pool = -(-(last - first) // number)  # as even as can be, and no larger
        self._first, self._last = first, last
        self._turn, self._permutation = -1, np.zeros(0, np.int64)
        self._start, self._cut = -1, list[list[tuple[int, int]]]()  # the pool that was made last

    def batch(self, k: int) -> list[tuple[int, int]]:
        """(pass, line) of each of its lines."""
        start = k - (k - self._first) % self._pool
        if start != self._start:
            end = min(start + self._pool, self._last)
            drawn = [self._line(position) for position in range(start * self._size, end * self._size)]
            if self._sorts:
                drawn.sort(key=lambda key: self._widths[key[1]])
            cut = [drawn[i : i + self._size] for i in range(0, len(drawn), self._size)]
            if self._sorts:
                cut = [cut[i] for i in np.random.default_rng((self._seed, start, 0, 1)).permutation(len(cut))]
            self._start, self._cut = start, cut
        return self._cut[k - start]

    def _line(self, position: int) -> tuple[int, int]:
        turn, place = divmod(position, len(self._widths))
        if turn != self._turn:
            self._turn = turn
            self._permutation = np.random.default_rng((self._seed, turn)).permutation(len(self._widths))
        return turn, int(self._permutation[place])


def _least(config: Config, labels: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) pixels of width that give the labels all the time steps that they need."""
    assert not isinstance(config.model, Original)
    model, need = config.model, np.array([needed(label) for label in labels])
    return np.ceil(need * model.stride[1] * math.prod(pool[1] for pool in model.pools) / model.frames)


def reading(images: Images, labels: Sequence[np.ndarray], batch_size: int, multiple: int = 1) -> Iterator[Batch]:
    """All lines, as they are, the narrowest first; the last batch may be smaller.

    Args:
        multiple: Of pixels that the batches' widths are rounded up to.
    """
    order = np.argsort(images.widths, kind="stable")
    for start in range(0, len(images), batch_size):
        index = order[start : start + batch_size]
        pixels = images.batch(index, multiple)
        yield Batch(pixels, images.widths[index], pad([labels[i] for i in index]), None, index)


def multiple(config: Config) -> int:
    """What the widths of batches are rounded up to: of lines that all have one width, nothing."""
    return MULTIPLE if config.model.any_width else 1
