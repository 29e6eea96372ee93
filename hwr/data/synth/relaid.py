"""Lines of a dataset -> new lines: their ink joined to longer lines, with another pen, on other paper.

Lines drawn from pen trajectories, or scanned in black and white, have real hands but no paper and one kind of pen. These lines
show the same hands as a scanner or a camera sees them. models/hwr-latin was trained on such lines of UNIPEN.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from hwr import Error, data
from hwr.config import Data
from hwr.data import Line
from hwr.data.synth import hands, paper, scan, writers
from hwr.data.synth.corpus import fold
from hwr.data.synth.lines import Sample
from hwr.images import load

_TALLEST = 100  # px, of a piece
_PIECES = 6  # at most, of a line
_LONGEST = (15, 75)  # characters: a line ends before it has more than a number drawn from this range
_BAND = 0.62  # of a line's ink lies between the base line and the top of small letters
_CAPITALS = 0.68  # height of small letters, where there are only capitals and digits, whose height is 1


class Relaid:
    """Lines made of the ink of a dataset's training lines; each drawn writer has the hand of one of its writers."""

    suffix = ".webp"

    def __init__(self, seed: int, roots: Sequence[Path]) -> None:
        """Raises:
        Error: A dataset can't be read, or has no training lines.
        """
        self._seed, self._roots = seed, tuple(roots)
        _ = self._people  # report errors in them before drawing anything

    @property
    def _people(self) -> list[list[Line]]:
        return _people(self._roots)

    def _hand(self, writer: int) -> tuple[list[Line], dict[str, str]]:
        """The usable lines of this writer's hand, and why others are not, by id; of the next hand that has usable ones.

        Raises:
            Error: There is none in the datasets.
        """
        people, skipped = self._people, dict[str, str]()
        for number in range(len(people)):
            lines, faults = _usable(self._roots, (writer + number) % len(people))
            skipped |= faults
            if lines:
                return lines, skipped
        raise Error(
            f"{', '.join(map(str, self._roots))}: no line whose ink can be used: {next(iter(skipped.values()))}"
        )

    def skipped(self, writer: int) -> dict[str, str]:
        """The lines of this writer's hand that can't be used, by id, and why; of the first writer, also bad lines of the datasets."""
        faults = [] if writer else [fault for root in self._roots for fault in _dataset(root).faults]
        return {fault.id: fault.message for fault in faults} | self._hand(writer)[1]

    def of(self, writer: int) -> Callable[[int], Sample]:
        """What draws this writer's lines by their number."""
        lines, _ = self._hand(writer)
        rng = hands.rng_of(self._seed, writer, 0, 0)  # not a line's, whose keys are two numbers
        sheet, camera = paper.make_sheet(rng), scan.make_camera(rng)
        if camera.kind == "binary":
            sheet = paper.clean(sheet)
        author = writers.make_habits(rng)
        x_height = writers.X_HEIGHT * rng.uniform(0.85, 1.15)

        def line(number: int) -> Sample:
            rng = hands.rng_of(self._seed, writer, number)
            chosen = _chosen(lines, rng)
            ink = _joined([_piece(one, x_height) for one in chosen], x_height, author, rng)
            label = fold(" ".join(one.text for one in chosen))
            image = scan.photograph(ink, sheet, camera, len(label), rng)
            return Sample(label, image, int(cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)[0]) + 1)

        return line


@lru_cache(8)
def _dataset(root: Path) -> data.Dataset:
    return data.read_all(Data(root=str(root)))


@lru_cache(1)
def _people(roots: tuple[Path, ...]) -> list[list[Line]]:
    """The training lines by writer; lines of unknown writers count as one writer's."""
    lines = [line for root in roots for line in _dataset(root).train if line.text.strip()]
    if not lines:
        raise Error(f"{', '.join(map(str, roots))}: no training lines whose ink could be used")
    return [list(own) for _, own in groupby(sorted(lines, key=lambda line: line.writer), key=lambda line: line.writer)]


