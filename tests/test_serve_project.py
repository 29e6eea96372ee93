"""The workbench's folder: PAGE files edited in place, conflicts, versions, turned photos."""

import errno
import gzip
import html
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from hwr import Error, config, data
from hwr.data.formats import alto, page_edit, xml
from hwr.data.formats import page as page_format
from hwr.data.formats.shapes import Marked
from hwr.recognizer import Reading
from hwr.serve.api import pictures
from hwr.serve.project import adding, edits, export, outlines, uploads
from hwr.serve.project.coordinates import Frame
from hwr.serve.project.database import Store
from hwr.serve.project.edits import Found
from hwr.serve.project.folder import Project
from hwr.serve.project.page_state import Conflict, Missing, PageState
from hwr.serve.project.uploads import Upload
from hwr.serve.reading import sent_files

PAGES = Path(__file__).parents[2] / "shared/pages"
FOREIGN = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<!-- a remark before the root -->
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15" xmlns:o="urn:other">
  <Metadata><Creator>someone</Creator><Created>2020-01-01T00:00:00</Created><LastChange>2020-01-01T00:00:00</LastChange>
    <TranskribusMetadata docId="1" status="GT"/></Metadata>
  <Page imageFilename="a.png" imageWidth="400" imageHeight="200">
    <ReadingOrder><OrderedGroup id="ro"><RegionRefIndexed index="0" regionRef="r"/></OrderedGroup></ReadingOrder>
    <TextRegion id="r" custom="readingOrder {index:0;}">
      <Coords points="0,0 399,0 399,199 0,199"/>
      <TextLine id="l1" custom="readingOrder {index:0;} structure {type:heading;}">
        <Coords points="10,10 110,10 110,50 10,50"/><Baseline points="10,45 110,45"/>
        <TextEquiv conf="0.7"><Unicode>one</Unicode></TextEquiv></TextLine>
      <TextLine id="l2" custom="readingOrder {index:1;}">
        <Coords points="10,100 300,100 300,140 10,140"/>
        <Word id="w"><Coords points="10,100 300,100 300,140 10,140"/><TextEquiv><Unicode>two</Unicode></TextEquiv></Word>
        <TextEquiv><Unicode>two</Unicode></TextEquiv><TextStyle fontSize="9"/></TextLine>
      <TextEquiv><Unicode>one two</Unicode></TextEquiv>
    </TextRegion>
    <GraphicRegion id="g"><Coords points="0,0 9,0 9,9"/></GraphicRegion>
  </Page>
