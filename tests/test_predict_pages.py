"""Read the lines of pages, and write the predictions back."""

import codecs
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import config, data, networks
from hwr.cli import main
from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.shapes import Marked
from hwr.data.formats.xml import children, descendants
from hwr.decoding import align
from hwr.images import load, prepare

from .conftest import TINY_CRNN


def hwr(*arguments: object, **more: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **more)


@pytest.fixture
def page(drawn: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A page of three synthetic lines, marked in PAGE and ALTO with wrong texts, and the line images."""
    folder, height = tmp_path / "scans", 10
    folder.mkdir()
    paths = sorted(drawn.rglob("*.png"))[:3]
    lines = [load.read(path) for path in paths]
    pixels = np.full((sum(len(x) + 20 for x in lines), 60 + max(x.shape[1] for x in lines)), 255, np.uint8)
    marked = []
    for i, x in enumerate(lines):
        h, w = x.shape
        pixels[height : height + h, 50 : 50 + w] = x
        box = ((50, height), (49 + w, height), (49 + w, height + h - 1), (50, height + h - 1))
        baseline = ((50, height + h - 10), (49 + w, height + h - 10))
        marked.append(Marked(f"l{i}", "old words", box, baseline, "x:1"))
        height += h + 20
    Image.fromarray(pixels).save(folder / "a page.png")
    for kind, format in PAGE_FORMATS.items():
        (folder / kind).mkdir()
        root = format.new("a page.png", pixels.shape[::-1], marked)
        if kind == "page":
            line, region = descendants(root, "TextLine")[0], descendants(root, "TextRegion")[0]
            line.insert(2, xml.add(line, "Word", id="w"))
            xml.add(xml.add(region, "TextEquiv"), "Unicode").text = "the region's old text"
            region.set("custom", "kept")
        xml.write(root, folder / kind / "one.xml")
    return folder, paths


def texts_of(path: Path) -> list[str]:
    settings = config.load(None, [f"data.root={str(path)!r}", "data.images=" + repr(str(path.parents[1] / "scans"))])
    dataset = data.read(settings.data)
    lines = dataset.lines
    return [line.text for line in sorted(lines, key=lambda line: line.id)]


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_texts_are_written_into_a_copy(page: tuple[Path, list[Path]], model: Path, tmp_path: Path, kind: str) -> None:
    folder, paths = page
    alone = hwr("predict", *paths, "--checkpoint", model).stdout.splitlines()
    assert len(alone) == 3
    assert all(alone)
    source = folder / kind / "one.xml"
    assert hwr("predict", source, "--checkpoint", model).stdout.splitlines() == alone  # cropped, they read the same
    done = hwr("predict", source, "--checkpoint", model, "--format", kind, "--out", tmp_path / "read")
    assert done.exit_code == 0, done.output
    assert texts_of(tmp_path / "read/one.xml") == alone
    from lxml import etree

    root, before = (etree.parse(str(p)).getroot() for p in (tmp_path / "read/one.xml", source))
    lines = descendants(root, "TextLine")
    shapes = ("Coords", "Baseline") if kind == "page" else ("Shape",)
    for line, old in zip(lines, descendants(before, "TextLine"), strict=True):
        assert [etree.tostring(c).split() for c in line if etree.QName(c).localname in shapes] == [
            etree.tostring(c).split() for c in old if etree.QName(c).localname in shapes
        ]
    if kind == "page":
        assert all(0 < float(e.get("conf")) <= 1 for line in lines for e in children(line, "TextEquiv"))
        assert [etree.QName(c).localname for c in lines[0]] == ["Coords", "Baseline", "TextEquiv"]
        region = descendants(root, "TextRegion")[0]
        assert region.get("custom") == "kept"
        assert not children(region, "TextEquiv")  # the old text of the region
        return
    strings = [children(line, "String") for line in lines]
    assert [[s.get("CONTENT") for s in line] for line in strings] == [text.split() for text in alone]
    for line in strings:
        places = [(int(s.get("HPOS")), int(s.get("HPOS")) + int(s.get("WIDTH"))) for s in line]
        assert places == sorted(places)
        assert places[0][0] >= 50
        assert all(0 < float(s.get("WC")) <= 1 for s in line)

    for again, path in enumerate((source, tmp_path / "read/one.xml", tmp_path / "glyphs0/one.xml")):
        folders = ["--set", f"data.images={folder}"] if again else []
        out = tmp_path / f"glyphs{again}"
        done = hwr("predict", path, "--checkpoint", model, "--format", kind, "--characters", "--out", out, *folders)
        assert done.exit_code == 0, done.output
        for string in descendants(etree.parse(str(out / "one.xml")).getroot(), "String"):
            glyphs = children(string, "Glyph")
            assert "".join(glyph.get("CONTENT") for glyph in glyphs) == string.get("CONTENT")
            assert min(float(glyph.get("GC")) for glyph in glyphs) == float(string.get("WC"))
            left, right = int(string.get("HPOS")), int(string.get("HPOS")) + int(string.get("WIDTH"))
            assert all(left <= int(glyph.get("HPOS")) < right for glyph in glyphs)
            assert all(glyph.get("VPOS") and int(glyph.get("HEIGHT")) > 0 for glyph in glyphs)
        assert texts_of(out / "one.xml") == alone


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_other_bytes_of_a_copy_stay(page: tuple[Path, list[Path]], model: Path, tmp_path: Path, kind: str) -> None:
    """Line ends, quotes, CDATA, references, comments, the DOCTYPE and the encoding are those of the source."""
    source, out = page[0] / kind / "one.xml", tmp_path / "read/one.xml"
    tag = PAGE_FORMATS[kind].TAG
    text = source.read_text(encoding="utf-8").partition("?>\n")[2].replace('"', "'").replace("\n", "\r\n")
    text = text.replace(f"</{tag}>", f"<o:x xmlns:o='urn:o' a = '&#65;'><![CDATA[<]]></o:x ></{tag} >")
    head = f"<?xml  version='1.0' encoding='UTF-16'?><!DOCTYPE {tag} [<!-- ' -->]><!-- before -->\r"
    content = f"{head}{text}<?after ?>\n\n".encode("utf-16")
    source.write_bytes(content)
    done = hwr("predict", source, "--checkpoint", model, "--format", kind, "--out", out.parent)
    assert done.exit_code == 0, done.output
    old = r"\s*<Word id='w'/>|\s*<TextEquiv.*?</TextEquiv>|\s*<(String|SP) [^>]*>|\s*<SP/>|(?<=<LastChange>)[^<]*"

    def others(content: bytes) -> str:
        assert content.startswith(codecs.BOM_UTF16)
        return re.sub(old, "", content.decode("utf-16"), flags=re.DOTALL)

    assert others(out.read_bytes()) == others(content)
    # Reading the result again changes nothing.
    done = hwr(
        "predict",
        out,
        "--checkpoint",
        model,
        "--format",
        kind,
        "--out",
        tmp_path / "again",
        "--set",
        f"data.images={page[0]}",
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "again/one.xml").read_bytes() == out.read_bytes()


def test_other_formats_get_new_files(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    folder, paths = page
    alone = hwr("predict", *paths, "--checkpoint", model).stdout.splitlines()
    for source, kind in ((folder / "page/one.xml", "alto"), (folder / "alto/one.xml", "page")):
        done = hwr("predict", source, "--checkpoint", model, "--format", kind, "--out", tmp_path / kind)
        assert done.exit_code == 0, done.output
        assert texts_of(tmp_path / kind / "one.xml") == alone
    done = hwr("predict", paths[0], "--checkpoint", model, "--format", "page", "--out", tmp_path / "lines")
    assert done.exit_code == 0, done.output
    assert alone[0] in (tmp_path / "lines" / f"{paths[0].stem}.xml").read_text()


def test_tables_and_json(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    folder, paths = page
    source = folder / "alto/one.xml"
    out = tmp_path / "read.tsv"
    assert hwr("predict", source, "--checkpoint", model, "--format", "tsv", "--out", out).exit_code == 0
    head, *rows = [line.split("\t") for line in out.read_text().splitlines()]
    assert head == ["image", "line", "text", "confidence"]
    assert [row[:2] for row in rows] == [[str(source), f"l{i}"] for i in range(3)]
    done = hwr("predict", source, paths[0], "--checkpoint", model, "--json", "--characters")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in found[:3]] == [row[2] for row in rows]
    assert [line.get("line") for line in found] == ["l0", "l1", "l2", None]
    for line in found:
        assert "".join(c for c, *_ in line["characters"]) == line["text"]
        edges = [(left, right) for _, left, right, _ in line["characters"]]
        assert all(0 <= left < right for left, right in edges)
        assert edges == sorted(edges)
        assert all(0 <= p <= 1 for *_, p in line["characters"])
    # The same line on the page and alone: 50 pixels apart.
    for (_, left, right, _), (_, l2, r2, _) in zip(found[0]["characters"], found[3]["characters"], strict=True):
        assert (left - l2, right - r2) == pytest.approx((50, 50), abs=0.11)
    last = max(right for _, _, right, _ in found[3]["characters"])
    width = load.read(paths[0]).shape[1]
    assert 0.6 * width < last <= width


def test_lines_below_the_confidence_limit_are_left_empty(page: tuple[Path, list[Path]], model: Path) -> None:
    _, paths = page
    done = hwr("predict", *paths, "--checkpoint", model, "--json", "--min-confidence", 1)
    assert done.exit_code == 0
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["", "", ""]
    assert all(json.loads(line)["confidence"] > 0 for line in done.stdout.splitlines())
    assert "left the text of 3 lines empty" in done.stderr


def test_unreadable_files_do_not_stop_the_others(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    folder, paths = page
    (folder / "page/a.xml").write_text("<PcGts>")
    (folder / "page/b.xml").write_text("<TEI/>")
    done = hwr("predict", folder / "page", paths[0], "--checkpoint", model)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 4
    assert "a.xml:1: not well-formed XML" in done.stderr
    assert "b.xml:1: the root element is <TEI>" in done.stderr
    assert "2 of 4 pages could not be read" in done.stderr
    # In a folder with XML the images are its pages; the page has a PAGE and an ALTO file.
    (folder / "page/a.xml").unlink()
    (folder / "page/b.xml").unlink()
    done = hwr("predict", folder, "--checkpoint", model)
    assert len(done.stdout.splitlines()) == 3
    assert f"skipped 1 other file in the folders ({folder / 'alto/one.xml'}" in done.stderr


@pytest.mark.parametrize("kind", ["pdf", "hocr", "html"])
def test_pages_in_formats_to_read(page: tuple[Path, list[Path]], model: Path, tmp_path: Path, kind: str) -> None:
    """The same texts as on the terminal; test_outputs.py looks at the files themselves."""
    if kind == "pdf":
        pytest.importorskip("pikepdf")
    folder, paths = page
    alone = hwr("predict", *paths, "--checkpoint", model).stdout.splitlines()
    for source in (folder / "page/one.xml", folder / "alto/one.xml"):
        out = tmp_path / source.parent.name
        done = hwr("predict", source, "--checkpoint", model, "--format", kind, "--out", out)
        assert done.exit_code == 0, done.stderr
        content = (out / f"one.{kind}").read_bytes()
        if kind == "pdf":
            pdfium = pytest.importorskip("pypdfium2")
            found = [row.strip() for row in pdfium.PdfDocument(content)[0].get_textpage().get_text_range().splitlines()]
        else:
            from lxml import html

            name = "//li" if kind == "html" else "//*[@class='ocr_line']"
            found = [" ".join(line.text_content().split()) for line in html.fromstring(content).xpath(name)]
        assert found == [" ".join(line.split()) for line in alone]


def test_images_of_pages_are_skipped(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    folder, paths = page
    alone = hwr("predict", *paths, "--checkpoint", model).stdout.splitlines()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "b line.png").write_bytes(paths[0].read_bytes())
    others = {"mets.xml": "<mets/>", "metadata.xml": "<trpDocMetadata/>", "some.xml": "<some/>"}
    for number, (name, content) in enumerate(others.items(), 1):
        (mixed / name).write_text(content)
        done = hwr("predict", mixed, "--checkpoint", model)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.splitlines() == alone[:1]
        assert f"skipped {number} other file{'s' if number > 1 else ''} in the folders" in done.stderr
    (mixed / "some.xml").unlink()
    # Its image is a page and not a line; the other image still is a line.
    (mixed / "a page.png").write_bytes((folder / "a page.png").read_bytes())
    (mixed / "one.xml").write_bytes((folder / "page/one.xml").read_bytes())
    done = hwr("predict", mixed, "--checkpoint", model)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [alone[0], *alone]
    assert "skipped 2 other files in the folders" in done.stderr
    # Names as a shell expands them.
    done = hwr("predict", mixed / "mets.xml", mixed / "one.xml", "--checkpoint", model)
    assert (done.exit_code, done.stdout.splitlines()) == (0, alone)
    done = hwr("predict", mixed / "mets.xml", "--checkpoint", model)
    assert done.exit_code == 2
    assert "mets.xml marks no lines" in done.stderr
    # A damaged page still claims the image of the same name.
    (mixed / "b line.xml").write_text("<PcGts>")
    done = hwr("predict", mixed, "--checkpoint", model)
    assert (done.exit_code, done.stdout.splitlines()) == (1, alone)
    (mixed / "b line.xml").unlink()
    # The image may lie in data.images.
    (mixed / "sub/deep").mkdir(parents=True)
    (mixed / "one.xml").rename(mixed / "sub/deep/one.xml")
    done = hwr("predict", mixed, "--checkpoint", model, "--set", f"data.images={mixed}")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [alone[0], *alone]


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_pages_whose_xml_marks_no_lines_are_named(
    page: tuple[Path, list[Path]], model: Path, tmp_path: Path, kind: str
) -> None:
    folder, _ = page
    bare = tmp_path / "bare.xml"
    xml.write(PAGE_FORMATS[kind].new("a page.png", load.size(folder / "a page.png"), []), bare)
    (tmp_path / "a page.png").write_bytes((folder / "a page.png").read_bytes())
    (tmp_path / "line.png").write_bytes((folder / "a page.png").read_bytes())
    for named in (tmp_path, bare):
        done = hwr("predict", named, "--line", "--checkpoint", model)
        assert done.exit_code == 0, done.stderr
        assert "1 PAGE or ALTO file marks no lines, so nothing is read there" in done.stderr
        assert f"the lines of the image are found ({bare})" in done.stderr
    assert "marks no lines" not in hwr("predict", tmp_path / "line.png", "--line", "--checkpoint", model).stderr


def test_inputs_and_existing_files_are_not_overwritten(
    page: tuple[Path, list[Path]], model: Path, tmp_path: Path
) -> None:
    folder, paths = page
    before = (folder / "page/one.xml").read_bytes()
    for inputs, out in (
        ([folder / "page/one.xml"], folder / "page"),
        ([folder / "page/one.xml", folder / "alto/one.xml"], tmp_path / "read"),
    ):
        done = hwr("predict", *inputs, "--checkpoint", model, "--format", "page", "--out", out)
        assert done.exit_code == 2
        assert "would" in done.stderr
    assert (folder / "page/one.xml").read_bytes() == before
    assert not list((tmp_path / "read").iterdir())
    # Handmade XML is where PAGE belongs, next to the image.
    (folder / "a page.xml").write_text("by hand")
    done = hwr("predict", folder / "a page.png", "--checkpoint", model, "--format", "page", "--out", folder)
    assert done.exit_code == 2
    assert "exists already, next to" in done.stderr
    assert (folder / "a page.xml").read_text() == "by hand"
    done = hwr("predict", paths[0], "--checkpoint", model, "--out", paths[0])
    assert done.exit_code == 2
    assert load.read(paths[0]).size


def test_the_suffix_of_a_file_chooses_the_format(
    page: tuple[Path, list[Path]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = page[1][0]
    (text,) = hwr("predict", line, "--line", "--checkpoint", model).stdout.splitlines()
    for name, start in (
        ("a.HOCR", "<?xml"),
        ("a.html", "<!doctype html>"),
        ("a.HTM", "<!doctype html>"),
        ("a.tsv", "image\tline"),
        ("a.jsonl", '{"image"'),
        ("a.json", '{"image"'),
        ("a.txt", text),
        ("a", text),
    ):
        done = hwr("predict", line, "--line", "--checkpoint", model, "--out", name)
        assert done.exit_code == 0, done.stderr
        assert Path(name).read_text().lower().startswith(start.lower()), name
    # What is said counts, and a folder has any name.
    assert hwr("predict", line, "--line", "--checkpoint", model, "--out", "b.html", "--format", "txt").exit_code == 0
    assert Path("b.html").read_text() == f"{text}\n"
    Path("c.html").mkdir()
    assert hwr("predict", line, "--line", "--checkpoint", model, "--out", "c.html").exit_code == 0
    assert [path.suffix for path in Path("c.html").iterdir() if path.is_file()] == [".txt"]
    for name, message in (
        ("a.xml", ".xml may be page or alto; choose with --format"),
        ("a.docx", ".docx is the suffix of none of txt, tsv, json, page, alto, hocr, pdf, html; choose with --format"),
    ):
        done = hwr("predict", line, "--line", "--checkpoint", model, "--out", name)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
        assert not Path(name).exists()


def test_a_file_in_place_of_the_folder_is_named(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "notdir"
    out.write_text("a file")
    for name, reason in (
        (f"{out}", f"{out} is a file, and a folder is needed; name another folder"),
        (f"{out}/", f"{out} is a file, and a folder is needed; name another folder"),
        (f"{out}/below", f"{out}/below: the folder could not be made: Not a directory"),
    ):
        done = hwr("predict", page[1][0], "--line", "--checkpoint", model, "--format", "alto", "--out", name)
        assert (done.exit_code, f"hwr: {reason}" in done.stderr) == (2, True), done.stderr
    assert out.read_text() == "a file"


def test_a_broken_image_does_not_end_the_run(page: tuple[Path, list[Path]], model: Path, tmp_path: Path) -> None:
    _, paths = page
    (tmp_path / "broken.png").write_bytes(b"no image")
    inputs = [tmp_path / "broken.png", *paths]
    done = hwr("predict", *inputs, "--checkpoint", model, "--format", "alto", "--out", tmp_path / "read")
    assert done.exit_code == 1
    assert sorted(p.stem for p in (tmp_path / "read").glob("*.xml")) == sorted(p.stem for p in paths)
    # Neither does a page whose name can't be written.
    named = tmp_path / "a\x01.png"
    named.write_bytes(paths[0].read_bytes())
    done = hwr("predict", named, *paths, "--checkpoint", model, "--format", "page", "--out", tmp_path / "named")
    assert done.exit_code == 1
    assert done.stderr.count("XML can't hold this file's name") == 1
    assert "1 of 4 pages could not be read" in done.stderr
    assert sorted(p.stem for p in (tmp_path / "named").glob("*.xml")) == sorted(p.stem for p in paths)
    # A page without lines is valid.
    from lxml import etree

    empty = etree.parse(str(page[0] / "page/one.xml"))
    for line in descendants(empty.getroot(), "TextLine"):
        line.getparent().remove(line)
    empty.write(str(page[0] / "page/one.xml"))
    done = hwr("predict", page[0] / "page/one.xml", "--checkpoint", model, "--format", "alto", "--out", tmp_path / "e")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "e/one.xml").is_file()


def test_the_default_model_and_the_environment_variable(
    page: tuple[Path, list[Path]], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, paths = page
    monkeypatch.setenv("HWR_MODEL", str(model))
    assert hwr("predict", paths[0]).stdout == hwr("predict", paths[0], "--checkpoint", model).stdout
    monkeypatch.setenv("HWR_MODEL", str(tmp_path / "none.safetensors"))
    done = hwr("predict", paths[0])
    assert done.exit_code == 2
    assert "HWR_MODEL" in done.stderr


def test_pages_are_read_line_by_line_where_the_segmenter_found_them(
    page: tuple[Path, list[Path]], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for kraken that returns the lines of PAGE; kraken itself is not a test dependency."""
    marked = config.load(None, [f"data.root={page[0] / 'page'}", f"data.images={page[0]}", "data.format=page"])
    dataset = data.read(marked.data)
    lines = sorted(dataset.lines, key=lambda line: line.id)
    found = [SimpleNamespace(boundary=list(line.region), baseline=list(line.baseline)) for line in lines]
    kraken = ModuleType("kraken")
    kraken.blla = SimpleNamespace(segment=lambda picture: SimpleNamespace(lines=found))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kraken", kraken)
    told = hwr("predict", "--page", "--segmenter", "kraken", page[0] / "a page.png", "--checkpoint", model)
    assert told.exit_code == 0, told.stderr
    assert (
        told.stdout
        == hwr("predict", page[0] / "page/one.xml", "--set", f"data.images={page[0]}", "--checkpoint", model).stdout
    )
    assert len(told.stdout.splitlines()) == 3


@pytest.mark.filterwarnings("ignore")  # kraken's own
def test_pages_without_kraken_say_what_to_install(page: tuple[Path, list[Path]], model: Path) -> None:
    command = ["predict", "--segmenter", "kraken", page[0] / "a page.png", "--checkpoint", model]
    try:
        import kraken  # noqa: F401
    except ImportError:
        done = hwr(*command)
        assert done.exit_code == 1
        assert "pip install -e '.[kraken]'" in done.stderr
    else:
        done = hwr(*command)
        assert done.exit_code == 0, done.stderr
        assert len(done.stdout.splitlines()) >= 1


def test_line_page_and_segmenter_contradict(page: tuple[Path, list[Path]], model: Path) -> None:
    """The last of --line and --page counts, as of any pair of switches."""
    _, paths = page
    done = hwr("predict", "--line", "--segmenter", "kraken", paths[0], "--checkpoint", model)
    assert done.exit_code == 2
    assert "--segmenter finds the lines of pages" in done.stderr
    line = hwr("predict", paths[0], "--checkpoint", model)
    assert hwr("predict", "--page", "--line", paths[0], "--checkpoint", model).stdout == line.stdout


@pytest.mark.parametrize(("steps", "text"), [(4, [0, 1]), (5, [0, 0]), (5, [1, 0, 1]), (3, []), (3, [0, 1, 0])])
def test_the_alignment_is_the_likeliest_path(rng: np.random.Generator, steps: int, text: list[int]) -> None:
    logits = rng.normal(0, 2, (steps, 3))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def written(path: tuple[int, ...]) -> list[int]:
        return [c for c, _ in itertools.groupby(path) if c != 2]

    paths = [path for path in itertools.product(range(3), repeat=steps) if written(path) == text]
    best = max(paths, key=lambda path: sum(log_p[t, c] for t, c in enumerate(path)))
    places, sure = align.align(logits, np.array(text, np.int64))
    expected, t = [], 0
    for c, run in itertools.groupby(best):
        length = len(list(run))
        if c != 2:
            expected.append((t, t + length))
        t += length
    assert [tuple(place) for place in places.tolist()] == expected
    for (start, end), p, c in zip(expected, sure, text, strict=True):
        assert p == pytest.approx(np.exp(log_p[start:end, c]).max())


@pytest.mark.parametrize("settings", [[], TINY_CRNN])
def test_where_prepared_columns_were(settings: list[str]) -> None:
    settings_ = config.load(None, settings)
    for height, width in ((100, 900), (20, 300), (60, 2000)):
        pixels = np.full((height, width), 255, np.uint8)
        pixels[:, width // 3 : width // 3 + max(4, width // 40)] = 0
        ready = prepare.prepare(pixels, networks.geometry(settings_))
        dark = np.flatnonzero(ready.min(0) < 128)
        offset, factor = prepare.columns(height, width, ready.shape[1], networks.geometry(settings_))
        middle = (dark.mean() + 0.5 - offset) * factor
        assert middle == pytest.approx(width // 3 + max(4, width // 40) / 2, abs=2 * factor)
