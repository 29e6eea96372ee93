"""Synthetic handwriting: its files read independently (lxml, Pillow), and compared with known counts."""

import html
import os
import re
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from lxml import etree
from PIL import Image

from hwr import Error
from hwr.data import synth
from hwr.data.synth import hands, strokes
from hwr.data.synth import text as text_module

ALPHABET = " !\"#&\\'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LISTS = {"trainset": 80, "validationset1": 5, "validationset2": 5, "testset": 10}  # writers of a hundred
WRITERS, LINES = 100, 230


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("synth") / "a" / "b"
    synth.write(root, LINES, WRITERS, seed=5)
    return root


@pytest.fixture(scope="module")
def lines(root):
    """By line id: the XML's line element."""
    found = [line for path in (root / "xml").glob("*.xml") for line in etree.parse(str(path)).iter("line")]
    return {line.get("id"): line for line in found}


def read_lists(root):
    folder = root / "largeWriterIndependentTextLineRecognitionTask"
    assert {path.stem for path in folder.iterdir()} == set(LISTS)
    return {name: (folder / f"{name}.txt").read_text().splitlines() for name in LISTS}


def read_table(root):
    rows = (root / "ascii" / "lines.txt").read_text().splitlines()
    return {row.split(" ")[0]: row.split(" ") for row in rows if not row.startswith("#")}


def image_of(root, id):
    prefix, form = id.split("-")[0], id.rsplit("-", 1)[0]
    return root / "lines" / prefix / form / f"{id}.png"


def content(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_folder_is_laid_out_like_iam(root, lines):
    images = list((root / "lines").rglob("*.png"))
    assert len(lines) == LINES == len(images)
    assert set(images) == {image_of(root, id) for id in lines}
    assert set(lines) == set(read_table(root))
    assert sorted(lines) == sorted(id for ids in read_lists(root).values() for id in ids)
    for path in (root / "xml").iterdir():
        form = etree.parse(str(path)).getroot()
        assert form.get("id") == path.stem
        assert not re.match(r"[a-r]\d\d-\d{3}", path.stem), "taken for a form of the real IAM"
        assert re.fullmatch(r"w\d{4}", form.get("writer-id"))
        assert all(line.get("id").startswith(path.stem + "-") for line in form.iterfind("handwritten-part/line"))


def test_no_writer_is_in_two_lists(root):
    forms = [etree.parse(str(path)).getroot() for path in (root / "xml").iterdir()]
    writer = {form.get("id"): form.get("writer-id") for form in forms}
    writers = {name: {writer[id.rsplit("-", 1)[0]] for id in ids} for name, ids in read_lists(root).items()}
    assert {name: len(found) for name, found in writers.items()} == LISTS
    assert len(set.union(*writers.values())) == WRITERS


def test_four_writers_are_enough(tmp_path):
    synth.write(tmp_path, 5, 4, seed=0)
    assert [len(ids) for ids in read_lists(tmp_path).values()] == [2, 1, 1, 1]


def test_images_are_grey_and_no_ink_touches_the_border(root, lines):
    for id, line in lines.items():
        with Image.open(image_of(root, id)) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            pixels = np.asarray(image)
        threshold = int(line.get("threshold"))
        assert 50 <= pixels.shape[0] <= 110, id
        assert (pixels < threshold).sum() > 10 * len(line.get("text")), id
        border = np.concatenate(
            [pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()]
        )
        assert border.min() > 200, id
        assert np.median(pixels) > 225, id


def test_boxes_cover_all_ink_and_none_is_empty(root, lines):
    table = read_table(root)
    for id, line in lines.items():
        with Image.open(image_of(root, id)) as image:
            ink = np.asarray(image) < int(line.get("threshold"))
        left, top, width, height = (int(value) for value in table[id][4:8])
        assert (width, height) == (ink.shape[1], ink.shape[0])
        assert int(table[id][3]) == len(list(line.iter("cmp"))) == len(line.get("text").replace(" ", ""))
        outside = ink.copy()
        for box in line.iter("cmp"):
            x, y, w, h = (int(box.get(key)) for key in ("x", "y", "width", "height"))
            part = (slice(y - top, y - top + h), slice(x - left, x - left + w))
            assert ink[part].any(), (id, line.get("text"))
            assert min(x - left, y - top, width - (x - left + w), height - (y - top + h)) >= 0
            outside[part] = False
        assert not outside.any(), id


def test_words_and_table_spell_the_text(root, lines):
    table = read_table(root)
    for id, line in lines.items():
        text = line.get("text")
        words = [word.get("text") for word in line.iterfind("word")]
        assert "".join(words) == text.replace(" ", "")
        assert [word.get("id") for word in line.iterfind("word")] == [f"{id}-{i:02d}" for i in range(len(words))]
        assert all(len(word.findall("cmp")) == len(word.get("text")) for word in line.iterfind("word"))
        assert table[id][1] == "ok"
        assert table[id][8] == "|".join(words)


def test_punctuation_is_detached_as_in_iam():
    found = text_module.tokens('"Yes," said Mr. O\'Neil* (a half-day at 9:05 or 3/4) J. & Co.')
    assert " ".join(found) == '" Yes , " said Mr. O\'Neil * ( a half-day at 9:05 or 3/4 ) J. & Co .'


def test_text_is_varied_and_every_character_is_frequent():
    texts = [text_module.compose(hands.rng_of(2, writer, line)) for writer in range(50) for line in range(40)]
    count = Counter("".join(texts))
    assert set(count) == set(ALPHABET) - {"\\"}
    assert min(count.values()) >= 40, count.most_common()[-5:]
    assert len(set(texts)) > 1950
    lengths = np.array([len(text) for text in texts])
    assert lengths.min() >= 8
    assert lengths.max() <= 45
    assert np.mean((lengths >= 15) & (lengths <= 40)) > 0.8
    for text in texts:
        assert text == " ".join(text.split()), "stray blanks"
        assert html.unescape(text) == text, "looks like an entity, which readers of IAM resolve"


def test_special_characters_survive_xml(tmp_path, monkeypatch):
    text = 'Lee & Sons: "no; it\'s #1*" (a/b)+?'
    monkeypatch.setattr(text_module, "compose", lambda rng: text)
    synth.write(tmp_path, 4, 4, seed=0)
    found = [line for path in (tmp_path / "xml").iterdir() for line in etree.parse(str(path)).iter("line")]
    assert [line.get("text") for line in found] == [text] * 4


@pytest.mark.parametrize("writer", range(6))
def test_every_character_leaves_ink_of_its_own(writer):
    hand = hands.make_hand(0, writer)
    drawn = {}
    for character in ALPHABET[1:]:
        # The same random numbers for each, so that only the character differs.
        drawing = strokes.draw(character, hand, np.random.default_rng(0))
        ink = drawing.image < drawing.threshold
        assert ink.sum() >= 4, character
        drawn[character] = ink.tobytes()
    assert len(set(drawn.values())) == len(ALPHABET) - 1


def test_joined_hands_do_not_lift_the_pen():
    def pieces(hand):
        drawing = strokes.draw("menace", hand, np.random.default_rng(0))
        dark = (drawing.image < 215).astype(np.uint8)
        sizes = cv2.connectedComponentsWithStats(dark, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
        return int((sizes > 12).sum())  # smaller ones are specks of the paper

    made = [hands.make_hand(1, writer) for writer in range(40)]
    joined = [pieces(hand) for hand in made if all(hand.glyphs[c].joins for c in "menac")]
    printed = [pieces(hand) for hand in made if not any(hand.glyphs[c].joins for c in "menac")]
    assert len(joined) > 4
    assert len(printed) > 4
    assert set(joined) == {1}
    assert np.median(printed) >= 4


@pytest.mark.parametrize("text", ["", "  ", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "1 = 1", "a\tb"])
def test_characters_that_can_not_be_drawn_are_refused(text):
    with pytest.raises(Error, match="can't be drawn"):
        strokes.draw(text, hands.make_hand(0, 0), np.random.default_rng(0))


def test_same_seed_gives_the_same_bytes_in_any_process(tmp_path):
    code = "import sys, pathlib; from hwr.data import synth; synth.write(pathlib.Path(sys.argv[1]), 24, 5, 11)"
    for hash_seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / hash_seed)], check=True, env=environment)
    first = content(tmp_path / "0")
    assert first == content(tmp_path / "1")
    assert sum(name.endswith(".png") for name in first) == 24

    synth.write(tmp_path / "other", 24, 5, 12)
    other = content(tmp_path / "other")
    assert set(other) == set(first)
    assert not [name for name in first if name.endswith((".png", ".xml")) and first[name] == other[name]]


