"""Lines that are not dark on light, not horizontal, empty or very long: made from a line whose text is known."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import hwr
from hwr import Error
from hwr.data.synth import hands, strokes
from hwr.images import direction, ink, load, pieces, polarity, prepare, shading
from hwr.images.geometry import Geometry
from hwr.recognizer import Recognizer

from .conftest import REPOSITORY

TEXT = "On 9 January 2027 the doctor lost"
CASES = REPOSITORY.parent / "shared/cases"
GEOMETRY = Geometry(40, 2000, None, (4, 2), 2, 8, straighten=True)
ORIGINAL = Geometry(60, 800, 160)


@pytest.fixture(scope="module")
def model() -> Recognizer:
    pytest.importorskip("torch")
    return hwr.load(REPOSITORY / "models/hwr-latin.safetensors", ["engine.device=cpu", "engine.precision=fp32"])


@pytest.fixture(scope="module")
def drawing() -> strokes.Drawing:
    return strokes.draw(TEXT, hands.make_hand(0, 1), np.random.default_rng(0))


@pytest.fixture(scope="module")
def line(drawing: strokes.Drawing) -> np.ndarray:
    return drawing.image


def case(name: str) -> Path:
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    return CASES / name


def framed(image: np.ndarray, level: int, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> np.ndarray:
    return np.pad(image, ((top, bottom), (left, right)), constant_values=level)


def skewed(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(framed(image, 0, 50, 50, 50, 50)).rotate(2, Image.Resampling.BILINEAR))


ODD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white on black": lambda x: 255 - x,
    "blackboard": lambda x: (60 + (255 - x.astype(float)) * 0.4).astype(np.uint8),
    "black below": lambda x: framed(x, 0, bottom=60),
    "black above": lambda x: framed(x, 15, top=30),
    "black left and right": lambda x: framed(x, 0, left=120, right=200),
    "black all around": lambda x: framed(x, 5, 70, 70, 200, 200),
    "skewed in black": skewed,
    "blackboard on a white wall": lambda x: framed(255 - x, 255, 60, 60, 100, 100),
    "two levels, inverted": lambda x: np.where(x < 180, 255, 0).astype(np.uint8),
    "half in a sharp shadow": lambda x: (x * np.where(np.arange(x.shape[1]) < x.shape[1] // 2, 0.3, 1)).astype(
        np.uint8
    ),
    "half in a deep shadow": lambda x: (x * np.where(np.arange(x.shape[1]) < x.shape[1] // 2, 1, 0.2)).astype(np.uint8),
    "half inverted": lambda x: np.hstack([x[:, :341], 255 - x[:, 341:]]),
    "a quarter inverted": lambda x: np.hstack([255 - x[:, :170], x[:, 170:]]),
    "three quarters inverted": lambda x: np.hstack([x[:, :170], 255 - x[:, 170:]]),
}


@pytest.mark.parametrize("name", ODD)
def test_polarity_and_margins_are_found(model: Recognizer, line: np.ndarray, name: str) -> None:
    image = ODD[name](line)
    assert polarity.describe(image)
    # The edge between two backgrounds may look like a comma.
    assert re.sub("[.,]", "", model.read(image).text) == re.sub("[.,]", "", model.read(line).text)
    # What the original network gets has ink, too.
    assert prepare.prepare(image, ORIGINAL).min() < 200
    assert np.median(prepare.prepare(image, ORIGINAL)) > 180


def test_blank_paper_beside_a_line_adds_no_words(model: Recognizer, line: np.ndarray) -> None:
    assert model.decoder.lm is not None
    for left, right in ((0, 300), (300, 0), (200, 200)):
        assert model.read(framed(line, 255, 30, 30, left, right)).text.rstrip(".") == TEXT


def test_a_language_model_makes_no_word_of_two_specks(model: Recognizer) -> None:
    """Of two characters, 80 steps apart: French likes the o of `non`, though the network sees nothing there."""
    alphabet = model.decoder.alphabet
    logits = np.full((1, 100, alphabet.classes), -5.0, np.float32)
    logits[0, :, alphabet.blank] = 3
    logits[0, [10, 90], alphabet.characters.find("n")] = 6
    assert model.decoder.n_best(logits, 1)[0][0].text == "nn"


def test_a_dark_table_beside_the_paper_is_no_writing(line: np.ndarray) -> None:
    wood = np.random.default_rng(0).normal(70, 8, (line.shape[0], 200)).clip(0, 255).astype(np.uint8)
    ruler = np.full((line.shape[0], 200), 40, np.uint8)
    ruler[:12, ::20] = 220
    for beside in (wood, ruler):
        found = polarity.detect(np.hstack([beside, line]))
        assert found.margin is not None
        assert not found.written


def test_a_shadow_along_a_line_is_lightened(line: np.ndarray) -> None:
    shadow = np.linspace(1.0, 0.5, line.shape[1])
    lit = shading.lightened(np.rint(line * shadow).astype(np.uint8))
    assert np.abs(lit.astype(int) - line).mean() < 10
    assert shading.lightened(line) is line


def test_ordinary_lines_are_not_touched(line: np.ndarray) -> None:
    shadow = (line * np.linspace(0.4, 1, line.shape[1])).astype(np.uint8)
    bold = np.full((60, 200), 240, np.uint8)
    bold[10:50, [*range(20, 35), *range(60, 75), *range(100, 140)]] = 20
    ruled = line.copy()
    ruled[-3] = 90
    for image in (line, shadow, bold, ruled, line[:, :40], line[:, 200:]):
        assert polarity.normalise(image) is image


@pytest.mark.parametrize("name", ["black-margin-45-percent.png", "blackboard.png", "white-on-black.png"])
def test_the_inverted_cases(model: Recognizer, name: str) -> None:
    assert model.read(case("inverted-polarity") / name).text == TEXT


def papers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    grain = rng.normal(235, 3, (70, 700)).clip(0, 255).astype(np.uint8)
    ruled, margin = grain.copy(), grain.copy()
    ruled[60] = 150
    margin[:, 300:302] = 120
    shadow = np.tile(np.linspace(120, 240, 700), (70, 1)).astype(np.uint8)
    black = rng.normal(20, 3, (70, 700)).clip(0, 255).astype(np.uint8)
    white = np.full((60, 600), 255, np.uint8)
    both = np.vstack([grain, black])
    return {
        "white": white,
        "grain": grain,
        "ruled": ruled,
        "margin": margin,
        "shadow": shadow,
        "black": black,
        "both": both,
    }


def test_empty_paper_reads_as_nothing(model: Recognizer) -> None:
    for name, paper in papers().items():
        found = model.read(paper, characters=True)
        assert (found.text, found.confidence, found.characters) == ("", 1.0, ()), name
    for name in ("blank.png", "paper.png"):
        assert model.read(case("blank-paper") / name).text == ""


def test_faint_and_small_writing_is_not_empty_paper(line: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    faint = (235 - (235 - line.astype(float)) * 0.12 + rng.normal(0, 1, line.shape)).clip(0, 255).astype(np.uint8)
    dash, one = np.full((70, 60), 235, np.uint8), np.full((70, 60), 235, np.uint8)
    dash[33:37, 15:40] = 60
    one[10:55, 28:32] = 60
    point = np.full((12, 10), 235, np.uint8)  # a word of its own, cut out closely
    point[4:8, 3:7] = 60
    for image, text in ((faint, "a"), (dash, "-"), (one, "I"), (one[5:60], "1"), (point, "."), (line[:, :40], "a")):
        for geometry in (GEOMETRY, ORIGINAL):
            assert not ink.blank(prepare.prepare(image, geometry), geometry, text), text


def dusty(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Paper without writing, with dust, blots or stains."""
    height, width = (int(x) for x in (rng.choice([40, 64, 90, 140]), rng.choice([200, 500, 900])))
    image = rng.normal(rng.integers(200, 250), rng.uniform(0, 6), (height, width)).clip(0, 255)
    drawn = np.zeros((height, width), np.uint8)

    def place() -> tuple[int, int]:
        return int(rng.integers(width)), int(rng.integers(height))

    if kind == "stains":
        cv2.circle(drawn, place(), int(height * rng.uniform(0.2, 1)), 110, -1)
        drawn = cv2.GaussianBlur(drawn, (0, 0), height * rng.uniform(0.15, 0.3))
    for _ in range({"dust": 30, "specks": 5}.get(kind, 3)):
        radius = rng.uniform(1, 4 if kind == "blots" else 1.5) * height / 64
        cv2.circle(drawn, place(), max(1, round(radius)), 200, -1, cv2.LINE_AA)
    return np.asarray(image * (1 - drawn / 255), np.uint8)


