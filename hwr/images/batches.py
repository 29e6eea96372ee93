"""Lines -> batches of NumPy arrays, in an order that depends only on the seed and the epoch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.config import Augment
from hwr.data import Line
from hwr.images import augment
from hwr.images.cache import Images
from hwr.images.geometry import Geometry, steps_needed

# For lines of any width: number of batches whose lines are sorted by width before batching, to reduce padding. The widths are
# those after augmentation: with those before it, a sixth of a batch was padding instead of a twentieth.
POOL = 20


@dataclass(frozen=True)
class Batch:
    """A batch of lines for an engine.

    Attributes:
        images: (N, H, W) uint8.
        widths: (N,) int32, width of each line; columns right of it are padding.
        labels: (N, L) int32, padded with -1; L is the longest label's length, at least 1.
        warps: The augmentation, or None.
        second: The augmentation of a second view of each line, for the consistency loss, or None.
        index: (N,) the lines' positions in the dataset.
    """

    images: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    warps: augment.Warps | None
    index: np.ndarray
    second: augment.Warps | None = None

    def share(self, k: int, n: int) -> "Batch":
        """Lines k, k + n, … of the batch."""
        chosen = slice(k, None, n)
        warps, second = (each and each.of(chosen) for each in (self.warps, self.second))
        return Batch(self.images[chosen], self.widths[chosen], self.labels[chosen], warps, self.index[chosen], second)


@dataclass(frozen=True)
class Examples:
    """Prepared lines with their labels, encoded once per run.

    Attributes:
        images: Preprocessed line images.
        lines: The records of the lines.
        labels: Label ids per line, (L,) int32; empty if the text can't be written.
        faults: Why CTC can't write a line's text; "" if it can.
    """

    images: Images
    lines: Sequence[Line]
    labels: list[np.ndarray]
    faults: list[str]

    def __len__(self) -> int:
        return len(self.lines)


def encode(lines: Sequence[Line], images: Images, alphabet: Alphabet, geometry: Geometry) -> Examples:
    """Encode the labels, and find lines that CTC can't write with this alphabet in the network's time steps."""
    steps = geometry.time_steps(images.widths).tolist()
    faults = [unwritable(line.text, alphabet, geometry, t) for line, t in zip(lines, steps, strict=True)]
    nothing = np.zeros(0, np.int32)
    labels = [
        nothing if fault else alphabet.encode(geometry.written(line.text))
        for line, fault in zip(lines, faults, strict=True)
    ]
    return Examples(images, lines, labels, faults)


def all_writable(examples: Examples) -> Examples:
    """Return the examples if CTC can write all of them.

    Raises:
        Error: A text is too long or has characters outside the alphabet; names the text's place.
    """
    faults = [
        f"{line.source}: line {line.id}: {fault}"
        for line, fault in zip(examples.lines, examples.faults, strict=True)
        if fault
    ]
    if faults:
        more = f"\n… and {len(faults) - 5} more such lines" if len(faults) > 5 else ""
        raise Error("\n".join(faults[:5]) + more)
    return examples


def unwritable(text: str, alphabet: Alphabet, geometry: Geometry, steps: int) -> str:
    """Why CTC can't write the text, and the remedy; "" if it can."""
    text = geometry.written(text)
    missing = alphabet.missing(text)
    if missing:
        return (
            f"the alphabet lacks {' '.join(missing)!r}; set data.alphabet=auto (fine-tuning: --charset union) to add the "
            "characters of the training text, or name a file of characters"
        )
    need = steps_needed(alphabet.encode(text))
    if need > steps:
        if geometry.any_width:
            remedy = (
                "check the text; if it is right, raise model.frames or image.height, or exclude the line (data.exclude)"
            )
        else:
            remedy = "raise model.steps"
        return f"its {len(text)} characters need {need} time steps but the network has {steps}; {remedy}"
    return ""


def pad(labels: Sequence[np.ndarray]) -> np.ndarray:
    """(N, L) int32, each row a label followed by -1."""
    out = np.full((len(labels), max(1, *(len(label) for label in labels), 0)), -1, np.int32)
    for row, label in zip(out, labels, strict=True):
        row[: len(label)] = label
    return out


