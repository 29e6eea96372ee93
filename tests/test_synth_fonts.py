"""Lines set in fonts, tested with matplotlib's, whose characters are known."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from lxml import etree

from hwr import Error, config, data
from hwr.data import synth
from hwr.data.synth import corpus, fonts, hands, paper, scan, strokes, writers

SHIPPED = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FRENCH = "Le c\u0153ur a ses raisons que la raison ne conna\u00eet point : on le sait en mille choses."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DejaVu Sans has all characters needed here, cmr10 no accents, STIXSizOneSymReg (symbols) no Latin letters."""
    root = tmp_path_factory.mktemp("fonts")
    (root / "below").mkdir()
    for name in ("DejaVuSans.ttf", "below/cmr10.ttf", "below/STIXSizOneSymReg.ttf"):
        shutil.copy(SHIPPED / Path(name).name, root / name)
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "prose.txt"
    path.write_text(
        f"{FRENCH}\n\u201cQuite so\u201d \u2014 said the vicar, and went on to other matters of the day.\n", "utf-8"
    )
    return path


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_only_fonts_with_latin_letters_are_used(folder: Path) -> None:
    found = {font.path.stem: font for font in fonts.find(folder)}
    assert set(found) == {"DejaVuSans", "cmr10"}
    assert found["DejaVuSans"].can_write(FRENCH)
    assert not found["cmr10"].can_write(FRENCH)
    assert not found["cmr10"].can_write("na\u00eff")
    assert found["cmr10"].can_write("naive")
    assert not any(font.can_write("\u4e2d") for font in found.values())
    assert not any(font.capitals or font.joined for font in found.values())


def test_measures_of_a_font() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    assert font.x_height == pytest.approx(1120 / 2048, abs=0.02)  # of its OS/2 table
    assert font.stroke == pytest.approx(184 / 2048, abs=0.02)  # its stem's width
    mask, _, top = font.mask("x", 100)
    assert mask.shape[0] == -top
    assert mask.max() == 255


def test_same_seed_gives_the_same_bytes_in_any_number_of_processes(folder: Path, texts: Path, tmp_path: Path) -> None:
    for name, lines, processes in (("one", 24, 1), ("two", 24, 2), ("fewer", 8, 1)):
        synth.write(tmp_path / name, lines, 4, 7, fonts=folder, texts=[texts], processes=processes)
    one = content(tmp_path / "one")
    assert one == content(tmp_path / "two")
    images = {name for name in one if name.endswith(".webp")}
    assert len(images) == 24
    fewer = content(tmp_path / "fewer")
    assert {name: fewer[name] for name in images & set(fewer)} == {name: one[name] for name in images & set(fewer)}
    synth.write(tmp_path / "other", 24, 4, 8, fonts=folder, texts=[texts])
    assert not [name for name in images if content(tmp_path / "other").get(name) == one[name]]


def test_lines_can_be_read_as_a_dataset_and_have_ink(folder: Path, texts: Path, tmp_path: Path) -> None:
    synth.write(tmp_path / "d", 60, 12, 0, fonts=folder, texts=[texts])
    found = data.read(config.Data(root=str(tmp_path / "d")))
    lines = found.lines
    assert len(lines) == 60
    whole = corpus.fold(texts.read_text("utf-8"))
    for line in lines:
        assert line.text in whole or line.text in whole.upper()
        assert line.text == line.text.strip() != ""
        image = cv2.imread(str(line.image), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert 22 <= image.shape[0] <= 64
        assert image.shape[1] / image.shape[0] * 40 > 4 * len(line.text), "too narrow for its text"
        assert image.std() > 2, line.id
    elements = [e for path in (tmp_path / "d" / "xml").iterdir() for e in etree.parse(str(path)).iter("line")]
    assert {element.get("id") for element in elements} == {line.id for line in lines}


def test_a_font_never_draws_a_text_whose_characters_it_lacks(
    folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, str]] = []
    mask = fonts.Font.mask

    def noted(font: fonts.Font, text: str, size: int) -> tuple[np.ndarray, int, int]:
        drawn.append((font.path.stem, text))
        return mask(font, text, size)

    monkeypatch.setattr(fonts.Font, "mask", noted)
    synth.write(tmp_path / "d", 40, 20, 3, fonts=folder, texts=[texts])
    assert {name for name, _ in drawn} == {"DejaVuSans", "cmr10"}
    assert not [text for name, text in drawn if name == "cmr10" and not text.isascii()]


