"""A text -> where the ink is, in the hand of a synthetic writer: a font with habits of its own."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from hwr.data.synth import corpus, hands, strokes
from hwr.data.synth.fonts import Font

X_HEIGHT = 20  # px, of small letters as they are set; a line comes out at 1.5 to 2 times the final size
_TALLEST = 100  # px, from ascenders to descenders
_STROKE_SHARE = 0.15  # of writers that draw skeletons of letters instead of using a font
_UPRIGHT_SHARE = 0.6  # of writers; the others slant forwards, as most people did before 1950
_MIXED_SHARE = 0.5  # of writers with a font that is not joined: some of their letters are of other such fonts
_LIKE_STROKE = 1.6  # the strokes of such letters are at most this many times as thick or as thin
_CAPITALS_SHARE = 0.12  # of writers who print: they use capitals alone, as do those whose font has nothing else
_ONE_SIZE_SHARE = 0.4  # of these; the others write small letters as smaller capitals


@dataclass(frozen=True)
class Writer:
    """The habits of one writer. Lengths are fractions of the height of small letters unless said otherwise.

    Attributes:
        font: What the letters look like; None for a writer who draws `hand`.
        hand: A hand of stroke letters, or None.
        size: Of the font, px.
        slant: Horizontal shift per unit of height, forwards positive.
        width: Factor on widths.
        letter_gap: Added between letters, where they are not joined.
        word_gap: Factor on the font's space.
        unsteady: How far letters and words depart from their place, size and angle; 0.3 (calm) to 1.5.
        elastic: Root mean square of smooth displacements, px.
        pen: Pixels that strokes are thicker than the font's, negative: thinner.
        slope: Rise of the base line per unit of width, on average.
        capitals: For writers who use capitals alone: the size of those that stand for small letters, 0.48 to 1, as a share
            of the others'. None for all other writers.
        mixed: The characters that look as in another font, with that font: so a few fonts give many hands.
    """

    font: Font | None
    hand: hands.Hand | None
    size: int
    slant: float
    width: float
    letter_gap: float
    word_gap: float
    unsteady: float
    elastic: float
    pen: float
    slope: float
    capitals: float | None = None
    mixed: Mapping[str, Font] = field(default_factory=dict)

    def can_write(self, text: str) -> bool:
        """Whether the writer can write every character of `text`, or its capital, if capitals are all that they use."""
        if self.font:
            return self.font.can_write(corpus.capitals(text) if self.capitals else text)
        assert self.hand
        return all(c == " " or c in self.hand.glyphs for c in text)


@dataclass(frozen=True)
class Ink:
    """A line of ink without paper.

    Attributes:
        cover: (H, W) float32, how much of each pixel is under ink, 0 to 1; with `MARGIN` px of blank around the ink.
        baseline: y of the base line, px.
        x_height: Height of small letters, px.
    """

    cover: np.ndarray
    baseline: float
    x_height: float


MARGIN = 24  # px


def size_of(font: Font, factor: float) -> int:
    """The size at which a font's small letters are about `X_HEIGHT` px high, times a factor, in px."""
    return max(8, round(min(X_HEIGHT / font.x_height, _TALLEST / font.extent) * factor))


def make_writer(fonts: Sequence[Font], seed: int, number: int) -> Writer:
    """Writer number `number` of this seed, by one of `fonts` or with letters of strokes."""
    rng = hands.rng_of(seed, number)
    stroke = rng.random() < _STROKE_SHARE
    font = None if stroke else fonts[int(rng.integers(len(fonts)))]
    size = size_of(font, rng.uniform(0.85, 1.15)) if font else 0
    capitals = _capitals(font, rng)
    # Not from the random numbers above: the one that chose letters of strokes would always choose printed ones, too.
    hand = hands.make_hand(seed, number, 0, 1) if stroke else None
    if hand and capitals:
        hand = hands.in_capitals(hand, capitals)
    return Writer(
        font=font,
        hand=hand,
        size=size,
        slant=float(rng.normal(0, 0.14) if rng.random() < _UPRIGHT_SHARE else rng.normal(0.5, 0.2)),
        width=float(np.exp(rng.normal(0, 0.14))),
        letter_gap=float(rng.normal(0.02, 0.07)),
        word_gap=float(rng.uniform(0.7, 2.2)),
        unsteady=float(rng.uniform(0.3, 1.9)),
        elastic=float(rng.uniform(0.3, 1.9)),
        pen=float(np.clip(rng.triangular(1.0, 1.8, 3.6) - (font.stroke * size if font else 2), -1.8, 1.6)),
        slope=float(rng.normal(0, 0.012)),
        capitals=capitals,
        mixed=_mixed(font, fonts, rng) if font else {},
    )


