"""Find the lines of synthetic pages, and decide whether an image is a page or a line."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rapidfuzz.distance import Levenshtein

import hwr
from hwr import Error
from hwr.cli import main
from hwr.images import load
from hwr.pages import columns, deskew, finder, fragments, linking, outlines, page_or_line, segment
from hwr.pages.order import Place, reading_order
from hwr.pages.sources import Target

Box = tuple[int, int, int, int]


@pytest.fixture(scope="session")
def sheet(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Box]]:
    """A page of six synthetic lines on grey paper, and their boxes: left, top, right, bottom."""
    pytest.importorskip("onnxruntime", reason="no onnxruntime here")
    lines = [load.read(path) for path in sorted(drawn.rglob("*.png"))[:6]]
    page = np.full((sum(len(x) + 25 for x in lines) + 100, max(x.shape[1] for x in lines) + 160), 235, np.uint8)
    boxes, top = [], 60
    for x in lines:
        here = page[top : top + len(x), 80 : 80 + x.shape[1]]
        np.minimum(here, x, out=here)
        boxes.append((80, top, 80 + x.shape[1], top + len(x)))
        top += len(x) + 25
    path = tmp_path_factory.mktemp("sheet") / "sheet.png"
    Image.fromarray(page).save(path)
    return path, boxes


def box_of(polygon: load.Polygon) -> Box:
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def assert_found(lines: list[finder.Found], boxes: list[Box]) -> None:
    """Each box has one line, in order, that covers most of it and little more."""
    assert len(lines) == len(boxes)
    for line, (left, top, right, bottom) in zip(lines, boxes, strict=True):
        x0, y0, x1, y1 = box_of(line.polygon)
        shared = (min(x1, right) - max(x0, left)) * (min(y1, bottom) - max(y0, top))
        assert shared > 0.75 * (right - left) * (bottom - top)
        assert shared > 0.4 * (x1 - x0) * (y1 - y0)
        assert all(top - 5 < y < bottom + 5 for _, y in line.baseline)


def test_the_lines_of_a_page(sheet: tuple[Path, list[Box]]) -> None:
    path, boxes = sheet
    assert_found(finder.find(load.read(path)), boxes)


def test_pale_writing_on_shaded_paper(sheet: tuple[Path, list[Box]]) -> None:
    path, boxes = sheet
    page = load.read(path).astype(np.float32)
    shade = np.linspace(0.5, 1.0, page.shape[1])
    pale = shade * (200 - 0.07 * (235 - page))
    assert_found(finder.find(np.rint(pale).astype(np.uint8)), boxes)


def test_empty_paper_has_no_lines(sheet: tuple[Path, list[Box]], rng: np.random.Generator) -> None:
    assert finder.find(np.full((800, 600), 255, np.uint8)) == []
    assert finder.find(rng.normal(200, 8, (800, 600)).astype(np.uint8)) == []
    assert finder.find(np.zeros((1, 1), np.uint8)) == []
    assert finder.find(np.zeros((800, 600), np.uint8)) == []


@pytest.mark.parametrize("angle", [0, 7, 180])
def test_light_writing_on_a_dark_page(sheet: tuple[Path, list[Box]], angle: int) -> None:
    page = load.read(sheet[0])
    reader = hwr.load("hwr-latin", ["decode.name=greedy"])
    expected = reader.read_page(page)
    found = reader.read_page(255 - deskew.frame(page.shape, angle).turned(page, 235))
    assert len(found.lines) == len(expected.lines)
    assert Levenshtein.normalized_distance(found.text, expected.text) < 0.3


def test_an_empty_page_is_read_as_empty_text(sheet: tuple[Path, list[Box]]) -> None:
    reader = hwr.load("hwr-latin", ["decode.name=greedy"])
    for paper in (np.full((900, 700), 240, np.uint8), np.zeros((900, 700), np.uint8)):
        found = reader.read_page(paper)
        assert (found.text, found.lines, found.errors) == ("", (), [])


def test_a_page_or_a_line(sheet: tuple[Path, list[Box]], model: Path, tmp_path: Path) -> None:
    path, boxes = sheet
    page = load.read(path)
    left, top, right, bottom = boxes[0]
    line = tmp_path / "line.png"
    Image.fromarray(page[top:bottom, left:right]).resize((4 * (right - left), 4 * (bottom - top))).save(line)
    decide = segment.decided(segment.lines_of)
    assert decide(line) == [Target(line)]
    assert len(decide(path)) == len(boxes)

    def read(*options: str | Path) -> list[str]:
        done = CliRunner().invoke(main, ["predict", "--checkpoint", str(model), *map(str, options)])
        assert done.exit_code == 0, done.stderr
        return done.stdout.splitlines()

    assert len(read(path)) == len(boxes)
    assert len(read(path, "--line")) == 1
    assert read(path, line) == [*read(path, "--page"), *read(line, "--line")]


@pytest.mark.parametrize(
    ("size", "polygons", "expected"),
    [
        ((1200, 80), [], False),
        ((60, 64), [], False),
        ((600, 800), [], True),  # empty paper
        ((800, 300), [], False),
        ((800, 200), [((10, 20), (790, 20), (790, 180), (10, 180))], False),
        ((800, 600), [((10, 20), (790, 20), (790, 90), (10, 90))], True),  # one line on a sheet
        ((800, 200), [((10, 0), (790, 0), (790, 90), (10, 90)), ((10, 100), (790, 100), (790, 190), (10, 190))], True),
        ((800, 200), [((0, 9), (390, 9), (390, 180), (0, 180)), ((410, 9), (790, 9), (790, 180), (410, 180))], False),
        # The parts of a slanting line are beside each other.
        ((800, 200), [((0, 9), (390, 9), (390, 90), (0, 90)), ((410, 100), (790, 100), (790, 180), (410, 180))], False),
        ((800, 200), [((0, 9), (430, 9), (430, 150), (0, 150)), ((400, 40), (790, 40), (790, 180), (400, 180))], False),
    ],
)
def test_pages_are_told_from_lines(size: tuple[int, int], polygons: list[load.Polygon], expected: bool) -> None:
    assert page_or_line.is_page(*size, polygons) is expected


@pytest.mark.parametrize(("apart", "separate"), [(20, False), (90, True)])
def test_the_rulings_of_squared_paper_separate_nothing(apart: int, separate: bool) -> None:
    ruled = np.zeros((400, 900), bool)
    ruled[:, ::apart] = True
    part = fragments.Fragment(30, np.full(800, 200.0), np.full(800, 10.0), 1.0)
    found = linking.separators([part], ruled, np.zeros(ruled.shape, np.float32), 30)
    assert found.any() == separate


def test_without_the_extra_an_image_that_may_be_a_page_is_reported(
    sheet: tuple[Path, list[Box]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finder.detector._session.cache_clear()
    with pytest.raises(Error, match=r"\.\[pages\].*--line"):
        segment.decided(segment.lines_of)(sheet[0])
    monkeypatch.undo()
    finder.detector._session.cache_clear()


def test_a_missing_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="no onnxruntime here")
    monkeypatch.setattr("hwr.bundled._folder", lambda name: tmp_path / name)
    finder.detector._session.cache_clear()
    with pytest.raises(Error, match=r"hwr-lines\.onnx: missing; install hwr again"):
        finder.find(np.full((400, 400), 255, np.uint8))


def test_nobody_is_told_that_a_torn_image_is_a_line(sheet: tuple[Path, list[Box]], tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    Image.open(sheet[0]).save(torn)
    torn.write_bytes(torn.read_bytes()[:-2000])
    with pytest.raises(Error, match=r"torn\.jpg: damaged, or not an image: [^;]*$"):
        segment.decided(segment.lines_of)(torn)


def test_the_segmenters_are_those_of_the_command() -> None:
    (option,) = (p for p in main.commands["predict"].params if p.name == "segmenter")
    assert list(option.type.choices) == list(segment.SEGMENTERS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([Place(0, 90, 30), Place(0, 90, 10), Place(0, 90, 20)], [1, 2, 0]),
        # Two columns under a title, and a foot.
        (
            [Place(0, 200, 0), *(Place(x, x + 90, y) for y in (10, 20, 30) for x in (0, 110)), Place(0, 200, 40)],
            [0, 1, 3, 5, 2, 4, 6, 7],
        ),
        # A letter: its head, with the date at the right in a gap and the salutation left of the first, indented line.
        (
            [
                *(Place(0, 80, 0), Place(5, 60, 10), Place(120, 170, 20), Place(0, 70, 40), Place(0, 40, 50)),
                *(Place(41, 200, 60), Place(0, 200, 70), Place(0, 200, 80)),
            ],
            [0, 1, 2, 3, 4, 5, 6, 7],
        ),
        # Two lines beside a block are read row by row, and three are a note, read after the block.
        ([*(Place(0, 100, y) for y in (0, 10, 20, 30)), Place(110, 150, 1), Place(110, 150, 11)], [0, 4, 1, 5, 2, 3]),
        (
            [*(Place(60, 200, 10 * y) for y in range(7)), *(Place(0, 50, y) for y in (1, 11, 21))],
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ),
        # Also if the note begins above the block.
        ([*(Place(60, 200, 10 * y) for y in range(7)), *(Place(0, 50, y) for y in (-3, 7, 17))], [*range(10)]),
        # The short last line of a paragraph is read in its place.
        (
            [
                *(Place(0, 10 if y == 30 else 90, y) for y in range(0, 60, 10)),
                *(Place(110, 200, y + 1) for y in range(0, 60, 10)),
            ],
            [*range(12)],
        ),
        # An insertion does not end its column, whether it is midway between two lines or right above one.
        *(
            (
                [*(Place(x, x + 90, y) for y in (0, 10, 20, 30) for x in (0, 110)), Place(40, 50, level)],
                [0, 2, 4, 6, 8, 1, 3, 5, 7],
            )
            for level in (15, 16, 17.2)
        ),
        # A note is read after the block that it is beside, not at the end of its column.
        (
            [
                Place(x, right, y + top)
                for top in (0, 110)
                for x, right, n in ((60, 200, 7), (0, 50, 3))
                for y in range(0, 10 * n, 10)
            ],
            [*range(20)],
        ),
        # Text in paragraphs beside narrow columns: each column is read to its end.
        (
            [Place(x, right, y + top) for x, right in ((0, 200), (220, 270)) for top in (0, 90) for y in (0, 10, 20)],
            [*range(12)],
        ),
        # Also after the short last line of a paragraph.
        (
            [
                *(Place(0, 20 if y == 40 else 200, y) for y in range(0, 80, 10)),
                *(Place(220, 270, y) for y in range(0, 80, 10)),
            ],
            [*range(16)],
        ),
    ],
)
def test_columns_are_read_one_after_the_other_and_the_rest_row_by_row(lines: list[Place], expected: list[int]) -> None:
    assert reading_order(lines, 10) == expected


def register(rows: int, entry: int, apart: int) -> tuple[list[Place], list[tuple[int, int]]]:
    """A table under a head of four cells: number, date, text and fee. Only the first line of an entry has all four.

    Args:
        rows: The number of lines.
        entry: The number of lines of an entry.
        apart: The space between entries, in lines.

    Returns:
        The lines, and the row and column of each; the head is row -1.
    """
    sides = ((0, 15), (20, 40), (45, 200), (205, 230))
    cells = [(row, k) for row in range(-1, rows) for k in range(4) if k == 2 or row == -1 or row % entry == 0]
    levels = [0 if row == -1 else 30 + 10 * (row + apart * (row // entry)) for row, _ in cells]
    return [Place(*sides[k], y + k % 2) for (_, k), y in zip(cells, levels, strict=True)], cells


def test_a_table_is_read_by_rows_if_its_entries_stand_apart_and_else_by_columns() -> None:
    lines, cells = register(24, entry=3, apart=1)
    assert [cells[i] for i in reading_order(lines, 10)] == sorted(cells)
    lines, cells = register(24, entry=3, apart=0)
    head, body = [c for c in cells if c[0] == -1], [c for c in cells if c[0] >= 0]
    assert [cells[i] for i in reading_order(lines, 10)] == head + sorted(body, key=lambda c: (c[1], c[0]))
    # A cell that runs into the next column changes nothing.
    k = cells.index((9, 1))
    lines[k] = lines[k]._replace(right=60)
    assert [cells[i] for i in reading_order(lines, 10)] == head + sorted(body, key=lambda c: (c[1], c[0]))


def test_lines_in_two_pieces_do_not_look_like_entries() -> None:
    pieces: list[tuple[Place, tuple[int, int, int]]] = []
    for line, (row, k) in zip(*register(24, entry=3, apart=0), strict=True):
        x = 60 + 5 * row
        halves = [line._replace(right=x - 4), line._replace(left=x + 4)] if k == 2 and row >= 0 else [line]
        pieces += [(half, (k, row, i)) for i, half in enumerate(halves)]
    order = [pieces[i][1] for i in reading_order([place for place, _ in pieces], 10)]
    assert order[4:] == sorted(order[4:])  # after the head, by columns


def test_three_columns_with_specks_between_two_are_no_table() -> None:
    left, middle, right = ([Place(x, x + 90, 10 * k + 10 * (k > 3)) for k in range(8)] for x in (0, 130, 230))
    specks = [Place(105, 115, 35), Place(105, 115, 75)]
    assert reading_order([*left, *middle, *specks, *right], 10) == [*range(26)]


def test_facing_pages_are_read_one_after_the_other_under_a_line_that_spans_both() -> None:
    left = [Place(0, 95, 10 * k) for k in range(10)]
    left[4:5] = [Place(10, 45, 40), Place(60, 95, 44)]  # a correction and the end of a verse
    left[7] = Place(0, 106, 70)  # runs into the other page
    right = [Place(104, 200, 10 * k + 3) for k in range(9)]
    lines = [*left, *right]
    assert reading_order(lines, 10) == list(range(len(lines)))
    title = Place(40, 170, -15)
    assert reading_order([*lines, title], 10) == [len(lines), *range(len(lines))]
    # A column of notes does not make two pages.
    text, notes = [Place(60, 200, 10 * k) for k in range(16)], [Place(0, 50, 10 * k + 1) for k in range(2, 9)]
    assert reading_order([*text, *notes], 10) == list(range(23))
    assert columns.respected([*text, *notes], 10) == []
    # Nor do a few wide ones: each is read with its line.
    dated = [place for k in range(28) for place in (Place(0, 61, 10 * k + 1), Place(60, 200, 10 * k))[k % 4 > 0 :]]
    assert reading_order(dated, 10) == list(range(35))
    # Nor do lines at the right below those at the left.
    blocks = ((0, 95, 0), (105, 200, 100), (0, 95, 200))
    assert reading_order([Place(x, end, y + 10 * k) for x, end, y in blocks for k in range(8)], 10) == list(range(24))


@pytest.mark.parametrize(
    ("top", "last"),
    [
        (Place(160, 200, -20), True),
        (Place(160, 200, -12), False),  # not apart from the text
        (Place(20, 60, -20), False),  # a heading
        (Place(110, 190, -20), False),  # the date of a letter
    ],
)
def test_a_number_alone_at_the_top_right_is_read_last(top: Place, last: bool) -> None:
    text = [Place(0, 200, 10 * k) for k in range(6)]
    assert reading_order([top, *text], 10) == ([*range(1, 7), 0] if last else [*range(7)])
    assert reading_order([top, *text[:3]], 10) == [*range(4)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_lines_of_a_facing_page_that_the_photo_cuts_off_are_read_last(mirrored: bool) -> None:
    def page(lines: list[Place]) -> tuple[float, float]:
        """Of a photo 300 pixels wide; for the mirrored one, mirrored back."""
        if not mirrored:
            return columns.page(lines, 300, 10)
        start, end = columns.page([Place(300 - line.right, 300 - line.left, line.y) for line in lines], 300, 10)
        return 300 - end, 300 - start

    text = [Place(80, 280, 10 * k) for k in range(12)]
    cut = [Place(0, 22 + 3 * (k % 4), 10 * k + 4) for k in range(12)]
    start, end = page([*cut, *text])
    assert 31 < start < 80
    assert end == 300
    assert reading_order([*cut, *text], 10, (start, end)) == [*range(12, 24), *range(12)]
    assert page([*text, *(Place(0, 70, line.y) for line in cut)])[0] > 70
    # Nothing is cut off: notes and numbers beside a text; a few lines; a page, half of which is on the photo.
    assert page([*text, *(line._replace(left=2) for line in cut)]) == (0, 300)
    assert page([*cut[:5], *text]) == (0, 300)
    assert page([*(Place(110, 290, line.y) for line in text), *(Place(0, 98, line.y) for line in cut)]) == (0, 300)
    # Nor by the edge of a tight image: the gaps between words are no gutter.
    words = [Place(a, b, 10 * k) for k in range(12) for a, b in ((0, 30 + 7 * k), (36 + 7 * k, 280))]
    assert page(words) == (0, 300)
    # Nor the first column of a table.
    assert columns.page(register(24, entry=3, apart=1)[0], 230, 10) == (0, 230)


def test_what_the_edge_of_a_page_cuts_off() -> None:
    ink = np.zeros((60, 100), np.float32)
    ink[28:32, :40] = 1
    part = fragments.Fragment(6, np.full(88, 30.0), np.full(88, 4.0), 0.9)
    assert outlines.reach(part, ink, 20) == (0, 94)
    assert outlines.reach(part, ink[:, ::-1], 20) == (6, 100)
    assert outlines.reach(part, np.roll(ink, 2, axis=1), 20) == (6, 94)
    assert outlines.reach(part, np.roll(ink, 20, axis=0), 20) == (6, 94)
    assert outlines.reach(part, ink, 8) == (6, 94)


def test_a_facing_page_that_the_photo_cuts_off(sheet: tuple[Path, list[Box]]) -> None:
    path, boxes = sheet
    page = load.read(path)
    facing = np.full((len(page), 130), 235, np.uint8)
    for _, top, right, bottom in boxes:
        facing[top:bottom, :100] = page[top:bottom, right - 100 : right]
    found = finder.find(np.concatenate([facing, page], axis=1))
    assert_found(found[: len(boxes)], [(left + 130, top, right + 130, bottom) for left, top, right, bottom in boxes])
    assert all(box_of(line.polygon)[2] < 150 for line in found[len(boxes) :])


def test_fragments_are_not_joined_across_the_gutter_of_facing_pages() -> None:
    def fragment(left: int, right: int, y: float) -> fragments.Fragment:
        return fragments.Fragment(left, np.full(right - left, y), np.full(right - left, 4.0), 0.9)

    # Each line of either page is in two fragments, and the lines of both nearly touch at x = 100.
    left = [fragment(a, b, 12.0 * k) for k in range(1, 9) for a, b in ((5, 20 + 7 * k), (26 + 7 * k, 96))]
    right = [fragment(a, b, 12.0 * k + 1) for k in range(1, 9) for a, b in ((104, 120 + 7 * k), (126 + 7 * k, 196))]
    parts = sorted(left + right, key=lambda f: f.left)
    places = [Place(f.left, f.right, f.level) for f in parts]
    (gutter,) = columns.respected(places, 12)
    assert 96 < gutter < 104
    chains = linking.link(parts, np.zeros((120, 200), bool), 12, [gutter])
    assert sorted((chain[0].left, chain[-1].right) for chain in chains) == [(5, 96)] * 8 + [(104, 196)] * 8
    # The space between words in one column of text is no gutter.
    assert columns.respected([p for p in places if p.right < 100], 12) == []


@pytest.mark.parametrize("angle", [7, 90, 180, 270])
def test_pages_in_any_direction(sheet: tuple[Path, list[Box]], angle: int) -> None:
    path, boxes = sheet
    page = load.read(path)
    turned = deskew.frame(page.shape, angle)
    left, top, right, bottom = boxes[1]  # the longest
    known = profile(page[top:bottom, left:right])

    def upright(lines: list[np.ndarray]) -> bool:
        assert len(lines) == 3
        seen = profile(lines[0])
        return float(np.corrcoef(seen, known)[0, 1]) > float(np.corrcoef(seen[::-1], known)[0, 1])

    found = finder.find(turned.turned(page, 235), upright)
    back = [finder.Found(turned.on_page(line.baseline), turned.on_page(line.polygon)) for line in found]
    assert_found(back, boxes)
    for line, (left, _, right, _) in zip(back, boxes, strict=True):
        assert line.baseline[0][0] < left + 40 < right - 40 < line.baseline[-1][0]


def test_lines_at_the_edge_of_a_tilted_page_stay_on_it(sheet: tuple[Path, list[Box]]) -> None:
    """PAGE and hOCR have no places beyond it."""
    page = load.read(sheet[0])
    tilted = deskew.frame(page.shape, 8).turned(page, 235)
    cut = np.ascontiguousarray(tilted[:, 150:-150])
    points = np.array([point for line in finder.find(cut) for point in (*line.polygon, *line.baseline)])
    assert points.min(0).tolist()[0] == 0 <= points.min()
    assert points.max(0)[0] == cut.shape[1] - 1
    assert points.max(0)[1] < cut.shape[0]


def profile(line: np.ndarray) -> np.ndarray:
    """The ink in each of 64 parts of a line."""
    ink: np.ndarray = 255.0 - cv2.resize(line, (64, 40), interpolation=cv2.INTER_AREA)
    return ink.sum(0)


def test_the_recognizer_tells_which_way_is_up(sheet: tuple[Path, list[Box]]) -> None:
    path, _ = sheet
    reader = hwr.load("hwr-latin", ["decode.name=greedy"])
    page = load.read(path)
    expected = reader.read_page(path)
    found = reader.read_page(Image.fromarray(page[::-1, ::-1].copy()), characters=True)
    assert len(found.lines) == len(expected.lines)
    assert Levenshtein.normalized_distance(found.text, expected.text) < 0.3
    for line in found.lines:
        left, _, right, _ = box_of(line.region)
        assert line.baseline[0][0] > line.baseline[-1][0]
        assert all(left - 20 <= c.left < c.right <= right + 20 for c in line.characters)
        places = [c.left for c in line.characters]
        assert places == sorted(places, reverse=True)


@pytest.mark.parametrize("grain", [0, 2, 12, 20])
def test_the_grain_of_a_photo_and_the_weave_of_linen_are_no_rulings(grain: int, rng: np.random.Generator) -> None:
    paper = np.full((900, 600), 190.0)
    paper[100:800, 300:303] = 60  # a ruling
    noise, weave = rng.normal(0, grain, paper.shape), rng.normal(0, grain, 600)
    for texture in (noise, weave + noise / 3):
        found = linking.rulings(np.clip(paper + texture, 0, 255).astype(np.uint8), 40)
        assert found[150:750, 301].all()
        assert not found[:, :290].any()
        assert not found[:, 313:].any()


def test_fragments_are_cut_at_the_gap_near_a_gutter() -> None:
    part = fragments.Fragment(0, np.full(100, 20.0), np.full(100, 6.0), 1.0)
    ink = np.ones((40, 100), np.float32)
    ink[:, 20:30] = ink[:, 48:56] = 0
    pieces = linking.cut_at_gutters([part], [50.0], ink, 20)
    assert [(piece.left, piece.right) for piece in pieces] == [(0, 48), (56, 100)]
    assert len(linking.cut_at_gutters([part], [80.0], ink, 20)) == 1
