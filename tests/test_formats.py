"""PAGE, ALTO, .gt.txt pairs and tables: read, split, converted, summarised."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import Error, config, data
from hwr.cli import main
from hwr.data import Dataset, Line
from hwr.data.formats import FORMATS, PAGE_FORMATS, detect, xml
from hwr.data.formats import page as page_module
from hwr.data.formats.shapes import Marked
from hwr.images import load
from hwr.pages import sources

from .conftest import REPOSITORY, TINY

PAGES = Path(__file__).parents[2] / "shared/pages"
PAGE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{version}-07-15">
  <Metadata/>
  <Page imageFilename="a page.png" imageWidth="400" imageHeight="200">
    <TextRegion id="r">
      <Coords points="0,0 399,0 399,199 0,199"/>
      <TextLine id="l1"><Coords points="10,10 110,10 60,50"/><Baseline points="10,45 110,45"/>
        <TextEquiv index="1"><Unicode>worse</Unicode></TextEquiv><TextEquiv index="0"><Unicode>cafe\u0301 &amp; co</Unicode></TextEquiv></TextLine>
      <TextLine id="l2"><Baseline points="20,100 300,104"/><TextEquiv><Unicode>by its baseline</Unicode></TextEquiv></TextLine>
      <TextLine id="l3"><Coords points="10,150 200,150 200,180 10,180"/>
        <Word id="w1"><TextEquiv><Unicode>two</Unicode></TextEquiv></Word><Word id="w2"><TextEquiv><Unicode>words</Unicode></TextEquiv></Word></TextLine>
      <TextLine id="l4"><Coords points="10,150 200,150 200,180 10,180"/><TextEquiv><Unicode> </Unicode></TextEquiv></TextLine>
    </TextRegion>
  </Page>
</PcGts>"""
ALTO_XML = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v{version}#">
 <Description><MeasurementUnit>{unit}</MeasurementUnit><sourceImageInformation><fileName>a page.png</fileName></sourceImageInformation></Description>
 <Layout><Page ID="p" WIDTH="400" HEIGHT="200"><PrintSpace><TextBlock ID="b">
  <TextLine ID="l1" HPOS="10" VPOS="10" WIDTH="100" HEIGHT="40" BASELINE="10 45 110 45">
   <Shape><Polygon POINTS="10 10 110 10 60 50"/></Shape><String CONTENT="caf\u00e9"/><SP/><String CONTENT="&amp;"/><SP/><String CONTENT="co"/></TextLine>
  <TextLine ID="l2" HPOS="20.0" VPOS="80" WIDTH="280" HEIGHT="30" BASELINE="104"><String CONTENT="no"/><String CONTENT="spa"/><HYP CONTENT="-"/></TextLine>
 </TextBlock></PrintSpace></Page></Layout>
</alto>"""


@pytest.fixture
def page(tmp_path: Path) -> np.ndarray:
    """A page image, next to which tests put XML."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 400), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a page.png")
    return pixels


def read(root: Path, *more: str) -> Dataset:
    return data.read(config.load(None, [f"data.root={str(root)!r}", *more]).data)


def every(dataset: Dataset) -> list[Line]:
    return sorted(dataset.lines, key=lambda line: line.id)


@pytest.mark.parametrize("version", ["2013", "2019"])
def test_page(tmp_path: Path, page: np.ndarray, version: str) -> None:
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version=version))
    dataset = read(tmp_path)
    lines = every(dataset)
    assert [line.id for line in lines] == ["one/l1", "one/l2", "one/l3"]
    assert [line.text for line in lines] == ["café & co", "by its baseline", "two words"]  # composed: NFC
    assert dataset.empty == ["one/l4"]
    assert lines[0].source == f"{tmp_path / 'one.xml'}:7"
    cut = load.read_line(lines[0].image, lines[0].region)
    assert cut.shape == (41, 101)
    assert np.array_equal(cut[0, 1:100], page[10, 11:110])  # the triangle's upper edge
    inside = cut[0, 50]
    assert inside == page[10, 60]
    assert cut[40, 0] == cut[40, 100]  # outside: a single colour
    # Only a baseline: a band along it, higher above than below.
    band = load.read_line(lines[1].image, lines[1].region)
    xs, ys = zip(*lines[1].region, strict=True)
    assert (min(xs), max(xs)) == (20, 300)
    assert 100 - min(ys) > max(ys) - 104 > 0
    assert band.shape[1] == 281


def test_bands_along_baselines_are_as_high_as_the_lines_are_apart(tmp_path: Path, page: np.ndarray) -> None:
    """Three quarters of the usual distance above, three tenths below; of lines in the same column, which may touch another."""
    rows = [
        f"<TextLine id='l{i}'><Baseline points='{x},{y} {x + 150},{y}'/><TextEquiv><Unicode>text</Unicode></TextEquiv></TextLine>"
        for i, (x, y) in enumerate(((10, 60), (10, 100), (150, 80), (150, 120), (10, 140), (150, 160), (10, 155)))
    ]
    head, _, rest = PAGE_XML.format(version="2019").partition("<TextLine")
    (tmp_path / "one.xml").write_text(head + "".join(rows) + rest[rest.index("</TextRegion>") :])
    for line in every(read(tmp_path)):
        (x, y), _ = line.baseline
        assert line.region == ((x, y - 30), (x + 150, y - 30), (x + 150, y + 12), (x, y + 12))


def test_lines_without_text_count_for_the_height_of_bands(tmp_path: Path, page: np.ndarray) -> None:
    """So a line is cut out for training as it is for reading."""
    lines = [
        f"<TextLine id='l{i}'><Baseline points='10,{y} 160,{y}'/><TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine>"
        for i, (y, text) in enumerate(((60, "text"), (80, ""), (100, ""), (120, "text")))
    ]
    head, _, rest = PAGE_XML.format(version="2019").partition("<TextLine")
    (tmp_path / "one.xml").write_text(head + "".join(lines) + rest[rest.index("</TextRegion>") :])
    found = every(read(tmp_path))
    assert [(line.id, line.place) for line in found] == [("one/l0", 0), ("one/l3", 1)]
    targets = sources.job(tmp_path / "one.xml").targets
    assert [line.region for line in found] == [targets[0].region, targets[3].region]
    assert found[0].region == ((10, 45), (160, 45), (160, 66), (10, 66))


def test_text_is_normalised_in_one_place(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version="2019"))
    texts = {form: every(read(tmp_path, f"data.normalise={form}"))[0].text for form in ("NFC", "NFD", "none")}
    assert texts == {"NFC": "caf\u00e9 & co", "NFD": "cafe\u0301 & co", "none": "cafe\u0301 & co"}


@pytest.mark.parametrize("version", ["2", "4"])
def test_alto(tmp_path: Path, page: np.ndarray, version: str) -> None:
    (tmp_path / "one.xml").write_text(ALTO_XML.format(version=version, unit="pixel"))
    first, second = every(read(tmp_path))
    assert (first.text, second.text) == ("café & co", "no spa-")
    assert first.region == ((10, 10), (110, 10), (60, 50))
    assert second.region == ((20, 80), (300, 80), (300, 110), (20, 110))
    assert (first.baseline, second.baseline) == (((10, 45), (110, 45)), ())


