"""Handwriting drawn from stroke fonts, in IAM's own layout: for the demo, for tests and for pre-training.

It is drawn, not written: a model that reads it shows that the program works, and little about real hands.

The letters are skeletons of the Hershey fonts (A. V. Hershey, "Calligraphy for Computers", U.S. Naval Weapons
Laboratory, 1967), by way of the PyPI package Hershey-Fonts. A writer (`Hand`) is a choice of faces, each letter bent in
a way of its own, with a pen and a paper; a line bends each letter once more, and then all of itself smoothly. The text
is filled in from the templates below.
"""

import re
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from HersheyFonts import HersheyFonts
from tqdm import tqdm

from hwr import Error
from hwr.alphabet import ORIGINAL
from hwr.files import replacing

LINES_PER_FORM = 8
SHORTEST, LONGEST = 8, 45  # characters of a line
SUPERSAMPLING = 2  # drawn at this multiple of the final size, so that a pen can be a fraction of a pixel wider
LEAST_HEIGHT = 50  # px
BASELINE = 9  # of every Hershey face, in its units (y points down); capitals are 21 units high
X_HEIGHT = 11  # units, of the small letters of every face here, so that a hand can mix them

# ---------------------------------------------------------------- text

SENTENCES = """{Who} {did} the {adj} {noun} {when}.|{Who} {did} a {adj} {noun} and {did} the {noun} {where}.
{Who} said that the {noun} was {adj}, but {who} {did} it {how}.|It was {adj}, and {who} {did} {n} {noun}s {how}.
"{Adv}," said {who}, "the {noun} is {adj}!"|"Who {did} my {noun}?" asked {Name}.|{Why} {who} {did} the {noun}?
{Who} didn't know {why} the {noun} wasn't {adj}.|{Name}'s {noun} is {where}; {who} {did} it {when}.
Don't {do} the {noun}: it's {adj}!|Can't we {do} the {noun} {when}?|We'll {do} {n} {noun}s, won't we?|{do} it {how}!
On {day} {month} {year} {who} {did} a {noun} {where}.|{weekday}, {day}/{mon}/{yy}: {did} {n} {noun}s {where}.
{Name} (born {year}, {Place}) {did} the {noun}.|They paid {n}.{nn} for {n} {noun}s & {big} for the {noun}.
{Place}, {month} {day}, {year}.|Dear {Title} {Family}, the {noun} is {where}.|Yours, {X}. {X}. {Family}
{Title} {Family} & Sons sell {mass}, {mass} and/or {mass}.|Flat #{n}{X}, {big} {Family} Street, {Place} {X}{d} {n}{X}
* see page {n} (and note {d}); also {X}-{n}.|The {noun}* was {adj} ({who} {did} it {how}).|{n} + {n} is {n}; {n} + {d}?
Call {Name} at {h}:{nn}, tel. {big}-{big}.|The {h}:{nn} from {Place} to {Place} {did} the {noun}.|Lot #{n} ({mass})
{Title} {Family} lives at {n} {Family} Road, {Place}.|{n}-{n} {noun}s; {n}/{n} {noun}s: {adj}, {adj} + {adj}.
{CAPS}: {CAPS} {CAPS} #{n}!|{CAPS} & {CAPS} ({year})|{CAPS} {CAPS} {CAPS}.|Item #{n}: {mass} ({big} g) * {d} + {mass}.
{Title} {X}. {Family}'s {adj}, {adj} {noun}; {Name}'s {mass}.|Half {adj}, half {adj}: {how} {who} {did} the {noun}.
Mix {n} g of {mass} with {mass}, {mass} and {mass}.|{Adv} {who} {did} {where}, {how} and {how}.|{Who} {did} the {mass}.
{Name} and {Name} {did} the {noun} from {Place} {when}.|Is the {noun} {adj}? "{Adv}," {Name} said."""

