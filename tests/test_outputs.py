"""What `hwr predict` writes for pages, read by other programs: poppler, pdfium, hocr-tools, a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from hwr import Error
from hwr.images import exif as exif_tags
from hwr.images import load
from hwr.pages.outputs import FORMATS, hocr, html, pdf, text
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.words import words
from hwr.recognizer import Character

# Width and height of the test page.
SIZE = (600, 400)


def box(left: int, top: int, right: int, bottom: int) -> tuple[tuple[int, int], ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def located(text: str, left: float, right: float) -> tuple[Character, ...]:
    """Characters at equal distances."""
    step = (right - left) / len(text)
    return tuple(Character(c, left + i * step, left + (i + 1) * step, 0.8) for i, c in enumerate(text))


LINES = (
    PageLine(
        "a line of text", 0.9, located("a line of text", 60, 340), "l1", box(50, 50, 350, 90), ((50, 80), (350, 80))
    ),
    PageLine("Ähre & <ß> \N{LINEAR B SYLLABLE B008 A}", 0.5, (), "l2", box(50, 150, 350, 190), ((50, 180), (350, 180))),
    PageLine("rising", 0.7, (), "l3", ((50, 350), (250, 330), (250, 370), (50, 390)), ((50, 380), (250, 360))),
    PageLine("", 0.0, (), "l4", box(400, 300, 500, 330), (), "the line has no height"),
)


@pytest.fixture
def page(tmp_path: Path) -> PageReading:
    return reading(tmp_path)


def reading(folder: Path, name: str = "a page.jpg", **saved: Any) -> PageReading:
    image = Image.new("RGB", SIZE, (250, 245, 230))
    ImageDraw.Draw(image).rectangle((50, 50, 350, 90), fill=(30, 30, 90))
    image.save(folder / name, **saved)
    return PageReading(folder / name, LINES, SIZE, source=folder / name)


def bbox(path: Path) -> tuple[tuple[float, float], list[tuple[str, list[float]]]]:
    """Size of the first page, and words with their boxes on all pages, in points, as poppler finds them."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (Debian: apt-get install poppler-utils)")
    done = subprocess.run(["pdftotext", "-bbox", path, "-"], capture_output=True, text=True, check=True)
    assert not done.stderr
    width, height = re.findall(r'<page width="([\d.]+)" height="([\d.]+)"', done.stdout)[0]
    found = re.findall(
        r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">(.*)</word>', done.stdout
    )
    from html import unescape

    return (float(width), float(height)), [(unescape(w), [float(x) for x in xs]) for *xs, w in found]


# --- words


def test_words_lie_where_their_characters_are(page: PageReading) -> None:
    first, amp, slanted, _ = (words(line, SIZE) for line in page.lines)
    assert [word.text for word in first] == ["a", "line", "of", "text"]
    assert [(word.box[0], word.box[2]) for word in first] == [(60, 80), (100, 180), (200, 240), (260, 340)]
    assert {(word.box[1], word.box[3]) for word in first} == {(50, 90)}
    # A word is as sure as its least sure character.
    unsure = tuple(c._replace(confidence=0.3) if c.text == "n" else c for c in LINES[0].characters)
    found = words(replace(LINES[0], characters=unsure), SIZE)
    assert [word.confidence for word in found] == [0.8, 0.3, 0.8, 0.8]
    assert [word.text for word in amp] == [
        "Ähre",
        "&",
        "<ß>",
        "\N{LINEAR B SYLLABLE B008 A}",
    ]  # spread evenly, 12 characters over 300 pixels
    assert [round(word.start[0]) for word in amp] == [50, 175, 225, 325]
    (word,) = slanted
    assert word.start == pytest.approx((50, 380))
    assert word.end == pytest.approx((250, 360))
    (left, top, right, bottom), (xs, ys) = word.box, zip(*word.corners, strict=True)
    assert left <= min(xs) < max(xs) <= right
    assert top <= min(ys) < max(ys) <= bottom
    assert words(page.lines[3], SIZE) == []
    # Without a region the line is the image; without a baseline it lies at a quarter of the height.
    (word,) = words(PageLine("word", 0.9), (200, 40))
    assert (word.box, word.start) == ((0, 0, 200, 40), (0, 30))