def check_size(lines: int, batch_size: int) -> None:
    """Check that there are enough lines.

    Raises:
        Error: There are fewer lines than a batch holds.
    """
    if lines < batch_size:
        raise Error(
            f"train.batch_size is {batch_size}, but there are only {lines} training lines; set it to at most {lines}"
        )


def count(lines: int, batch_size: int, epoch: int) -> int:
    """Number of batches in an epoch (from 0). An incomplete batch rolls over to the next epoch, as in the original."""
    return (epoch + 1) * lines // batch_size - epoch * lines // batch_size


@dataclass(frozen=True)
class Recipe:
    """Everything that a training batch depends on, except the lines.

    Attributes:
        geometry: The shape of the line images.
        size: Lines per batch.
        seed: Seed of the order and the augmentation.
        augment: The ranges of the augmentation.
        views: Augmented views per line, 1 or 2.
    """

    geometry: Geometry
    size: int
    seed: int
    augment: Augment
    views: int = 1


def training(
    examples: Examples, recipe: Recipe, epoch: int, start: int = 0, part: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """The batches of an epoch, shuffled, with their augmentation.

    The data is an endless stream of passes, each a permutation of all lines. Batch k consists of lines
    [k * size, (k + 1) * size) of the stream, and epoch e of the batches that end within pass e. So the rolled-over lines come
    first in the next epoch, and any batch can be computed without its predecessors. For lines of any width, groups of `POOL`
    consecutive batches first redistribute their lines by width.

    Args:
        epoch: From 0.
        start: Batches of this epoch to skip, to resume in mid-epoch.
        part: (k, n): the share of process k of n, lines k, k + n, … of every batch.

    Raises:
        Error: There are fewer lines than a batch holds.
    """
    n, size = len(examples), recipe.size
    check_size(n, size)
    first = epoch * n // size
    last = first + count(n, size, epoch)

    def widths(drawn: Sequence[tuple[int, int]]) -> np.ndarray:
        return _warps(examples, recipe, drawn).widths

    order = _Order(n, size, recipe.seed, first, last, widths if recipe.geometry.any_width else None)
    for k in range(first + start, last):
        yield warped(examples, recipe, order.batch(k)[part[0] :: part[1]])


def warped(examples: Examples, recipe: Recipe, drawn: Sequence[tuple[int, int]]) -> Batch:
    """A training batch.

    Args:
        drawn: (pass, line) of each of its lines; with the seed they determine the warp.
    """
    index = np.array([line for _, line in drawn])
    images, warps = examples.images, _warps(examples, recipe, drawn)
    second = None
    if recipe.views == 2:
        second = augment.second_view(recipe.augment, images.height, warps, recipe.seed, drawn)
    pixels, labels = images.batch(index, recipe.geometry.multiple), pad([examples.labels[i] for i in index])
    return Batch(pixels, images.widths[index], labels, warps, index, second)


def _warps(examples: Examples, recipe: Recipe, drawn: Sequence[tuple[int, int]]) -> augment.Warps:
    index = np.array([line for _, line in drawn])
    return augment.draw(
        recipe.augment,
        examples.images.height,
        examples.images.widths[index],
        recipe.seed,
        drawn,
        centred=recipe.geometry.any_width,
        least=recipe.geometry.least_widths([examples.labels[i] for i in index]),
    )


def widest(examples: Examples, recipe: Recipe, part: tuple[int, int] = (0, 1)) -> Batch:
    """The batch of the widest lines, with the warps of the first pass: the batch that needs the most memory.

    Args:
        part: As in `training`.
    """
    index = np.argsort(-examples.images.widths, kind="stable")[: recipe.size].tolist()
    return warped(examples, recipe, [(0, i) for i in index][part[0] :: part[1]])


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; a thread computes the next two ahead."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, batches, None) for _ in range(2))
        while (batch := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, batches, None))
            yield batch