def test_the_box_of_a_baseline_is_no_outline(tmp_path: Path, page: np.ndarray) -> None:
    """The line is cut out along its baseline."""
    old = 'HPOS="20.0" VPOS="80" WIDTH="280" HEIGHT="30" BASELINE="104"'
    new = 'HPOS="20" VPOS="104" WIDTH="280" HEIGHT="0" BASELINE="20,104 300,104"'
    content = ALTO_XML.format(version="4", unit="pixel")
    assert old in content
    (tmp_path / "one.xml").write_text(content.replace(old, new))
    _, line = every(read(tmp_path))
    ys = [y for _, y in line.region]
    assert min(ys) < 100 < 104 < max(ys)


def test_page_images_are_found_in_the_documented_folders(tmp_path: Path, page: np.ndarray) -> None:
    for folder in (tmp_path / "xml files", tmp_path / "deep/er"):
        folder.mkdir(parents=True)
        (folder / "one.xml").write_text(PAGE_XML.format(version="2019"))
    assert every(read(tmp_path / "xml files", "data.format=page"))[0].image == tmp_path / "a page.png"
    beside = tmp_path / "xml files/a page.png"
    Image.fromarray(page).save(beside)
    assert every(read(tmp_path / "xml files"))[0].image == beside
    with pytest.raises(Error, match=r"deep/er/one\.xml:4: its image a page\.png is in none of .*data\.images"):
        read(tmp_path / "deep", "data.format=page")
    assert len(every(read(tmp_path / "deep", f"data.images={tmp_path}"))) == 3


def test_the_suffix_of_a_page_image_may_be_in_either_case(tmp_path: Path, page: np.ndarray) -> None:
    """As on Windows: programs and copies change the case."""
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version="2019"))
    (tmp_path / "a page.png").rename(tmp_path / "a page.PNG")
    assert every(read(tmp_path))[0].image.samefile(tmp_path / "a page.PNG")
    Image.fromarray(page).save(tmp_path / "a page.png")
    assert every(read(tmp_path))[0].image.samefile(tmp_path / "a page.png")


def test_the_folder_above_the_current_one_is_searched(
    tmp_path: Path, page: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xml/deep").mkdir(parents=True)
    (tmp_path / "xml/one.xml").write_text(PAGE_XML.format(version="2019"))
    for place, root in (("xml", "."), ("xml/deep", "..")):
        monkeypatch.chdir(tmp_path / place)
        image = every(read(Path(root), "data.format=page"))[0].image
        assert image.resolve() == (tmp_path / "a page.png").resolve()


def test_pages_in_two_formats_are_read_from_page(tmp_path: Path, page: np.ndarray) -> None:
    for folder, content in (
        ("alto", ALTO_XML.format(version=4, unit="pixel")),
        ("page", PAGE_XML.format(version="2019")),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.xml").write_text(content.replace("<Metadata/>", "<!-- not <alto> -->"))

    def folders(*more: str) -> set[str]:
        return {Path(line.source.partition(":")[0]).parent.name for line in every(read(tmp_path, *more))}

    assert folders() == {"page"}
    assert "1 XML file is in another format" in " ".join(read(tmp_path).notes)
    assert folders("data.format=alto") == {"alto"}


def test_a_page_without_the_name_of_its_image_has_the_one_named_like_it(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "a page.png").rename(tmp_path / "P1.PNG")
    (tmp_path / "P1.xml").write_text(PAGE_XML.format(version="2019").replace("a page.png", ""))
    assert every(read(tmp_path, "data.format=page"))[0].image == tmp_path / "P1.PNG"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10,150 200,150 200,180 10,180", "10,10 110,10 60", r"one\.xml:10: .* are 5 numbers"),
        ("10,150 200,150 200,180 10,180", "10,10 x,10 60,50", r"one\.xml:10: .* is not a list of points"),
        ('id="l2"', 'id="l1"', r"one\.xml:9: line l1 already occurs at .*one\.xml:7"),
        (
            'imageFilename="a page.png"',
            'imageFilename="../../other.png"',
            r"its image \.\./\.\./other\.png is in none of",
        ),
        (
            'imageHeight="200"',
            'imageHeight="300"',
            r"one\.xml:4: says 400 x 300 pixels, and .*a page\.png has 400 x 200",
        ),
        ("two</Unicode>", "\u05d0</Unicode>", r"one\.xml:10: line one/l3: text from right to left"),
        (
            "two</Unicode>",
            "a\nb</Unicode>",
            r"one\.xml:10: line one/l3: its text contains the control character U\+000A",
        ),
        ("</PcGts>", "", r"one\.xml:\d+: not well-formed XML"),
        ("PcGts", "mets", r"no line with text"),
        ("PcGts", "TEI", r"the root element is <TEI>, not <PcGts>"),
        ('imageHeight="200"', "", r"one\.xml:4: <Page> needs imageWidth and imageHeight"),
        ("10,150 200,150 200,180 10,180", "1000,150 1200,150 1200,180", None),
        ("10,150 200,150 200,180 10,180", "10,250 200,250 200,280", None),
        ("10,150 200,150 200,180 10,180", "10,-90 200,-90 200,-50", None),
        ('<?xml version="1.0" encoding="UTF-8"?>', "<!DOCTYPE x [<!ENTITY e 'x'>]>", r"declares an XML entity"),
    ],
)
def test_bad_pages(tmp_path: Path, page: np.ndarray, old: str, new: str, message: str | None) -> None:
    path = tmp_path / "one.xml"
    path.write_text(PAGE_XML.format(version="2019").replace(old, new))
    if message is not None:
        with pytest.raises(Error, match=message):
            read(tmp_path, "data.format=page")
        return
    with pytest.raises(Error, match=r"one\.xml:10: line l3 lies outside the page of 400 x 200 pixels"):
        read(tmp_path)


def test_a_line_whose_outline_lies_outside_the_page_is_cut_along_its_baseline(tmp_path: Path, page: np.ndarray) -> None:
    text = PAGE_XML.format(version="2019").replace("10,10 110,10 60,50", "10,310 110,310 60,350")
    (tmp_path / "one.xml").write_text(text)
    first = every(read(tmp_path))[0]
    ys = [y for _, y in first.region]
    assert min(ys) < 45 < max(ys) < 200