@pytest.mark.parametrize(("level", "top", "bottom"), [(85, 50, 90), (70, 50, 90), (60, 40, 80), (89, 51, 91)])
def test_the_band_of_a_line_follows_its_baseline(level: int, top: int, bottom: int) -> None:
    """It is as high as the region, around its middle, but reaches below the baseline, and no further than half its height."""
    line = PageLine("word", 0.9, (), "l", box(50, 50, 350, 90), ((50, level), (350, level)))
    assert words(line, SIZE)[0].box == (50, top, 350, bottom)


def test_a_slanting_region_without_a_baseline() -> None:
    """The baseline is at a quarter of its height, and slants as it does."""
    region = ((0, 90), (200, 50), (200, 90), (0, 130))
    first, last = words(PageLine("ab cd", 0.9, (), "l", region), SIZE)
    assert first.start == pytest.approx((0, 120))
    assert last.end == pytest.approx((200, 80))


def test_characters_beyond_the_ends_of_a_baseline() -> None:
    line = PageLine("ab cd", 0.9, located("ab cd", 0, 500), "l", box(0, 50, 500, 90), ((100, 80), (400, 80)))
    first, last = words(line, SIZE)
    assert (first.start, last.end) == (pytest.approx((0, 80)), pytest.approx((500, 80)))


def test_words_of_lines_in_other_directions() -> None:
    """The text is spread along the baseline, whichever way it runs."""
    upside_down = PageLine("ab cd", 0.9, (), "l", box(100, 100, 200, 140), ((200, 110), (100, 110)))
    first, last = words(upside_down, SIZE)
    assert first.start == pytest.approx((200, 110))
    assert last.end == pytest.approx((100, 110))
    assert first.box[0] > last.box[0]
    located_across = located("ab cd", 100, 140)  # which tells nothing of a place along the line
    upwards = PageLine("ab cd", 0.9, located_across, "l", box(100, 100, 140, 200), ((130, 200), (130, 100)))
    first, last = words(upwards, SIZE)
    assert first.box[1] > last.box[1]
    assert (first.box[0], first.box[2]) == (100, 140)
    bent = PageLine("ab cd", 0.9, located("ab cd", 0, 500), "l", (), ((0, 30), (250, 30), (500, 80)))
    assert words(bent, SIZE)[1].start == pytest.approx((300, 40), abs=0.5)


# --- PDF


def test_the_text_of_a_pdf_is_found_in_place(page: PageReading, tmp_path: Path) -> None:
    pytest.importorskip("pikepdf")
    reading(tmp_path, dpi=(200, 200))
    (tmp_path / "out.pdf").write_bytes(pdf.write([page]))
    size, found = bbox(tmp_path / "out.pdf")
    points = 72 / 200
    assert size == pytest.approx((SIZE[0] * points, SIZE[1] * points))
    assert [word for word, _ in found] == [
        "a",
        "line",
        "of",
        "text",
        "Ähre",
        "&",
        "<ß>",
        "\N{LINEAR B SYLLABLE B008 A}",
        "rising",
    ]
    expected = [word for line in page.lines for word in words(line, SIZE)]
    for (_, place), word in zip(found[:-1], expected, strict=False):
        assert place == pytest.approx([x * points for x in word.box], abs=0.6)
    assert found[-1][1] == pytest.approx(
        [x * points for x in expected[-1].box], abs=8
    )  # poppler's box of slanting text


def test_pdfium_finds_the_text_and_shows_only_the_image(page: PageReading) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf")
    document = pdfium.PdfDocument(pdf.write([page]))
    (shown,) = document
    text = shown.get_textpage()
    assert [line.strip() for line in text.get_text_range().split("\r\n")[:2]] == [
        "a line of text",
        "Ähre & <ß> \N{LINEAR B SYLLABLE B008 A}",
    ]
    left, bottom, right, top = text.get_charbox(2)  # the l of line
    scale = shown.get_width() / SIZE[0]
    assert (left / scale, right / scale) == pytest.approx((100, 120), abs=1)
    assert (SIZE[1] - top / scale, SIZE[1] - bottom / scale) == pytest.approx((50, 90), abs=1)
    search = text.search("line of", match_case=True)
    assert search.get_next() == (2, 7)
    pixels = shown.render(scale=1 / scale).to_pil().convert("RGB")
    with Image.open(page.image) as image:
        apart = np.abs(np.asarray(pixels, int) - np.asarray(image.convert("RGB").resize(pixels.size), int))
    assert np.median(apart) <= 1
    assert apart.mean() < 3