</PcGts>"""


def photo(path: Path, size: tuple[int, int] = (400, 200), orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    photo(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(FOREIGN, encoding="utf-8")
    return Project(tmp_path)


def only(project: Project) -> PageState:
    (found,) = project.pages()
    return found


def root_of(page: PageState) -> Any:
    return xml.parse(page.xml)


def shown(page: PageState) -> list[tuple[str, str, str]]:
    return [(line.id, line.text, line.state) for line in page.lines]


def correct(project: Project, page: PageState, line: str, text: str) -> PageState:
    return edits.set_text(project, page.id, line, text, True, page.line(line).revision)


def test_the_states_of_lines_and_pages(project: Project) -> None:
    page = only(project)
    assert shown(page) == [("l1", "one", "read"), ("l2", "two", "given")]
    assert page.line("l1").confidence == 0.7
    assert page.state == "read"
    page = correct(project, page, "l1", " one! ")
    assert shown(page)[0] == ("l1", "one!", "checked")
    assert page.state == "in progress"
    page = edits.check_all(project, page.id, page.revision)
    assert page.state == "done"


def test_a_correction_changes_nothing_else(project: Project) -> None:
    before = root_of(only(project))
    page = correct(project, only(project), "l1", "one & <b>more</b>")
    after = root_of(page)
    line = page_edit.find(after, "l1")
    assert line.get("custom") == "readingOrder {index:0;} structure {type:heading;} groundTruth {}"
    assert "a remark before the root" in page.xml.read_text(encoding="utf-8")
    assert data.read(config.load(None, [f"data.root={project.root}"]).data).train
    for root in (before, after):  # the rest is equal, to the byte
        for element in xml.descendants(root, "LastChange"):
            element.text = ""
        element = page_edit.find(root, "l1")
        element.getparent().remove(element)
        for region in xml.descendants(root, "TextRegion"):
            xml.remove(region, "TextEquiv")
    assert etree.tostring(before, method="c14n").split() == etree.tostring(after, method="c14n").split()


def test_a_correction_changes_no_other_byte(project: Project) -> None:
    odd = (
        FOREIGN.replace("\n", "\r\n").replace('"g"', "'g' ").replace("someone", "<![CDATA[some]]>&#111;ne")
        + "\r\n<!-- -->\n"
    )
    odd = odd.replace("UTF-8", "ISO-8859-1").replace("<TextEquiv><Unicode>one two</Unicode></TextEquiv>", "")
    only(project).xml.write_bytes(odd.encode("latin-1"))
    content = correct(project, only(project), "l1", "é €").xml.read_bytes().decode("latin-1")
    content = re.sub("(?<=<LastChange>)[^<]+", "2020-01-01T00:00:00", content)
    custom = "structure {type:heading;}"
    new = odd.replace(custom, f"{custom} groundTruth {{}}").replace(' conf="0.7"><Unicode>one', "><Unicode>é &#8364;")
    assert content == new
    # Saving what is there already writes nothing.
    page = only(project)
    for change in (
        lambda: correct(project, page, "l1", "é €"),
        lambda: edits.set_shape(
            project, page.id, "l1", page.lines[0].polygon, page.lines[0].baseline, page.lines[0].revision
        ),
        lambda: edits.move(project, page.id, "l2", "l1", page.revision),
    ):
        stamp = page.xml.stat()
        assert change() == page
        assert (page.xml.stat().st_mtime_ns, page.xml.stat().st_ino) == (stamp.st_mtime_ns, stamp.st_ino)


def test_the_text_of_a_region_follows_its_lines(project: Project) -> None:
    text = FOREIGN.replace("<TextEquiv><Unicode>one two<", '<TextEquiv conf="0.9"><Unicode>one\ntwo<')
    only(project).xml.write_text(text, encoding="utf-8")

    def region() -> list[str]:
        (element,) = xml.descendants(root_of(only(project)), "TextRegion")
        return ["".join(e.itertext()) for e in xml.children(element, "TextEquiv")]

    page = correct(project, only(project), "l1", "mine")
    assert region() == ["mine\ntwo"]
    (equivalent,) = xml.children(xml.descendants(root_of(page), "TextRegion")[0], "TextEquiv")
    assert not equivalent.attrib  # the confidence was that of the old text
    page = edits.move(project, page.id, "l2", None, page.revision)
    assert region() == ["two\nmine"]
    edits.delete(project, page.id, ["l2"], page.revision)
    assert region() == ["mine"]
    only(project).xml.write_text(FOREIGN, encoding="utf-8")  # another text: it is not known what would follow
    page = edits.check_all(project, page.id, only(project).revision)
    assert region() == ["one two"]
    correct(project, page, "l1", "mine")
    assert region() == []
    # Of several texts, none would be true.
    several = text.replace("    </TextRegion>", "<TextEquiv><Unicode>old</Unicode></TextEquiv></TextRegion>")
    only(project).xml.write_text(several, encoding="utf-8")
    correct(project, only(project), "l1", "mine")
    assert region() == []


def test_accepting_a_text_keeps_its_words(project: Project) -> None:
    page = correct(project, only(project), "l2", "two")
    assert xml.children(page_edit.find(root_of(page), "l2"), "Word")
    page = correct(project, page, "l1", "one")
    assert "conf" not in xml.children(page_edit.find(root_of(page), "l1"), "TextEquiv")[0].attrib  # no prediction now
    page = correct(project, page, "l2", "too")
    assert [xml.local(e) for e in page_edit.find(root_of(page), "l2")] == ["Coords", "TextEquiv", "TextStyle"]


def test_the_confidence_of_a_line() -> None:
    """It is between 0 and 1, whatever scale another program has; nothing that is read is a prediction, too."""
    found = {}
    for stated in ("0.7", "87.5", "-1", "high"):
        content = FOREIGN.replace('conf="0.7"', f'conf="{stated}"').encode()
        found[stated] = page_edit.parse(content, Path("a.xml"))[2][0].confidence
    assert found == {"0.7": 0.7, "87.5": 1.0, "-1": 0.0, "high": None}
    content = FOREIGN.replace('<TextEquiv conf="0.7"><Unicode>one</Unicode></TextEquiv>', "").encode()
    document, _, (before, _) = page_edit.parse(content, Path("a.xml"))
    page_edit.set_text(document.root, "l1", "", 0.25, checked=False)
    _, _, (after, _) = page_edit.parse(document.content(), Path("a.xml"))
    assert (before.confidence, after.confidence) == (None, 0.25)


def test_a_line_before_all_others_and_without_it() -> None:
    """The lines are numbered as Transkribus does."""
    document, _, _ = page_edit.parse(FOREIGN.encode(), Path("a.xml"))

    def places() -> list[tuple[str, str]]:
        lines = xml.descendants(document.root, "TextLine")
        return [(line.get("id"), *re.findall(r"index:(\d+)", line.get("custom"))) for line in lines]

    new = page_edit.add(document.root, ((0, 0), (9, 0), (9, 9)))
    assert places() == [(new, "0"), ("l1", "1"), ("l2", "2")]
    page_edit.delete(document.root, new)
    assert places() == [("l1", "0"), ("l2", "1")]


def test_the_first_text_of_a_line_comes_before_its_style(project: Project) -> None:
    """As the schema has it."""
    text = FOREIGN.replace("<TextEquiv><Unicode>two</Unicode></TextEquiv><TextStyle", "<TextStyle")
    only(project).xml.write_text(text, encoding="utf-8")
    page = correct(project, only(project), "l2", "too")
    assert [xml.local(e) for e in page_edit.find(root_of(page), "l2")] == ["Coords", "TextEquiv", "TextStyle"]


def test_marks_on_parts_of_a_text_are_removed_with_it(project: Project) -> None:
    marks = "abbrev {offset:0; length:2; expansion:one;} person {offset:1; length:1;}"
    text = FOREIGN.replace("structure {type:heading;}", f"{marks} structure {{type:heading;}}")
    only(project).xml.write_text(text, encoding="utf-8")

    def custom(page: PageState) -> str:
        return str(page_edit.find(root_of(page), "l1").get("custom"))

    page = correct(project, only(project), "l1", "one")
    assert custom(page) == f"readingOrder {{index:0;}} {marks} structure {{type:heading;}} groundTruth {{}}"
    page = correct(project, page, "l1", "only")
    assert custom(page) == "readingOrder {index:0;} structure {type:heading;} groundTruth {}"


def test_lines_are_moved_between_regions(project: Project) -> None:
    second = """<TextRegion id="r2"><Coords points="0,0 9,0 9,9"/>
      <TextLine id="l3" custom="readingOrder {index:0;}"><Coords points="10,60 110,60 110,80"/></TextLine>
      <TextLine id="l4" custom="readingOrder {index:1;}"><Coords points="10,150 110,150 110,180"/></TextLine>
    </TextRegion><GraphicRegion"""
    only(project).xml.write_text(FOREIGN.replace("<GraphicRegion", second), encoding="utf-8")
    page = only(project)
    page = edits.move(project, page.id, "l3", "l1", page.revision)
    assert [line.id for line in page.lines] == ["l1", "l3", "l2", "l4"]
    regions = xml.descendants(root_of(page), "TextRegion")
    for region, ids in zip(regions, (["l1", "l3", "l2"], ["l4"]), strict=True):
        lines = xml.children(region, "TextLine")
        assert [line.get("id") for line in lines] == ids
        assert [re.findall(r"index:(\d+)", line.get("custom")) for line in lines] == [[str(i)] for i in range(len(ids))]


def test_a_line_loses_its_baseline_if_it_gets_none(project: Project) -> None:
    page = only(project)
    line = page.line("l1")
    assert line.baseline
    page = edits.set_shape(project, page.id, "l1", line.polygon, (), line.revision)
    assert (page.line("l1").polygon, page.line("l1").baseline) == (line.polygon, ())
    assert not xml.children(page_edit.find(root_of(page), "l1"), "Baseline")


def test_a_second_window_overwrites_nothing(project: Project) -> None:
    seen = only(project)
    correct(project, seen, "l1", "mine")
    with pytest.raises(Conflict):
        correct(project, seen, "l1", "theirs")
    correct(project, seen, "l2", "another line of the same page is no conflict")
    with pytest.raises(Conflict):
        edits.delete(project, seen.id, ["l1"], seen.revision)
    assert [line.text for line in only(project).lines] == ["mine", "another line of the same page is no conflict"]


def test_changes_by_other_programs_are_seen(project: Project) -> None:
    seen = only(project)
    seen.xml.write_text(FOREIGN.replace(">one<", ">elsewhere<"), encoding="utf-8")
    assert only(project).lines[0].text == "elsewhere"
    with pytest.raises(Conflict):
        correct(project, seen, "l1", "mine")


def test_many_writers_lose_nothing(project: Project) -> None:
    """Each thread appends its letter until it succeeds, on one line."""

    def write(letter: str) -> None:
        for _ in range(5):
            while True:
                page = project.page(id)
                try:
                    correct(project, page, "l1", page.line("l1").text + letter)
                    break
                except Conflict:
                    pass

    id = only(project).id
    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = only(project).lines[0].text.removeprefix("one")
    assert sorted(text) == sorted("abcd" * 5)


def test_predictions_spare_checked_given_and_changed_lines(project: Project) -> None:
    page = only(project)
    readings = {line.id: Reading("read", 0.5) for line in page.lines}
    assert shown(edits.read_into(project, page.id, page.lines, readings))[1] == ("l2", "two", "given")
    page = correct(project, only(project), "l1", "mine")
    edits.read_into(project, page.id, page.lines, readings, given=True)
    assert shown(only(project)) == [("l1", "mine", "checked"), ("l2", "read", "read")]
    seen = only(project)
    edits.set_text(project, page.id, "l2", "typed meanwhile", False, seen.line("l2").revision)
    edits.read_into(project, page.id, seen.lines, readings, given=True)
    assert only(project).lines[1].text == "typed meanwhile"


def test_the_first_line_of_a_page_can_be_undone(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    project = Project(tmp_path)
    first = only(project)
    page = edits.add(project, first.id, ((10, 10), (110, 10), (110, 50), (10, 50)), (), None, first.revision)
    assert len(page.lines) == 1
    (version,) = project.versions(page.id)
    assert not project.restore(page.id, version, page.revision).lines


def test_versions_and_undo(project: Project) -> None:
    first = only(project)
    page = correct(project, first, "l1", "mine")
    page = correct(project, page, "l1", "mine again")
    assert len(project.versions(page.id)) == 1  # one a minute
    page = edits.delete(project, page.id, ["l1"], page.revision)
    assert len(project.versions(page.id)) == 2
    page = project.restore(page.id, project.versions(page.id)[0], page.revision)
    assert page.lines[0].text == "mine again"
    page = project.restore(page.id, project.versions(page.id)[-1], page.revision)
    assert page.revision == first.revision
    with pytest.raises(Missing):
        project.restore(page.id, 1, page.revision)
    after = correct(project, page, "l1", "mine")
    back = edits.put_back(project, page.id, "l1", "one", "read", 0.7, after.line("l1").revision)
    assert back.line("l1") == page.line("l1")
    # A text of the file is one again, also where the recognizer has read the same.
    read = edits.read_into(project, page.id, back.lines, {"l2": Reading("two", 0.7)}, given=True)
    back = edits.put_back(project, page.id, "l2", "two", "given", None, read.line("l2").revision)
    assert back.line("l2") == page.line("l2")
    with pytest.raises(Conflict):
        project.restore(page.id, project.versions(page.id)[0], page.revision)
    assert only(project) == back
    after = correct(project, back, "l2", "too")
    back = edits.put_back(project, page.id, "l2", "two", "given", 0.7, after.line("l2").revision)
    assert back.line("l2") == page.line("l2")  # a confidence belongs to predictions only


def test_the_newest_version_is_first_whatever_the_clock_says(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    page = only(project)
    page = edits.move(project, page.id, "l2", None, page.revision)
    monkeypatch.setattr("hwr.serve.project.folder.time.time", lambda: 1e9)  # the clock is set back
    page = correct(project, page, "l1", "mine")  # makes a version, too
    page = edits.delete(project, page.id, ["l1"], page.revision)
    assert len(project.versions(page.id)) == 3
    page = project.restore(page.id, project.versions(page.id)[0], page.revision)
    assert page.line("l1").text == "mine"


def test_the_oldest_versions_are_deleted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwr.serve.project.folder.MOST_VERSIONS", 3)
    page, seen = only(project), list[int]()
    for _ in range(3):
        for after in (None, "l1"):
            page = edits.move(project, page.id, "l2", after, page.revision)
            seen.append(project.versions(page.id)[0])
    assert project.versions(page.id) == sorted(set(seen))[:-4:-1]


@pytest.mark.parametrize(
    "damage", [b"", b"no archive", b"cut", b"changed", gzip.compress(b"", mtime=0), gzip.compress(b"<a/>", mtime=0)]
)
def test_a_damaged_version_is_not_restored(project: Project, damage: bytes) -> None:
    page = correct(project, only(project), "l1", "mine")
    (version,) = project.versions(page.id)
    (path,) = (project.hidden / "versions").rglob("*.gz")
    good = path.read_bytes()
    if damage == b"cut":
        damage = good[: len(good) // 2]
    if damage == b"changed":
        damage = good[:20] + b"\xff" * 20 + good[40:]
    path.write_bytes(damage)
    before = page.xml.read_bytes()
    with pytest.raises(Error, match=r"version of .* is damaged"):
        project.restore(page.id, version, page.revision)
    assert page.xml.read_bytes() == before
    with pytest.raises(Missing):
        project.restore(page.id, 10**400, page.revision)


def test_lines_are_added_split_merged_moved_and_deleted(project: Project) -> None:
    page = only(project)
    box = ((10, 60), (200, 60), (200, 90), (10, 90))
    page = edits.add(project, page.id, box, (), "l1", page.revision)
    assert [line.id for line in page.lines] == ["l1", "hwr_line_1", "l2"]
    assert page.lines[1].polygon == box
    orders = [line.get("custom").split(";")[0] for line in xml.descendants(root_of(page), "TextLine")]
    assert orders == [f"readingOrder {{index:{i}" for i in range(3)]
    page = edits.move(project, page.id, "l2", None, page.revision)
    assert [line.id for line in page.lines] == ["l2", "l1", "hwr_line_1"]
    page = edits.split(project, page.id, "l2", 100, 1, page.revision)
    assert shown(page)[:2] == [("l2", "t", "given"), ("hwr_line_2", "wo", "given")]
    assert outlines.box(page.lines[0].polygon) == (10, 100, 100, 140)
    assert outlines.box(page.lines[1].polygon) == (100, 100, 300, 140)
    page = edits.move(project, page.id, "hwr_line_2", None, page.revision)
    page = edits.merge(project, page.id, ["hwr_line_2", "l2"], page.revision)
    assert page.lines[0].text == "t wo"  # from left to right, whichever comes first in the reading order
    assert outlines.box(page.lines[0].polygon) == (10, 100, 300, 140)
    page = edits.delete(project, page.id, [line.id for line in page.lines], page.revision)
    assert not page.lines
    page = edits.add(project, page.id, box, (), None, page.revision)
    assert [xml.local(e) for e in xml.descendants(root_of(page), "TextRegion")[0]] == ["Coords", "TextLine"]
    for wrong in (((0, 0), (1, 1)), ((5, 5), (5, 9), (5, 7))):
        with pytest.raises(Error, match="outline"):
            edits.add(project, page.id, wrong, (), None, page.revision)


def test_split_and_merged_lines_are_as_sure_as_their_parts(project: Project) -> None:
    page = correct(project, only(project), "l2", "two")
    page = edits.split(project, page.id, "l2", 100, 0, page.revision)
    assert shown(page)[1:] == [("l2", "", "empty"), ("hwr_line_1", "two", "checked")]  # an empty text is not checked
    page = edits.split(project, page.id, "l1", 60, 1, page.revision)
    assert [(line.text, line.state, line.confidence) for line in page.lines[:2]] == [
        ("o", "read", 0.7),
        ("ne", "read", 0.7),
    ]
    readings = {"l1": Reading("o", 0.4), "hwr_line_2": Reading("ne", 0.9)}
    page = edits.read_into(project, page.id, page.lines, readings)
    page = correct(project, page, "l1", "o")
    page = edits.merge(project, page.id, ["l1", "hwr_line_2"], page.revision)
    assert shown(page)[0] == ("l1", "o ne", "given")  # no reading replaces what somebody has written
    page = edits.split(project, page.id, "l1", 60, 1, page.revision)
    readings = {page.lines[0].id: Reading("o", 0.4), page.lines[1].id: Reading("ne", 0.8)}
    page = edits.read_into(project, page.id, page.lines, readings, given=True)
    page = edits.merge(project, page.id, list(readings), page.revision)
    assert page.lines[0].confidence == 0.4  # the lower one


def test_slanting_baselines_are_split_and_merged() -> None:
    left, right = outlines.split_baseline(((0, 100), (40, 90), (100, 60)), 60)
    assert (left, right) == (((0, 100), (40, 90), (60, 80)), ((60, 80), (100, 60)))
    assert outlines.merged_baseline([right, left]) == ((0, 100), (40, 90), (60, 80), (100, 60))
    assert outlines.merged_baseline([right, ()]) == ()
    assert outlines.split_baseline(((0, 100), (40, 90)), 200) == (((0, 100), (40, 90)), ())


def test_lines_that_are_upside_down_are_split_and_merged_in_their_direction(project: Project) -> None:
    page = only(project)
    box = ((10, 100), (300, 100), (300, 140), (10, 140))
    page = edits.add(project, page.id, box, ((300, 110), (150, 112), (10, 110)), "l2", page.revision)
    page = correct(project, page, "hwr_line_1", "ab cd")
    page = edits.split(project, page.id, "hwr_line_1", 100, 2, page.revision)
    first, second = page.line("hwr_line_1"), page.line("hwr_line_2")
    assert (first.text, outlines.box(first.polygon)) == ("ab", (100, 100, 300, 140))
    assert (second.text, outlines.box(second.polygon)) == ("cd", (10, 100, 100, 140))
    assert first.baseline == ((300, 110), (150, 112), (100, 111))
    assert second.baseline == ((100, 111), (10, 110))
    page = edits.merge(project, page.id, [second.id, first.id], page.revision)
    assert page.line(first.id).text == "ab cd"
    assert page.line(first.id).baseline == ((300, 110), (150, 112), (100, 111), (10, 110))
    # A line of ordinary text whose baseline was drawn from its end.
    assert outlines.split_baseline(((300, 90), (10, 90)), 100) == (((100, 90), (10, 90)), ((300, 90), (100, 90)))
    merged = outlines.merged_baseline([((90, 9), (10, 9)), ((100, 9), (300, 9))])
    assert merged == ((10, 9), (90, 9), (100, 9), (300, 9))


@pytest.mark.parametrize(
    ("baseline", "first", "second"),
    [
        (((30, 120), (30, 20)), (10, 80, 40, 120), (10, 20, 40, 80)),  # upwards
        (((20, 20), (20, 120)), (10, 20, 40, 60), (10, 60, 40, 120)),  # downwards
        ((), (10, 20, 40, 60), (10, 60, 40, 120)),
        (((10, 110), (40, 110)), (10, 20, 22, 120), (22, 20, 40, 120)),  # across, however high it is
    ],
)
def test_a_line_is_split_across_its_direction(project: Project, baseline: Any, first: Any, second: Any) -> None:
    page = only(project)
    box = ((10, 20), (40, 20), (40, 120), (10, 120))
    page = edits.add(project, page.id, box, baseline, "l2", page.revision)
    page = correct(project, page, "hwr_line_1", "ab cd")
    page = edits.split(project, page.id, "hwr_line_1", None, 2, page.revision)
    parts = [page.line(f"hwr_line_{number}") for number in (1, 2)]
    assert [(part.text, outlines.box(part.polygon)) for part in parts] == [("ab", first), ("cd", second)]
    if baseline:
        ends = [point for part in parts for point in (part.baseline[0], part.baseline[-1])]
        assert (ends[0], ends[3]) == baseline
        assert ends[1] == ends[2]
        if baseline[0][0] == baseline[1][0]:  # vertical: merged, it is as it was
            part = page.line("hwr_line_2")
            aside = tuple((x - 3, y) for x, y in part.polygon)
            page = edits.set_shape(project, page.id, part.id, aside, part.baseline, part.revision)
            page = edits.merge(project, page.id, ["hwr_line_2", "hwr_line_1"], page.revision)
            merged = page.line("hwr_line_1")
            assert merged.text == "ab cd"
            assert (merged.baseline[0], merged.baseline[-1]) == baseline


@pytest.mark.parametrize(
    ("baseline", "start"),
    [
        (((30, 30), (190, 30)), (20, 0, 60, 40)),
        (((190, 10), (30, 10)), (160, 0, 200, 40)),  # upside down
        (((38, 190), (38, 20)), (0, 160, 40, 200)),  # upwards
        (((2, 20), (2, 190)), (0, 20, 40, 60)),  # downwards
    ],
)
def test_the_picture_of_a_line_runs_from_left_to_right(tmp_path: Path, baseline: Any, start: Any) -> None:
    """The beginning of the line is black."""
    sheet = np.full((240, 240), 255, np.uint8)
    left, top, right, bottom = start
    sheet[top:bottom, left:right] = 0
    Image.fromarray(sheet).save(tmp_path / "a.png")
    project = Project(tmp_path)
    across = baseline[0][1] == baseline[1][1]
    box = ((20, 0), (200, 0), (200, 40), (20, 40)) if across else ((0, 20), (40, 20), (40, 200), (0, 200))
    page = edits.add(project, only(project).id, box, baseline, None, "new")
    with Image.open(io.BytesIO(pictures.line_picture(page, page.lines[0])[0])) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] < 60 < 180 < pixels.shape[1]
    assert pixels[:, 12:45].mean() < 80
    assert pixels[:, -45:].mean() > 200


def test_an_image_that_was_replaced_is_seen(project: Project) -> None:
    before = only(project)
    photo(project.root / "a.png", (800, 400))
    after = only(project)
    assert (after.width, after.height) == (800, 400)
    assert [line.polygon for line in after.lines] == [
        tuple((2 * x, 2 * y) for x, y in line.polygon) for line in before.lines
    ]


def test_exported_characters_are_those_of_the_text_on_the_page(project: Project) -> None:
    page = only(project)
    known = {
        "l1": ("one", [["o", 0.0, 9.0, 0.5], ["n", 10.0, 19.0, 0.6], ["e", 20.0, 29.0, 0.7]]),
        "l2": ("tow", [["t", 0.0, 9.0, 0.5], ["o", 10.0, 19.0, 0.6], ["w", 20.0, 29.0, 0.7]]),  # before a correction
    }
    first, second = export.reading_of(page, known).lines
    assert [(c.text, c.left, c.right) for c in first.characters] == [("o", 10, 19), ("n", 20, 29), ("e", 30, 39)]
    assert second.characters == ()
    assert (first.confidence, second.confidence) == (0.7, 1)


def test_lines_without_ids_or_with_the_same_can_be_edited(project: Project) -> None:
    odd = FOREIGN.replace('id="l2"', 'id="l1"').replace("</TextRegion>", "<TextLine/></TextRegion>")
    only(project).xml.write_text(odd, encoding="utf-8")
    page = only(project)
    assert [line.id for line in page.lines] == ["l1", "hwr_line_1", "hwr_line_2"]
    page = correct(project, page, "hwr_line_1", "mine")
    assert [line.text for line in page.lines] == ["one", "mine", ""]
    assert page.line("hwr_line_2").fault


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photos_have_upright_positions(tmp_path: Path, orientation: int) -> None:
    photo(tmp_path / "a.png", (300, 200), orientation)
    project = Project(tmp_path)
    page = only(project)
    assert (page.width, page.height) == ((200, 300) if orientation >= 5 else (300, 200))
    box = ((10, 20), (110, 20), (110, 60), (10, 60))
    page = edits.set_lines(project, page.id, [Found(box)])
    assert page.lines[0].polygon == box
    element = xml.children(root_of(page), "Page")[0]
    assert (element.get("imageWidth"), element.get("imageHeight")) == ("300", "200")
    # The training data cut the same pixels as a cut from the upright image.
    from PIL import ImageOps

    from hwr.images import load

    correct(project, page, page.lines[0].id, "text")
    lines = data.read(config.load(None, [f"data.root={tmp_path}", "data.val_share=0", "data.test_share=0"]).data).train
    cut = load.read_line(lines[0].image, lines[0].region)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))[20:61, 10:111]
    assert sorted(cut.shape) == sorted(upright.shape)
    assert np.array_equal(np.sort(cut.ravel()), np.sort(upright.ravel()))


def test_a_scaled_image_keeps_the_positions_of_its_page_file() -> None:
    frame = Frame(800, 400, 1, 2.0, 2.0)
    assert frame.to_image(((10, 20),)) == ((20, 40),)
    assert frame.to_page(((20, 40), (900, -5))) == ((10, 20), (400, 0))


def test_alto_beside_an_image_stays_and_its_lines_go_into_a_page_file(tmp_path: Path) -> None:
    from .test_formats import ALTO_XML

    photo(tmp_path / "a page.png")
    (tmp_path / "a page.xml").write_text(ALTO_XML.format(version=4, unit="pixel"), encoding="utf-8")
    project = Project(tmp_path)
    page = only(project)
    assert [line.text for line in page.lines] == ["café & co", "no spa-"]
    page = correct(project, page, "l1", "mine")
    assert page.xml == project.root / "page/a page.xml"
    assert "mine" not in (tmp_path / "a page.xml").read_text()
    assert only(Project(tmp_path)).line("l1").state == "checked"


BOX = ((10, 20), (110, 20), (110, 60), (10, 60))


def marked(image: str, text: str, kind: Any = page_format, turned: bool = False) -> bytes:
    """The PAGE or ALTO of an image of 400 x 200 pixels with one line."""
    return xml.text(kind.new(image, (400, 200), [Marked("l1", text, BOX, (), "")], turned))


def texts(project: Project) -> dict[str, list[str]]:
    """The texts of each page by the name of its image."""
    return {unicodedata.normalize("NFC", page.name): [line.text for line in page.lines] for page in project.pages()}


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_alto_of_a_turned_photo_stays_upright(tmp_path: Path, orientation: int) -> None:
    size = (200, 400) if orientation == 6 else (400, 200)
    picture = photo(tmp_path / "a.png", size, orientation).read_bytes()
    (tmp_path / "a.xml").write_bytes(marked("a.png", "text", alto, turned=True))
    project = Project(tmp_path)
    page = only(project)
    assert page.lines[0].polygon == BOX
    page = correct(project, page, "l1", "mine")
    assert only(Project(tmp_path)).lines[0].polygon == BOX
    text = marked("b.png", "text", alto, turned=True)
    unsized = text.replace(b'NR="1" WIDTH="400" HEIGHT="200"', b'NR="1"')
    assert unsized != text
    given = {"b.png": picture, "b.xml": unsized, "c.png": picture, "c.xml": text}
    found = uploads.store(project, [Upload(name, io.BytesIO(content)) for name, content in given.items()])
    assert [one.stored for one in found] == ["b.png", "c.png", "b.xml", "c.xml"]
    assert [page.lines[0].polygon for page in project.pages()] == [BOX] * 3


def test_images_of_one_stem_keep_their_own_page_files(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        photo(tmp_path / name)
    project = Project(tmp_path)
    for page in project.pages():
        page = edits.set_lines(project, page.id, [Found(BOX)])
        correct(project, page, page.lines[0].id, f"text of {page.name}")
    before = {"a.jpg": ["text of a.jpg"], "a.png": ["text of a.png"]}
    assert texts(project) == texts(Project(tmp_path)) == before
    (tmp_path / "a.jpg").unlink()
    assert texts(project) == texts(Project(tmp_path)) == {"a.png": ["text of a.png"]}
    photo(tmp_path / "a.jpg")
    assert texts(Project(tmp_path)) == before


def test_a_page_file_belongs_to_the_image_that_it_names(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.png.jpg", "b.jpg"):
        photo(tmp_path / name)
    (tmp_path / "page").mkdir()
    given = marked(r"C:\scans\a.png", "of a.png")
    (tmp_path / "page/a.xml").write_bytes(given)
    (tmp_path / "a.png.xml").write_bytes(marked("a.png.jpg", "of a.png.jpg"))
    (tmp_path / "page/b.xml").write_bytes(marked("elsewhere.jpg", "of b"))
    (tmp_path / "b.jpg.xml").write_text("<metadata/>")  # another program's
    project = Project(tmp_path)
    assert texts(project) == {"a.jpg": [], "a.png": ["of a.png"], "a.png.jpg": ["of a.png.jpg"], "b.jpg": ["of b"]}
    first = project.pages()[0]
    edits.set_lines(project, first.id, [Found(BOX)])
    assert texts(Project(tmp_path)) == {**texts(project), "a.jpg": [""]}
    assert (tmp_path / "page/a.xml").read_bytes() == given


def test_xml_that_comes_after_its_image_is_that_of_the_page(tmp_path: Path) -> None:
    """As when an export is copied into the folder of a server that runs."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photo(tmp_path / name)
    project = Project(tmp_path)
    assert [page.state for page in project.pages()] == ["new"] * 3
    (tmp_path / "page").mkdir()
    (tmp_path / "page/a.xml").write_bytes(marked("a.jpg", "of a"))
    (tmp_path / "b.xml").write_bytes(marked("b.jpg", "of b", alto))
    expected = {"a.jpg": ["of a"], "b.jpg": ["of b"], "c.jpg": []}
    assert texts(project) == texts(Project(tmp_path)) == expected
    page, _, _ = project.pages()
    correct(project, page, page.lines[0].id, "mine")
    assert texts(project) == texts(Project(tmp_path)) == expected | {"a.jpg": ["mine"]}