def test_wrong_encodings(tmp_path: Path, page: np.ndarray) -> None:
    path = tmp_path / "one.xml"
    path.write_bytes(PAGE_XML.format(version="2019").replace("\u0301", "").replace("two", "tw\u00e9").encode("latin-1"))
    with pytest.raises(Error, match=r"one\.xml:\d+: not well-formed XML"):
        read(tmp_path, "data.format=page")
    path.write_bytes(PAGE_XML.format(version="2019").replace("UTF-8", "no-such").encode())
    with pytest.raises(Error, match=r"one\.xml:1: not well-formed XML"):
        read(tmp_path, "data.format=page")
    path.unlink()
    (tmp_path / "x.tsv").write_bytes("image\ttext\na page.png\t\u00e9\n".encode("latin-1"))
    with pytest.raises(Error, match=r"x\.tsv:2: not UTF-8: .*; save the file as UTF-8"):
        read(tmp_path / "x.tsv")
    (tmp_path / "a page.gt.txt").write_bytes("\u00e9".encode("latin-1"))
    with pytest.raises(Error, match=r"a page\.gt\.txt:1: not UTF-8"):
        read(tmp_path, "data.format=gt")


def test_other_units_of_alto(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "one.xml").write_text(ALTO_XML.format(version="4", unit="mm10"))
    with pytest.raises(Error, match=r"one\.xml:2: is measured in mm10"):
        read(tmp_path)


def pictures(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 20), 200).save(root / name)


def test_pairs(tmp_path: Path) -> None:
    pictures(tmp_path, "a/1.bin.png", "a/1.png", "a/2.bin.png", "a/2.nrm.png", "b/3.tif", "c/4.jpg", "c/alone.png")
    for name, text in (("a/1", "one\n"), ("a/2", "\ufefftwo"), ("b/3", "three"), ("c/4", "")):
        (tmp_path / f"{name}.gt.txt").write_text(text)
    dataset = read(tmp_path)
    assert [(line.id, line.text, line.image.name) for line in every(dataset)] == [
        ("a/1", "one", "1.png"),
        ("a/2", "two", "2.bin.png"),
        ("b/3", "three", "3.tif"),
    ]
    assert dataset.empty == ["c/4"]
    assert "1 image has no .gt.txt beside them" in dataset.notes
    (tmp_path / "b/5.gt.txt").write_text("no image")
    with pytest.raises(Error, match=r"5\.gt\.txt: no image"):
        read(tmp_path)
    pictures(tmp_path, "b/5.png")
    (tmp_path / "b/5.gt.txt").write_text("one\n\ntwo\n")
    with pytest.raises(Error, match=r"5\.gt\.txt:2: has 2 lines"):
        read(tmp_path)
    (tmp_path / "b/5.gt.txt").write_text("five")
    pictures(tmp_path, "b/5.jpg")
    with pytest.raises(Error, match=r"5\.gt\.txt: 5\.jpg, 5\.png: which is its image"):
        read(tmp_path)


def test_tables(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"i/{n}.png" for n in range(4)))
    rows = [("i/0.png", 'a "quoted", one', "train"), ("i/1.png", "b", "Dev"), ("i/2.png", "c", "test")]
    (tmp_path / "lines.tsv").write_text("image\ttext\tsplit\n" + "".join("\t".join(row) + "\n" for row in rows))
    (tmp_path / "lines.csv").write_text(
        'text,file_name,split\n"a ""quoted"", one",i/0.png,train\nb,i/1.png,dev\nc,i/2.png,test\n'
    )
    (tmp_path / "lines.jsonl").write_text(
        "".join(json.dumps(dict(zip(("path", "transcription", "split"), row, strict=True))) + "\n" for row in rows)
    )
    for name in ("lines.tsv", "lines.csv", "lines.jsonl"):
        dataset = read(tmp_path / name)
        assert [line.text for line in dataset.train] == ['a "quoted", one'], name
        assert ([x.id for x in dataset.val], [x.id for x in dataset.test]) == (["i/1"], ["i/2"])
    # As in Hugging Face's image folders: a table in each part's folder.
    for part, n in (("train", 2), ("validation", 1)):
        pictures(tmp_path / "hf" / part, *(f"{i}.png" for i in range(n)))
        lines = [json.dumps({"file_name": f"{i}.png", "text": f"{part} {i}"}) for i in range(n)]
        (tmp_path / "hf" / part / "metadata.jsonl").write_text("\n".join(lines))
    dataset = read(tmp_path / "hf")
    assert [line.text for line in dataset.train] == ["train 0", "train 1"]
    assert [line.text for line in dataset.val] == ["validation 0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image\ttext\ni/0.png\n", r"x\.tsv:2: the row and the header"),
        ("image\twords\ni/0.png\tb\n", r"x\.tsv:1: has no column text"),
        ("image\ttext\nnone.png\tb\n", r"x\.tsv:2: no such image"),
        ("image\ttext\n../x.png\tb\n", r"x\.tsv:2: the image '\.\./x\.png': its path must lead from"),
        ("image\ttext\nC:\\x.png\tb\n", r"x\.tsv:2: the image .*x\.png': its path must lead from"),
        ("image\ttext\ni/0.png\tb\ni/0.png\tc\n", r"x\.tsv:3: i/0 already occurs at .*x\.tsv:2"),
        ("image\ttext\tsplit\ni/0.png\tb\tsome\n", r"x\.tsv:2: the split of i/0 is 'some'"),
        ("image\ttext\ni/0.png\t\n", r"no line with a text"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, message: str) -> None:
    pictures(tmp_path, "i/0.png")
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(Error, match=message):
        read(tmp_path / "x.tsv")


def test_no_writer_and_files_of_macos_beside_a_table(tmp_path: Path) -> None:
    pictures(tmp_path, "0.png")
    (tmp_path / "x.jsonl").write_text('{"image": "0.png", "text": "one", "writer": null}')
    (tmp_path / "._x.jsonl").write_bytes(b"\0")
    assert [line.writer for line in read(tmp_path).lines] == [""]


def test_a_table_made_on_windows_leads_to_no_file_outside_its_folder(tmp_path: Path) -> None:
    pictures(tmp_path, "x.png", "t/i/x.png")
    (tmp_path / "t/x.tsv").write_text("image\ttext\ni\\x.png\tinside\n")
    assert [line.image for line in read(tmp_path / "t").lines] == [tmp_path / "t/i/x.png"]
    (tmp_path / "t/x.tsv").write_text("image\ttext\n..\\x.png\toutside\n")
    with pytest.raises(Error, match=r"x\.tsv:2: no such image"):
        read(tmp_path / "t")


def _table(path: Path, writers: int, each: int) -> None:
    pictures(path.parent, *(f"i/{n}.png" for n in range(writers * each)))
    rows = [f"i/{n}.png\ttext {n}\tw{n % writers}" for n in range(writers * each)]
    path.write_text("image\ttext\twriter\n" + "\n".join(rows) + "\n")


def test_no_writer_is_in_two_parts(tmp_path: Path) -> None:
    _table(tmp_path / "x.tsv", 20, 5)
    seen = set()
    for seed in range(4):
        dataset = read(tmp_path / "x.tsv", f"data.seed={seed}", "data.val_share=0.2")
        train, val, test = ({x.writer for x in dataset.part(part)} for part in ("train", "val", "test"))
        assert len(train | val | test) == len(train) + len(val) + len(test) == 20
        assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (70, 20, 10)
        assert dataset.name.endswith(f"drawn with seed {seed}, val_share 0.2, test_share 0.1")
        seen.add(tuple(sorted(val)))
        assert read(tmp_path / "x.tsv", f"data.seed={seed}", "data.val_share=0.2").val == dataset.val
    assert len(seen) == 4