def test_lines_do_not_depend_on_each_other(tmp_path):
    synth.write(tmp_path / "few", 4, 4, seed=1)
    synth.write(tmp_path / "many", 55, 5, seed=1)
    for writer in range(1, 5):
        id = f"synth{writer:04d}-000-00"
        assert image_of(tmp_path / "few", id).read_bytes() == image_of(tmp_path / "many", id).read_bytes()
    assert len({path.read_bytes() for path in (tmp_path / "many").rglob("*.png")}) == 55


def test_writers_write_different_texts(lines):
    assert len({line.get("text") for line in lines.values()}) > 0.97 * LINES


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    draw, drawn = strokes.draw, []

    def interrupted(*args):
        drawn.append(args)
        if len(drawn) == 6:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(strokes, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synth.write(tmp_path / "out", 12, 4, seed=0)
    assert len(drawn) == 6
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lines", "writers", "seed", "message"),
    [(9, 3, 0, "3 writers"), (9, 10, 0, "9 lines"), (9, 4, -1, "seed -1"), (0, 0, 0, "0 writers")],
)
def test_numbers_out_of_range(tmp_path, lines, writers, seed, message):
    with pytest.raises(Error, match=message):
        synth.write(tmp_path / "new", lines, writers, seed)
    assert not (tmp_path / "new").exists()


def test_root_must_be_an_empty_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for root in (file, tmp_path, file / "below"):
        with pytest.raises(Error, match=re.escape(str(root))):
            synth.write(root, 4, 4, seed=0)
    assert content(tmp_path) == {"file": b"mine"}


def test_progress_bar_only_on_demand_and_on_a_terminal(tmp_path, capsys, monkeypatch):
    synth.write(tmp_path / "no terminal", 4, 4, seed=0, progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    synth.write(tmp_path / "quiet", 4, 4, seed=0)
    assert capsys.readouterr() == ("", "")
    synth.write(tmp_path / "loud", 4, 4, seed=0, progress=True)
    assert "4/4" in capsys.readouterr().err