# Of 100 papers, how many may have a text: a blot may look like an ellipsis or an o.
@pytest.mark.once
@pytest.mark.parametrize(("kind", "most"), [("dust", 2), ("specks", 4), ("blots", 20), ("stains", 10)])
def test_specks_on_empty_paper_are_seldom_read(model: Recognizer, kind: str, most: int) -> None:
    rng = np.random.default_rng(7)
    found = model.read_prepared([model.prepare(dusty(rng, kind)) for _ in range(100)])
    assert sum(bool(reading.text) for reading in found) <= most


def test_a_long_line_is_read_in_pieces(model: Recognizer, line: np.ndarray) -> None:
    gap = np.full((line.shape[0], 20), np.median(line), np.uint8)
    long = np.hstack([line, gap] * 12)
    found = model.read(long, characters=True)
    words = found.text.split()
    assert abs(len(words) - 12 * len(TEXT.split())) <= 2
    assert found.text.count("January") >= 11
    lefts = [c.left for c in found.characters]
    assert lefts == sorted(lefts)
    assert found.characters[-1].right > long.shape[1] - 60


def test_a_network_of_one_width_refuses_lines_that_it_would_shrink_to_nothing() -> None:
    with pytest.raises(Error, match="too long a line for this network: in its width, 800, 8 pixels"):
        prepare.check_legible(np.zeros((70, 7024), np.uint8), ORIGINAL)
    prepare.check_legible(np.zeros((120, 2400), np.uint8), ORIGINAL)
    prepare.check_legible(np.zeros((70, 7024), np.uint8), GEOMETRY)