def test_documents_stay_whole_and_fit_their_parts(tmp_path: Path) -> None:
    """The writers do not count if one is unknown. Of 180 lines, 18 are for each part, and a document is at most half too much."""
    sizes = [2] * 30 + [40] * 3
    names = [f"d{k}/{n}.png" for k, size in enumerate(sizes) for n in range(size)]
    pictures(tmp_path, *names)
    writers = ["", *(f"w{i % 7}" for i in range(len(names) - 1))]
    rows = [f"{name}\ttext\t{writer}\n" for name, writer in zip(names, writers, strict=True)]
    (tmp_path / "x.tsv").write_text("image\ttext\twriter\n" + "".join(rows))
    for seed in range(8):
        dataset = read(tmp_path / "x.tsv", f"data.seed={seed}", "data.val_share=0.1", "data.test_share=0.1")
        parts = [[line.id.partition("/")[0] for line in dataset.part(part)] for part in ("train", "val", "test")]
        assert sum(len(set(part)) for part in parts) == len(sizes)
        for part in parts[1:]:
            assert len(set(part)) == 1 or len(part) <= 27


def test_lists_of_lines_and_documents(tmp_path: Path) -> None:
    pictures(tmp_path, "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    for name in ("a/1", "a/2", "b/3", "b/4"):
        (tmp_path / f"{name}.gt.txt").write_text(name)
    (tmp_path / "lists").mkdir()
    for part, ids in (("train", "a\n"), ("val", "b/3\n"), ("test", "b/4\n")):
        (tmp_path / f"lists/{part}.txt").write_text(ids)
    more = ["data.lists=lists", "data.train=[train]", "data.val=[val]", "data.test=[test]"]
    dataset = read(tmp_path, *more)
    assert [[x.id for x in dataset.part(p)] for p in ("train", "val", "test")] == [["a/1", "a/2"], ["b/3"], ["b/4"]]
    assert [x.id for x in read(tmp_path, *more, "data.exclude=[a/2]").train] == ["a/1"]
    assert read(tmp_path, *more, "data.exclude=[a01-117-05-02]").excluded == []  # as recipes for IAM have it
    with pytest.raises(Error, match=r"data\.exclude: c/1 is not the id"):
        read(tmp_path, *more, "data.exclude=[c/1]")
    (tmp_path / "lists/val.txt").write_text("b/9\n")
    with pytest.raises(Error, match=r"val\.txt:1: .* has no line and no document b/9"):
        read(tmp_path, *more)
    (tmp_path / "lists/val.txt").write_text("b\n")
    (tmp_path / "lists/test.txt").unlink()
    with pytest.raises(Error, match=r"lists: has no test\.txt beside the other lists; add it"):
        read(tmp_path)
    (tmp_path / "lists/test.txt").write_text("")
    assert [len(read(tmp_path).part(part)) for part in ("train", "val", "test")] == [2, 2, 0]


def test_keys_without_effect_are_noted(drawn: Path, tmp_path: Path) -> None:
    pairs, table, folders = tmp_path / "pairs", tmp_path / "x.tsv", tmp_path / "folders"
    names = [f"{part}/{n}.png" for part in ("train", "val", "test") for n in range(3)]
    for root in (pairs, folders):
        pictures(root, *(name.replace("/", "" if root is pairs else "/") for name in names))
        for image in root.rglob("*.png"):
            image.with_suffix(".gt.txt").write_text("text")
    _table(table, 4, 5)

    def notes(root: Path, *keys: str) -> list[str]:
        return [note for note in read(root, *keys).notes if "no effect" in note]

    unusual = ["data.seed=1", "data.val_share=0.2", "data.train=[mine]", "data.images=scans"]
    assert [*map(notes, (pairs, table, folders, drawn))] == [[]] * 4
    assert notes(pairs, *unusual, "data.text=ascii") == [
        "data.train has no effect because the split is drawn, without data.lists",
        "data.images, data.text have no effect in the gt format",
    ]
    assert notes(folders, *unusual[:3]) == [
        "data.seed, data.val_share, data.train have no effect because the folders split the lines"
    ]
    assert notes(drawn, *unusual[:2]) == ["data.seed, data.val_share have no effect because lists split the lines"]
    (pairs / "lists").mkdir()
    for part in data.PARTS:
        (pairs / f"lists/{part}.txt").write_text("".join(f"{part}{n}\n" for n in range(3)))
    assert notes(pairs, "data.seed=1") == [f"data.seed has no effect because {pairs / 'lists'} splits the lines"]
    assert notes(
        pairs, "data.seed=1", "data.lists=lists", "data.train=[train]", "data.val=[val]", "data.test=[test]"
    ) == ["data.seed has no effect because data.lists splits the lines"]


def test_the_list_of_a_line_comes_before_that_of_its_document(tmp_path: Path) -> None:
    """And no id is in two lists; that of a line without text may be in one."""
    pictures(tmp_path, "a/1.png", "a/2.png", "b/3.png", "c/4.png")
    for name, text in (("a/1", "one"), ("a/2", "two"), ("b/3", "three"), ("c/4", "")):
        (tmp_path / f"{name}.gt.txt").write_text(text)
    (tmp_path / "lists").mkdir()
    for part, ids in (("train", "a\nc/4\n"), ("val", "b\n"), ("test", "a/2\n")):
        (tmp_path / f"lists/{part}.txt").write_text(ids)
    assert [[x.id for x in read(tmp_path).part(part)] for part in data.PARTS] == [["a/1"], ["b/3"], ["a/2"]]
    (tmp_path / "lists/test.txt").write_text("b\n")
    with pytest.raises(Error, match=r"test\.txt:1: b is in data\.val already"):
        read(tmp_path)


def test_what_is_drawn_if_there_are_few_writers_or_documents(tmp_path: Path) -> None:
    """Of two writers, whole documents are drawn; of two documents, lines, with a note."""
    names = [f"d{k}/{n}.png" for k in range(10) for n in range(3)]
    pictures(tmp_path, *names)
    rows = [f"{name}\ttext\tw{i % 2}\n" for i, name in enumerate(names)]
    (tmp_path / "x.tsv").write_text("image\ttext\twriter\n" + "".join(rows))
    dataset = read(tmp_path / "x.tsv")
    assert [len({line.id[:2] for line in dataset.part(part)}) for part in data.PARTS] == [8, 1, 1]
    assert not any("share writers and pages" in note for note in dataset.notes)
    rows = [f"{name}\ttext\t\n" for name in names[:6]]
    (tmp_path / "x.tsv").write_text("image\ttext\twriter\n" + "".join(rows))
    dataset = read(tmp_path / "x.tsv")
    assert [len(dataset.part(part)) for part in data.PARTS] == [4, 1, 1]
    assert any("share writers and pages" in note for note in dataset.notes)
    # A part of so few lines can't be nearer to its share.
    assert not any("data.val_share is" in note for note in dataset.notes)


@pytest.mark.parametrize("name", ["official", "aachen"])
def test_splits_of_iam_are_refused_for_other_data(tmp_path: Path, name: str) -> None:
    _table(tmp_path / "x.tsv", 4, 5)
    with pytest.raises(Error, match=f"data.split: {name} is a split of IAM"):
        read(tmp_path / "x.tsv", f"data.split={name}")
    assert read(tmp_path / "x.tsv", "data.split=mine").name == "mine"


def test_folders_named_after_the_parts(tmp_path: Path) -> None:
    for part, number in (("train", 6), ("val", 2), ("test", 1)):
        pictures(tmp_path, *(f"{part}/{n}.png" for n in range(number)))
        for n in range(number):
            (tmp_path / f"{part}/{n}.gt.txt").write_text(f"{part} {n}")
    dataset = read(tmp_path)
    assert [len(dataset.part(part)) for part in ("train", "val", "test")] == [6, 2, 1]
    assert {line.text.split()[0] for line in dataset.train} == {"train"}
    for part in ("val", "test"):  # what has a folder train and no other is not split yet
        shutil.rmtree(tmp_path / part)
    assert [len(read(tmp_path).part(part)) for part in data.PARTS] == [4, 1, 1]


def test_folders_named_after_the_parts_in_a_table_without_splits(tmp_path: Path) -> None:
    """As Hugging Face's image folders with one metadata.jsonl above them."""
    names = [f"{part}/{n}.png" for part in ("test", "train", "validation") for n in range(3)]
    pictures(tmp_path, *names)
    rows = [{"file_name": name, "text": name.partition("/")[0]} for name in names]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = read(tmp_path)
    assert [[line.text for line in dataset.part(part)] for part in data.PARTS] == [
        [name] * 3 for name in ("train", "validation", "test")
    ]
    rows[0]["split"] = "train"  # a column comes first, and the other lines are in no part
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [line.id for line in read(tmp_path).lines] == ["test/0"]


def test_lines_without_a_folder_share_no_document(tmp_path: Path) -> None:
    pictures(tmp_path, "0.png", "1.png", "2.png")
    rows = [f"{n}.png\ttext\t{part}\n" for n, part in enumerate(data.PARTS)]
    (tmp_path / "x.tsv").write_text("image\ttext\tsplit\n" + "".join(rows))
    assert read(tmp_path).notes == []


def test_a_part_has_one_table(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pictures(tmp_path, f"{part}/0.png")
        (tmp_path / part / "metadata.csv").write_text("file_name,text\n0.png,csv\n")
        (tmp_path / part / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "jsonl"}\n')
    assert [line.text for line in read(tmp_path).lines] == ["jsonl", "jsonl"]


def test_lines_whose_ids_have_slashes_stay_on_their_page(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{page}.png" for page in "abc"))
    for page in "abc":
        lines = [Marked(f"r{n}/l", f"{page}{n}", ((0, 0), (29, 0), (29, 19), (0, 19)), (), "") for n in range(4)]
        xml.write(page_module.new(f"{page}.png", load.size(tmp_path / f"{page}.png"), lines), tmp_path / f"{page}.xml")
    dataset = read(tmp_path)
    assert [len({line.text[0] for line in dataset.part(part)}) for part in data.PARTS] == [1, 1, 1]
    assert not any("documents are in" in note for note in dataset.notes)
    assert {line.text[0] for line in read(tmp_path, "data.exclude=[a]").lines} == {"b", "c"}


def test_the_largest_document_is_used_for_training(tmp_path: Path) -> None:
    for folder, number in (("a", 90), ("b", 6), ("c", 4)):
        pictures(tmp_path, *(f"{folder}/{n}.png" for n in range(number)))
        for n in range(number):
            (tmp_path / f"{folder}/{n}.gt.txt").write_text(f"{folder} {n}")
    for seed in range(6):
        dataset = read(tmp_path, f"data.seed={seed}")
        assert len(dataset.train) >= 90
        assert dataset.val
        assert dataset.test


def test_resized_and_rotated_pages(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "one.xml").write_text(
        PAGE_XML.format(version="2019").replace('"400"', '"800"').replace('"200"', '"400"')
    )
    assert every(read(tmp_path))[0].region == ((5, 5), (55, 5), (30, 25))
    assert every(read(tmp_path))[0].baseline == ((5, 22), (55, 22))
    # EXIF orientation: pixels and size are rotated.
    turned = Image.fromarray(page.T[:, ::-1])
    exif = turned.getexif()
    exif[0x0112] = 8
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert load.size(tmp_path / "turned.jpg", upright=False) == (200, 400)
    assert load.size(tmp_path / "turned.jpg") == load.read(tmp_path / "turned.jpg").shape[::-1] == (400, 200)


def test_other_files_in_an_export(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/one.xml").write_text(PAGE_XML.format(version="2019"))
    (tmp_path / "mets.xml").write_text("<mets/>")
    (tmp_path / "metadata.xml").write_text("<trpDocMetadata/>")
    assert len(every(read(tmp_path))) == 3
    (tmp_path / "page/two.xml").write_text(PAGE_XML.format(version="2019"))
    with pytest.raises(Error, match=r"two\.xml: its image .*a page\.png is that of .*one\.xml already"):
        read(tmp_path)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", ["page", "alto", "gt", "table", "iam"])
def test_converted_datasets_are_read_back(drawn: Path, tmp_path: Path, kind: str) -> None:
    done = invoke("data", "convert", drawn, tmp_path / "out", "--to", kind)
    assert done.exit_code == 0, done.output
    before, after = read(drawn), read(tmp_path / "out")
    assert detect(tmp_path / "out") == kind
    if kind == "iam":  # a table beside its folders does not make it one
        (tmp_path / "out/manifest.tsv").write_text("image\ttext\n")
        assert detect(tmp_path / "out") == "iam"
    for part in ("train", "val", "test"):
        one, other = before.part(part), {line.text: line for line in after.part(part)}
        assert len(one) == len(after.part(part)) > 0
        for line in one:
            found = other[line.text]
            pixels = load.read_line(found.image, found.region)
            assert kind not in ("table", "iam") or found.writer == line.writer
            assert np.array_equal(pixels, load.read_line(line.image, line.region))
    again = invoke("data", "convert", drawn, tmp_path / "out", "--to", kind)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_from_page_to_alto_and_back(tmp_path: Path, page: np.ndarray) -> None:
    source = tmp_path / "source"
    (source / "xml").mkdir(parents=True)
    (tmp_path / "a page.png").rename(source / "a page.png")
    (source / "xml/one.xml").write_text(PAGE_XML.format(version="2013"))
    assert invoke("data", "convert", source, tmp_path / "alto", "--to", "alto").exit_code == 0
    done = invoke("data", "convert", tmp_path / "alto", tmp_path / "page", "--to", "page")
    assert done.exit_code == 0
    assert "of the 1 XML files read, they hold the lines with text, nothing else" in done.output
    one, other, third = (read(root) for root in (source, tmp_path / "alto", tmp_path / "page"))
    for part in ("train", "val", "test"):
        assert [(x.text, x.region, x.baseline) for x in one.part(part)] == [
            (x.text, x.region, x.baseline) for x in other.part(part)
        ]
        assert [(x.text, x.region, x.baseline) for x in one.part(part)] == [
            (x.text, x.region, x.baseline) for x in third.part(part)
        ]


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_lines_of_a_page_in_several_parts_keep_their_order(tmp_path: Path, page: np.ndarray, kind: str) -> None:
    source = tmp_path / "source"
    (source / "lists").mkdir(parents=True)
    (tmp_path / "a page.png").rename(source / "a page.png")
    (source / "one.xml").write_text(PAGE_XML.format(version="2019"))
    for part, n in (("train", 3), ("val", 2), ("test", 1)):
        (source / f"lists/{part}.txt").write_text(f"one/l{n}\n")
    assert invoke("data", "convert", source, tmp_path / "out", "--to", kind).exit_code == 0
    lines = sorted(read(tmp_path / "out").lines, key=lambda line: line.place)
    assert [line.text for line in lines] == ["café & co", "by its baseline", "two words"]


def test_a_network_trains_on_pages(drawn: Path, tmp_path: Path) -> None:
    assert invoke("data", "convert", drawn, tmp_path / "pages", "--to", "page").exit_code == 0
    settings = tmp_path / "c.yaml"
    settings.write_text(config.dump(config.load(None, [*TINY, "train.epochs=1", f"data.root={tmp_path / 'pages'}"])))
    done = invoke("train", "--config", settings, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "split pages: " in done.output


def test_summary(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version="2019"))
    done = invoke("data", "summary", tmp_path, "--format", "page", "--json")
    found = json.loads(done.stdout)
    texts = "café & co" + "by its baseline" + "two words"
    assert (found["lines"], found["empty_lines"], found["pages"], found["writers"]) == (4, 1, 1, 0)
    assert found["characters"] == len(texts)
    assert found["charset"] == "".join(sorted(set(texts)))
    assert found["frequencies"]["o"] == texts.count("o")
    assert found["train"] + found["val"] + found["test"] == 3
    assert [line["fault"] for line in found["suspicious"]] == ["has no text"]
    table = invoke("data", "summary", tmp_path, "--picture", tmp_path / "s.png")
    assert "4, 1 of them without text" in table.output
    assert min(load.read(tmp_path / "s.png").shape) > 300


def test_suspicious_lines(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(4)))
    Image.new("L", (3, 20)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    rows = ["0.png\tgood", "1.png\tnarrow", "2.png\tbroken", f"3.png\t{'much ' * 60}"]
    (tmp_path / "x.tsv").write_text("image\ttext\n" + "\n".join(rows) + "\n")
    found = json.loads(invoke("data", "summary", tmp_path / "x.tsv", "--json").stdout)
    faults = {line["id"]: line["fault"] for line in found["suspicious"]}
    assert set(faults) == {"1", "2", "3"}
    assert "3 x 20 pixels" in faults["1"]
    assert "damaged, or not an image" in faults["2"]
    assert "steps" in faults["3"]
    bad = invoke("data", "summary", tmp_path / "nowhere", "--format", "page")
    assert bad.exit_code == 2
    assert "no such folder" in bad.output


def test_real_pages() -> None:
    if not PAGES.is_dir():
        pytest.skip(f"{PAGES} is not there: real PAGE and ALTO pages")
    page, alto = (every(read(PAGES / "timeus" / kind)) for kind in ("page", "alto"))
    assert len(page) == 57
    assert [(x.text, x.region, x.baseline) for x in page] == [(x.text, x.region, x.baseline) for x in alto]
    assert {x.image.name for x in page} == {"PH 1858-15.jpg", "PH 1858-102.jpg"}
    for line in page[:3]:
        assert min(load.read_line(line.image, line.region).shape) > 50
    assert len(every(read(PAGES / "testaments"))) == 24
    assert len(every(read(PAGES / "lectaurep"))) == 91


def test_the_config_names_every_format() -> None:
    names = get_args(config.Data.model_fields["format"].annotation)
    assert set(names) == {"auto", *FORMATS}


def test_only_the_formats_use_their_element_names() -> None:
    names = re.compile(r"PcGts|\bTextLine|TextEquiv|TextRegion|imageFilename|\bCONTENT\b|primaresearch|standards/alto")
    files = [path for path in (REPOSITORY / "hwr").rglob("*.py") if path.parent.name != "formats"]
    assert len(files) > 40
    assert [path.name for path in files if names.search(path.read_text())] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-32-be", "utf-7", "cp037"])
def test_entities_are_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.xml"
    stated = {"utf-32-be": "utf-32"}.get(encoding, encoding)
    text = f"<?xml version='1.0' encoding='{stated}'?><!DOCTYPE a [<!ENTITY e 'secret'>]><a b='&e;'/>"
    # UTF-7 is ASCII until it is declared.
    head, mark, rest = text.partition("?>")
    content = (
        (head + mark).encode() + rest.replace("<", "+ADw-").encode() if encoding == "utf-7" else text.encode(encoding)
    )
    path.write_bytes(content)
    with pytest.raises(Error, match=r"x\.xml:1: (declares an XML entity|not well-formed XML)") as caught:
        xml.parse(path)
    assert "secret" not in str(caught.value)
    if encoding in ("utf-8", "utf-16", "utf-32"):
        assert "declares an XML entity" in str(caught.value)
        path.write_bytes(f"<?xml version='1.0' encoding='{stated}'?><a b='é'/>".encode(encoding))
        assert xml.parse(path).get("b") == "é"


def test_parameter_entities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes("<?xml version='1.0' encoding='utf-32'?><!DOCTYPE a [<!ENTITY % p ''>%p;]><a/>".encode("utf-32"))
    with pytest.raises(Error, match="declares an XML entity"):
        xml.parse(path)


def test_set_data_format_is_used_unless_format_is_given(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "a.gt.txt").write_text("from the pair")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "from the table, longer"}))

    def characters(*more: str) -> int:
        done = invoke("data", "summary", tmp_path, "--json", *more)
        assert done.exit_code == 0, done.output
        return int(json.loads(done.stdout)["characters"])

    assert characters() == len("from the table, longer")
    for more in (["--set", "data.format=gt"], ["--set", "data={format: gt}"], ["--format", "gt"]):
        assert characters(*more) == len("from the pair")
    assert characters("--format", "gt", "--set", "data.format=gt") == len("from the pair")
    (tmp_path / "c.yaml").write_text("data: {format: gt, root: elsewhere}")
    assert characters("--config", str(tmp_path / "c.yaml")) == len("from the pair")
    assert characters("--config", str(tmp_path / "c.yaml"), "--format", "table") == len("from the table, longer")
    for command in (["summary", tmp_path], ["convert", tmp_path, tmp_path / "out", "--to", "table"]):
        for given in ("data.format=gt", "data={format: gt}", "data.format=auto"):
            done = invoke("data", *command, "--format", "table", "--set", given)
            assert done.exit_code == 2
            assert re.search(r"data\.format is (gt|auto) but --format is table", done.output)
        for given in ("data.root=elsewhere", "data={root: elsewhere}", f"data.root={tmp_path}"):
            done = invoke("data", *command, "--set", given)
            assert done.exit_code == 2
            assert re.search(r"data\.root is \S+ but PATH is ", done.output)
    done = invoke("data", "convert", tmp_path, tmp_path / "out", "--to", "table", "--set", "data.format=gt")
    assert done.exit_code == 0, done.output
    assert "from the pair" in (tmp_path / "out/metadata.jsonl").read_text()


def test_unknown_names_of_formats(tmp_path: Path) -> None:
    for options in (["--format", "tabel", "--to", "gt"], ["--to", "auto"]):
        done = invoke("data", "convert", tmp_path, tmp_path / "out", *options)
        assert done.exit_code == 2
        assert "is not one of" in done.output
    assert "[iam|table|page|alto|gt]" in invoke("data", "convert", "--help").output


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "list.json").write_text("[]")
    done = invoke("data", "summary", tmp_path)
    assert done.exit_code == 2
    assert "a.txt" not in done.output
    (tmp_path / "a.txt").write_text("a text")
    done = invoke("data", "summary", tmp_path)
    assert done.exit_code == 2
    assert "a.txt should be called a.gt.txt" in done.output
    for layout in ("a.png, a.gt.txt", "PAGE XML", "ALTO XML", "metadata.jsonl", "hwr iam download"):
        assert layout in done.output
    done = invoke("data", "summary", tmp_path / "list.json")
    assert "list.json: no dataset in a known format" in done.output
    for kind in ("gt", "iam"):
        done = invoke("data", "summary", tmp_path / "list.json", "--format", kind)
        assert "list.json: is a file, and a folder is needed" in done.output
    assert "is neither an XML file" in invoke("data", "summary", tmp_path / "list.json", "--format", "page").output
    assert "no such file or folder" in invoke("data", "summary", tmp_path / "none.tsv").output
    assert "hwr iam download" in invoke("data", "summary", tmp_path / "nowhere").output


