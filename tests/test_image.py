import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from hwr import Error
from hwr.images import exif, load, prepare
from hwr.serve.api import pictures
from hwr.serve.project import tiffs


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def grey() -> np.ndarray:
    return np.tile(np.linspace(0, 255, 64).astype(np.uint8), (20, 1))


@pytest.mark.parametrize("mode", ["LAB", "La"])
def test_modes_that_pillow_does_not_convert_are_read(tmp_path: Path, mode: str) -> None:
    colours = Image.new("RGB", (4, 1))
    colours.putdata([(0, 0, 0), (200, 30, 40), (30, 90, 200), (255, 255, 255)])
    right = np.asarray(colours.convert("L")).astype(int)
    if mode == "LAB":
        profiles = map(ImageCms.createProfile, ("sRGB", "LAB"))
        ImageCms.profileToProfile(colours, *profiles, outputMode="LAB").save(tmp_path / "a.tif")  # type: ignore
        image = Image.open(tmp_path / "a.tif")
    else:
        image = colours.convert("L").convert("LA").convert("La")
    assert image.mode == mode
    assert np.abs(load.grey_of(image) - right).max() <= 3
    assert np.abs(np.asarray(load.plain_of(image).convert("L")) - right).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_are_read_exactly(grey: np.ndarray, kind: str) -> None:
    for mode in ("L", "RGB", "RGBA") if kind != "BMP" else ("L", "RGB"):
        assert np.array_equal(load.read(saved(Image.fromarray(grey).convert(mode), kind)), grey), mode


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_read_nearly(grey: np.ndarray, kind: str) -> None:
    read = load.read(saved(Image.fromarray(grey).convert("RGB"), kind, quality=95))
    assert np.abs(read.astype(int) - grey).max() < 12


def test_sixteen_bit_one_bit_and_palette(grey: np.ndarray) -> None:
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(load.read(saved(deep, "PNG")), grey)
    assert np.array_equal(load.read(saved(deep, "TIFF")), grey)
    bits = Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8)).convert("1")
    assert np.array_equal(load.read(saved(bits, "PNG")), np.where(grey > 127, 255, 0))
    assert np.array_equal(load.read(saved(bits, "TIFF")), np.where(grey > 127, 255, 0))
    palette = Image.fromarray(grey).convert("P")
    assert np.array_equal(load.read(saved(palette, "PNG")), grey)


def test_transparent_pixels_become_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255  # the upper half is black ink, the lower is transparent black
    read = load.read(saved(Image.fromarray(pixels), "PNG"))
    assert read[0, 0] == 0
    assert read[3, 3] == 255


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_cameras_store_fewer_bits_in_sixteen(grey: np.ndarray, bits: int, white: int) -> None:
    deep = Image.fromarray(np.rint(grey / 255 * white).astype(np.uint16))
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(load.read(saved(deep, kind)), grey), bits


@pytest.mark.parametrize(("mode", "ink"), [("RGBA", (255, 255, 255)), ("RGBA", (250, 230, 120)), ("LA", (240,))])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_light_ink_without_paper_gets_a_dark_one(mode: str, ink: tuple[int, ...], kind: str) -> None:
    drawn = np.zeros((40, 100), np.uint8)
    drawn[10:30, 20:24] = drawn[10:14, 20:60] = 255
    bands = [Image.new("L", (100, 40), value) for value in ink]
    for band in bands:
        band.putpixel((20, 10), 60)  # a dark edge
    image = Image.merge(mode, [*bands, Image.fromarray(drawn)])
    found = load.read(saved(image if kind == "PNG" else image.convert("RGBA"), kind, lossless=True))
    assert found[20, 80] == 0
    assert found[20, 21] > 200
    # A light page cut out of its background stays on white.
    page = Image.new("LA", (100, 40), (240, 255))
    page.paste((0, 0), (0, 0, 10, 40))
    assert load.read(saved(page, "PNG"))[20, 5] == 255