def test_texts_that_no_font_can_write_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "chinese.txt"
    path.write_text("\u4e2d\u6587\n", "utf-8")
    with pytest.raises(Error, match="none of these fonts"):
        synth.write(tmp_path / "d", 4, 4, 0, fonts=folder, texts=[path])


def test_unusable_folders_and_files_are_refused(folder: Path, texts: Path, tmp_path: Path) -> None:
    def refused(says: str, fonts: Path | None, *texts: Path) -> None:
        with pytest.raises(Error, match=says):
            synth.write(tmp_path / "new", 4, 4, 0, fonts=fonts, texts=texts)
        assert not (tmp_path / "new").exists()

    empty = tmp_path / "empty"
    empty.mkdir()
    refused("gone: no such folder", tmp_path / "gone", texts)
    refused("empty: no fonts", empty, texts)
    refused("no text to write", folder)
    refused("needs --fonts", None, texts)
    refused("empty: no .txt files", folder, empty)
    refused(r"gone\.txt: no such file", folder, tmp_path / "gone.txt")
    (tmp_path / "blank.txt").write_text(" \n\n")
    refused(r"blank\.txt: no text", folder, tmp_path / "blank.txt")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9\n")
    refused(r"latin1\.txt:1: not UTF-8", folder, tmp_path / "latin1.txt")
    symbols = tmp_path / "symbols"
    symbols.mkdir()
    shutil.copy(SHIPPED / "STIXSizOneSymReg.ttf", symbols)
    refused("none of its 1 fonts has the Latin letters", symbols, texts)
    (symbols / "broken.ttf").write_bytes(b"no font at all")
    refused(r"broken\.ttf: not a font", symbols, texts)


def test_pieces_are_cut_at_spaces_and_sources_have_equal_shares(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(" ".join(f"w{i}-{j}" for j in range(300)) for i in range(50)))
    (tmp_path / "short.txt").write_text("Anna\nBoris\n")
    found = corpus.Corpus([tmp_path / "long.txt", tmp_path / "short.txt", tmp_path / "long.txt"])
    rng = np.random.default_rng(0)
    pieces = [found.piece(rng) for _ in range(3000)]
    assert np.mean([piece in ("Anna", "Boris") for piece in pieces]) == pytest.approx(1 / 3, abs=0.03)
    lengths = np.array([len(piece) for piece in pieces if piece not in ("Anna", "Boris")])
    assert lengths.max() <= corpus.LONGEST
    assert np.mean((lengths >= 15) & (lengths <= 72)) > 0.85
    words = {f"w{i}-{j}" for i in range(50) for j in range(300)}
    assert all(set(piece.split(" ")) <= words for piece in pieces if piece not in ("Anna", "Boris"))


def test_the_micro_sign_has_no_latin_capital() -> None:
    assert corpus.capitals("5 \xb5m Stra\xdfe") == "5 \xb5M STRASSE"


def test_suffixes_of_texts_in_capitals_are_known(tmp_path: Path) -> None:
    (tmp_path / "PROSE.TXT").write_text("some words\n", "utf-8")
    assert corpus.Corpus([tmp_path]).piece(np.random.default_rng(0)) == "some words"


def test_a_word_that_is_longer_than_a_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a" * 500)
    found = corpus.Corpus([tmp_path / "x.txt"])
    assert len(found.piece(np.random.default_rng(0))) <= corpus.LONGEST


def test_typographic_signs_are_folded() -> None:
    assert corpus.fold("\u00abL\u2019\u00e9t\u00e9\u00bb \u2014 \u201eja\u201c\u2026") == '"L\'\u00e9t\u00e9" - "ja"...'