def test_xml_of_another_kind_beside_pages_is_noted(tmp_path: Path, page: np.ndarray) -> None:
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version="2019"))
    (tmp_path / "tei.xml").write_text("<TEI/>")
    dataset = read(tmp_path)
    assert len(every(dataset)) == 3
    assert any("1 XML file is in another format" in note and "tei.xml:1" in note for note in dataset.notes)


def test_words_replace_an_empty_text(tmp_path: Path, page: np.ndarray) -> None:
    text = PAGE_XML.format(version="2019").replace(
        "</Word></TextLine>", "</Word><TextEquiv><Unicode/></TextEquiv></TextLine>"
    )
    (tmp_path / "one.xml").write_text(text)
    assert {line.id: line.text for line in every(read(tmp_path))}["one/l3"] == "two words"


EQUIVALENTS = {
    "glyphs": "<Word id='w'>{}</Word>".format("".join(f"<Glyph>{text}</Glyph>" for text in ("T", "o"))),
    "words and glyphs": "<TextEquiv><Unicode/></TextEquiv><Word><TextEquiv><Unicode>To</Unicode></TextEquiv></Word>",
    "plain text": "<TextEquiv><PlainText>To</PlainText></TextEquiv>",
    "plain text beside an empty one": "<TextEquiv><PlainText>To</PlainText><Unicode></Unicode></TextEquiv>",
    "an alternative": "<TextEquiv index='0'><Unicode>\u200b</Unicode></TextEquiv><TextEquiv index='1'><Unicode>To</Unicode></TextEquiv>",
    "no number": "<TextEquiv index='first'><Unicode>To</Unicode></TextEquiv><TextEquiv index='1'><Unicode>Too</Unicode></TextEquiv>",
}


