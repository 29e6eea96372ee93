"""Ground-truth lines and found lines of pages -> PageScore: errors of the page texts, lines found, split and merged."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from rapidfuzz.distance import Levenshtein

from hwr.evaluation.metrics import Counts
from hwr.images.load import Polygon

# A line is found if the intersection over union with a found line exceeds this (Everingham et al. 2010, PASCAL VOC).
# One area lies in another if the other covers more than this of it.
MOST = 0.5

# A found line that covers less than this of a ground-truth line is no part of it, but a dot or a stroke.
LEAST_PART = 0.1

# Larger pages are shrunk to this, in pixels, before areas are compared.
LONGEST_SIDE = 2000


class ScoredLine(NamedTuple):
    """A line of a page: its outline, (x, y) in pixels, and its text."""

    region: Polygon
    text: str


class LineMatches(NamedTuple):
    """The lines of a page: each ground-truth line is either found, split, merged or missed.

    The definitions are those of Wolf and Jolion (2006), "Object count/area graphs for the evaluation of object detection
    and segmentation algorithms", with both of their thresholds at `MOST`.

    Attributes:
        lines: The number of ground-truth lines.
        found: Found by one line: their intersection over union exceeds `MOST`.
        split: Two or more found lines lie in the ground-truth line, and together cover most of it.
        merged: The ground-truth line lies in a found line in which another one lies, too.
        missed: None of these.
        predicted: The number of found lines.
        extra: The found lines that lie in no ground-truth line, and in which none lies.
    """

    lines: int
    found: int
    split: int
    merged: int
    missed: int
    predicted: int
    extra: int


@dataclass(frozen=True)
class PageScore:
    """Page texts compared with the ground truth. Rates are fractions; all counts are per page.

    A page text is the texts of its lines in reading order, joined by spaces, with runs of white space as one space.

    Attributes:
        characters: Character edits of the page texts: the page CER.
        in_order: The same, with the lines sorted as the ground truth's, see `sorted_as`: what is left are no errors of order.
        words: Word edits in reading order: the page WER.
        bag: Word errors without regard to order (Vidal et al. 2023, "End-to-end page-level assessment of handwritten text
            recognition": bWER). For each page, the larger of the numbers of missing and of superfluous words.
        similarities: (pages,) 1 - Levenshtein distance / length of the longer text, of texts as `loosely` has them.
        lines: The lines of each page.
    """

    characters: Counts
    in_order: Counts
    words: Counts
    bag: Counts
    similarities: np.ndarray
    lines: tuple[LineMatches, ...]

    @property
    def cer(self) -> float:
        return self.characters.rate

    @property
    def similarity(self) -> float:
        """Mean of the pages' similarities; NaN without pages."""
        return float(self.similarities.mean()) if len(self.similarities) else float("nan")

    @property
    def all_lines(self) -> LineMatches:
        """The sums over all pages."""
        return LineMatches(*(sum(counts) for counts in zip(*self.lines, strict=True))) if self.lines else _NO_LINES


_NO_LINES = LineMatches(0, 0, 0, 0, 0, 0, 0)


def score(references: Sequence[Sequence[ScoredLine]], hypotheses: Sequence[Sequence[ScoredLine]]) -> PageScore:
    """Compare pages.

    Args:
        references: The ground-truth lines of each page, in reading order.
        hypotheses: The found lines of each page, in reading order.
    """
    truths, texts = ([[line.text for line in page] for page in pages] for pages in (references, hypotheses))
    pairs = [(page_text(a), page_text(b)) for a, b in zip(truths, texts, strict=True)]
    ordered = [
        [page[i].text for i in sorted_as(truth, page)] for truth, page in zip(references, hypotheses, strict=True)
    ]
    words = [(a.split(), b.split()) for a, b in pairs]
    loose = [(loosely("\n".join(a)), loosely("\n".join(b))) for a, b in zip(truths, texts, strict=True)]
    lengths = np.array([len(a) for a, _ in words], np.int64)
    characters = np.array([len(a) for a, _ in pairs], np.int64)
    return PageScore(
        characters=Counts(_distances(pairs), characters),
        in_order=Counts(_distances([(a, page_text(b)) for (a, _), b in zip(pairs, ordered, strict=True)]), characters),
        words=Counts(_distances(words), lengths),
        bag=Counts(np.array([_bag_errors(a, b) for a, b in words], np.int64), lengths),
        similarities=np.array([Levenshtein.normalized_similarity(a, b) for a, b in loose], np.float64),
        lines=tuple(
            match([line.region for line in a], [line.region for line in b])
            for a, b in zip(references, hypotheses, strict=True)
        ),
    )


def sorted_as(references: Sequence[ScoredLine], found: Sequence[ScoredLine]) -> list[int]:
    """The indices of found lines in the order of the ground-truth lines with which they share the largest area.

    Lines that share none follow the line before them.
    """
    _, _, shared = areas([line.region for line in references], [line.region for line in found])
    places: list[int] = []
    for j in range(len(found)):
        touched = len(references) and shared[:, j].any()
        places.append(int(shared[:, j].argmax()) if touched else places[-1] if places else -1)
    return sorted(range(len(found)), key=places.__getitem__)


def page_text(texts: Sequence[str]) -> str:
    """The texts of lines as one, with runs of white space as one space."""
    return " ".join(" ".join(texts).split())


_DASHES = re.compile("[\u2010-\u2015\u2212\xac]")  # hyphens, dashes, minus, not sign


def loosely(text: str) -> str:
    """A page text for the similarity: the differences that the CHURRO leaderboard does not count are removed.

    These are case, compatibility forms (NFKC), the kinds of dashes and apostrophes, spaces before punctuation, words
    hyphenated at a line's end, Markdown's marks, and the amount of white space (stanford-oval/Churro,
    evaluation/normalization.py; its rules for figures, medieval letters and Arabic have no counterpart here).

    Args:
        text: The lines of the page, separated by line feeds.
    """
    text = _DASHES.sub("-", re.sub("[*_`~#]", "", text.lower()))
    text = re.sub("-{3,}", "", text)
    text = re.sub(r"\s+([.,?!;:])", r"\1", text)
    text = re.sub(r"(\w)-\s*\n\s*(?=\w)", r"\1", text)
    return " ".join(unicodedata.normalize("NFKC", text).replace("\u2019", "'").strip("-").split())


def _distances(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> np.ndarray:
    return np.array([Levenshtein.distance(a, b) for a, b in pairs], np.int64)


def _bag_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Substitutions, and insertions or deletions, between two bags of words."""
    a, b = Counter(reference), Counter(hypothesis)
    return max((a - b).total(), (b - a).total())


# --- Lines ---


def match(references: Sequence[Polygon], found: Sequence[Polygon]) -> LineMatches:
    """Compare the outlines of lines by the areas that they share, see `LineMatches`.

    Args:
        references: Of the ground-truth lines; () of a line without an outline, which is missed.
        found: Of the found lines.
    """
    own, other, shared = areas(references, found)
    part = (shared > MOST * other) & (shared > LEAST_PART * own[:, None])  # (references, found)
    inside = shared > MOST * own[:, None]
    merged = (inside & (inside.sum(0) > 1)).any(1)
    split = ~merged & (part.sum(1) > 1) & ((shared * part).sum(1) > MOST * own)
    matched = shared > MOST * (own[:, None] + other - shared)
    once = ~merged & ~split & matched.any(1)
    extra = ~((shared > MOST * other) | inside).any(0)
    return LineMatches(
        lines=len(references),
        found=int(once.sum()),
        split=int(split.sum()),
        merged=int(merged.sum()),
        missed=int((~merged & ~split & ~once).sum()),
        predicted=len(found),
        extra=int(extra.sum()),
    )


def areas(first: Sequence[Polygon], second: Sequence[Polygon]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) and (M,) areas of polygons, and (N, M) the areas that they share, in pixels of a page shrunk to `LONGEST_SIDE`."""
    longest = max((abs(c) for polygon in (*first, *second) for point in polygon for c in point), default=0)
    scale = min(1.0, LONGEST_SIDE / max(1, longest))
    one, two = ([_mask(polygon, scale) for polygon in polygons] for polygons in (first, second))
    shared = np.zeros((len(one), len(two)))
    for i, (x, y, a) in enumerate(one):
        for j, (u, v, b) in enumerate(two):
            left, top = max(x, u), max(y, v)
            right, bottom = min(x + a.shape[1], u + b.shape[1]), min(y + a.shape[0], v + b.shape[0])
            if right > left and bottom > top:
                own = a[top - y : bottom - y, left - x : right - x]
                shared[i, j] = np.count_nonzero(own & b[top - v : bottom - v, left - u : right - u])
    return np.array([a.sum() for _, _, a in one], float), np.array([b.sum() for _, _, b in two], float), shared


def _mask(polygon: Polygon, scale: float) -> tuple[int, int, np.ndarray]:
    """The left and top edge of a polygon, and (H, W) bool, what is inside."""
    if not polygon:
        return 0, 0, np.zeros((0, 0), bool)
    points = np.rint(np.array(polygon, float) * scale).astype(np.int32)
    corner = points.min(0)
    width, height = (points.max(0) - corner + 1).tolist()
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [points - corner], (1.0,))
    return int(corner[0]), int(corner[1]), mask.astype(bool)