WORDS = {
    "Who": "{Name}|{Name} {Family}|{Title} {Family}|{He}|The {adj} {person}|My {rel}|Every {person}|Nobody",
    "who": "{Name}|{Name} {Family}|{Title} {Family}|{he}|the {person}|my {rel}|his {rel}|our {person}|I",
    "He": "He|She|They|We|You|I|It|Someone|Everyone",
    "he": "he|she|they|we|you|I|someone|nobody",
    "Name": "Adam|Anna|Beth|Boris|Clara|Colin|Dora|Derek|Edith|Emil|Frank|Fiona|Grace|Gavin|Gwen|Hazel|Hugo|Ines|Ivan|"
    "Jack|Julia|Kate|Karl|Kim|Laura|Leo|Maria|Max|Nora|Nick|Olive|Oscar|Paula|Pieter|Quinn|Quentin|Rosa|Ralph|Sarah|"
    "Simon|Tina|Thomas|Uma|Ulric|Vera|Victor|Vic|Wendy|Walter|Xenia|Xavier|Ximena|Yusuf|Yvonne|Zoe|Zachary|Zita",
    "Family": "Abbott|Becker|Cox|Dixon|Evans|Frazer|Grant|Gibson|Hughes|Irving|Jarvis|Kovacs|Keller|Lopez|Mackey|Nolan|"
    "Ortiz|Price|Quigley|Quayle|Rhodes|Suzuki|Tyler|Underhill|Vaughan|Vance|Wright|Xiang|Xu|Young|Zeller|Zimmer|O'Neil|"
    "D'Arcy|Hart-Jones",
    "Place": "Athens|Bergen|Cadiz|Derby|Exeter|Falmouth|Ghent|Galway|Havre|Izmir|Jersey|Kyoto|Kiel|Leeds|Milan|Nantes|"
    "Oxford|Paris|Quebec|Quimper|Riga|Salzburg|Turin|Utrecht|Vienna|Vigo|Wexford|Xanten|York|Zagreb|Zurich",
    "Title": "Mr.|Mrs.|Miss|Dr.|Prof.|Aunt|Uncle|Judge",
    "rel": "brother|sister|cousin|uncle|nephew|niece",
    "person": "doctor|teacher|neighbour|judge|baker|sailor|captain|lawyer|gardener|porter|vicar|queen|king|major|clerk",
    "did": "bought|found|took|sold|moved|fixed|painted|wrote|lost|kept|carried|opened|examined|forgot|sketched|packed|"
    "measured|quoted|joined|wanted|liked|burnt|seized|broke|hid|gave away|looked for|thought about|jumped over|saw",
    "do": "buy|find|take|sell|move|fix|paint|write|lose|keep|carry|open|examine|forget|sketch|measure|pack|quote|join",
    "adj": "old|new|small|large|quiet|quick|lazy|dizzy|dusty|heavy|exact|equal|jolly|strange|yellow|green|brown|purple|"
    "wooden|empty|broken|dark|bright|cheap|frozen|amazing|complex|unique|major|warm|wet|narrow|hollow|wild|queer|vexed",
    "noun": "house|garden|letter|window|jacket|table|book|clock|picture|bridge|boat|horse|magazine|question|project|"
    "engine|ticket|village|river|kitchen|hotel|piano|lamp|map|wheel|basket|zebra|axle|quilt|jewel|object|prize|taxi|"
    "puzzle|hammer|violin|chair|flower|pocket|bicycle|machine|king|yacht|quarter|carpet|stamp|newspaper|jar|lizard",
    "mass": "jam|milk|wheat|sugar|maize|oxtail|quinces|flax|zinc|wax|juice|pizza|tea|rye|honey|figs|olives|bread",
    "when": "yesterday|last week|in {month}|at {h}:{nn}|on {weekday}|before {year}|in {year}|on the {n}th|next week|"
    "this morning|after dinner|just in time|every {weekday}|for {n} years|once again|six days ago|since {h} o'clock",
    "where": "in {Place}|near {Place}|at home|by the river|under the {noun}|behind the {noun}|on the {adj} {noun}|"
    "next to the {noun}|in room {n}|over there|at the zoo|at no. {n}|in the box|outside {Place}",
    "how": "quickly|slowly|with great care|just for a joke|without a word|very well|too late|by mistake|in six minutes|"
    "expertly|for {Name}|as usual|with {Name}'s {noun}|half-heartedly|in a {adj} way|with zeal|by taxi",
    "Adv": "Yes|No|Perhaps|Of course|Indeed|However|Exactly|Quite so|At last|Then|Later|Again|Zounds|Just now",
    "Why": "Is it true that|Do you know why|Do you think|What if|How come",
    "why": "why|when|how|where|whether",
    "CAPS": "NOTICE|QUEUE|EXIT|BEWARE|OPEN|JUMBLE SALE|ZOO|KEEP|WANTED|FIRST|OFFICE|PLEASE|TAXI|VALUE|MUSIC|JOB|QUIZ|"
    "WEEKLY|BOX|KITCHEN|PRIVATE|FIXED|GARDEN|MILK|HUGE|DANCING|JULY|QUAY|VAN|BAZAAR|YACHT|RHUBARB|CHAPTER|FLOUR",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "X": "|".join(string.ascii_uppercase),
}
NUMBERS = {"d": (0, 9), "n": (2, 99), "nn": (0, 59), "h": (1, 12), "day": (1, 28), "mon": (1, 12), "yy": (0, 99)}
NUMBERS |= {"year": (1700, 2029), "big": (100, 9999)}
CHOICES = {slot: words.split("|") for slot, words in WORDS.items()} | {"": re.split(r"[|\n]", SENTENCES)}
ABBREVIATIONS = {"Mr.", "Mrs.", "Dr.", "Prof.", "no.", "tel."}


