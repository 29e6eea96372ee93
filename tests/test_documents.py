"""Files of several pages: PDF and TIFF; HEIC. Read page by page, and written again."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import Error
from hwr.cli import main
from hwr.images import documents, load
from hwr.images import exif as exif_tags
from hwr.pages.outputs import pdf
from hwr.pages.page_reading import PageLine, PageReading
from hwr.pages.sources import files_in, jobs
from hwr.serve.project import adding, coordinates, tiffs
from hwr.serve.project.folder import Project


def hwr(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def lines(drawn: Path) -> list[Path]:
    return sorted(drawn.rglob("*.png"))[:3]


@pytest.fixture
def book(lines: list[Path], tmp_path: Path) -> Path:
    """A PDF of three pages, each the image of a line at 300 dpi."""
    pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf")
    (tmp_path / "scans").mkdir()
    for i, path in enumerate(lines):
        Image.fromarray(load.read(path)).save(tmp_path / f"scans/{i}.png", dpi=(300, 300))
    path = tmp_path / "book.pdf"
    path.write_bytes(pdf.write([PageReading(tmp_path / f"scans/{i}.png", ()) for i in range(3)]))
    return path


def test_a_page_of_a_pdf_has_a_path_inside_it(book: Path, lines: list[Path]) -> None:
    pages = documents.pages(book)
    assert pages == [f"{book}/{number}" for number in (1, 2, 3)]
    for page, path in zip(map(Path, pages), lines, strict=True):
        pixels = load.read(path)
        assert load.size(page) == pixels.shape[::-1]
        assert np.abs(load.read(page).astype(int) - pixels).mean() < 1  # drawn in the resolution of the image
    assert documents.page_of("scans/3") is None
    assert documents.page_of("nothing.pdf/3") is None
    assert documents.page_of(f"{book}/03") is None
    with pytest.raises(Error, match=r"book\.pdf: has 3 pages, no page 4"):
        load.read(book / "4")


def test_books_are_read_page_by_page(book: Path, lines: list[Path], model: Path, tmp_path: Path) -> None:
    alone = hwr("predict", *lines, "--checkpoint", model, "--line").stdout.splitlines()
    done = hwr("predict", book, "--checkpoint", model, "--line", "--format", "tsv")
    assert done.exit_code == 0, done.stderr
    rows = [row.split("\t") for row in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == documents.pages(book)
    assert [row[2] for row in rows] == alone
    assert hwr("predict", book / "2", "--checkpoint", model, "--line").stdout.splitlines() == alone[1:2]
    # A damaged and an encrypted book do not stop the others.
    pikepdf = pytest.importorskip("pikepdf")
    with pikepdf.open(book) as opened:
        opened.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(owner="o", user="u"))
    (tmp_path / "torn.pdf").write_bytes(book.read_bytes()[:300])
    done = hwr("predict", tmp_path / "locked.pdf", tmp_path / "torn.pdf", book, "--checkpoint", model, "--line")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == alone
    assert "locked.pdf: is encrypted; remove its password first" in done.stderr
    assert "torn.pdf: damaged, or not a PDF" in done.stderr


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_xml_of_a_books_pages_is_read_again(book: Path, model: Path, tmp_path: Path, kind: str) -> None:
    """The page images are written beside the XML."""
    alone = hwr("predict", book, "--checkpoint", model, "--line").stdout.splitlines()
    out = tmp_path / "out"
    done = hwr("predict", book, "--checkpoint", model, "--line", "--format", kind, "--out", out)
    assert done.exit_code == 0, done.stderr
    names = [f"book-000{number}" for number in (1, 2, 3)]
    assert sorted(path.name for path in out.glob("book*")) == sorted(
        [f"{n}{s}" for n in names for s in (".jpg", ".xml")]
    )
    again = hwr("predict", out, "--checkpoint", model).stdout.splitlines()
    assert sum(a == b for a, b in zip(alone, again, strict=True)) >= 2  # JPEG may change a letter of a weak network


def test_a_pdf_beside_an_image_of_the_same_name_is_its_copy(tmp_path: Path) -> None:
    for name in ("letter.pdf", "letter.jpg", "book.pdf"):
        (tmp_path / name).touch()
    assert files_in([tmp_path]).files == [str(tmp_path / "book.pdf"), str(tmp_path / "letter.jpg")]


def test_the_pages_that_the_workbench_made_images_of_are_read_once(book: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "project").mkdir()
    shutil.copy(book, folder / "letters.pdf")
    adding.add_pdfs(Project(folder))
    found = files_in([folder])
    assert found.files == [str(folder / f"letters-00{number}.jpg") for number in (1, 2, 3)]
    assert found.others == [str(folder / "letters.pdf")]


def test_page_10_is_read_after_page_9(lines: list[Path], model: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    names = ["page9.png", "page10.png", "page 11.png"]
    for image, name in zip(lines, names[::-1], strict=True):
        shutil.copy(image, scans / name)
    done = hwr("predict", scans, "--checkpoint", model, "--line", "--out", tmp_path / "book.tsv")
    assert done.exit_code == 0, done.stderr
    rows = (tmp_path / "book.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [Path(row.split("\t")[0]).name for row in rows] == ["page 11.png", "page9.png", "page10.png"]


def test_multi_page_tiffs(lines: list[Path], model: Path, tmp_path: Path) -> None:
    images = [Image.fromarray(load.read(path)) for path in lines]
    exif = Image.Exif()
    exif[exif_tags.ORIENTATION] = 3
    images[1] = images[1].transpose(Image.Transpose.ROTATE_180)
    images[2] = images[2].point(lambda v: 255 * (v > 128), "1")
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    images[1].save(tmp_path / "b.tiff", tiffinfo={exif_tags.ORIENTATION: 3})
    assert documents.pages(tmp_path / "b.tiff") == [str(tmp_path / "b.tiff")]
    assert np.array_equal(load.read(tmp_path / "b.tiff"), load.read(lines[1]))
    first, second, third = map(Path, documents.pages(tmp_path / "a.tif"))
    assert np.array_equal(load.read(first), load.read(lines[0]))
    assert np.array_equal(load.read(second), np.asarray(images[1]))
    assert load.size(third) == images[2].size
    with pytest.raises(Error, match=r"a\.tif: has no page 4"):
        load.read(tmp_path / "a.tif" / "4")
    with pytest.raises(Error, match=r"holds 3 pages; name one of them: .*a\.tif/1"):
        load.read(tmp_path / "a.tif")
    done = hwr("predict", tmp_path, "--checkpoint", model, "--line", "--format", "page", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("a*") if p.suffix != ".xml") == [
        "a-0001.jpg",
        "a-0002.jpg",
        "a-0003.png",
    ]
    assert len(hwr("predict", tmp_path / "out", "--checkpoint", model).stdout.splitlines()) == 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_a_page_after_one_with_a_palette(mode: str, tmp_path: Path) -> None:
    """Pillow 12, the last for Python 3.10, gives it that palette."""
    image = Image.new("RGB", (80, 50), "white")
    image.paste((0, 0, 0), (40, 0, 80, 50))
    book = tmp_path / "book.tif"
    image.convert("P").save(book, save_all=True, append_images=[image.convert(mode), image.convert("P")])
    for number in (1, 2, 3):
        assert load.read(book / str(number))[25, [10, 70]].tolist() == [255, 0], number
    for path in tiffs.split(book, tmp_path):
        assert load.read(path)[25, [10, 70]].tolist() == [255, 0], path


def test_a_book_is_complete_with_its_last_page(tmp_path: Path) -> None:
    """A run that was killed in the middle of a book reads all of it again."""
    book, other = tmp_path / "book.tif", tmp_path / "line.png"
    page = Image.new("L", (90, 20), 255)
    page.save(book, save_all=True, append_images=[page, page])
    page.save(other)
    found = list(jobs([str(book), str(other)]))
    assert [str(job.source) for job in found] == [*(f"{book}/{n}" for n in (1, 2, 3)), str(other)]
    assert [job.last for job in found] == [False, False, True, True]


def test_smaller_versions_of_a_page_are_no_pages(lines: list[Path], tmp_path: Path) -> None:
    """As in scans that viewers load piece by piece; a mask of a page is none either."""
    first, second = (Image.fromarray(load.read(path)) for path in lines[:2])
    half, mask = first.reduce(2), first.point(lambda v: 255 * (v > 128), "1")
    half.encoderinfo, mask.encoderinfo = ({"tiffinfo": {254: kind}} for kind in (1, 4))
    first.save(tmp_path / "one.tif", save_all=True, append_images=[half, mask])
    assert documents.pages(tmp_path / "one.tif") == [str(tmp_path / "one.tif")]
    assert np.array_equal(load.read(tmp_path / "one.tif"), load.read(lines[0]))
    assert not tiffs.is_bundle(tmp_path / "one.tif")
    assert coordinates.image_size(tmp_path / "one.tif")[:2] == first.size
    first.save(tmp_path / "two.tif", save_all=True, append_images=[half, second])
    assert documents.pages(tmp_path / "two.tif") == [f"{tmp_path}/two.tif/1", f"{tmp_path}/two.tif/3"]
    assert np.array_equal(load.read(tmp_path / "two.tif/3"), load.read(lines[1]))
    assert len(tiffs.split(tmp_path / "two.tif", tmp_path)) == 2


def test_pages_of_a_tiff_overwrite_nothing(lines: list[Path], model: Path, tmp_path: Path) -> None:
    first, second, third = (Image.fromarray(load.read(path)) for path in lines)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    third.save(tmp_path / "a-0001.png")
    line = ["--checkpoint", model, "--line"]
    done = hwr("predict", tmp_path, *line, "--out", f"{tmp_path / 'read'}/")
    assert done.exit_code == 2
    assert re.search(r"a-0001\.png and .*a\.tif/1 would both be written", done.stderr)
    third.save(tmp_path / "a-0002.jpg")
    own = (tmp_path / "a-0002.jpg").read_bytes()
    done = hwr("predict", tmp_path / "a.tif", *line, "--format", "page")
    assert done.exit_code == 2
    assert re.search(r"a-0001\.png exists already, next to .*a\.tif", done.stderr)
    (tmp_path / "a-0001.png").unlink()
    assert "a-0002.jpg exists already" in hwr("predict", tmp_path / "a.tif", *line, "--format", "page").stderr
    assert (tmp_path / "a-0002.jpg").read_bytes() == own
    (tmp_path / "a-0002.jpg").unlink()
    assert hwr("predict", tmp_path / "a.tif", *line, "--format", "page").exit_code == 0
    (tmp_path / "a-0002.xml").write_text("corrected by hand")
    (tmp_path / "a-0001.xml").unlink()
    done = hwr("predict", tmp_path / "a.tif", *line, "--format", "page")
    assert "2 pages (1 of them before)" in done.stderr
    assert (tmp_path / "a-0001.xml").is_file()
    assert (tmp_path / "a-0002.xml").read_text() == "corrected by hand"


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_text_is_laid_over_the_page_of_a_pdf(rotation: int, tmp_path: Path) -> None:
    """The page stays as it is, also rotated and cropped; invisible text of an earlier reading is replaced."""
    pikepdf = pytest.importorskip("pikepdf")
    pdfium = pytest.importorskip("pypdfium2")
    box = ((20, 10), (120, 10), (120, 40), (20, 40))
    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "a.png", dpi=(300, 300))
    before = PageLine("earlier", 0.9, (), "l", box, ((20, 32), (120, 32)))
    (tmp_path / "old.pdf").write_bytes(pdf.write([PageReading(tmp_path / "a.png", (before,))]))
    with pikepdf.open(tmp_path / "old.pdf") as opened:
        page = opened.pages[0]
        left, bottom, right, top = map(float, page.mediabox)
        page.cropbox = [left + 5, bottom + 2, right, top]
        page.rotate(rotation, relative=False)
        opened.save(tmp_path / "turned.pdf")
    source = tmp_path / "turned.pdf/1"
    size = load.size(source)
    after = PageLine("later words", 0.9, (), "l", box, ((20, 32), (120, 32)))
    out = tmp_path / "new.pdf"
    out.write_bytes(pdf.write([PageReading(source, (after,), size)]))
    assert out.read_bytes() == pdf.write([PageReading(source, (after,), size)])
    document = pdfium.PdfDocument(out)
    text = document[0].get_textpage().get_text_range()
    assert text.strip() == "later words"
    assert np.array_equal(load.read(out / "1"), load.read(source))
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (Debian: apt-get install poppler-utils)")
    done = subprocess.run(["pdftotext", "-cropbox", "-bbox", out, "-"], capture_output=True, text=True, check=True)
    (x0, y0, x1, y1), _ = (
        [float(x) for x in found]
        for found in re.findall(r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)"', done.stdout)
    )
    scale = 72 / 300
    assert (x0, y0, x1, y1) == pytest.approx([v * scale for v in (20, 10, 20 + 100 * 5 / 11, 40)], abs=0.7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("/CropBox", [-50, -50, 400, 300]),  # beyond the paper, which cuts it off
        ("/CropBox", [190, 90, 10, 20]),  # from another corner
        ("/MediaBox", [200, 100, 0, 0]),
        ("/Rotate", 45),  # which turns nothing
    ],
)
def test_text_is_laid_over_what_is_drawn_of_an_odd_page(key: str, value: Any, tmp_path: Path) -> None:
    pikepdf = pytest.importorskip("pikepdf")
    pdfium = pytest.importorskip("pypdfium2")
    with pikepdf.new() as new:
        page = new.add_blank_page(page_size=(200, 100))
        page.obj[key] = value
        page.contents_add(b"BT Tr ET")  # neither does an operator without its operand
        new.save(tmp_path / "odd.pdf")
    source = tmp_path / "odd.pdf/1"
    width, height = load.size(source)
    quarter = ((0, 0), (width // 2, 0), (width // 2, height // 2), (0, height // 2))
    out = tmp_path / "new.pdf"
    out.write_bytes(pdf.write([PageReading(source, (PageLine("word", 0.9, (), "l", quarter),))]))
    (page,) = pdfium.PdfDocument(out)
    assert page.get_textpage().get_text_range().strip() == "word"
    left, bottom, right, top = page.get_bbox()
    places = [page.get_textpage().get_charbox(i) for i in range(4)]
    assert all(left - 1 <= x0 < x1 <= (left + right) / 2 + 1 for x0, _, x1, _ in places)
    assert all((bottom + top) / 2 - 1 <= y0 < y1 <= top + 1 for _, y0, _, y1 in places)


def test_a_broken_page_of_a_pdf_does_not_stop_the_others(book: Path, model: Path, tmp_path: Path) -> None:
    pikepdf = pytest.importorskip("pikepdf")
    with pikepdf.open(book, allow_overwriting_input=True) as opened:
        opened.pages[0].cropbox = [30_000, 30_000, 30_100, 30_100]  # nothing of the page
        opened.pages[1].obj.Resources.Font = pikepdf.Name.Nonsense
        opened.save()
    done = hwr("predict", book, "--checkpoint", model, "--line", "--format", "pdf", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "book.pdf/1: shows nothing: its CropBox lies outside of its MediaBox" in done.stderr
    assert "book.pdf/2: can't be copied: " in done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.pdf")] == ["book-0003.pdf"]


def test_heic_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    pytest.importorskip("pikepdf")
    pixels = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (80, 1))
    pixels[:20] = 255
    heif.register_heif_opener()
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "photo.heic", quality=95)
    read = load.read(tmp_path / "photo.heic")
    assert np.abs(read.astype(int) - pixels).mean() < 3
    content = pdf.write([PageReading(tmp_path / "photo.heic", ())])
    assert b"DCTDecode" in content
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Error, match=r"photo\.heic: reading HEIC needs pillow-heif: pip install pillow-heif"):
        load.read(tmp_path / "photo.heic")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(Error, match=r"a\.pdf: reading PDF needs pypdfium2: pip install"):
        documents.pages(tmp_path / "a.pdf")
