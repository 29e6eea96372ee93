"""Scores of pages: hand-made answers, jiwer, shapely."""

import numpy as np
import pytest
from PIL import Image

from hwr.evaluation import page_metrics
from hwr.evaluation.page_metrics import LineMatches, ScoredLine, match
from hwr.images import orientation
from hwr.images.load import Polygon

PAGES = [
    (["Der alte Brief,", "den er am Abend", "schrieb."], ["Der alte Brief", "schrieb.", "den er em Abend"]),
    (["un deux trois", "deux"], ["deux un", "deux trois quatre"]),
    (["a b"], []),
    (["L'été est   là"], [" L'été  est là "]),
]


def scored() -> page_metrics.PageScore:
    box = ((0, 0), (9, 0), (9, 9), (0, 9))
    pages = [[[ScoredLine(box, text) for text in texts] for texts in page] for page in PAGES]
    return page_metrics.score([page[0] for page in pages], [page[1] for page in pages])


def test_jiwer_counts_the_same_edits() -> None:
    jiwer = pytest.importorskip("jiwer")
    truths, read = ([" ".join(" ".join(page[i]).split()) for page in PAGES] for i in (0, 1))
    score = scored()
    assert score.cer == pytest.approx(jiwer.cer(truths, read))
    assert score.words.rate == pytest.approx(jiwer.wer(truths, read))


def test_words_without_order() -> None:
    """Page 1 misses "Brief," and "am" and has "Brief" and "em"; page 2 has "quatre" too much; page 3 misses two words."""
    assert scored().bag.edits.tolist() == [2, 1, 2, 0]
    assert scored().bag.units.tolist() == [8, 4, 2, 3]


def test_the_similarity_ignores_what_the_leaderboard_ignores() -> None:
    assert page_metrics.loosely("**Über-\nmut** , Herr X\u2019s \u2013 ½") == "übermut, herr x's - 1\u20442"
    assert page_metrics.loosely("- 7 -\n---\nshort-\nhand -") == "7 - shorthand"
    np.testing.assert_allclose(scored().similarities[2:], [0, 1])
    page = [ScoredLine((), "kitten")], [ScoredLine((), "Sitting")]
    assert page_metrics.score([page[0]], [page[1]]).similarity == pytest.approx(1 - 3 / 7)


def box(left: int, top: int, right: int, bottom: int) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


# Three lines of 100 x 20 pixels, 30 apart.
LINES = [box(0, 30 * i, 99, 30 * i + 19) for i in range(3)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (LINES, LineMatches(3, 3, 0, 0, 0, 3, 0)),
        ([], LineMatches(3, 0, 0, 0, 3, 0, 0)),
        # half a line is not found; a line elsewhere is extra
        ([box(0, 0, 44, 19), LINES[1], box(300, 300, 399, 319)], LineMatches(3, 1, 0, 0, 2, 3, 1)),
        # the first in two parts; the others merged
        ([box(0, 0, 59, 19), box(60, 0, 99, 19), box(0, 30, 99, 79)], LineMatches(3, 0, 1, 2, 0, 3, 0)),
        # a dot is no part of a line
        ([LINES[0], box(2, 2, 6, 6), *LINES[1:]], LineMatches(3, 3, 0, 0, 0, 4, 0)),
        # two parts that cover less than half of a line
        ([box(0, 0, 19, 19), box(80, 0, 99, 19), *LINES[1:]], LineMatches(3, 2, 0, 0, 1, 4, 0)),
        # with a blot over the part between them
        (
            [*LINES[:2], box(0, 60, 19, 79), box(80, 60, 99, 79), box(30, 60, 69, 179)],
            LineMatches(3, 2, 0, 0, 1, 5, 1),
        ),
        # a line in an area of 2.5 times its height
        ([*LINES[:2], box(0, 60, 99, 109)], LineMatches(3, 2, 0, 0, 1, 3, 0)),
    ],
)
def test_lines_found_split_and_merged(found: list[Polygon], expected: LineMatches) -> None:
    assert match(LINES, found) == expected


def test_lines_in_the_order_of_the_ground_truth() -> None:
    """A stamp beside the page, the third line in two parts, the first two lines, and a stroke beside the page."""
    regions = [box(200, 0, 240, 19), box(0, 60, 49, 79), box(50, 61, 99, 79), *LINES[:2], box(300, 30, 340, 49)]
    found = [
        ScoredLine(region, text)
        for region, text in zip(regions, ["stamp", "five", "six", "one", "three", "x"], strict=True)
    ]
    truth = [ScoredLine(region, text) for region, text in zip(LINES, ["one", "three", "five six"], strict=True)]
    assert [found[i].text for i in page_metrics.sorted_as(truth, found)] == [
        "stamp",
        "one",
        "three",
        "x",
        "five",
        "six",
    ]
    score = page_metrics.score([truth], [found])
    assert score.in_order.edits.tolist() == [len("stamp ") + len("x ")]
    assert score.characters.edits[0] > score.in_order.edits[0]
    assert page_metrics.sorted_as([], found) == [*range(6)]
    assert page_metrics.sorted_as(truth, []) == []


def test_a_line_without_an_outline_is_missed() -> None:
    assert match([()], LINES[:1]) == LineMatches(1, 0, 0, 0, 1, 1, 1)


def test_the_areas_are_those_of_shapely(rng: np.random.Generator) -> None:
    geometry = pytest.importorskip("shapely.geometry")

    def outline() -> Polygon:
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radius = rng.uniform(100, 300, 12)
        points = rng.uniform(300, 900, 2) + np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
        return tuple((int(x), int(y)) for x, y in points)

    first, second = [outline() for _ in range(4)], [outline() for _ in range(5)]
    own, _, shared = page_metrics.areas(first, second)
    polygons = [[geometry.Polygon(points) for points in part] for part in (first, second)]
    np.testing.assert_allclose(own, [p.area for p in polygons[0]], rtol=0.02)
    exact = [[a.intersection(b).area for b in polygons[1]] for a in polygons[0]]
    np.testing.assert_allclose(shared, exact, atol=0.01 * own.max())


@pytest.mark.parametrize("value", range(1, 9))
def test_points_of_the_upright_image_on_the_stored_one_and_back(value: int) -> None:
    from PIL import ImageOps

    pixels = np.zeros((5, 7), np.uint8)
    pixels[1, 5] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = value
    ((y, x),) = np.argwhere(np.asarray(ImageOps.exif_transpose(image)))
    shown = ((int(x), int(y)),)
    assert orientation.as_stored(shown, value, 7, 5) == ((5, 1),)
    assert orientation.as_shown(((5, 1),), value, 7, 5) == shown