def _sentence(rng: np.random.Generator) -> str:
    def fill(slot: re.Match[str]) -> str:
        if slot[1] in NUMBERS:
            low, high = NUMBERS[slot[1]]
            return f"{rng.integers(low, high + 1):0{2 if slot[1] in ('nn', 'yy') else 1}d}"
        choices = CHOICES[slot[1]]
        return choices[rng.integers(len(choices))]

    text = "{}"
    while "{" in text:
        text = re.sub(r"{(\w*)}", fill, text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!uni)", r"\1n ", text)
    return text[0].upper() + text[1:]


def compose(rng: np.random.Generator) -> str:
    """A line of running English text as it falls between two line breaks: 8 to 45 characters of the original 80."""
    words = " ".join(_sentence(rng) for _ in range(4)).split(" ")
    # Half of the lines open a paragraph; the others begin somewhere within its first sentence.
    words = words[rng.integers(2) * rng.integers(6) :]
    wanted = rng.triangular(12, 30, LONGEST - 1)
    line = words[0]
    for word in words[1:]:
        if len(line) >= SHORTEST and len(line) + 1 + len(word) > wanted:
            break
        line += " " + word
    return line


def tokens(text: str) -> list[str]:
    """The words of a line as IAM counts them: punctuation around a word is a word of its own."""
    found = []
    for word in text.split():
        if word in ABBREVIATIONS or re.fullmatch(r"[A-Z]\.", word):
            found.append(word)
        else:
            before, core, after = re.fullmatch(r"(\W*)(.*?)(\W*)", word).groups()  # type: ignore[union-attr]
            found += [*before, *([core] if core else []), *after]
    return found


# ---------------------------------------------------------------- hands


@dataclass(frozen=True)
class Glyph:
    """A character's skeleton in Hershey units: x from where the pen starts, y down from the base line.

    Attributes:
        points: (P, 2) float64, the points of all strokes, one stroke after the other.
        sizes: Number of points of each stroke.
        advance: How far the pen moves on.
        joins: Whether it runs into a neighbour that joins, too.
    """

    points: np.ndarray
    sizes: tuple[int, ...]
    advance: float
    joins: bool


@dataclass(frozen=True)
class Hand:
    """One writer: letter forms, pen and paper. Lengths are Hershey units (a capital is 21 high) unless said otherwise.

    Attributes:
        glyphs: By character; all of the original 80 but the space.
        size: Pixels per unit.
        slant: Horizontal shift per unit of height, forwards positive.
        wobble: How unsteady the hand is, about 0.5 (calm) to 1.3.
        letter_gap: Added between letters.
        word_gap: Width of a space.
        slope: Rise of the base line per unit of width.
        nib: The pen's shape at `SUPERSAMPLING`, uint8, 0 or 1.
        ink: Grey level where the ink is full, 0 to 255.
        fade: Share of the ink that comes and goes along the line, 0 to 1.
        grain: Share of the ink that the paper's grain takes away, 0 (ink) to 1 (pencil).
        paper: Grey level of the paper.
        noise: Standard deviation of the paper's grain, grey levels.
    """

    glyphs: dict[str, Glyph]
    size: float
    slant: float
    wobble: float
    letter_gap: float
    word_gap: float
    slope: float
    nib: np.ndarray
    ink: float
    fade: float
    grain: float
    paper: float
    noise: float