def _mixed(font: Font, fonts: Sequence[Font], rng: np.random.Generator) -> dict[str, Font]:
    """Characters of a hand in this font that are taken from up to three others."""
    if font.joined or font.capitals or rng.random() >= _MIXED_SHARE:
        return {}
    stroke = font.stroke / font.x_height
    like = [
        other
        for other in fonts
        if not (other is font or other.joined or other.capitals)
        and 1 / _LIKE_STROKE < other.stroke / other.x_height / stroke < _LIKE_STROKE
    ]
    if not like:
        return {}
    others = [like[i] for i in rng.permutation(len(like))[: rng.integers(1, 4)]]
    share = rng.uniform(0.2, 0.7)
    drawn = {c: others[rng.integers(len(others))] for c in string.ascii_letters + string.digits if rng.random() < share}
    return {character: other for character, other in drawn.items() if other.can_write(character)}


def with_font(writer: Writer, font: Font, rng: np.random.Generator) -> Writer:
    """The same habits with letters of another font."""
    capitals = writer.capitals or _capitals(font, rng)
    return replace(writer, font=font, hand=None, size=size_of(font, 1.0), capitals=capitals, mixed={})


def _capitals(font: Font | None, rng: np.random.Generator) -> float | None:
    share, size = rng.random(), 1.0 if rng.random() < _ONE_SIZE_SHARE else float(rng.uniform(0.48, 0.95))
    if font and (font.capitals or font.joined):
        return size if font.capitals else None
    return size if share < _CAPITALS_SHARE else None


def make_habits(rng: np.random.Generator) -> Writer:
    """The habits of a writer whose letters are given, as ink: milder than those of fonts, for the hand is real."""
    return Writer(
        font=None,
        hand=None,
        size=0,
        slant=float(rng.normal(0, 0.08)),
        width=float(np.exp(rng.normal(0, 0.12))),
        letter_gap=0.0,
        word_gap=float(rng.uniform(0.7, 1.8)),
        unsteady=float(rng.uniform(0.2, 1.2)),
        elastic=float(rng.uniform(0.2, 1.5)),
        pen=float(rng.uniform(-0.5, 1.4)),
        slope=float(rng.normal(0, 0.01)),
    )


def rewrite(cover: np.ndarray, baseline: float, x_height: float, writer: Writer, rng: np.random.Generator) -> Ink:
    """Give ink, (H, W) float32 with `MARGIN` px around it, another pen and another writer's movement."""
    return _bend(
        _press(np.round(cover * 255).astype(np.uint8), writer, rng), baseline, x_height, writer, rng, writer.slant
    )


def write(text: str, writer: Writer, rng: np.random.Generator, crossed_out: int | None = None) -> Ink:
    """Write `text`; of its words the one with number `crossed_out` is written and then struck out.

    Writers who use capitals alone write small letters as capitals of the size `writer.capitals`.
    """
    if writer.hand:
        cover = cv2.copyMakeBorder(
            strokes.trace(text, writer.hand, rng).cover, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_CONSTANT
        )
        baseline = MARGIN + 0.62 * (cover.shape[0] - 2 * MARGIN)
        return _bend(cover, baseline, 11 * writer.hand.size, writer, rng, slant=0.0)
    canvas, baseline = _set(text, writer, rng, crossed_out)
    cover = _press(canvas, writer, rng)
    return _bend(cover, baseline, writer.size * _font(writer).x_height, writer, rng, writer.slant)