@pytest.mark.parametrize("kind", EQUIVALENTS)
def test_texts_of_page_in_other_elements(kind: str) -> None:
    from lxml import etree

    inner = EQUIVALENTS[kind]
    if "Glyph" in inner:
        inner = inner.replace("<Glyph>", "<Glyph><TextEquiv><Unicode>").replace(
            "</Glyph>", "</Unicode></TextEquiv></Glyph>"
        )
    assert page_module.text_of(etree.fromstring(f"<TextLine>{inner}</TextLine>")) == "To"


@pytest.mark.parametrize(
    "string",
    [
        '<String CONTENT=""><Glyph CONTENT="T"/><Glyph CONTENT="o"/></String>',
        "<String><ALTERNATIVE>To</ALTERNATIVE></String>",
    ],
)
def test_texts_of_alto_in_other_elements(tmp_path: Path, string: str) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "a.xml").write_text(
        f"<alto><Layout><Page><PrintSpace><TextBlock><TextLine ID='l' HPOS='1' VPOS='1' WIDTH='9' HEIGHT='9'>{string}"
        "</TextLine></TextBlock></PrintSpace></Page></Layout></alto>"
    )
    assert [line.text for line in every(read(tmp_path))] == ["To"]


def test_a_damaged_page_that_comes_first_does_not_hide_the_others(tmp_path: Path, page: np.ndarray) -> None:
    """Not even while the format is looked for."""
    (tmp_path / "one.xml").write_text(PAGE_XML.format(version="2019"))
    (tmp_path / "a.xml").write_text("<PcGts")
    (tmp_path / "b.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><PcGts/>')
    found = data.read_all(config.load(None, [f"data.root={tmp_path}"]).data)
    assert [fault.id for fault in found.faults] == ["a", "b"]
    assert len(every(found)) == 3


def test_tables_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")

    def texts(*cells: str) -> tuple[list[str], list[str]]:
        rows = [f"{name}.png\t{cell}" for name, cell in zip("abc", cells, strict=False)]
        (tmp_path / "x.tsv").write_bytes("\r\n".join(["image\ttext", *rows, ""]).encode())
        dataset = read(tmp_path / "x.tsv")
        return [line.text for line in every(dataset)], [note for note in dataset.notes if "quotes" in note]

    found, notes = texts('"He said ""hi"", twice"', "plain", '"one, two"')
    assert found == ['He said "hi", twice', "plain", "one, two"]
    assert "as spreadsheets save them" in notes[0]
    # Quotes written by hand stay, and so do ambiguous ones.
    assert texts('"He said ""hi"", twice"', 'a "b" c') == (['"He said ""hi"", twice"', 'a "b" c'], [])
    found, notes = texts('"Come in"', "plain")
    assert found == ['"Come in"', "plain"]
    assert "1 cell is in quotes, which are read as part of the text" in notes[0]


def test_texts_that_iam_can_not_hold_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    pictures(source, *(f"{i}.png" for i in range(3)))

    def write(*texts: str) -> None:
        rows = [
            json.dumps({"file_name": f"{i}.png", "text": text, "split": part, "writer": f"w{i}"})
            for i, (text, part) in enumerate(zip(texts, data.PARTS, strict=True))
        ]
        (source / "metadata.jsonl").write_text("\n".join(rows))

    for bad in ("a &amp; b", "&lt;", "x &#65; y"):
        write("good", bad, "good")
        done = invoke("data", "convert", source, tmp_path / "out", "--to", "iam")
        assert done.exit_code == 2
        assert f"metadata.jsonl:2: line 1: IAM's layout can't hold the text {bad!r}" in done.output
        assert not (tmp_path / "out").exists()
    texts = ['R&D; <b> & "c"', "&nothing;", "&#; &"]
    write(*texts)
    done = invoke("data", "convert", source, tmp_path / "out", "--to", "iam")
    assert done.exit_code == 0, done.output
    assert [line.text for line in every(read(tmp_path / "out"))] == texts
    for kind, noted in (("page", True), ("alto", True), ("gt", True), ("table", False)):
        done = invoke("data", "convert", source, tmp_path / kind, "--to", kind)
        assert ("holds no writers: the 3 of this dataset" in done.output) == noted


@pytest.mark.parametrize("kind", PAGE_FORMATS)
def test_predictions_are_written_into_a_page(kind: str) -> None:
    box = ((10, 10), (60, 10), (60, 30), (10, 30))
    format = PAGE_FORMATS[kind]
    old = [Marked(f"l{i}", f"old {i}", box, (), "x:1") for i in range(3)]
    root = format.new("a.png", (100, 50), old)
    letters = tuple((c, 10 + 5.0 * i, 15 + 5.0 * i, 0.9 - 0.1 * i) for i, c in enumerate("a bc"))
    new = [
        Marked("l0", "a bc", box, (), "x:1", confidence=0.25, characters=letters),
        Marked("l1", "d", box, (), "x:1", confidence=0.5),
        Marked("l2", "", box, (), "x:1", fault="could not be read"),
    ]
    format.update(root, new)
    assert [line.text for line in format.parse(Path("x.xml"), root).lines] == ["a bc", "d", "old 2"]
    if kind == "page":
        assert [e.get("conf") for e in xml.descendants(root, "TextEquiv")] == ["0.2500", "0.5000", None]
        return
    strings = xml.descendants(root, "String")
    assert [(s.get("CONTENT"), s.get("WC"), s.get("HPOS"), s.get("WIDTH")) for s in strings] == [
        ("a", "0.9000", "10", "5"),
        ("bc", "0.6000", "20", "10"),
        ("d", "0.5000", "10", "50"),  # the place of the only String stays
        ("old 2", None, "10", "50"),
    ]


@pytest.mark.parametrize("text", ["new", ""])
@pytest.mark.parametrize(
    "old",
    [
        "<Word><TextEquiv><Unicode>old</Unicode></TextEquiv></Word><TextEquiv><Unicode/></TextEquiv>",
        "<TextEquiv><Unicode>old<!-- ? --> text</Unicode></TextEquiv>",
        "<TextEquiv><Unicode>old</Unicode><Unicode> text</Unicode></TextEquiv>",
    ],
)
def test_nothing_remains_of_an_old_text_of_page(old: str, text: str) -> None:
    root = xml.parse_bytes(f"<PcGts><Page><TextLine>{old}</TextLine></Page></PcGts>".encode(), Path("a"))
    PAGE_FORMATS["page"].update(root, [Marked("l", text, (), (), "", confidence=0.5)])
    (element,) = xml.descendants(root, "TextLine")
    assert page_module.text_of(element) == text


def test_what_is_known_of_an_old_word_of_alto_is_removed_with_it() -> None:
    """And of no other word."""
    known = '<ALTERNATIVE>x</ALTERNATIVE><Glyph CONTENT="x"/>'
    strings = "".join(
        f'<String CONTENT="{word}" HPOS="{x}" VPOS="5" WIDTH="40" HEIGHT="20" CC="111" SUBS_TYPE="HypPart1" '
        f'SUBS_CONTENT="x" STYLEREFS="s">{known}</String>'
        for word, x in (("one", 10), ("two", 60))
    )
    root = xml.parse_bytes(
        f"<alto><Layout><Page><TextLine>{strings}</TextLine></Page></Layout></alto>".encode(), Path("a")
    )
    letters = tuple((c, 10.0 + 10 * i, 18.0 + 10 * i, 0.9) for i, c in enumerate("one too"))
    PAGE_FORMATS["alto"].update(root, [Marked("l", "one too", (), (), "", confidence=0.5, characters=letters)])
    one, two = (dict(string.attrib) for string in xml.descendants(root, "String"))
    size = {"VPOS": "5", "HEIGHT": "20", "STYLEREFS": "s", "WC": "0.9000"}
    about = {"CC": "111", "SUBS_TYPE": "HypPart1", "SUBS_CONTENT": "x"}
    assert one == {"CONTENT": "one", "HPOS": "10", "WIDTH": "40", **size, **about}
    assert two == {"CONTENT": "too", "HPOS": "50", "WIDTH": "28", **size}
    assert [len(string) for string in xml.descendants(root, "String")] == [2, 0]


def test_glyphs_that_are_the_text_of_a_word_of_alto_stay_if_it_is_predicted() -> None:
    glyphs = '<String CONTENT=""><Glyph CONTENT="a"/><Glyph CONTENT="b"/></String>'
    root = xml.parse_bytes(
        f"<alto><Layout><Page><TextLine>{glyphs}</TextLine></Page></Layout></alto>".encode(), Path("a")
    )
    PAGE_FORMATS["alto"].update(root, [Marked("l", "ab", (), (), "", confidence=0.5)])
    (string,) = xml.descendants(root, "String")
    assert [glyph.get("CONTENT") for glyph in string] == ["a", "b"]
    assert string.get("WC") == "0.5000"


@pytest.mark.parametrize(
    ("files", "remark"),
    [
        (("a.png", "one.tsv", "two.tsv"), r"to read a table, name it: data\.root=.*one\.tsv or another of the 2"),
        (("x/a.png", "x/labels.csv"), r"to read a table, name it: data\.root=.*x/labels\.csv;"),
        (("a.png", "a.xlsx"), "save a.xlsx as CSV"),
        (("a.zip",), "unpack a.zip first"),
        (("a.png",), "images without texts, which `hwr predict` reads"),
        ((), "no dataset in a known format"),
    ],
)
def test_what_is_nearly_a_dataset_has_a_remark(tmp_path: Path, files: tuple[str, ...], remark: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Error, match=remark):
        read(tmp_path)