def rng_of(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of writer `key[0]`, or of its line `key[1]`: no other writer or line changes them."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@cache
def _face(name: str) -> dict[str, Glyph]:
    """A Hershey face, resampled to steps of about two units, its corners rounded, its small letters X_HEIGHT high."""
    font = HersheyFonts()
    font.load_default_font(name)
    script = name == "scripts"
    glyphs = {}
    for character in ORIGINAL.replace(" ", ""):
        source = font.all_glyphs[character]
        strokes = [_round(np.array(s, float) - (source.left_offset, BASELINE)) for s in source.strokes]
        points, wider = np.concatenate(strokes), 1.0
        if character.islower():  # the font's own: 9 units high and descenders of 12 (script), 14 and 7 (print)
            cut, wider = (9, 1.1) if script else (14, 0.9)
            points = _zones(points, cut, (21 - X_HEIGHT) / (21 - cut), X_HEIGHT / cut, 10 / 12 if script else 9 / 7)
        elif character == "-":  # the font's is a minus sign, as long as a dash
            wider = 0.55
        sizes = tuple(len(s) for s in strokes)
        glyphs[character] = Glyph(points * (wider, 1), sizes, wider * source.char_width, script and character.islower())
    return glyphs


def _zones(points: np.ndarray, cut: float, above: float, middle: float, below: float) -> np.ndarray:
    """Stretch (P, 2) points vertically: by `middle` between base line and height `cut`, and beyond."""
    x, y = points.T
    y = middle * np.clip(y, -cut, 0) + above * np.minimum(y + cut, 0) + below * np.maximum(y, 0)
    return np.stack([x, y], axis=1)


def _round(stroke: np.ndarray) -> np.ndarray:
    lengths = np.r_[0, np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))]
    if lengths[-1] < 8:  # a dot or a comma, which smoothing would wear away
        return stroke
    steps = np.linspace(0, lengths[-1], int(lengths[-1] / 2) + 2)
    stroke = np.stack([np.interp(steps, lengths, stroke[:, i]) for i in (0, 1)], axis=1)
    for _ in range(2):
        stroke[1:-1] = (stroke[:-2] + 2 * stroke[1:-1] + stroke[2:]) / 4
    return stroke


def _bend(points: np.ndarray, rng: np.random.Generator, reach: float, shortest: float, longest: float) -> np.ndarray:
    """Displace (P, 2) points smoothly: by waves of the given lengths, with a root mean square of `reach`."""
    waves = 6
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    wavenumber = 2 * np.pi / rng.uniform(shortest, longest, waves)
    sines = np.sin(points @ (np.stack([np.cos(angle), np.sin(angle)]) * wavenumber) + phase)  # (P, waves)
    return points + sines @ rng.normal(0, reach / np.sqrt(waves / 2), (waves, 2))


def make_hand(seed: int, writer: int) -> Hand:
    """Draw writer number `writer` of this seed."""
    rng = rng_of(seed, writer)
    # Small letters printed, joined or some of each. Script capitals are rare even in joined hands, and the script face's
    # digits and signs have thick strokes that are drawn double, so they are always printed.
    style = rng.choice(["print", "script", "mixed"], p=[0.4, 0.35, 0.25])
    small_script = {"print": 0.0, "script": 1.0, "mixed": rng.uniform(0.2, 0.8)}[style]
    large_script = 1.0 if style == "script" and rng.random() < 0.35 else 0.0
    plain, slanted = _face(str(rng.choice(["futural", "rowmans"]))), _face("scripts")

    squeeze = rng.uniform(0.68, 0.92) if style == "print" else rng.uniform(0.78, 1.05)
    zones = rng.uniform([0.9, 0.85, 0.8], [1.2, 1.2, 1.2])  # ascenders, small letters, descenders
    strange = rng.uniform(0.4, 1.0)  # how far this writer's letters are from the font's
    glyphs = {}
    for character in plain:
        share = small_script if character.islower() else large_script if character.isupper() else 0.0
        glyph = (slanted if rng.random() < share else plain)[character]
        points = glyph.points @ (np.eye(2) + strange * rng.normal(0, 0.05, (2, 2)))
        points = _bend(points, rng, 0.55 * strange, 14, 40)
        points = _zones(points, X_HEIGHT, *zones) * (squeeze, 1)
        advance = squeeze * glyph.advance * (1 + 0.04 * strange * rng.normal())
        glyphs[character] = Glyph(points, glyph.sizes, advance, glyph.joins)

    width, thinness, angle = rng.uniform([2.5, 0.6, 0], [5.2, 1, np.pi])
    ink = rng.uniform(15, 95)
    return Hand(
        glyphs=glyphs,
        size=rng.uniform(1.4, 1.85),
        slant=rng.uniform(-0.12, 0.45) if style == "print" else rng.uniform(-0.3, 0.25),
        wobble=rng.uniform(0.5, 1.3),
        letter_gap=rng.uniform(-1.8, 1.2) if style == "print" else rng.uniform(-0.4, 0.4),
        word_gap=rng.uniform(11, 20),
        slope=rng.normal(0, 0.005),
        nib=_nib(width, width * thinness, angle),
        ink=ink,
        fade=rng.uniform(0.05, 0.3),
        grain=rng.uniform(0, 0.25) if ink < 70 else rng.uniform(0.1, 0.5),
        paper=rng.uniform(236, 252),
        noise=rng.uniform(0.8, 3.5),
    )