@pytest.mark.parametrize(
    ("baseline", "first", "last"),
    [
        (((100, 135), (200, 135)), (100, 100, 140, 140), (160, 100, 200, 140)),
        (((200, 105), (100, 105)), (160, 100, 200, 140), (100, 100, 140, 140)),  # upside down
        (((105, 100), (105, 200)), (100, 100, 140, 140), (100, 160, 140, 200)),  # downwards
        (((135, 200), (135, 100)), (100, 160, 140, 200), (100, 100, 140, 140)),  # upwards
    ],
)
def test_text_in_any_direction_is_found_in_place(
    baseline: load.Polygon, first: tuple[int, ...], last: tuple[int, ...], tmp_path: Path
) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf")
    Image.new("L", SIZE, 250).save(tmp_path / "a.png", dpi=(72, 72))
    level = baseline[0][1] == baseline[1][1]
    region = box(100, 100, 200, 140) if level else box(100, 100, 140, 200)
    line = PageLine("ab cd", 0.9, (), "l", region, baseline)
    (shown,) = pdfium.PdfDocument(pdf.write([PageReading(tmp_path / "a.png", (line,), SIZE)]))
    text, scale = shown.get_textpage(), shown.get_width() / SIZE[0]
    places = {text.get_text_range(i, 1): text.get_charbox(i, loose=True) for i in range(text.count_chars())}
    for word, expected in (("ab", first), ("cd", last)):
        left, bottom, right, top = (np.array(sides) / scale for sides in zip(*map(places.get, word), strict=True))
        found = (left.min(), SIZE[1] - top.max(), right.max(), SIZE[1] - bottom.min())
        assert found == pytest.approx(expected, abs=2)


def test_words_of_a_slanting_line_are_brought_near_its_level() -> None:
    """The farthest to the limit, and the others in proportion; a short word counts less for the level."""
    line = PageLine("abcd ef gh", 0.9, (), "l", ((0, 50), (100, 0), (100, 40), (0, 90)), ((0, 80), (100, 30)))
    found = words(line, SIZE)
    levels = [(word.start[1] + word.end[1]) / 2 for word in found]
    assert levels == pytest.approx([70, 50, 35])
    mean = (4 * 70 + 2 * 50 + 2 * 35) / 8
    moved = pdf._levelled(found, 5)
    assert [(word.start[1] + word.end[1]) / 2 for word in moved] == pytest.approx(
        [mean + (level - mean) * 5 / (mean - 35) for level in levels]
    )
    assert [(word.start[0], word.end[0]) for word in moved] == [(word.start[0], word.end[0]) for word in found]
    assert pdf._levelled(found, mean - 35) == found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_stored_as_they_are_and_shown_upright(orientation: int, tmp_path: Path) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    pikepdf = pytest.importorskip("pikepdf")
    pixels = np.full((60, 90, 3), 255, np.uint8)
    pixels[5:25, 10:60], pixels[40:55, 5:15] = (200, 0, 0), (0, 0, 200)
    exif = Image.Exif()
    exif[exif_tags.ORIENTATION] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=95, dpi=(144, 144))
    content = pdf.write([PageReading(path, ())])
    with pikepdf.open(io.BytesIO(content)) as made:
        assert made.pages[0].Resources.XObject.Image.read_raw_bytes() == path.read_bytes()
    shown = pdfium.PdfDocument(content)[0].render(scale=2).to_pil().convert("L")
    expected = load.read(path)
    assert shown.size == expected.shape[::-1]
    assert np.abs(np.asarray(shown, int) - expected).mean() < 3
    # Positions that refer to the image as stored: it is shown as stored.
    shown = pdfium.PdfDocument(pdf.write([PageReading(path, (), upright=False)]))[0].render(scale=2).to_pil()
    assert np.abs(np.asarray(shown.convert("L"), int) - load.read(path, upright=False)).mean() < 3