def test_the_long_case(model: Recognizer) -> None:
    text = model.read(case("very-long-line") / "line.png").text
    assert text.startswith("The small queen thought 37")
    assert "Quinn Underhill" in text
    assert text.endswith("for the project.")


def test_pieces_of_a_network_without_context_join_to_its_own_logits() -> None:
    geometry = Geometry(8, 64, None, (4, 2), 2)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 450), np.uint8)

    def run(batch: pieces.Batch) -> np.ndarray:  # each step sees its own four columns
        n, _, width = batch.images.shape
        found = batch.images.reshape(n, 8, width // 4, 4).mean((1, 3))
        return np.stack([found, 255 - found, np.full_like(found, 127)], 2).astype(np.float32)

    images = pieces.Images.of([pixels])
    (batch,) = pieces_of(images, geometry)
    whole = run(batch)[0]
    joined = pieces.logits(run, batch, geometry, 4)[0]
    steps = int(geometry.time_steps(images.widths)[0])
    assert len(joined) == steps
    assert np.array_equal(joined[: 450 // 4], whole[: 450 // 4])


def pieces_of(images: pieces.Images, geometry: Geometry) -> list[pieces.Batch]:
    from hwr.images import batches

    return list(batches.reading(images, None, 4, geometry.multiple, geometry.width))


def test_absurdly_wide_images_are_refused_and_cheap_ones_take_little_memory(model: Recognizer) -> None:
    with pytest.raises(Error, match="cut it into several"):
        model.read(np.zeros((2, 50_000), np.uint8))
    dots = np.full((100, 50_000), 255, np.uint8)
    dots[20:24, 10:14] = dots[80:84, -20:-16] = 0
    assert prepare.straighten(dots).shape[0] <= 300


@pytest.mark.parametrize(
    ("size", "places"),
    [
        ((100, 5_000), [(10, 2_000), (80, 2_030)]),
        ((100, 5_000), [(10, 2_400), (80, 2_600)]),
        ((100, 5_000), [(0, 0), (98, 160)]),
        ((100, 5_000), [(0, 0), (98, 4_998)]),
        ((100, 5_000), [(98, 0), (0, 4_998)]),
        ((2, 5_000), [(0, 100), (1, 110)]),
        ((1, 5_000), [(0, 100), (0, 104)]),
        ((5_000, 1), [(0, 0), (4_998, 0)]),
        ((5_000, 100), [(2_500, 0), (2_540, 98)]),
    ],
)
def test_straightening_takes_memory_in_proportion_to_the_image(
    size: tuple[int, int], places: list[tuple[int, int]]
) -> None:
    """Few dots in a wide image may have a steep slope; they took up to 1,600 times the size of the image."""
    dots = np.full(size, 255, np.uint8)
    for y, x in places:
        dots[y : y + 2, x : x + 2] = 0
    tracemalloc.start()
    try:
        level = prepare.straighten(dots)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert level.shape[1] == size[1]
    assert most < 60 * dots.size + 200 * sum(size)


def test_edges_hold_the_ink(model: Recognizer, drawing: strokes.Drawing) -> None:
    found = model.read(drawing.image, characters=True)
    assert found.text.rstrip(".") == TEXT
    letters = [c for c in found.characters if c.text != " "][: len(drawing.boxes)]
    centres = drawing.boxes[:, 0] + drawing.boxes[:, 2] / 2
    inside = [c.left <= x <= c.right for c, x in zip(letters, centres, strict=True)]
    assert sum(inside) >= len(inside) - 1
    # Words hold all their ink: 3 pixels of the drawn boxes are paper.
    start = 0
    characters = found.characters
    for word in TEXT.split():
        own, end = [c for c in characters if c.text != " "][start : start + len(word)], start + len(word)
        boxes = drawing.boxes[start:end]
        assert own[0].left <= boxes[0][0] + 5
        assert own[-1].right >= boxes[-1][0] + boxes[-1][2] - 5
        start = end


def test_the_character_case(model: Recognizer) -> None:
    found = {c.text: c for c in reversed(model.read(case("character-boxes") / "line.png", characters=True).characters)}
    for text, left, right in (("O", 6, 27), ("n", 33, 60), ("9", 77, 96), ("J", 123, 136)):
        assert left - 6 <= found[text].left <= left + 0.5
        assert right - 0.5 <= found[text].right <= right + 6


Points = tuple[tuple[int, int], ...]


def turned(line: np.ndarray, degrees: float) -> tuple[np.ndarray, Points, Points]:
    """A page with the line turned clockwise, its outline and its baseline."""
    h, w = line.shape
    page = np.asarray(
        Image.fromarray(line).rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=int(np.median(line)))
    )
    radians = np.radians(degrees)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])

    def placed(points: list[tuple[float, float]]) -> Points:
        found = (np.array(points) - [w / 2, h / 2]) @ turn.T + [page.shape[1] / 2, page.shape[0] / 2]
        return tuple((round(x), round(y)) for x, y in found.tolist())

    return page, placed([(0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)]), placed([(2, 0.7 * h), (w - 2, 0.7 * h)])


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 135, 180, 200, 270, 330])
def test_lines_in_any_direction_are_read(model: Recognizer, line: np.ndarray, degrees: float) -> None:
    page, region, baseline = turned(line, degrees)
    cut = load.cut(page, region, baseline)
    assert model.read(cut).text.rstrip(".") == TEXT
    # Where the line begins on the page.
    (span,) = direction.on_page(np.array([[0.0, 10.0]]), cut.shape[0], region, baseline).tolist()
    near = [region[0][0], region[3][0]]
    assert min(near) - 12 <= span[0] <= span[1] <= max(near) + 12