@pytest.mark.parametrize("kind", ["grey", "binary", "cleaned"])
def test_every_scan_effect_keeps_the_inks_position(kind: str) -> None:
    ink = np.zeros((90, 400), np.float32)
    ink[40:50, 100:300] = 1
    rng = np.random.default_rng(0)
    camera = scan.Camera(kind, height=45, blur=0.5, uneven=0.0, contrast=1.0, jpeg=None, noise=0.0)
    image = scan.take(240 - 200 * ink, 40, 240, camera, 10, rng)
    height, width = image.shape
    dark = np.argwhere(image < 128) / (height, width)
    np.testing.assert_allclose(dark.min(0), [40 / 90, 100 / 400], atol=0.04)
    np.testing.assert_allclose(dark.max(0), [50 / 90, 300 / 400], atol=0.04)
    if kind != "grey":
        assert image[0, 0] == 255


def test_neighbouring_lines_do_not_reach_the_middle_of_a_line() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        writer = writers.make_writer([font], seed, 0)
        ink = writers.write("menace", writer, rng)
        sheet = paper.make_sheet(rng)
        cover, baseline = paper._cut(ink, sheet, rng)
        other = paper._neighbours(ink, sheet, rng, cover.shape, baseline)
        middle = round(baseline - 0.5 * ink.x_height)
        assert other[middle].max() < 0.3
        assert cover[middle].max() > 0.5


def test_stroke_hands_are_among_the_writers() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    made = [writers.make_writer([font], 0, number) for number in range(80)]
    assert 4 <= sum(writer.hand is not None for writer in made) <= 24
    assert all((writer.hand is None) != (writer.font is None) for writer in made)
    hand = next(writer for writer in made if writer.hand)
    assert not hand.can_write("na\u00eff")
    assert hand.can_write("naive?")


def test_small_letters_of_who_writes_in_capitals() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    made = [writers.make_writer([font], 0, number) for number in range(300)]
    assert 20 <= sum(writer.capitals is not None for writer in made) <= 55
    calm = replace(next(w for w in made if w.font), unsteady=0.0, elastic=0.0, slope=0.0, slant=0.0, pen=0.5)

    def written(text: str, writer: writers.Writer) -> np.ndarray:
        return writers.write(text, writer, np.random.default_rng(0)).cover

    same = written("na", replace(calm, capitals=1.0))
    np.testing.assert_array_equal(same, written("NA", calm))
    # A small capital beside a large one: three quarters of its height, on the same line.
    cover = written("Hh", replace(calm, capitals=0.75)) > 0.5
    large, small = (np.flatnonzero(half.any(1)) for half in np.array_split(cover, 2, axis=1))
    assert len(small) == pytest.approx(0.75 * len(large), abs=2)
    assert small[-1] == pytest.approx(large[-1], abs=1)


def test_stroke_letters_of_who_writes_in_capitals() -> None:
    hand = hands.make_hand(0, 0)
    capitals = hands.in_capitals(hand, 0.8)
    np.testing.assert_array_equal(capitals.glyphs["m"].points, 0.8 * hand.glyphs["M"].points)
    assert capitals.glyphs["m"].advance == 0.8 * hand.glyphs["M"].advance
    assert all(capitals.glyphs[c] is hand.glyphs[c] for c in "M5?")


def test_stroke_letters_are_of_all_styles() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    made = [writers.make_writer([font], 0, number).hand for number in range(300)]
    small = [[hand.glyphs[c].joins for c in "abcdefghijklmnopqrstuvwxyz"] for hand in made if hand]
    assert 30 <= len(small) <= 60
    shares = {style: sum(map(style, small)) / len(small) for style in (all, any)}
    # Joined: 35 %; joined or mixed: 60 %.
    assert 0.2 < shares[all] < 0.5
    assert 0.45 < shares[any] < 0.75


