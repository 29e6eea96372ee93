"""Datasets with bad lines: all are named in one run, and can be excluded or skipped."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import Error, config, data
from hwr.cli import main
from hwr.data import Dataset, text

from .conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared/cases"
PAGE = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="{name}.png"
 imageWidth="{width}" imageHeight="200"><TextRegion id="r">{lines}</TextRegion></Page></PcGts>"""
LINE = '<TextLine id="{id}">{shape}<TextEquiv{index}><Unicode>{text}</Unicode></TextEquiv></TextLine>'
COORDS, BASELINE = '<Coords points="{}"/>', '<Baseline points="{}"/>'
GOOD = COORDS.format("10,10 110,10 110,50 10,50")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def read(root: Path, *overrides: str, tolerant: bool = False) -> Dataset:
    settings = config.load(None, [f"data.root={root}", *overrides]).data
    return data.read_all(settings) if tolerant else data.read(settings)


def ids(dataset: Dataset) -> list[str]:
    return sorted(line.id for line in dataset.lines)


def line(id: str, shape: str = GOOD, text: str = "good", index: str = "") -> str:
    return LINE.format(id=id, shape=shape, text=text, index=index)


def write_page(folder: Path, name: str, *lines: str, width: str = "400") -> None:
    Image.fromarray(np.full((200, 400), 230, np.uint8)).save(folder / f"{name}.png")
    (folder / f"{name}.xml").write_text(PAGE.format(name=name, width=width, lines="\n".join(lines)), encoding="utf-8")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Three pages: one good, one with four bad lines, one that is no XML."""
    write_page(tmp_path, "p1", line("l0"), line("l1"))
    write_page(
        tmp_path,
        "p2",
        line("good"),
        line("far", COORDS.format("1000,10 1100,10 1100,50")),
        line("inf", COORDS.format("1e19,10 inf,10 nan,50")),
        line("odd", COORDS.format("10,10 110")),
        line("good"),
        line("hebrew", text="\u05d0"),
    )
    write_page(tmp_path, "p3", line("l0"))
    (tmp_path / "p3.xml").write_text("<PcGts>")
    return tmp_path


BAD = ["p2/far", "p2/good", "p2/hebrew", "p2/inf", "p2/odd", "p3"]


def test_all_faults_are_listed_at_once(pages: Path) -> None:
    with pytest.raises(Error) as raised:
        read(pages)
    message = str(raised.value)
    for part in (
        "far lies outside",
        "1e19 pixels are not on any image",
        "are 3 numbers",
        "already occurs",
        "right to left",
    ):
        assert part in message
    assert "p3.xml:1: not well-formed" in message
    assert "6 lines or pages can't be read. Repair what is listed" in message
    found = read(pages, tolerant=True)
    assert sorted(fault.id for fault in found.faults) == BAD
    assert ids(found) == ["p1/l0", "p1/l1", "p2/good"]


def test_the_summary_continues_and_ends_with_status_1(pages: Path) -> None:
    done = invoke("data", "summary", pages, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert sorted(fault["id"] for fault in found["faults"]) == BAD
    assert found["lines"] == 3
    shown = invoke("data", "summary", pages)
    assert "6 lines or pages can't be read" in shown.output


def test_bad_lines_are_excluded_by_id_page_or_pattern_or_skipped(pages: Path, tmp_path: Path) -> None:
    assert ids(read(pages, "data.exclude=[p2, p3]")) == ["p1/l0", "p1/l1"]
    assert ids(read(pages, "data.exclude=[p3, p2/*d*, p2/far, 'p2/?nf', p2/hebrew]")) == ["p1/l0", "p1/l1"]
    found = read(pages, "data.exclude=[p3, p2/*d, p2/far, 'p2/?nf']", tolerant=True)
    assert [fault.id for fault in found.faults] == ["p2/hebrew"]
    skipped = read(pages, "data.faults=skip")
    assert ids(skipped) == ["p1/l0", "p1/l1", "p2/good"]
    assert "6 lines or pages can't be read and are skipped" in skipped.notes[-1]
    for unknown in ("p9", "p2/x*"):
        with pytest.raises(Error, match=r"data\.exclude: p"):
            read(pages, f"data.exclude=[p3, {unknown}]")
    refused = invoke("data", "convert", pages, tmp_path / "out", "--to", "gt")
    assert refused.exit_code == 2
    assert not (tmp_path / "out").exists()
    done = invoke("data", "convert", pages, tmp_path / "out", "--to", "gt", "--set", "data.faults=skip")
    assert done.exit_code == 0
    assert "skipped" in done.output


def test_a_damaged_outline_is_replaced_with_a_note(tmp_path: Path) -> None:
    along = BASELINE.format("20,100 300,104")
    write_page(
        tmp_path,
        "p",
        line("empty", '<Coords points=""/>' + along),
        line("few", COORDS.format("1,1") + along),
        line("far", COORDS.format("1000,10 1100,10 1100,50") + along),
        line("base", GOOD + BASELINE.format("x")),
    )
    found = read(tmp_path)
    assert len(ids(found)) == 4
    assert any("3 lines have a damaged outline" in note and "along its baseline" in note for note in found.notes)
    lines = {x.id: x for x in found.lines}
    assert lines["p/few"].region == lines["p/far"].region != lines["p/base"].region


@pytest.mark.parametrize("index", ["\u00b2", "9" * 400, "-1", "x", ""])
def test_odd_indices_rank_first(tmp_path: Path, index: str) -> None:
    write_page(tmp_path, "p", line("l", index=f' index="{index}"'))
    assert ids(read(tmp_path)) == ["p/l"]


@pytest.mark.parametrize("width", ["9" * 400, "1e999", "nan", "x", "", "-5"])
def test_odd_sizes_of_pages(tmp_path: Path, width: str) -> None:
    write_page(tmp_path, "p", line("l"), width=width)
    found = read(tmp_path, tolerant=True)
    assert [fault.id for fault in found.faults] == (["p"] if width != "-5" else [])


ALTO = """<alto><Layout><Page WIDTH="{}" HEIGHT="200"><PrintSpace><TextBlock><TextLine ID="a" HPOS="{}" VPOS="10" WIDTH="100"
 HEIGHT="40" BASELINE="{}"><Shape><Polygon POINTS="{}"/></Shape><String CONTENT="good"/></TextLine></TextBlock></PrintSpace>