def _nib(length: float, width: float, angle: float) -> np.ndarray:
    """An ellipse with these axes in supersampled pixels: broad nibs make strokes thick one way and thin the other."""
    y, x = np.mgrid[-3:4, -3:4]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((2 * u / length) ** 2 + (2 * v / width) ** 2 <= 1).astype(np.uint8)


# ---------------------------------------------------------------- lines


@dataclass(frozen=True)
class Drawing:
    """A line on paper.

    Attributes:
        image: (H, W) uint8, dark ink on light paper; H is at least 50.
        boxes: (characters without spaces, 4) int: x, y, width, height in pixels.
        threshold: Grey level below which is ink: it is nearer to the paper's, as thin strokes are pale.
    """

    image: np.ndarray
    boxes: np.ndarray
    threshold: int


def draw(text: str, hand: Hand, rng: np.random.Generator) -> Drawing:
    """Write `text` by `hand`.

    Raises:
        Error: `text` is blank or has a character that the hand can't write.
    """
    unknown = sorted(set(text) - set(hand.glyphs) - {" "})
    if unknown or not text.strip():
        raise Error(f"{text!r} can't be drawn: it must have characters of the original 80 and nothing else")
    strokes, owner = _strokes(text, hand, rng)
    sizes = [len(stroke) for stroke in strokes]
    points, owner = np.concatenate(strokes), np.repeat(owner, sizes)

    # The line as a whole: unsteady, slanted (not quite evenly), on a base line that drifts.
    points = _bend(points, rng, 0.55 * hand.wobble, 12, 45)
    x, y = points.T
    sway, drift = rng.uniform(0, 2 * np.pi, 2)
    x = x - y * (hand.slant + 0.04 * hand.wobble * np.sin(x / 45 + sway))
    y = y - (hand.slope + rng.normal(0, 0.002)) * x + 1.0 * hand.wobble * np.sin(x / rng.uniform(40, 90) + drift)
    points = np.stack([x, y], axis=1) * hand.size  # pixels

    margin = 6 + rng.uniform(0, 5, 4)  # the pen reaches at most 3 px beyond its path
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = np.ceil(high - low + margin[:2] + margin[2:]).astype(int)
    lack = max(0, LEAST_HEIGHT - height)
    points += margin[:2] - low + (0, lack / 2)
    cover = _ink(np.split(points, np.cumsum(sizes)[:-1]), hand.nib, (height + lack, width), rng)
    image = _paper(cover, hand, rng)

    boxes = np.zeros((owner[-1] + 1, 4), int)
    for i in range(len(boxes)):
        mine = points[owner == i]
        start, end = np.floor(mine.min(axis=0) - 3), np.ceil(mine.max(axis=0) + 3)
        boxes[i] = *start, *(end - start)
    return Drawing(image, boxes, int((hand.ink + 2 * hand.paper) / 3))