def _font(writer: Writer) -> Font:
    assert writer.font
    return writer.font


# --- Setting ---


def _set(text: str, writer: Writer, rng: np.random.Generator, crossed_out: int | None) -> tuple[np.ndarray, int]:
    """Put the words side by side: (H, W) uint8 and the base line's y."""
    font, x_height = _font(writer), writer.size * _font(writer).x_height
    x: float
    y: float
    placed: list[tuple[np.ndarray, float, float]] = []  # mask, x, y of its upper left corner; y from the base line
    pen = 0.0
    space = max(font.advance(" ", writer.size), 0.3 * x_height) * writer.word_gap
    for number, word in enumerate(text.split(" ")):
        start, drift = pen, rng.normal(0, 0.05 * writer.unsteady * x_height)
        if font.joined and not writer.capitals:
            mask, x, y = font.mask(word, writer.size)
            mask, dx, dy = _jitter(mask, x, y, writer, rng, 0.5)
            placed.append((mask, pen + x + dx, y + dy + drift))
            pen += font.advance(word, writer.size)
        else:
            pen = _letters(word, writer, rng, pen, drift, placed)
        if number == crossed_out:
            placed.append((_strike(pen - start, x_height, rng), start, -1.3 * x_height))
        pen += space * np.exp(rng.normal(0, 0.2))
    left = min(x for _, x, _ in placed)
    top = min(y for _, _, y in placed)
    right = max(x + mask.shape[1] for mask, x, _ in placed)
    bottom = max(y + mask.shape[0] for mask, _, y in placed)
    baseline = round(MARGIN - top)
    canvas = np.zeros((round(bottom - top) + 2 * MARGIN + 1, round(right - left) + 2 * MARGIN + 1), np.uint8)
    for mask, x, y in placed:
        row, column = round(y) + baseline, round(x - left) + MARGIN
        part = canvas[row : row + mask.shape[0], column : column + mask.shape[1]]
        np.maximum(part, mask[: part.shape[0], : part.shape[1]], out=part)
    return canvas, baseline


def _letters(word: str, writer: Writer, rng: np.random.Generator, pen: float, drift: float, placed: list) -> float:
    """Place the letters of a word one by one, each a little different; returns where the pen ends."""
    font, x_height = _font(writer), writer.size * _font(writer).x_height
    gap = writer.letter_gap * x_height
    factor = writer.size / size_of(font, 1.0)
    for number, letter in enumerate(word):
        shape = corpus.capitals(letter) if writer.capitals else letter
        face = writer.mixed.get(shape, font)
        size = writer.size if face is font else size_of(face, factor)
        if writer.capitals and letter.islower():
            size = round(size * writer.capitals)
        mask, x, y = face.mask(shape, size)
        mask, dx, dy = _jitter(mask, x, y, writer, rng, 1.0)
        placed.append((mask, pen + x + dx, y + dy + drift + rng.normal(0, 0.03 * writer.unsteady * x_height)))
        # The advance before the next letter, with the pair's kerning.
        after = word[number + 1 : number + 2]
        after = corpus.capitals(after) if writer.capitals else after
        if writer.mixed.get(after, font) is not face:
            after = ""
        step = face.advance(shape + after, size) - face.advance(after, size)
        pen += step + gap + rng.normal(0, 0.03 * writer.unsteady * x_height)
    return pen


def _jitter(
    mask: np.ndarray, x: float, y: float, writer: Writer, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, float, float]:
    """Turn, shear and scale a mask about the pen's place on the base line, at random: the mask and how far it moved."""
    amount = writer.unsteady * strength
    turn, shear, wider, taller = rng.normal(0, (0.025, 0.05, 0.045, 0.05)) * amount
    a = np.array([[1 + wider, shear], [turn * (0.3 if strength < 1 else 1), 1 + taller]])
    height, width = mask.shape
    corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]]) @ a.T
    low, high = np.floor(corners.min(0)) - 1, np.ceil(corners.max(0)) + 1
    matrix = np.hstack([a, (a @ (x, y) - low)[:, None]])
    columns, rows = (high - low).astype(int)
    turned = cv2.warpAffine(mask, matrix, (int(columns), int(rows)), flags=cv2.INTER_LINEAR)
    return turned, float(low[0] - x), float(low[1] - y)