</Page></Layout></alto>"""


@pytest.mark.parametrize(
    ("values", "read_by"),
    [
        (("400", "10", "10 45 110 45", "10 10 110 10 60 50"), "polygon"),
        (("400", "10", "10 45 110 45", "1e19 10"), "box"),
        (("400", "inf", "10 45 110 45", ""), "baseline"),
        (("400", "1e400", "nan nan 3 3", "x"), "nothing"),
        (("9" * 400, "10", "10 45 110 45", "10 10 110 10 60 50"), "nothing"),
    ],
)
def test_odd_values_in_alto(tmp_path: Path, values: tuple[str, ...], read_by: str) -> None:
    Image.fromarray(np.full((200, 400), 230, np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "p.xml").write_text(ALTO.format(*values))
    found = read(tmp_path, tolerant=True)
    assert bool(found.faults) == (read_by == "nothing")
    assert bool(found.notes and "damaged outline" in "".join(found.notes)) == (read_by in ("box", "baseline"))


def test_faults_of_pairs_and_tables(tmp_path: Path) -> None:
    for name in "abcde":
        Image.new("L", (80, 30), 230).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.gt.txt").write_text("good\n")
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.gt.txt").write_bytes(b"\xe9")
    (tmp_path / "c.gt.txt").write_text("two\nlines")
    Image.new("L", (80, 30)).save(tmp_path / "d.jpg")
    found = read(tmp_path, "data.format=gt", tolerant=True)
    assert [fault.id for fault in found.faults] == ["a", "b", "c", "d"]
    assert ids(read(tmp_path, "data.format=gt", "data.exclude=[a, b, c, d]")) == ["e"]

    rows = ["b.png\tgood", "gone.png\tx", "c.png\ttoo\tmany", "b.png\tagain", "../x.png\tx", "\tx", "e.png\tgood"]
    (tmp_path / "any name.tsv").write_text("image\ttext\n" + "\n".join(rows) + "\n")
    table = read(tmp_path, "data.format=table", tolerant=True)
    assert ids(table) == ["b", "e"]
    assert len(table.faults) == 5
    (tmp_path / "x.jsonl").write_text(
        '{"image": "b.png", "text": "good"}\n{"image": 3\n[]\n{"image": "c.png", "text": 4}\n'
    )
    assert len(read(tmp_path / "x.jsonl", tolerant=True).faults) == 3


def test_invisible_characters_are_named(tmp_path: Path) -> None:
    unseen = [
        "\ufeff",
        "\u200b",
        "\u00a0",
        "\u00ad",
        "\u2060",
        "\u3164",
        "\ufe0f",
        "\U000e0100",
        "\u2800",
        "\ue000",
        "\ufffd",
        "\u2009",
        "\u202e",
    ]
    write_page(
        tmp_path, "p", *(line(f"l{i}", text=f"a{c}b") for i, c in enumerate(unseen)), line("empty", text="\u200b\ufeff")
    )
    write_page(tmp_path, "q", line("ordinary", text="caf\u00e9 e\u0301 \u2014 \u201cquote\u201d"))
    found = json.loads(invoke("data", "summary", tmp_path, "--json").stdout)
    faults = {x["id"]: x["fault"] for x in found["suspicious"] if "its text has" in x["fault"]}
    assert sorted(faults) == sorted(f"p/l{i}" for i in range(len(unseen)))
    assert faults["p/l1"] == "its text has U+200B ZERO WIDTH SPACE"
    assert found["empty_lines"] == 1
    assert text.name("\u0301") == "U+0301 COMBINING ACUTE ACCENT"
    assert text.blank(" \u00a0\u200b\t")
    assert not text.blank(".")
    assert "U+200B ZERO WIDTH SPACE 1" in invoke("data", "summary", tmp_path).output


def test_the_cases(tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    broken = read(CASES / "one-broken-line")
    assert "p2/l0" in ids(broken)
    assert any("p2.xml" in note for note in broken.notes)
    assert "p2/l0" not in ids(read(CASES / "one-broken-line", "data.exclude=[p2/l0]"))
    assert not any(id.startswith("p2/") for id in ids(read(CASES / "one-broken-line", "data.exclude=[p2]")))
    unseen = json.loads(invoke("data", "summary", CASES / "invisible-characters", "--json").stdout)
    assert unseen["empty_lines"] == 1
    assert {x["id"] for x in unseen["suspicious"] if "its text has" in x["fault"]} == {"page/l0", "page/l2"}


@pytest.mark.parametrize(
    ("val", "test"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.3, 0.3), (0.0, 0.9), (0.9, 0.1)]
)
def test_a_drawn_split_has_the_parts_that_are_asked_for(tmp_path: Path, val: float, test: float) -> None:
    Image.new("L", (80, 30), 230).save(tmp_path / "a.png")
    rows = [json.dumps({"image": "a.png", "text": "good", "id": f"p{i % 20}/l{i}"}) for i in range(100)]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    found = read(tmp_path / "x.jsonl", f"data.val_share={val}", f"data.test_share={test}")
    assert abs(len(found.val) / 100 - val) <= 0.1
    assert abs(len(found.test) / 100 - test) <= 0.1
    assert bool(found.train) == (val + test < 1)


def test_brackets_in_patterns_stand_for_themselves(tmp_path: Path) -> None:
    Image.new("L", (80, 30), 230).save(tmp_path / "a.png")
    rows = [json.dumps({"image": "a.png", "text": "good", "id": id}) for id in ("scan[1]/l0", "scan1/l0", "scan2/l0")]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    assert ids(read(tmp_path / "x.jsonl", "data.exclude=['scan[1]*']")) == ["scan1/l0", "scan2/l0"]


def test_impossible_shares_are_refused_and_poor_ones_noted(tmp_path: Path) -> None:
    with pytest.raises(Error, match="more than all lines"):
        config.load(None, ["data.val_share=0.6", "data.test_share=0.5"])
    Image.new("L", (80, 30), 230).save(tmp_path / "a.png")
    rows = [json.dumps({"image": "a.png", "text": "good", "id": f"p{i % 3}/l{i}"}) for i in range(30)]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    assert any(
        "val has 33% of the lines, and data.val_share is 0.1" in note for note in read(tmp_path / "x.jsonl").notes
    )


def test_half_of_a_single_line_is_noted(tmp_path: Path) -> None:
    Image.new("L", (80, 30), 230).save(tmp_path / "a.png")
    (tmp_path / "a.gt.txt").write_text("good")
    assert any("val has 0% of the lines" in note for note in read(tmp_path, "data.val_share=0.5").notes)


def test_words_with_unusual_case_mappings_are_in_the_list() -> None:
    from hwr.alphabet import Alphabet
    from hwr.decoding import lexicon

    alphabet = Alphabet("aefilnorstuS\u00df\u1e9e\u017f\u0130I\ufb01\u03c3\u03c2 ")
    words = ["Stra\u00dfe", "\u0130nan", "\ufb01n", "\u017fo", "\u03c3\u03c2"]
    found = lexicon.build(words, alphabet)

    def known(word: str) -> bool:
        trie, at = found.trie, 0
        for c in word:
            own = trie.letter[alphabet.characters.index(c)]
            entries = range(trie.first[at], trie.first[at + 1])
            node = [trie.node[e] for e in entries if trie.entry[e] == own]
            if not node:
                return False
            at = node[0]
        return bool(trie.is_word[at])

    for word in (*words, "Stra\u1e9ee", "strasse", "fin", "so", "\u03c3\u03c3"):
        assert known(word), word
    for word in ("stra", "inan", "no"):
        assert not known(word), word
    again = lexicon.from_arrays(lexicon.to_arrays(found)[0], alphabet)
    assert again.words == found.words


def test_large_pages_are_read_and_absurd_ones_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwr.images import load

    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as if the page had twice as many pixels as Pillow allows
    Image.new("L", (100, 50), 200).save(tmp_path / "page.png")
    assert load.read(tmp_path / "page.png").shape == (50, 100)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setattr(load, "MOST_PIXELS", 4000)
    with pytest.raises(Error, match=r"page\.png: 100 x 50 are .* megapixels; at most .* Scale the image down"):
        load.read(tmp_path / "page.png")
    assert limit is not None