def _strokes(text: str, hand: Hand, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """The strokes of all characters in a row, in units, and the number of the character that each belongs to."""
    strokes: list[np.ndarray] = []
    owner: list[int] = []
    pen, number, before = 0.0, 0, np.array([])
    letters = hand.wobble * rng.normal(0, (0.05, 0.03, 0.03, 0.05, 0.4, 0.4), (len(text), 6))
    for character, (xx, xy, yx, yy, dx, dy) in zip(text, letters, strict=True):
        if character == " ":
            pen += hand.word_gap * np.exp(rng.normal(0, 0.15))
            before = np.array([])
            continue
        glyph = hand.glyphs[character]
        points = glyph.points @ ((1 + xx, xy), (yx, 1 + yy)) + (pen + dx, dy)
        parts = np.split(points, np.cumsum(glyph.sizes)[:-1])
        if glyph.joins and len(before):
            # A joined hand doesn't lift the pen: bridge the gap that bending has torn between two letters.
            gaps = np.hypot(*(before[:, None] - points[None]).T).T  # (ends of the letter before, points of this one)
            i, j = np.unravel_index(gaps.argmin(), gaps.shape)
            if gaps[i, j] < 5:
                parts.append(np.stack([before[i], points[j]]))
        ends = [end for part in parts[: len(glyph.sizes)] for end in (part[0], part[-1])] if glyph.joins else []
        strokes += parts
        owner += [number] * len(parts)
        pen += glyph.advance + hand.letter_gap + 0.35 * hand.wobble * rng.normal()
        number, before = number + 1, np.array(ends)
    return strokes, np.array(owner)


def _ink(strokes: list[np.ndarray], nib: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """How much of each pixel is under ink: (H, W) float32, 0 to 1. `strokes` are in pixels."""
    canvas = np.zeros((shape[0] * SUPERSAMPLING, shape[1] * SUPERSAMPLING), np.uint8)
    fixed = [np.round(stroke * (SUPERSAMPLING * 16)).astype(np.int32) for stroke in strokes]  # 4 bits of fraction
    cv2.polylines(canvas, fixed, False, 255, 1, cv2.LINE_AA, 4)
    light = cv2.dilate(canvas, nib)
    heavy = cv2.dilate(light, np.ones((2, 2), np.uint8))
    light, heavy = (cv2.resize(c, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) for c in (light, heavy))
    # The pressure changes as the hand moves on: half a pixel more or less.
    press = np.clip(0.5 + 0.6 * _clouds(rng, 3 + shape[1] // 40, *shape), 0, 1)
    return (light + press * (heavy - light)) / 255


def _clouds(rng: np.random.Generator, columns: int, height: int, width: int) -> np.ndarray:
    """Smooth noise of about unit variance, (height, width) float32."""
    coarse = rng.standard_normal((3, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def _paper(cover: np.ndarray, hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Put ink on paper: (H, W) cover, 0 to 1 -> (H, W) uint8 grey."""
    grain = rng.standard_normal(cover.shape, dtype=np.float32)
    density = 1 - hand.fade * np.clip(np.abs(_clouds(rng, 3 + cover.shape[1] // 25, *cover.shape)) / 2, 0, 1)
    density *= 1 - hand.grain * np.clip(np.abs(grain) / 2, 0, 1)
    paper = hand.paper + 2 * _clouds(rng, 6, *cover.shape)
    grey = paper - cover * density * (paper - hand.ink) + hand.noise * grain
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- files


def write(root: Path, lines: int, writers: int, seed: int, *, progress: bool = False) -> None:
    """Draw `lines` lines by `writers` writers into the new folder `root`, in IAM's layout, split by writer.

    Writes xml/FORM.xml, lines/PREFIX/FORM/FORM-NN.png (grey, 8 bits), ascii/lines.txt, and, last of all, the four lists
    in largeWriterIndependentTextLineRecognitionTask/: without them the folder is not a dataset, so a broken-off run
    can't be taken for a whole one. Form ids look like `synth0001-000`, never like IAM's own; writer ids like `w0001`.

    The same seed gives the same bytes, with the same versions of NumPy, OpenCV and Hershey-Fonts. A line depends on the
    seed, its writer and its number alone.

    Args:
        root: The folder; it may exist if it is empty.
        lines: How many lines in all, at least one per writer; each writer gets as many as the next, or one more.
        writers: How many writers, at least 4: one for each list. About 80, 5, 5 and 10 % of them go to trainset,
            validationset1, validationset2 and testset.
        seed: At least 0.
        progress: Show a bar.

    Raises:
        Error: A number is out of range; `root` is not an empty folder, or can't be written to.
    """
    if writers < 4:
        raise Error(f"{writers} writers: at least 4 are needed, one each for training, the two validations and testing")
    if lines < writers:
        raise Error(f"{lines} lines by {writers} writers: at least one line per writer is needed")
    if seed < 0:
        raise Error(f"seed {seed}: it must be 0 or more")
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Error(f"{root}: not an empty folder. Give a new one, or remove this first.")
        (root / "xml").mkdir(parents=True)
        records: list[str] = []
        ids: list[list[str]] = []  # by writer
        with tqdm(total=lines, unit="line", disable=not progress) as bar:
            for writer in range(writers):
                hand = make_hand(seed, writer)
                count = lines // writers + (writer < lines % writers)
                ids.append([])
                for first in range(0, count, LINES_PER_FORM):
                    numbers = range(first, min(first + LINES_PER_FORM, count))
                    form = _write_form(root, hand, seed, writer, numbers, records)
                    ids[-1] += form
                    bar.update(len(form))
        _write_lists(root, records, ids)
    except OSError as error:
        raise Error(f"{root}: could not be written: {error}") from error


def _write_form(root: Path, hand: Hand, seed: int, writer: int, numbers: range, records: list[str]) -> list[str]:
    """Draw a writer's lines of these numbers as one form; returns their ids and adds to lines.txt's `records`."""
    prefix = f"synth{writer + 1:04d}"
    form = f"{prefix}-{numbers[0] // LINES_PER_FORM:03d}"
    folder = root / "lines" / prefix / form
    folder.mkdir(parents=True)
    tree = ElementTree.Element("form", {"id": form, "writer-id": f"w{writer + 1:04d}"})
    part = ElementTree.SubElement(tree, "handwritten-part")
    ids, left, top, right = [], 60, 60, 0  # where the next line stands on the page, px
    for place, number in enumerate(numbers):
        rng = rng_of(seed, writer, number)
        text = compose(rng)
        drawing = draw(text, hand, rng)
        height, width = drawing.image.shape
        id = f"{form}-{place:02d}"
        (folder / f"{id}.png").write_bytes(cv2.imencode(".png", drawing.image)[1].tobytes())
        line = {"id": id, "text": text, "threshold": str(drawing.threshold), "segmentation": "ok"}
        _add_words(ElementTree.SubElement(part, "line", line), id, text, drawing.boxes + np.array([left, top, 0, 0]))
        words = "|".join(tokens(text))
        records.append(f"{id} ok {drawing.threshold} {len(drawing.boxes)} {left} {top} {width} {height} {words}")
        ids.append(id)
        top, right = top + height, max(right, left + width)
    tree.set("width", str(right + 60))
    tree.set("height", str(top + 60))
    ElementTree.indent(tree)
    ElementTree.ElementTree(tree).write(root / "xml" / f"{form}.xml", encoding="UTF-8", xml_declaration=True)
    return ids


def _add_words(line: ElementTree.Element, id: str, text: str, boxes: np.ndarray) -> None:
    done = 0
    for number, token in enumerate(tokens(text)):
        # IAM has the part of speech here; XX is the Penn Treebank's tag for a word whose part is unknown.
        word = ElementTree.SubElement(line, "word", {"id": f"{id}-{number:02d}", "text": token, "tag": "XX"})
        for box in boxes[done : done + len(token)]:
            values = (str(value) for value in box)
            ElementTree.SubElement(word, "cmp", dict(zip(("x", "y", "width", "height"), values, strict=True)))
        done += len(token)


def _write_lists(root: Path, records: list[str], ids: list[list[str]]) -> None:
    header = "# Drawn by `hwr synth`, in IAM's format:\n# line ok threshold components x y w h transcription\n"
    (root / "ascii").mkdir()
    (root / "ascii" / "lines.txt").write_text(header + "\n".join(records) + "\n", encoding="utf-8", newline="\n")
    few, tenth = max(1, round(len(ids) / 20)), max(1, round(len(ids) / 10))
    train = len(ids) - 2 * few - tenth
    bounds = [0, train, train + few, train + 2 * few, len(ids)]
    folder = root / "largeWriterIndependentTextLineRecognitionTask"
    folder.mkdir()
    names = ("trainset", "validationset1", "validationset2", "testset")
    for name, start, end in zip(names, bounds, bounds[1:], strict=False):
        with replacing(folder / f"{name}.txt") as temporary:
            content = "".join(f"{id}\n" for writer in ids[start:end] for id in writer)
            temporary.write_text(content, encoding="utf-8", newline="\n")
