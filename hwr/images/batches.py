"""Lines -> batches of NumPy arrays, in an order that depends on the seed and the epoch alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Augment
from hwr.data import Line
from hwr.images import augment, load, prepare
from hwr.images.cache import Images
from hwr.images.geometry import Geometry, steps_needed

# Lines of any width: so many batches' lines are sorted by width before they are cut into batches, so that little is padding.
POOL = 20


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


@dataclass(frozen=True)
class Examples:
    """Prepared lines with their labels, made once for a run.

    Attributes:
        images: As the network takes them.
        lines: The same lines' records.
        labels: Label ids of each, (L,) int32; empty where the text can't be written.
        faults: Why CTC can't write a line's text; "" where it can.
    """

    images: Images
    lines: Sequence[Line]
    labels: list[np.ndarray]
    faults: list[str]

    def __len__(self) -> int:
        return len(self.lines)


def encode(lines: Sequence[Line], images: Images, alphabet: Alphabet, geometry: Geometry) -> Examples:
    """Label the lines, and see which of them CTC can write with this alphabet in the network's time steps."""
    steps = geometry.time_steps(images.widths).tolist()
    faults = [unwritable(line.text, alphabet, geometry, t) for line, t in zip(lines, steps, strict=True)]
    nothing = np.zeros(0, np.int32)
    labels = [
        nothing if fault else alphabet.encode(geometry.written(line.text))
        for line, fault in zip(lines, faults, strict=True)
    ]
    return Examples(images, lines, labels, faults)


def all_writable(examples: Examples) -> Examples:
    """The examples, if CTC can write all of them.

    Raises:
        Error: Characters that the alphabet lacks, or a text that is too long; names the place of the text.
    """
    faults = [
        f"{line.source}: line {line.id}: {fault}"
        for line, fault in zip(examples.lines, examples.faults, strict=True)
        if fault
    ]
    if faults:
        more = f"\n… and {len(faults) - 5} more lines like these" if len(faults) > 5 else ""
        raise Error("\n".join(faults[:5]) + more)
    return examples


def unwritable(text: str, alphabet: Alphabet, geometry: Geometry, steps: int) -> str:
    """Why CTC can't write the text, in words that say what to do; "" if it can."""
    text = geometry.written(text)
    missing = alphabet.missing(text)
    if missing:
        return (
            f"the alphabet lacks {' '.join(missing)!r}; set data.alphabet=auto (fine-tuning: --charset union) for the "
            "characters of the training text, or give a file of characters"
        )
    need = steps_needed(alphabet.encode(text))
    if need > steps:
        if geometry.any_width:
            remedy = "is it the right text? If so raise model.frames or image.height, or exclude it (data.exclude)"
        else:
            remedy = "raise model.steps"
        return f"its {len(text)} characters need {need} steps and the network has {steps}; {remedy}"
    return ""


def too_long(line: Line, width: int, height: int, geometry: Geometry) -> str:
    """Why CTC can't write the line's text in the time steps of its image, whatever the alphabet; "" if it can.

    Args:
        width: Of the line's image, in pixels.
        height: Likewise.
    """
    letters = Alphabet("".join(sorted({*geometry.written(line.text)})))
    if geometry.any_width:
        width = prepare.scaled_width(width, height, geometry)
        if geometry.straighten:  # cuts empty paper off above and below, and so makes the line wider
            width = prepare.prepare(load.read_line(line.image, line.region), geometry).shape[1]
    return unwritable(line.text, letters, geometry, int(geometry.time_steps(np.array([width]))[0]))


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


@dataclass(frozen=True)
class Recipe:
    """What a batch of training depends on, beside the lines.

    Attributes:
        size: Lines in a batch.
        seed: Of the order and the warps.
        augment: The ranges of the warps.
    """

    geometry: Geometry
    size: int
    seed: int
    augment: Augment


def training(
    examples: Examples, recipe: Recipe, epoch: int, start: int = 0, part: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """The batches of an epoch, shuffled and with warps to apply.

    The data is one endless stream of passes, each a permutation of all lines; batch k takes its lines
    [k * size, (k + 1) * size), and epoch e the batches that end within pass e. So the rolled-over lines come first in the
    next epoch, and any batch can be made without those before it. Where lines have any width, `POOL` batches in a row of
    an epoch first share out their lines among them by width.

    Args:
        epoch: From 0.
        start: Batches of this epoch to skip, to resume in mid-epoch.
        part: (k, n): of every batch the k-th, the k + n-th, … line, the share of process k of n.

    Raises:
        Error: Fewer lines than a batch holds.
    """
    n, size = len(examples), recipe.size
    check_size(n, size)
    first = epoch * n // size
    last = first + count(n, size, epoch)
    order = _Order(examples.images.widths, size, recipe.seed, first, last, POOL if recipe.geometry.any_width else 1)
    for k in range(first + start, last):
        yield warped(examples, recipe, order.batch(k)[part[0] :: part[1]])


def warped(examples: Examples, recipe: Recipe, drawn: Sequence[tuple[int, int]]) -> Batch:
    """A batch of training.

    Args:
        drawn: (pass, line) of each of its lines; with the seed they determine its warp.
    """
    index = np.array([line for _, line in drawn])
    chosen = [examples.labels[i] for i in index]
    images, geometry = examples.images, recipe.geometry
    widths = images.widths[index]
    warps = augment.draw(
        recipe.augment,
        images.height,
        widths,
        recipe.seed,
        drawn,
        centred=geometry.any_width,
        least=geometry.least_widths(chosen),
    )
    return Batch(images.batch(index, geometry.multiple), widths, pad(chosen), warps, index)


def widest(examples: Examples, recipe: Recipe, part: tuple[int, int] = (0, 1)) -> Batch:
    """The batch of the widest lines, as the first pass warps them: the one that needs the most memory.

    Args:
        part: As of `training`.
    """
    index = np.argsort(-examples.images.widths, kind="stable")[: recipe.size].tolist()
    return warped(examples, recipe, [(0, i) for i in index][part[0] :: part[1]])


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
            # A stream of its own: (seed, pass) would be that of line 0's warp, as keys are padded with zeros.
            stream = np.random.SeedSequence(self._seed, spawn_key=(turn,))
            self._permutation = np.random.default_rng(stream).permutation(len(self._widths))
        return turn, int(self._permutation[place])


def reading(images: Images, labels: Sequence[np.ndarray] | None, size: int, multiple: int = 1) -> Iterator[Batch]:
    """All lines, as they are, the widest first: if memory runs out, it does so at once. The first batch may be smaller.

    Args:
        labels: Label ids per line; None where no loss is asked for.
        size: Lines in a batch.
        multiple: Of pixels that the batches' widths are rounded up to.
    """
    order = np.argsort(images.widths, kind="stable")
    nothing = np.zeros(0, np.int32)
    for start in reversed(range(0, len(images), size)):
        index = order[start : start + size]
        pixels = images.batch(index, multiple)
        chosen = [nothing if labels is None else labels[i] for i in index]
        yield Batch(pixels, images.widths[index], pad(chosen), None, index)