def test_the_camera_orientation_is_obeyed(grey: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees
    assert load.read(saved(Image.fromarray(grey), "PNG", exif=exif)).shape == (64, 20)


def test_faults_are_named(tmp_path: Path, grey: np.ndarray) -> None:
    png = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)), "PNG")
    cases = {"empty.png": b"", "text.png": b"no image", "cut.png": png[: len(png) // 2]}
    pages = saved(Image.fromarray(grey), "TIFF", save_all=True, append_images=[Image.fromarray(grey)])
    for name, content in {**cases, "pages.tif": pages}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Error, match=name):
            load.read(tmp_path / name)
    with pytest.raises(Error, match=r"gone\.png: no such file"):
        load.read(tmp_path / "gone.png")


def test_a_decompression_bomb_is_refused() -> None:
    png = bytearray(saved(Image.new("L", (1, 1)), "PNG"))
    png[16:24] = struct.pack(">II", 100_000, 100_000)
    import zlib

    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    with pytest.raises(Error, match="10000 megapixels; at most 300 are read"):
        load.read(bytes(png))


def test_what_lies_beside_a_line_becomes_its_paper() -> None:
    """Even if it is most of the crop."""
    region = ((10, 10), (190, 50), (190, 70), (10, 30))
    page = np.zeros((100, 200), np.uint8)
    cv2.fillPoly(page, [np.array(region)], (210.0,))
    page[30:34, 60:64] = 40  # ink
    out = load.cut(page, region)
    assert out.shape == (61, 181)
    assert np.array_equal(np.argwhere(out == 40).min(0), (20, 50))
    assert ((out == 210) | (out == 40)).all()
    assert (out == 40).sum() == 16


def test_fit_shrinks_pads_and_makes_paper_white() -> None:
    dark = np.full((120, 200), 100, np.uint8)
    out = prepare.fit(dark, 60, 800)  # halved to 60 x 100, 350 columns of paper on either side
    assert out.shape == (60, 800)
    assert (out[:, 350:450] == 100).all()
    assert (out[:, :350] == 230).all()  # never darker than 230; only brighter pixels turn white
    assert (out[:, 450:] == 230).all()
    small = prepare.fit(np.full((10, 20), 240, np.uint8), 60, 800)  # not enlarged
    assert (small == 255).all()
    odd = prepare.fit(np.zeros((11, 21), np.uint8), 60, 800)
    rows, columns = np.flatnonzero((odd == 0).any(1)), np.flatnonzero((odd == 0).any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (24, 34, 389, 409)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (61, 800), (60, 801), (7, 3)])
def test_any_size_fits(shape: tuple[int, int]) -> None:
    assert prepare.fit(np.zeros(shape, np.uint8), 60, 800).shape == (60, 800)


def test_a_sixteen_bit_tiff_where_white_is_zero(grey: np.ndarray) -> None:
    deep = Image.fromarray((255 - grey).astype(np.uint16) * 257)
    content = saved(deep, "TIFF", tiffinfo={262: 0})
    assert np.array_equal(load.read(content), grey)
    with load.opened(content) as image:  # as the writers of PDF, HTML and page images read it
        assert np.array_equal(load.grey_of(exif.turned(image, upright=True), upright=False), grey)