def _strike(width: float, x_height: float, rng: np.random.Generator) -> np.ndarray:
    """One to four wavering strokes through a word, or a zigzag over it."""
    height, width = int(1.6 * x_height), int(width) + 2
    mask = np.zeros((height, width), np.uint8)
    thick = int(rng.integers(1, 4))
    if rng.random() < 0.4:
        xs = np.linspace(0, width, max(4, int(width / (0.35 * x_height))))
        ys = np.where(np.arange(len(xs)) % 2, 0.35, 0.85) * height + rng.normal(0, 0.08 * height, len(xs))
        cv2.polylines(mask, [np.stack([xs, ys], 1).astype(np.int32)], False, 255, thick, cv2.LINE_AA)
        return mask
    for _ in range(rng.integers(1, 4)):
        xs = np.linspace(0, width, 8)
        ys = height * rng.uniform(0.4, 0.75) + np.cumsum(rng.normal(0, 0.03 * height, 8))
        cv2.polylines(mask, [np.stack([xs, ys], 1).astype(np.int32)], False, 255, thick, cv2.LINE_AA)
    return mask


# --- Pen and movement ---


def clouds(rng: np.random.Generator, rows: int, columns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise of about unit variance, float32 of this shape, from a grid of rows x columns random numbers."""
    coarse = rng.standard_normal((max(2, rows), max(2, columns)), dtype=np.float32)
    return cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _press(canvas: np.ndarray, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8 letters -> float32 cover, their strokes thicker or thinner, and not evenly so."""
    blurred = cv2.GaussianBlur(canvas, (0, 0), 1.2).astype(np.float32) / 255
    height, width = canvas.shape
    uneven = clouds(rng, 2, width // 60 + 3, (height, width))
    level = 0.5 - 0.22 * writer.pen - 0.07 * uneven  # of the blurred letters: where strokes end
    if writer.pen < 0:  # relative to the middle of the stroke, which so is always kept
        level = np.maximum(0.25, np.clip(level, 0.12, 0.85) * cv2.dilate(blurred, np.ones((5, 5), np.uint8)))
    else:
        level = np.clip(level, 0.12, 0.62)
    slope = np.maximum(2.2, 0.5 / level)  # steep enough for no ink where there are no letters
    return np.clip((blurred - level) * slope + 0.5, 0, 1)


def _bend(
    cover: np.ndarray, baseline: float, x_height: float, writer: Writer, rng: np.random.Generator, slant: float
) -> Ink:
    """Slant, slope, base line's wobble, changing size and smooth displacements, all in one resampling."""
    height, width = cover.shape
    wave = clouds(rng, 2, width // 150 + 3, (1, width))[0] * 0.05 * writer.unsteady * x_height
    slope = writer.slope + rng.normal(0, 0.006)
    rise = abs(slope) * width + 2 * float(np.abs(wave).max())
    lean = abs(slant) * height
    wide = (round((width + lean) * writer.width), round(height + rise))
    y, x = np.mgrid[: wide[1], : wide[0]].astype(np.float32)
    x /= writer.width
    x -= lean / 2
    middle = rise / 2
    y -= middle
    # Where each pixel comes from.
    drop = (slope * (np.arange(wide[0]) / writer.width - width / 2)).astype(np.float32)
    drop += cv2.resize(wave[None].astype(np.float32), (wide[0], 1))[0]
    y += drop
    larger = 1 + 0.05 * writer.unsteady * clouds(rng, 2, width // 120 + 3, (1, wide[0]))
    y = baseline + (y - baseline) * larger
    x += slant * (y - baseline)
    grid = (max(2, wide[1] // 22), wide[0] // 22 + 2)
    x += writer.elastic * clouds(rng, *grid, y.shape)
    y += writer.elastic * clouds(rng, *grid, y.shape)
    bent = cv2.remap(cover, x, y.astype(np.float32), cv2.INTER_LINEAR)
    return Ink(bent, baseline + middle, x_height)