@pytest.mark.parametrize("degrees", [20, 45, 70, -30, -60])
def test_a_long_slanting_outline_is_enough(model: Recognizer, line: np.ndarray, degrees: float) -> None:
    page, region, _ = turned(line, degrees)
    for outline in (region, region[1:] + region[:1], region[::-1]):
        assert direction.angle((), outline) == pytest.approx(degrees, abs=1)
    assert model.read(load.cut(page, region)).text.rstrip(".") == TEXT


def test_ordinary_outlines_have_no_direction() -> None:
    for points in (
        ((0, 0), (100, 30), (100, 60), (0, 30)),  # slanting a little
        ((0, 0), (90, 0), (90, 40), (0, 40)),
        ((0, 0), (20, 0), (20, 100), (0, 100)),  # the digit 1
        ((0, 0), (50, 50), (80, 20), (30, -30)),
        ((5, 5), (5, 5), (5, 5)),
        (),
    ):
        assert direction.angle((), points) == 0


def test_a_baseline_drawn_from_its_end_does_not_turn_the_line(line: np.ndarray) -> None:
    page, region, baseline = turned(line, 0)
    assert np.array_equal(load.cut(page, region, baseline[::-1]), load.cut(page, region))
    assert direction.angle(baseline, region) == 0
    assert direction.angle(baseline[:1], region) == 0
    assert direction.angle((), region) == 0


@pytest.mark.parametrize("name", ["thirty-degrees", "upside-down", "vertical"])
def test_the_rotated_cases(model: Recognizer, name: str) -> None:
    assert model.read_page(case("rotated-lines") / name / "page.xml").lines[-1].text == TEXT


def test_a_baseline_alone_is_cut_at_right_angles(line: np.ndarray) -> None:
    from hwr.data.formats.shapes import Marked, Page, regions

    upright, upside_down = ((100, 500), (700, 500)), ((700, 500), (100, 500))
    vertical = ((500, 700), (500, 100))
    page = Page("", "", 1000, 1000, tuple(Marked(str(i), "", (), b, "") for i, b in enumerate([upright])))
    assert min(y for _, y in regions(page)[0]) < 490
    for baseline, axis, above in ((upside_down, 1, 1), (vertical, 0, -1)):
        (found,) = regions(Page("", "", 1000, 1000, (Marked("a", "", (), baseline, ""),)))
        away = np.array(found)[:, axis] - 500
        assert abs(away[np.argmax(np.abs(away))]) == 19  # 0.75 of the page's height / 40
        assert np.sign(away[np.argmax(np.abs(away))]) == above