class _Order:
    """The lines of batch k of the endless stream, for the batches `first` .. `last` - 1 of an epoch.

    A pool's lines are sorted by width. It ends with its epoch: otherwise it would contain the lines of a small dataset several
    times, next to each other.

    Args:
        widths: The widths of lines, given as (pass, line), after their augmentation; None: the order stays random.
    """

    def __init__(
        self,
        lines: int,
        size: int,
        seed: int,
        first: int,
        last: int,
        widths: Callable[[Sequence[tuple[int, int]]], np.ndarray] | None,
    ) -> None:
        self._lines, self._size, self._seed, self._widths = lines, size, seed, widths
        pool = POOL if widths else 1
        number = -(-(last - first) // pool)
        self._pool = -(-(last - first) // number)  # pools of equal size, at most `pool`
        self._first, self._last = first, last
        self._turn, self._permutation = -1, np.zeros(0, np.int64)
        self._start, self._cut = -1, list[list[tuple[int, int]]]()  # the latest pool

    def batch(self, k: int) -> list[tuple[int, int]]:
        """(pass, line) of each of its lines."""
        start = k - (k - self._first) % self._pool
        if start != self._start:
            end = min(start + self._pool, self._last)
            drawn = [self._line(position) for position in range(start * self._size, end * self._size)]
            if self._widths:
                drawn = [drawn[i] for i in np.argsort(self._widths(drawn), kind="stable")]
            cut = [drawn[i : i + self._size] for i in range(0, len(drawn), self._size)]
            if self._widths:
                cut = [cut[i] for i in np.random.default_rng((self._seed, start, 0, 1)).permutation(len(cut))]
            self._start, self._cut = start, cut
        return self._cut[k - start]

    def _line(self, position: int) -> tuple[int, int]:
        turn, place = divmod(position, self._lines)
        if turn != self._turn:
            self._turn = turn
            # A separate random stream: (seed, pass) would equal that of line 0's warp, because keys are padded with zeros.
            stream = np.random.SeedSequence(self._seed, spawn_key=(turn,))
            self._permutation = np.random.default_rng(stream).permutation(self._lines)
        return turn, int(self._permutation[place])


def reading(
    images: Images, labels: Sequence[np.ndarray] | None, size: int, multiple: int = 1, widest: int | None = None
) -> Iterator[Batch]:
    """Batches of all lines without augmentation, the widest first, so that a lack of memory shows at once.

    The last batch may be smaller.

    Args:
        labels: Label ids per line; None if no loss is needed.
        size: Lines per batch.
        multiple: Batch widths are rounded up to a multiple of this, in pixels.
        widest: Lines wider than this, in pixels, are alone in their batch; see `pieces`.
    """
    order = np.argsort(-images.widths, kind="stable")
    alone = 0 if widest is None else int((images.widths > widest).sum())
    nothing = np.zeros(0, np.int32)
    for start in [*range(alone), *range(alone, len(images), size)]:
        index = order[start : start + (1 if start < alone else size)]
        pixels = images.batch(index, multiple)
        chosen = [nothing if labels is None else labels[i] for i in index]
        yield Batch(pixels, images.widths[index], pad(chosen), None, index)


def similar(widths: Sequence[int], size: int, each: int) -> list[list[int]]:
    """Divide lines into batches so that the batches cost the least together, with their padding.

    A batch of n lines, the widest of width w, costs `each` + w (n + 1/3): a network's time is nearly proportional to its
    pixels, and an LSTM's also to its steps. On one core, hwr-latin took 6.7 + w (0.0055 + 0.0164 n) ms.

    Args:
        widths: Of the lines, in pixels.
        size: Most lines in a batch.
        each: What a batch costs beside its pixels, as the width of a line that costs as much.

    Returns:
        The lines of each batch, as places in `widths`, the widest batch first.
    """
    order = np.argsort(-np.asarray(widths), kind="stable").tolist()
    # The least cost of the first i lines, and where the last of their batches begins.
    least, begins = [0.0], [0]
    for end in range(1, len(order) + 1):
        costs = [(least[i] + each + widths[order[i]] * (end - i + 1 / 3), i) for i in range(max(0, end - size), end)]
        cost, begin = min(costs)
        least.append(cost)
        begins.append(begin)
    out, end = [], len(order)
    while end:
        out.append(order[begins[end] : end])
        end = begins[end]
    return out[::-1]