@lru_cache(8)
def _usable(roots: tuple[Path, ...], hand: int) -> tuple[list[Line], dict[str, str]]:
    """The lines of a hand that have ink, and why others can't be used, by id."""
    good, faults = list[Line](), dict[str, str]()
    for line in _people(roots)[hand]:
        try:
            _cover(line)
        except Error as error:
            faults[line.id] = str(error)
        else:
            good.append(line)
    return good, faults


def _chosen(lines: Sequence[Line], rng: np.random.Generator) -> list[Line]:
    """One to `_PIECES` of a writer's lines, at random. Those in capitals alone mostly stay among themselves."""
    longest = int(rng.integers(*_LONGEST))
    chosen: list[Line] = []
    for _ in range(_PIECES):
        line = lines[int(rng.integers(len(lines)))]
        if chosen and sum(len(one.text) + 1 for one in chosen) + len(line.text) > longest:
            break
        if chosen and _has_small(chosen[-1].text) and not _has_small(line.text) and rng.random() < 0.8:
            continue
        chosen.append(line)
    return chosen


def _has_small(text: str) -> bool:
    return any(c.islower() for c in text)


def _cover(line: Line) -> np.ndarray:
    """A line's ink: (H, W) float32 cover, 0..1, cropped to it.

    Raises:
        Error: Its image can't be read, or has no ink.
    """
    grey = load.read_line(line.image, line.region, line.upright, line.baseline).astype(np.float32)
    ground, darkest = float(np.median(grey)), float(np.percentile(grey, 0.5))
    cover = np.clip((ground - grey) / max(20.0, ground - darkest) * 1.05 - 0.03, 0, 1)
    rows, columns = np.flatnonzero(cover.max(1) > 0.4), np.flatnonzero(cover.max(0) > 0.4)
    if not len(rows):
        raise Error(f"{line.source or line.image}: line {line.id}: its image has no ink")
    return np.asarray(cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _piece(line: Line, x_height: float) -> tuple[np.ndarray, float]:
    """A line's ink, (H, W) float32 cover, and its base line's y, scaled to this height of small letters."""
    cover = _cover(line)
    top, bottom = _band(cover) if _has_small(line.text) else (0, len(cover))
    height = (bottom - top) * (1.0 if _has_small(line.text) else _CAPITALS)
    factor = min(float(np.clip(x_height / max(4.0, height), 0.5, 5)), _TALLEST / len(cover))
    size = (max(1, round(cover.shape[1] * factor)), max(1, round(len(cover) * factor)))
    return np.clip(cv2.resize(cover, size, interpolation=cv2.INTER_CUBIC), 0, 1), bottom * factor


def _band(cover: np.ndarray) -> tuple[int, int]:
    """The narrowest rows that hold `_BAND` of the ink: about the small letters without what stands up or hangs down."""
    above = np.concatenate([[0.0], np.cumsum(cover.sum(1), dtype=np.float64)])
    ends = np.searchsorted(above, above[:-1] + _BAND * above[-1])
    heights = np.where(ends <= len(cover), ends - np.arange(len(cover)), len(cover) + 1)
    top = int(heights.argmin())
    return top, int(ends[top])


def _joined(
    pieces: Sequence[tuple[np.ndarray, float]], x_height: float, author: writers.Writer, rng: np.random.Generator
) -> writers.Ink:
    """Pieces side by side on one base line, as if written in one go."""
    gaps = author.word_gap * x_height * np.exp(rng.normal(0, 0.25, len(pieces))) + 4
    baseline = writers.MARGIN + max(own for _, own in pieces)
    below = max(len(cover) - own for cover, own in pieces)
    width = sum(cover.shape[1] for cover, _ in pieces) + int(gaps.sum()) + 2 * writers.MARGIN
    canvas = np.zeros((int(baseline + below) + writers.MARGIN + 8, width), np.float32)
    x = writers.MARGIN
    for (cover, own), gap in zip(pieces, gaps.tolist(), strict=True):
        y = max(0, round(baseline - own + rng.normal(0, 1)))
        canvas[y : y + len(cover), x : x + cover.shape[1]] = cover[: len(canvas) - y]
        x += cover.shape[1] + int(gap)
    return writers.rewrite(canvas, baseline, x_height, author, rng)