IMAGES = {
    "grey.png": Image.linear_gradient("L").resize((80, 50)),
    "colour.png": Image.merge(
        "RGB", [Image.linear_gradient("L").resize((80, 50)).rotate(angle) for angle in (0, 90, 180)]
    ),
    "bits.png": Image.linear_gradient("L").resize((83, 50)).rotate(20).point(lambda v: 255 * (v > 99), "1"),
    "palette.png": Image.radial_gradient("L").resize((80, 50)).convert("P"),
    "clear.png": Image.merge("LA", [Image.new("L", (80, 50), 30), Image.linear_gradient("L").resize((80, 50))]),
    "deep.png": Image.fromarray(np.linspace(0, 65535, 4000).astype(np.uint16).reshape(50, 80)),
    "ink.jpg": Image.merge("CMYK", [Image.linear_gradient("L").resize((80, 50)).rotate(a) for a in (0, 90, 180, 0)]),
    "lossy.webp": Image.linear_gradient("L").resize((80, 50)).convert("RGB"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_all_kinds_look_the_same_in_the_pdf(name: str, tmp_path: Path) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf")
    image = IMAGES[name]
    image.save(tmp_path / name, **({"quality": 95} if name.endswith(("jpg", "webp")) else {}))
    (shown,) = pdfium.PdfDocument(pdf.write([PageReading(tmp_path / name, ())]))
    pixels = np.asarray(shown.render(scale=image.width / shown.get_width()).to_pil().convert("L"), int)
    apart = np.abs(pixels[: image.height, : image.width] - load.read(tmp_path / name))
    assert apart.mean() < {"ink.jpg": 12, "bits.png": 5}.get(name, 2), (
        apart.mean()
    )  # CMYK is converted by a profile; bits are scaled by a hundredth


def test_the_page_is_as_large_as_the_file_says_or_as_long_as_a4(tmp_path: Path) -> None:
    pikepdf = pytest.importorskip("pikepdf")
    for dpi, points in (((300, 300), 144.0), ((72, 72), 841.89), ((0, 0), 841.89), (None, 841.89)):
        page = reading(tmp_path, "p.jpg", **({} if dpi is None else {"dpi": dpi}))
        with pikepdf.open(io.BytesIO(pdf.write([page]))) as made:
            assert float(made.pages[0].mediabox[2]) == pytest.approx(points, abs=0.01)


def test_pdfs_of_images_say_that_they_are_pdf_a(page: PageReading, tmp_path: Path) -> None:
    pikepdf = pytest.importorskip("pikepdf")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    second = reading(tmp_path, "second.jpg", icc_profile=profile)
    for i, one in enumerate((page, second)):
        (tmp_path / f"{i}.pdf").write_bytes(pdf.write([one]))
        assert pdf.write([one]) == (tmp_path / f"{i}.pdf").read_bytes()  # no date and no random number in it
    pdf.join([tmp_path / "0.pdf", tmp_path / "1.pdf"], tmp_path / "both.pdf")
    _, found = bbox(tmp_path / "both.pdf")
    assert [word for word, _ in found].count("rising") == 2
    with pikepdf.open(tmp_path / "both.pdf") as made, made.open_metadata() as about:
        assert (about["pdfaid:part"], about["pdfaid:conformance"]) == ("2", "U")
        assert len(made.Root.OutputIntents) == 1
        assert made.pages[1].Resources.XObject.Image.ColorSpace[0] == "/ICCBased"
        for own in made.pages:
            (font,) = own.Resources.Font.values()
            assert font.DescendantFonts[0].FontDescriptor.FontFile2.read_bytes()[:4] == b"\0\1\0\0"
    (tmp_path / "a page.jpg").write_bytes(b"no image")
    with pytest.raises(Error, match="damaged, or not an image"):
        pdf.write([page])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_ends_no_process(page: PageReading, tmp_path: Path) -> None:
    pytest.importorskip("pikepdf")
    (tmp_path / "1.pdf").write_bytes(pdf.write([page]))
    code = "import sys; from pathlib import Path; from hwr.pages.outputs import pdf\n"
    code += "try: pdf.join([Path(sys.argv[1])] * 2, Path('/dev/full'))\nexcept OSError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "1.pdf"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[Errno 28] No space left on device\n", "")


@pytest.mark.skipif(not shutil.which("verapdf"), reason="no veraPDF here")
@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.webp"])
def test_verapdf_accepts_pdfs_of_images(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pikepdf")
    (tmp_path / "1.pdf").write_bytes(pdf.write([reading(tmp_path, name)]))
    pdf.join([tmp_path / "1.pdf", tmp_path / "1.pdf"], tmp_path / "both.pdf")
    for file in ("1.pdf", "both.pdf"):
        command = ["verapdf", "--flavour", "2u", "--format", "text", "-v", str(tmp_path / file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.startswith("PASS"), done.stdout + done.stderr


# --- hOCR, text, web page


def test_hocr_passes_hocr_tools(page: PageReading, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = pytest.importorskip("hocr_tools_lib.tools.hocr_check")
    from hocr_tools_lib.tools.hocr_lines import lines
    from hocr_tools_lib.utils.node_utils import get_bbox, get_prop

    (tmp_path / "1.hocr").write_bytes(hocr.write([page]))
    shutil.copy(page.image, odd := page.image.with_name("a & ppageno 0.png"))
    (tmp_path / "2.hocr").write_bytes(hocr.write([replace(page, image=odd, source=odd)], characters=True))
    hocr.join([tmp_path / "1.hocr", tmp_path / "2.hocr"], tmp_path / "both.hocr")
    for name, times in (("1.hocr", 1), ("both.hocr", 2)):
        checker = check.Checker(tmp_path / name, no_overlap=times > 1)  # it compares lines across pages
        checker.check()
        assert checker.test_counter > 10
        assert "not ok" not in capsys.readouterr().err
        assert list(lines(tmp_path / name)) == [line.text for line in page.lines] * times
    document = check.Checker(tmp_path / "both.hocr").doc
    assert [get_prop(node, "ppageno") for node in document.xpath("//*[@class='ocr_page']")] == ["0", "1"]
    images = [get_prop(node, "image") for node in document.xpath("//*[@class='ocr_page']")]
    assert images == [f'"{page.image}"', f'"{odd}"']
    ids = document.xpath("//@id")
    assert len(ids) == len(set(ids))
    first, word = (document.xpath(f"//*[@class='{name}']")[0] for name in ("ocr_line", "ocrx_word"))
    assert get_bbox(first) == (50, 50, 350, 90)
    assert get_prop(first, "baseline").split() == ["0.0000", "-10.0"]
    assert get_prop(document.xpath("//*[@class='ocr_line']")[2], "baseline").split() == ["-0.1000", "-10.0"]
    assert (get_bbox(word), get_prop(word, "x_wconf")) == ((60, 50, 80, 90), "80")
    assert "".join(document.xpath("//*[@class='ocrx_cinfo']/text()")) == "alineoftext"
    # The baseline is that at the left edge of the box, wherever its first point is.
    line = PageLine("word", 0.9, (), "l", box(50, 50, 350, 90), ((150, 80), (350, 60)))
    assert "bbox 50 50 350 90; baseline -0.1000 0.0;" in hocr.write([replace(page, lines=(line,))]).decode()


def test_texts_and_tables_are_joined(page: PageReading, tmp_path: Path) -> None:
    for kind, write in (("txt", text.txt), ("tsv", text.tsv), ("json", text.lines_of_json)):
        for i in range(2):
            (tmp_path / f"{i}.{kind}").write_bytes(write([page]))
        FORMATS[kind].join([tmp_path / f"{i}.{kind}" for i in range(2)], tmp_path / f"both.{kind}")
        assert (tmp_path / f"both.{kind}").read_bytes() == write([page, page])
        assert FORMATS[kind].header + FORMATS[kind].rows([page]) == write([page])
    rows = (tmp_path / "both.tsv").read_text().splitlines()
    assert len(rows) == 7  # the line that could not be read has none
    assert rows[0] == "image\tline\ttext\tconfidence"
    found = [json.loads(row) for row in (tmp_path / "both.json").read_text().splitlines()]
    assert [line["text"] for line in found[:3]] == [line.text for line in page.lines[:3]]


def test_page_and_alto_hold_one_page(page: PageReading) -> None:
    for kind in ("page", "alto"):
        with pytest.raises(Error, match="one page per file, not 2"):
            FORMATS[kind].write([page, page])
        assert FORMATS[kind].join is None


def test_words_of_an_upside_down_line_have_their_places_in_alto(page: PageReading) -> None:
    turned = tuple(Character(c, 180.0 - 20 * i, 200.0 - 20 * i, 0.9) for i, c in enumerate("ab cd"))
    line = PageLine("ab cd", 0.9, turned, "l", box(100, 100, 200, 140), ((200, 110), (100, 110)))
    found = FORMATS["alto"].write([replace(page, lines=(line,))]).decode()
    assert re.findall('CONTENT="(..)".* HPOS="(.*?)" WIDTH="(.*?)"', found) == [
        ("ab", "160", "40"),
        ("cd", "100", "40"),
    ]


def test_images_keep_their_colours_and_clear_paper_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 50), "black")
    image.paste((200, 0, 0), (40, 0, 80, 50))
    image.save(tmp_path / "clear.png", transparency=(0, 0, 0))
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("P").save(tmp_path / "book.tif", save_all=True, append_images=[image.convert("CMYK")])
    shown = {}
    for name in ("clear", "palette"):
        content = html.write([PageReading(tmp_path / f"{name}.png", ())]).decode()
        data = content.partition("data:image/jpeg;base64,")[2].partition('"')[0]
        shown[name] = Image.open(io.BytesIO(base64.b64decode(data)))
    for number in (1, 2):
        PageReading(tmp_path / f"book.tif/{number}", ()).save(tmp_path / f"{number}.xml", "page")
        shown[str(number)] = Image.open(tmp_path / f"{number}.jpg")
    for name, picture in shown.items():
        with picture:
            paper, ink = (np.asarray(picture.convert("RGB"), int)[25, x] for x in (10, 70))
        assert np.abs(paper - (255 if name == "clear" else 0)).max() < 12, name
        assert np.abs(ink - (200, 0, 0)).max() < 12, name


def test_the_web_page_marks_a_line_on_both_sides(page: PageReading, tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver import ActionChains

    (tmp_path / "1.html").write_bytes(html.write([page]))
    html.join([tmp_path / "1.html", tmp_path / "1.html"], tmp_path / "both.html")
    browser.get((tmp_path / "both.html").as_uri())
    assert browser.title == "both"
    assert len(browser.find_elements("css selector", "section")) == 2
    rows = browser.find_elements("css selector", "section:first-of-type li")
    assert [row.text for row in rows] == [*(line.text for line in page.lines[:3]), "could not be read"]
    assert [row.get_attribute("class") for row in rows] == ["", "unsure", "", "error"]
    ActionChains(browser).move_to_element(rows[1]).perform()
    assert [e.get_attribute("class") for e in browser.find_elements("css selector", "polygon")][:3] == [
        None,
        "on",
        None,
    ]
    image = browser.find_element("css selector", "img")
    assert browser.execute_script("return arguments[0].naturalWidth", image) == SIZE[0]
    # The mark lies over the line.
    mark = browser.find_elements("css selector", "polygon")[0].rect
    scale = image.rect["width"] / SIZE[0]
    assert mark["x"] - image.rect["x"] == pytest.approx(50 * scale, abs=3)
    assert mark["y"] - image.rect["y"] == pytest.approx(50 * scale, abs=3)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_many_files_are_joined_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In groups, because a system allows a few hundred open files."""
    pikepdf = pytest.importorskip("pikepdf")
    opened: list[int] = []
    real = pikepdf.open
    monkeypatch.setattr(pikepdf, "open", lambda path: opened.append(1) or real(path))
    monkeypatch.setattr(pdf, "MANY", 3)
    for i in range(7):
        Image.new("L", (100 + i, 50), 200).save(tmp_path / f"{i}.png", dpi=(72, 72))
        (tmp_path / f"{i}.pdf").write_bytes(pdf.write([PageReading(tmp_path / f"{i}.png", ())]))
    pdf.join([tmp_path / f"{i}.pdf" for i in range(7)], tmp_path / "all.pdf")
    assert len(opened) == 7 + 3
    with real(tmp_path / "all.pdf") as made, made.open_metadata() as about:
        shapes = [float(page.mediabox[3]) / float(page.mediabox[2]) for page in made.pages]
        assert shapes == pytest.approx([50 / (100 + i) for i in range(7)])
        assert about["pdfaid:part"] == "2"


def test_a_page_of_a_pdf_has_a_size_that_pdf_allows(tmp_path: Path) -> None:
    pikepdf = pytest.importorskip("pikepdf")
    for size in ((64, 60_000), (9_000, 3), (1, 1)):
        path = tmp_path / "long.png"
        Image.new("L", size, 200).save(path)
        content = FORMATS["pdf"].write([PageReading(path, (), size, True, path)])
        with pikepdf.open(io.BytesIO(content)) as pdf:
            assert all(3 <= float(side) <= 14_400 for side in list(pdf.pages[0].mediabox)[2:])
    Image.new("L", (1, 5000), 200).save(path)
    with pytest.raises(Error, match="1 x 5000 pixels is too long"):
        FORMATS["pdf"].write([PageReading(path, (), (1, 5000), True, path)])