def test_alto_of_another_image_is_not_shown(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        photo(tmp_path / name)
    given = marked("a.png", "of a.png", alto)
    (tmp_path / "a.xml").write_bytes(given)
    project = Project(tmp_path)
    assert texts(project) == {"a.jpg": [], "a.png": ["of a.png"]}
    for page in project.pages():
        edits.add(project, page.id, BOX, (), None, page.revision)
    assert texts(Project(tmp_path)) == {"a.jpg": [""], "a.png": ["", "of a.png"]}
    assert (tmp_path / "a.xml").read_bytes() == given


def test_page_files_are_found_in_any_case_and_normal_form(tmp_path: Path) -> None:
    photo(tmp_path / "A.PNG")
    (tmp_path / "A.XML").write_bytes(marked("A.PNG", "one"))
    photo(tmp_path / unicodedata.normalize("NFD", "é.png"))
    (tmp_path / "é.xml").write_bytes(marked("é.png", "two"))
    photo(tmp_path / f"{'x' * 250}.png")  # no system stores a longer name
    names = {path.name for path in tmp_path.iterdir()}
    project = Project(tmp_path)
    assert texts(project) == {"A.PNG": ["one"], "é.png": ["two"], f"{'x' * 250}.png": []}
    for page in project.pages()[:2]:
        correct(project, page, "l1", "mine")
    assert {path.name for path in tmp_path.iterdir()} == {*names, ".hwr"}
    assert sorted(texts(Project(tmp_path)).values()) == [[], ["mine"], ["mine"]]


def sent(project: Project, *archives: dict[str, bytes]) -> dict[str, str]:
    """Upload archives; returns the name in the project, or the error, of each file."""
    packed = []
    for files in archives:
        with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        packed.append(Upload("x.zip", content))
    return {one.name: one.stored or one.error for one in uploads.store(project, packed)}


def test_texts_of_an_archive_stay_in_their_folders(tmp_path: Path) -> None:
    picture = photo(tmp_path / "x.png").read_bytes()
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    boxes = {f"box{i}/1.png": picture for i in (1, 2, 3)}
    pages = {"box1/page/1.xml": marked("1.png", "one"), r"box2\1.xml": marked("1.png", "two")}
    found = sent(
        project, boxes | pages | {"other/1.xml": marked("1.png", "?")}, {"1.png": picture, "alone/2.png": picture}
    )
    assert "4 images have this name, none in its folder" in found["other/1.xml"]
    assert texts(project) == {"1.png": ["one"], "1-2.png": ["two"], "1-3.png": [], "1-4.png": [], "2.png": []}
    # A name that one image has is enough.
    found = sent(
        project, {"images/3.png": picture}, {"texts/3.xml": marked("3.png", "three"), "2.xml": marked("", "four")}
    )
    assert found == {"images/3.png": "3.png", "texts/3.xml": "3.xml", "2.xml": "2.xml"}
    assert (texts(project)["3.png"], texts(project)["2.png"]) == (["three"], ["four"])


def test_a_damaged_file_of_an_archive_stops_no_other(tmp_path: Path) -> None:
    picture = photo(tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").unlink()
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.writestr(name, picture)
    damaged = bytearray(content.getvalue())
    damaged[damaged.index(b"b.png") + 1000] ^= 1
    stored = uploads.store(Project(tmp_path), [Upload("x.zip", io.BytesIO(damaged))])
    assert {one.name: one.stored for one in stored} == {"a.png": "a.png", "b.png": "", "c.png": "c.png"}
    assert "b.png: can't be unpacked: Bad CRC-32" in next(one.error for one in stored if one.error)


def test_files_of_an_archive_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("padding.txt", np.random.default_rng(0).bytes(1 << 19))  # else it is refused as a whole
        for name in ("a.jpg", "a.xml"):
            archive.writestr(name, bytes(48 << 20))
    monkeypatch.setattr(uploads, "MOST_XML", 1 << 20)
    tracemalloc.start()
    try:
        found = uploads.store(Project(tmp_path), [Upload("all.zip", content)])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    said = {one.name: one.error for one in found}
    assert "a.jpg" in said["a.jpg"]
    assert said["a.xml"] == "a.xml: the XML files of an upload may have 1,048,576 bytes together"
    assert listed(tmp_path) == []


def test_uploaded_texts_of_images_of_one_stem(tmp_path: Path) -> None:
    picture = photo(tmp_path / "x.png").read_bytes()
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    images = {"a.jpg": picture, "a.PNG": picture}
    found = sent(project, {**images, "a.xml": marked("a.PNG", "of a.png"), "page/a.xml": marked("a.jpg", "of a.jpg")})
    assert (found["a.xml"], found["page/a.xml"]) == ("a.png.xml", "a.xml")
    assert texts(project) == {"a.jpg": ["of a.jpg"], "a.png": ["of a.png"]}
    found = sent(project, {"b.jpg": picture, "b.png": picture, "b.xml": marked("", "of which?")})
    assert found["b.xml"] == "b.xml: belongs to one of b.jpg, b.png; upload it with that image only"
    # The texts of a deleted image are not given to the next one of its name.
    (project.root / "a.png").unlink()
    assert sent(project, {"a.png": picture})["a.png"] == "a-2.png"
    assert texts(project)["a-2.png"] == []
    (project.root / "a.jpg").unlink()  # its texts are in a.xml
    assert sent(project, {"a.jpg": picture})["a.jpg"] == "a-2.jpg"
    assert texts(project)["a-2.jpg"] == []


def test_the_texts_of_a_page_are_not_replaced_by_an_upload(tmp_path: Path) -> None:
    picture = photo(tmp_path / "x.png").read_bytes()
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    given = {"a.jpg": picture, "a.xml": marked("a.jpg", "first"), "page/a.xml": marked("a.jpg", "second")}
    found = sent(project, given)
    assert found["a.xml"] == "a.xml"
    assert found["page/a.xml"] == "page/a.xml: a.xml exists already and is kept"
    assert texts(project) == {"a.jpg": ["first"]}
    assert "without a PAGE file" in sent(project, {"a.xml": marked("a.jpg", "third")})["a.xml"]
    assert texts(project) == {"a.jpg": ["first"]}


@pytest.fixture
def book() -> bytes:
    """A PDF of three pages."""
    pytest.importorskip("pypdfium2")
    content = io.BytesIO()
    first, *others = (Image.new("L", (60, 40), grey) for grey in (100, 150, 200))
    first.save(content, "PDF", save_all=True, append_images=others)
    return content.getvalue()


def listed(folder: Path) -> list[str]:
    """The files of a project."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(".hwr/versions"))


@pytest.mark.parametrize("suffix", ["pdf", "tif"])
def test_pages_that_are_sent_replace_no_other_file(tmp_path: Path, book: bytes, suffix: str) -> None:
    if suffix == "tif":
        first, second = Image.new("L", (60, 40), 100), Image.new("L", (60, 40), 150)
        first.save(content := io.BytesIO(), "TIFF", save_all=True, append_images=[second])
        book = content.getvalue()
    photo(tmp_path / "photo.png")
    kind = "jpg" if suffix == "pdf" else "png"
    contents = {f"book-0001.{kind}": (tmp_path / "photo.png").read_bytes(), f"book.{suffix}": book}
    (inner := tmp_path / "files").mkdir()
    with pytest.raises(Error, match=rf"book\.{suffix}: another file has the name of its page book-0001"):
        sent_files.place([Upload(name, io.BytesIO(content)) for name, content in contents.items()], inner)


def test_a_pdf_is_added_as_a_whole_or_not_at_all(tmp_path: Path, book: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    move = adding._move

    def full(file: Path, path: Path) -> None:
        if "-002" in path.name:
            raise Error(f"{path}: could not be written: No space left on device.")
        move(file, path)

    project = Project(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(adding, "_move", full)
        (refused,) = uploads.store(project, [Upload("book.pdf", io.BytesIO(book))])
    assert "No space left" in refused.error
    assert listed(tmp_path) == []
    added = uploads.store(project, [Upload("book.pdf", io.BytesIO(book))])
    assert [one.stored for one in added] == [f"book-00{n}.jpg" for n in (1, 2, 3)]
    assert listed(tmp_path) == [f"book-00{n}.jpg" for n in (1, 2, 3)] + ["book.pdf"]


def test_the_next_server_adds_the_pages_that_a_killed_one_left(tmp_path: Path, book: bytes) -> None:
    (root := tmp_path / "project").mkdir()
    (tmp_path / "book.pdf").write_bytes(book)
    code = """if True:
        import os, sys
        from pathlib import Path
        from hwr.serve.project import adding, uploads
        from hwr.serve.project.folder import Project
        flush, pages = os.fsync, iter((1, 2))
        os.fsync = lambda file: os._exit(9) if next(pages) == 2 else flush(file)
        with open(sys.argv[2], "rb") as file:
            uploads.store(Project(Path(sys.argv[1])), [uploads.Upload("book.pdf", file)])"""
    assert subprocess.run([sys.executable, "-c", code, root, tmp_path / "book.pdf"]).returncode == 9
    assert [name for name in listed(root) if not name.startswith(".hwr")] == ["book-001.jpg"]
    added = adding.add_pdfs(Project(root))
    assert [(one.name, one.stored) for one in added] == [
        ("book.pdf", name) for name in ("book-002.jpg", "book-003.jpg", "book.pdf")
    ]
    assert listed(root) == [f"book-00{n}.jpg" for n in (1, 2, 3)] + ["book.pdf"]
    (root / "book-002.jpg").unlink()
    assert adding.add_pdfs(Project(root)) == []  # a page that the user deleted does not come back


def test_pages_of_a_folder_on_another_disk_are_copied(
    tmp_path: Path, book: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refused(old: Path, new: Path) -> None:
        if old.suffix == ".jpg":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(old, new)

    monkeypatch.setattr(os, "rename", refused)
    (tmp_path / "box").mkdir()
    (tmp_path / "box/book.pdf").write_bytes(book)
    assert [one.stored for one in adding.add_pdfs(Project(tmp_path))] == [f"book-00{n}.jpg" for n in (1, 2, 3)]
    assert listed(tmp_path) == [f"box/book-00{n}.jpg" for n in (1, 2, 3)] + ["box/book.pdf"]


def test_pages_of_a_pdf_that_got_other_names_are_not_added_again(tmp_path: Path, book: bytes) -> None:
    """Those of a TIFF of its name are in the folder, with their texts."""
    for number in (1, 2, 3):
        photo(tmp_path / f"book-00{number}.png")
        (tmp_path / f"book-00{number}.xml").touch()
    (tmp_path / "book.pdf").write_bytes(book)
    assert [one.stored for one in adding.add_pdfs(Project(tmp_path))] == [f"book-00{n}-2.jpg" for n in (1, 2, 3)]
    assert adding.add_pdfs(Project(tmp_path)) == []


def test_pdfs_are_found_in_either_case_and_in_folders_below(tmp_path: Path, book: bytes) -> None:
    (tmp_path / "box/page").mkdir(parents=True)
    for name in ("SCAN.PDF", "box/letters.pdf", "box/bad.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.4 nothing" if "bad" in name else book)
    added = adding.add_pdfs(Project(tmp_path))
    assert [(one.name, one.stored) for one in added] == [
        *(("SCAN.PDF", f"SCAN-00{n}.jpg") for n in (1, 2, 3)),
        ("box/bad.pdf", ""),
        *(("box/letters.pdf", f"letters-00{n}.jpg") for n in (1, 2, 3)),
    ]
    assert "can't be rendered" in added[3].error
    assert "box/letters-003.jpg" in [page.name for page in Project(tmp_path).pages()]


@pytest.mark.parametrize("kind", ["page", "alto"])
def test_an_export_has_a_file_for_each_image(tmp_path: Path, kind: str) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        photo(tmp_path / name)
    project, store = Project(tmp_path), Store(tmp_path / ".hwr/test.sqlite")
    for page in project.pages():
        edits.set_lines(project, page.id, [Found(BOX)])
    export.write(project, store, None, kind, tmp_path / "out.zip")
    store.close()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        found = {name: re.search(r"[ab]\.(jpg|png)", archive.read(name).decode()) for name in archive.namelist()}
    assert {name: match and match[0] for name, match in found.items()} == {
        "a.xml": "a.jpg",
        "a~2.xml": "a.png",
        "b.xml": "b.png",
    }


def test_an_export_has_page_10_after_page_9(tmp_path: Path) -> None:
    names = ["Page 1.png", "page 9.png", "page 10.png"]
    for name in names:
        photo(tmp_path / name)
    project, store = Project(tmp_path), Store(tmp_path / ".hwr/test.sqlite")
    for page in project.pages():
        page = edits.set_lines(project, page.id, [Found(BOX)])
        edits.set_text(project, page.id, page.lines[0].id, page.name, True, page.lines[0].revision)
    chosen = [page.id for page in project.pages()]
    for ids in (None, chosen, chosen[::-1]):
        export.write(project, store, ids, "txt", tmp_path / "out.txt")
        assert (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n")[:3] == names
    store.close()


def test_exported_hocr_names_images_as_the_project_does(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    photo(tmp_path / "box/a.png")
    project, store = Project(tmp_path), Store(tmp_path / ".hwr/test.sqlite")
    (page,) = project.pages()
    edits.set_lines(project, page.id, [Found(BOX)])
    export.write(project, store, None, "hocr", tmp_path / "out.hocr")
    store.close()
    content = html.unescape((tmp_path / "out.hocr").read_text(encoding="utf-8"))
    assert re.findall('image "(.*?)"', content) == ["box/a.png"]


def test_a_table_holds_lines_of_images_with_long_names(tmp_path: Path) -> None:
    names = [f"{'é' * 120}{end}.png" for end in "ab"]
    for name in names:
        photo(tmp_path / name)
    project, store = Project(tmp_path), Store(tmp_path / ".hwr/test.sqlite")
    for page in project.pages():
        (line,) = edits.set_lines(project, page.id, [Found(BOX)]).lines
        edits.set_text(project, page.id, line.id, "text", True, line.revision)
    export.write(project, store, None, export.TABLE, tmp_path / "out.zip")
    store.close()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        rows = [json.loads(row) for row in archive.read("metadata.jsonl").decode().splitlines()]
        assert {row["file_name"] for row in rows} < set(archive.namelist())
    assert [row["id"].partition("/")[0] for row in rows] == names
    assert [row["file_name"] for row in rows] == [f"images/{'é' * 100}{end}.png" for end in ("", "~2")]


def test_broken_files_are_pages_with_an_error(project: Project, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    photo(tmp_path / "c.png")
    (tmp_path / "c.xml").write_text("<PcGts")
    photo(tmp_path / "d.png")
    (tmp_path / "d.xml").write_text("<html/>")
    photo(tmp_path / "a.jpg")  # its PAGE file can't be that of a.png
    found = {page.name: page for page in project.pages()}
    assert {name: page.state for name, page in found.items()} == {
        **{"a.png": "read", "a.jpg": "new"},
        **dict.fromkeys(("b.png", "c.png", "d.png"), "broken"),
    }
    assert str(tmp_path) not in "".join(page.error for page in found.values())
    with pytest.raises(Missing):
        project.page("../../etc")


def test_edited_files_follow_the_schema(project: Project) -> None:
    found = importlib.util.find_spec("ocrd_validators")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the schema of PAGE comes with ocrd: pip install --no-deps ocrd")
    schema = etree.XMLSchema(etree.parse(str(Path(found.submodule_search_locations[0]) / "page.xsd")))
    photo(project.root / "b.png")
    for page in project.pages():
        if page.name == "a.png":
            newest = FOREIGN.replace("/2013-", "/2019-").replace('<TranskribusMetadata docId="1" status="GT"/>', "")
            page.xml.write_text(newest, encoding="utf-8")
            page = project.page(page.id)
        box = ((10, 60), (200, 60), (200, 90), (10, 90))
        page = edits.add(project, page.id, box, ((10, 80), (200, 80)), None, page.revision)
        page = edits.add(project, page.id, box, (), page.lines[0].id, page.revision)
        page = edits.split(project, page.id, page.lines[0].id, 100, 0, page.revision)
        page = edits.merge(project, page.id, [line.id for line in page.lines[:2]], page.revision)
        page = correct(project, page, page.lines[0].id, "text")
        page = edits.move(project, page.id, page.lines[0].id, page.lines[1].id, page.revision)
        schema.assertValid(etree.parse(str(page.xml)))


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "x" * 2001, "\ud800"])
def test_texts_that_are_no_line_are_refused(project: Project, text: str) -> None:
    with pytest.raises(Error, match="a line of text"):
        correct(project, only(project), "l1", text)


@pytest.mark.skipif(not PAGES.is_dir(), reason="no ../shared/pages")
def test_real_exports_survive_a_round_trip(tmp_path: Path) -> None:
    """Accept every line of the exports: texts, shapes and all that is foreign stay."""
    import shutil

    shutil.copytree(PAGES, tmp_path / "pages")
    project = Project(tmp_path / "pages")
    pages = project.pages()
    assert len(pages) == 6
    for page in pages:
        assert not page.error
        assert page.lines
        before = page.xml.read_bytes() if page.xml.exists() else None
        done = edits.check_all(project, page.id, page.revision)
        assert [(line.text, line.polygon) for line in done.lines] == [(line.text, line.polygon) for line in page.lines]
        if before is not None:
            both = (re.sub(rb"(?<=<LastChange>)[^<]+", b"", x) for x in (before, page.xml.read_bytes()))
            assert next(both) == next(both).replace(b' custom="groundTruth {}"', b"")


def test_lines_without_an_outline_can_not_be_merged_or_shown(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    bare = FOREIGN.replace('<Coords points="10,10 110,10 110,50 10,50"/><Baseline points="10,45 110,45"/>', "")
    (tmp_path / "a.xml").write_text(bare, encoding="utf-8")
    project = Project(tmp_path)
    page = only(project)
    assert page.lines[0].polygon == ()
    with pytest.raises(Error, match="line l1 has no outline; draw it first"):
        edits.merge(project, page.id, ["l1", "l2"], page.revision)
    with pytest.raises(Error, match=r"a\.png: l1: "):
        pictures.line_picture(page, page.lines[0])