def deep(white: int) -> Image.Image:
    """A scan in 16 bits: paper is three quarters of the way to `white`, and writing a quarter."""
    pixels = np.full((20, 30), 3 * white // 4, np.uint16)
    pixels[5:9, 4:25] = white // 4
    return Image.fromarray(pixels)


def with_alpha(mode: str) -> Image.Image:
    """Dark writing on paper of black pixels that are transparent."""
    image = Image.new(mode, (30, 20))
    image.paste(Image.new(mode, (21, 4), 40 if len(mode) < 3 else (40, 40, 40)), (4, 5))
    return image


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (deep(65535), {"format": "PNG"}),
        (deep(4095), {"format": "TIFF"}),  # of a camera with 12 bits
        (deep(65535), {"format": "TIFF", "tiffinfo": {262: 0}}),  # white is zero
        (deep(65535), {"format": "TIFF", "tiffinfo": {262: 0, 274: 6}}),  # and turned
        (with_alpha("L"), {"format": "PNG", "transparency": 0}),
        (with_alpha("RGB"), {"format": "PNG", "transparency": (0, 0, 0)}),
        (with_alpha("RGB").quantize(), {"format": "PNG", "transparency": 0}),
        (with_alpha("RGB").convert("CMYK"), {"format": "TIFF"}),
    ],
)
def test_the_workbench_and_the_pdf_show_what_the_network_reads(
    image: Image.Image, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"page.{options['format'].lower()}"
    image.save(path, **options)
    grey = load.read(path)
    shown = pictures._pixels(path, path.stat().st_mtime_ns)
    assert np.array_equal(grey, shown if shown.ndim == 2 else np.asarray(Image.fromarray(shown).convert("L")))
    pikepdf = pytest.importorskip("pikepdf")
    from hwr.pages.outputs import pdf_image

    with pikepdf.new() as pdf:
        stored = pikepdf.PdfImage(pdf_image.add(pdf, path).image).as_pil_image()
        assert np.array_equal(grey, np.asarray(stored.convert("L")))


@pytest.mark.parametrize("zero_is_white", [False, True])
def test_pages_of_a_deep_tiff_look_as_they_are_read(zero_is_white: bool, tmp_path: Path) -> None:
    path = tmp_path / "book.tif"
    options: dict[str, Any] = {"tiffinfo": {262: 0}} if zero_is_white else {}
    deep(65535).save(path, save_all=True, append_images=[deep(4095)], **options)
    pages = tiffs.split(path, tmp_path)
    assert [np.array_equal(load.read(page), load.read(f"{path}/{n}")) for n, page in enumerate(pages, 1)] == [True] * 2


def test_an_animation_has_no_pages_to_name(grey: np.ndarray, tmp_path: Path) -> None:
    picture = Image.fromarray(grey)
    (tmp_path / "a.gif").write_bytes(saved(picture, "GIF", save_all=True, append_images=[picture.rotate(180)]))
    with pytest.raises(Error, match=r"a\.gif: holds 2 pages; save the one to read as an image of its own"):
        load.read(tmp_path / "a.gif")


def test_a_phones_mpo_gives_its_first_frame(grey: np.ndarray) -> None:
    picture = Image.fromarray(grey)
    content = saved(picture, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert load.read(content).shape == grey.shape


def test_a_phones_heic_gives_its_photo(grey: np.ndarray, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    photo, other = Image.fromarray(grey).convert("RGB"), Image.new("RGB", (64, 20))
    photo.save(tmp_path / "a.heic", quality=90, save_all=True, append_images=[other])
    assert np.abs(load.read(tmp_path / "a.heic").astype(int) - grey).max() < 12


def test_floating_point_pixels_are_refused(grey: np.ndarray) -> None:
    with pytest.raises(Error, match="floating-point pixels"):
        load.read(saved(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"))


def test_scaled_lines_keep_their_aspect_and_have_full_contrast() -> None:
    pencil = np.full((100, 400), 180, np.uint8)
    pencil[40:60, 50:350:10] = 120
    out = prepare.scale(pencil, 50, 1000, 8)
    assert out.shape == (50, 200 + 16)
    assert (out[:, :8] == 255).all()
    assert np.median(out) == 255
    assert out.min() < 80
    # Smaller ones are enlarged to the height.
    assert prepare.scale(pencil[::4, ::4], 50, 1000, 0).shape == (50, 200)


@pytest.mark.parametrize(("darker", "grain", "black"), [(20, 0, 0), (10, 0, 0), (30, 2, 30), (20, 5, 125), (5, 0, 90)])
def test_faint_ink_is_stretched_as_far_as_the_grain_allows(
    darker: int, grain: float, black: int, rng: np.random.Generator
) -> None:
    faint = np.full((64, 400), 200.0)
    faint[20:44, 50:350:10] -= darker
    faint = np.rint(faint + rng.normal(0, grain, faint.shape)).astype(np.uint8)
    out = prepare.scale(faint, 64, 1000, 0)
    assert np.median(out) == 255
    assert np.median(out[20:44, 50:350:10]) == pytest.approx(black, abs=12)


def test_scaled_lines_that_are_too_wide_are_squeezed_not_cut() -> None:
    wide = np.full((50, 3000), 255, np.uint8)
    wide[:, [20, -20]] = 0
    out = prepare.scale(wide, 50, 600, 10)
    assert out.shape == (50, 600)
    assert (out[:, 10:20] < 255).any()
    assert (out[:, -20:-10] < 255).any()


def test_the_grain_of_empty_paper_does_not_become_ink(rng: np.random.Generator) -> None:
    paper = rng.normal(200, 3, (64, 500)).clip(0, 255).astype(np.uint8)
    assert prepare.scale(paper, 64, 1000, 0).min() > 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_scaling_takes_images_of_any_size(shape: tuple[int, int]) -> None:
    out = prepare.scale(np.zeros(shape, np.uint8), 40, 300, 8)
    assert out.shape[0] == 40
    assert 17 <= out.shape[1] <= 300


def climbing() -> np.ndarray:
    """A row of black letters on clean paper that rises by 40 pixels over its width of 400."""
    page = np.full((100, 440), 240, np.uint8)
    for x in range(20, 420, 12):
        top = 70 - (x - 20) // 10
        page[top - (x // 12 % 3) * 4 : top + 8, x : x + 5] = 20 + x // 8
    return page


def test_a_slanting_line_is_levelled_and_cropped() -> None:
    out = prepare.straighten(climbing())
    assert out.shape[1] == 440  # columns stay where they are
    assert out.shape[0] < 30  # letters of 20 pixels and a little paper, of 100
    bottoms = [np.flatnonzero(out[:, x + 2] < 150)[-1] for x in range(20, 420, 12)]
    assert np.ptp(bottoms) <= 2  # they were 39 apart
    assert out.min() >= 20
    assert out.max() == 240


def test_a_single_stroke_is_not_levelled() -> None:
    """Nothing tells a slash, or a 1, from a line that climbs."""
    page = np.full((100, 110), 240, np.uint8)
    for x in range(20, 90):
        page[92 - x : 100 - x, x : x + 5] = 20
    assert prepare.straighten(page).shape[0] > 70


def test_prepared_pixels_are_the_same_with_every_version_of_the_libraries() -> None:
    """The bundled model reads the same text everywhere: the tests run with NumPy 1 and 2, OpenCV 4 and 5."""
    out = prepare.scale(prepare.straighten(climbing()), 40, 2000, 8)
    assert hashlib.sha256(out.tobytes()).hexdigest()[:16] == "dfde809e0c709acc"


def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(Error, match=r"a\.png: is empty$"):
        load.read(tmp_path / "a.png")