def test_who_writes_in_capitals_has_them_in_the_transcription(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("we went on to other matters\n", "utf-8")
    synth.write(tmp_path / "drawn", 200, 100, 1, fonts=folder, texts=[text])
    forms = [etree.parse(path) for path in sorted((tmp_path / "drawn" / "xml").iterdir())]
    lines = [line.get("text") for form in forms for line in form.iter("line")]
    large = [line for line in lines if line == line.upper()]
    assert len(lines) == 200
    assert all(line in "we went on to other matters" for line in lines if line not in large)
    assert all(line in "WE WENT ON TO OTHER MATTERS" for line in large)
    assert 8 <= len(large) <= 50


def test_crossed_out_words_change_only_their_own_ink() -> None:
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    writer = next(w for w in (writers.make_writer([font], 0, i) for i in range(20)) if w.font)
    writer = replace(writer, pen=0.5)  # a thinner pen would thin the crossing out, too
    plain, struck = (
        sum(
            float(writers.write("one two three", writer, np.random.default_rng(i), which).cover.sum()) for i in range(8)
        )
        for which in (None, 1)
    )
    assert struck > 1.1 * plain


def test_trace_is_what_draw_puts_on_paper() -> None:
    hand = hands.make_hand(0, 0)
    drawing = strokes.draw("menace", hand, np.random.default_rng(0))
    cover = strokes.trace("menace", hand, np.random.default_rng(0)).cover
    assert cover.shape == drawing.image.shape
    assert drawing.image[cover > 0.9].mean() < drawing.threshold < drawing.image[cover == 0].mean()


def test_a_thin_pen_keeps_every_stroke() -> None:
    canvas = np.zeros((40, 120), np.uint8)
    for x, width in ((20, 1), (60, 3), (100, 6)):
        canvas[8:32, x : x + width] = 255
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    writer = replace(writers.make_writer([font], 0, 0), pen=-1.8)
    cover = writers._press(canvas, writer, np.random.default_rng(0))
    assert (cover[12:28, [20, 61, 102]] > 0.5).all()
    assert cover[:, 40].max() == 0
    assert (cover[20, 95:110] > 0.5).sum() < 6


def test_a_thick_pen_leaves_the_paper_blank() -> None:
    canvas = np.zeros((60, 200), np.uint8)
    canvas[20:40, 100:104] = 255
    font = fonts.Font(SHIPPED / "DejaVuSans.ttf")
    widths = []
    for pen in (0.0, 1.6):
        writer = replace(writers.make_writer([font], 0, 0), pen=pen)
        cover = writers._press(canvas, writer, np.random.default_rng(0))
        assert max(cover[:, :90].max(), cover[:, 114:].max()) < 1e-6
        widths.append(cover[30].sum())
    assert widths[1] > widths[0] + 1


def test_letters_of_other_fonts_give_a_writer_a_hand_of_their_own() -> None:
    names = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSans-Bold.ttf")
    sans, serif, bold = (fonts.Font(SHIPPED / name) for name in names)
    made = [w for w in (writers.make_writer([sans, serif, bold], 0, i) for i in range(200)) if w.font is sans]
    mixed = [writer.mixed for writer in made if writer.mixed]
    assert len(made) / 3 < len(mixed) < len(made) * 2 / 3
    assert {font for letters in mixed for font in letters.values()} == {serif}  # the bold one's strokes are too thick
    assert not any(writers.make_writer([sans], 0, i).mixed for i in range(20))

    calm = replace(made[0], size=20, unsteady=0.0, elastic=0.0, slope=0.0, slant=0.0, pen=0.0, mixed={}, capitals=None)
    own = replace(calm, size=writers.size_of(sans, 1.1))
    other = replace(calm, font=serif, size=writers.size_of(serif, own.size / writers.size_of(sans, 1.0)))
    for word, like in (("r", other), ("i", own)):
        written = writers.write(word, replace(own, mixed={"r": serif}), np.random.default_rng(0)).cover
        np.testing.assert_array_equal(written, writers.write(word, like, np.random.default_rng(0)).cover)


@pytest.mark.parametrize("kind", ["binary", "cleaned"])
def test_thin_faded_strokes_survive_a_threshold(kind: str) -> None:
    grey = np.full((60, 200), 250, np.float32)
    for x in range(10, 190, 12):
        grey[20:40, x : x + 2] = 190  # of an ink of 60
    for seed in range(20):
        camera = scan.Camera(kind, 60, 0.5, 0, 1, None, 0)
        image = scan.take(grey, 60, 250, camera, 8, np.random.default_rng(seed))
        assert (image[25:35] < 235).any(0).sum() >= 15
