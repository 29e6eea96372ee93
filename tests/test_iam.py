"""The reader and the checker of IAM's layout, on small generated folders, and on real ones where available."""

import csv
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from PIL import Image

import hwr
from hwr.config import Data
from hwr.data import lines_of, read
from hwr.data.convert import convert
from hwr.data.formats import FORMATS, iam
from hwr.data.iam_archive import check

REAL = Path(__file__).parents[2] / "shared" / "lines"
TASK = iam.LISTS

# Form id -> writer, lines.
SMALL = {
    "x01-000": ("w1", ["A MOVE to stop", "Mr. Gaitskell, from"]),
    "x01-001": ("w2", ["nominating any more"]),
    "x02-000": ("w3", ["Labour life Peers"]),
    "x02-001": ("w4", ["is to be made", "at a meeting"]),
}
SMALL_LISTS = {
    "trainset": ["x01-000-00", "x01-000-01"],
    "validationset1": ["x01-001-00"],
    "validationset2": ["x02-000-00"],
    "testset": ["x02-001-00", "x02-001-01"],
}


def make(root, forms=SMALL, lists=SMALL_LISTS, extension="png", images=("line", "word", "form")):
    """Write a folder in IAM's layout; images are empty files, as the reader does not open them."""
    for form, (writer, texts) in forms.items():
        lines = []
        for n, text in enumerate(texts):
            words = "".join(
                f'<word id="{form}-{n:02}-{m:02}" text={quoteattr(w)}/>' for m, w in enumerate(text.split())
            )
            lines.append(f'<line id="{form}-{n:02}" segmentation="ok" text={quoteattr(text)}>{words}</line>')
            if "line" in images:
                touch(root / "lines" / form[:3] / form / f"{form}-{n:02}.{extension}")
            if "word" in images:
                for m, _ in enumerate(text.split()):
                    touch(root / "words" / form[:3] / form / f"{form}-{n:02}-{m:02}.{extension}")
        if "form" in images:
            touch(root / "formsA-D" / f"{form}.{extension}")
        xml(root, form, "\n".join(lines), writer)
    for name, ids in lists.items():
        write(root / TASK / f"{name}.txt", "".join(f"{id}\n" for id in ids))
    return root


def xml(root, form, content, writer="w9", head='<?xml version="1.0" encoding="UTF-8"?>'):
    text = f'{head}\n<form id="{form}" writer-id="{writer}">\n<handwritten-part>\n{content}\n</handwritten-part></form>'
    return write(root / "xml" / f"{form}.xml", text)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def fails(root, *parts, **data):
    """The message of the error raised by reading, which contains all of `parts`."""
    with pytest.raises(hwr.Error) as caught:
        read(Data(root=str(root), format="iam", **data))
    message = str(caught.value)
    for part in parts:
        assert str(part) in message
    return message


@pytest.fixture
def root(tmp_path):
    return make(tmp_path / "letters")


# --- Units, texts, images ---


def test_lines(root):
    data = read(Data(root=str(root)))
    assert data.name == "letters"
    assert [line.id for line in data.train] == ["x01-000-00", "x01-000-01"]
    assert [line.id for line in data.val] == ["x01-001-00", "x02-000-00"]
    assert [line.id for line in data.part("test")] == ["x02-001-00", "x02-001-01"]
    first = data.train[0]
    assert first.text == "A MOVE to stop"
    assert first.writer == "w1"
    assert first.image == root / "lines/x01/x01-000/x01-000-00.png"
    assert first.source == f"{root / 'xml/x01-000.xml'}:4"
    assert (data.excluded, data.notes) == ([], [])


def test_words(root):
    data = iam.read(Data(root=str(root), unit="word"))
    assert [line.text for line in data.val] == ["nominating", "any", "more", "Labour", "life", "Peers"]
    assert data.val[0].image == root / "words/x01/x01-001/x01-001-00-00.png"
    assert data.val[0].writer == "w2"


def test_forms_have_all_their_lines(tmp_path):
    root = make(tmp_path, lists=SMALL_LISTS | {"trainset": ["x01-000-01"], "testset": ["x02-001"]})
    data = iam.read(Data(root=str(root), unit="form"))
    assert [(line.id, line.text) for line in data.train] == [("x01-000", "A MOVE to stop\nMr. Gaitskell, from")]
    assert data.test[0].image == root / "formsA-D/x02-001.png"


def test_a_form_in_two_parts(tmp_path):
    lists = SMALL_LISTS | {"trainset": ["x02-001-00"], "testset": ["x02-001-01"]}
    root = make(tmp_path, lists=lists)
    notes = iam.read(Data(root=str(root))).notes
    assert any("1 form of train is in test too: x02-001" in note for note in notes)
    assert any("1 writer of train is in test too: w4" in note for note in notes)
    fails(root, f"{TASK}/testset.txt:1: x02-001 (data.test)", f"{TASK}/trainset.txt:1 (data.train)", unit="form")


@pytest.mark.parametrize("extension", ["jpg", "JPEG", "tif", "tiff", "webp", "PNG"])
def test_image_types(tmp_path, extension):
    root = make(tmp_path, extension=extension)
    assert iam.read(Data(root=str(root))).train[0].image.name == f"x01-000-00.{extension}"


def test_two_images_of_one_id(root):
    touch(root / "lines/x01/x01-000/x01-000-00.jpg")
    fails(root, "x01-000-00.png", "x01-000-00.jpg exists too")
    touch(root / "formsE-H/x01-000.png")
    fails(root, "formsE-H/x01-000.png", "formsA-D/x01-000.png exists too", unit="form")


def test_missing_images(root):
    (root / "lines/x01/x01-000/x01-000-01.png").unlink()
    (root / "lines/x02/x02-001/x02-001-00.png").unlink()
    path = root / "lines/x01/x01-000/x01-000-01.png"
    fails(root, f"{path}: no such image", "trainset.txt:2 lists it")
    fails(make(root.parent / "none", images=()), "(5 more are missing)", "hwr iam download")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("&quot;Yes&quot;, he", '"Yes", he'),
        ("&amp;quot;Yes&amp;quot;", '"Yes"'),
        ("Tom &amp;amp;amp; Ann &amp;apos;s", "Tom & Ann 's"),
        ("&amp;#39;caf&amp;#xE9;&amp;#39;", "'café'"),
        ("boots &amp;c of R&amp;B; &amp;copy it", "boots &c of R&B; &copy it"),
        ("&amp;#1114112; &amp;nosuch;", "&#1114112; &nosuch;"),
    ],
)
def test_entities_are_unescaped_until_stable(root, written, text):
    xml(root, "x01-000", f'<line id="x01-000-00" text="{written}"/><line id="x01-000-01" text="b"/>')
    assert iam.read(Data(root=str(root))).train[0].text == text


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "empty text"),
        (" ", "empty text"),
        ("a&#10;b", "U+000A at position 2"),
        ("a&amp;#13;b", "U+000D"),
        ("&#x2028;", "empty text"),
        ("ab&#x2028;c", "U+2028 at position 3"),
        ("a&amp;#0;", "U+0000"),
        ("a&amp;#xD800;", "U+D800"),
    ],
)
def test_texts_that_do_not_fit_on_a_line(root, written, why):
    path = xml(root, "x01-000", f'<line id="x01-000-00" text="{written}"/>\n<line id="x01-000-01" text="b"/>')
    fails(root, f"{path}:4: ", "x01-000-00", why)
    assert len(iam.read(Data(root=str(root), exclude=("x01-000-00",))).train) == 1


# --- Hostile and broken XML ---


def test_not_well_formed(root):
    path = xml(root, "x01-000", '<line id="x01-000-00" text="a"/>\n<line id="x01-000-01" text="b">')
    fails(root, f"{path}:6: not well-formed XML")
    write(path, b"")
    fails(root, f"{path}:1: not well-formed XML")


def test_wrong_encodings(root):
    path = root / "xml/x01-000.xml"
    good = path.read_text()
    write(path, good.replace("MOVE", "MÖVE").encode("latin-1"))
    fails(root, f"{path}:4: not well-formed XML", "encoding")
    for name, codec in (("ISO-8859-1", "latin-1"), ("UTF-16", "utf-16")):
        write(path, good.replace("MOVE", "MÖVE").replace("UTF-8", name).encode(codec))
        assert iam.read(Data(root=str(root))).train[0].text == "A MÖVE to stop"


@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
def test_entity_bomb(root, codec):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">\n' for n in range(1, 12))
    head = f'<?xml version="1.0" encoding="{codec}"?>\n<!DOCTYPE form [<!ENTITY e0 "ha">\n{entities}]>'
    path = xml(root, "x01-000", '<line id="x01-000-00" text="&e11;"/>', head=head)
    write(path, path.read_text().encode(codec))
    fails(root, f"{path}:2: declares an XML entity")


def test_outside_entities_and_dtds_are_not_loaded(root, tmp_path):
    secret = write(tmp_path / "secret.txt", "secret")
    head = f'<?xml version="1.0"?>\n<!DOCTYPE form SYSTEM "{tmp_path}/form.dtd">'
    write(tmp_path / "form.dtd", "<!ATTLIST form writer-id CDATA 'dtd'><!ENTITY e 'dtd'>")
    lines = '<line id="x01-000-00" text="a"/><line id="x01-000-01" text="{}"/>'
    xml(root, "x01-000", lines.format("plain"), head=head, writer="")
    assert iam.read(Data(root=str(root))).train[1].writer == ""
    path = xml(root, "x01-000", lines.format("caf&e;"), head=head)
    fails(root, f"{path}:5: ", "'e' not defined")
    path = xml(root, "x01-000", lines.format("&x;"), head=f'<!DOCTYPE form [<!ENTITY x SYSTEM "{secret}">]>')
    assert "secret " not in fails(root, f"{path}:1: declares an XML entity")


@pytest.mark.parametrize("id", ["../../x01-000-00", "/etc/passwd", "..", ".hidden", "a\\b", ""])
def test_ids_with_path_components_are_refused(root, id):
    path = xml(root, "x01-000", f'<line id="{id}" text="a"/>')
    fails(root, f"{path}:4: {id!r} is not an id")
    if id:
        path = write(root / TASK / "trainset.txt", f"x01-001-00\n{id}\n")
        fails(root, f"{path}:2: {id!r} is not an id")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('<line text="a"/>', ":4: <line> has no id"),
        ('<line id="x01-000-00"/>', ":4: <line> has no text"),
        ('<line id="a" text="a"/>\n<line id="a" text="b"/>', ":5: a already occurs at"),
    ],
)
def test_incomplete_xml(root, content, why):
    path = xml(root, "x01-000", content)
    fails(root, f"{path}{why}")


def test_a_form_under_another_name(root):
    (root / "xml/x01-000.xml").rename(root / "xml/x01-00.xml")
    fails(root, "x01-00.xml:2: this is form 'x01-000'")


def test_an_svg_file_is_refused(root):
    path = write(root / "xml/x01-000.xml", "<svg/>")
    fails(root, f"{path}:1: the root element is <svg>")


def test_unused_forms_are_not_read(root):
    write(root / "xml/x09-000.xml", "not XML")
    assert len(iam.read(Data(root=str(root))).train) == 2


# --- Lists ---


def test_lists_as_windows_and_others_write_them(root):
    write(root / TASK / "trainset.txt", b"\xef\xbb\xbfx01-000-00.png\r\n\r\n  x01-000-01.TIF \r\n")
    write(root / TASK / "testset.txt", "x02-001")
    data = iam.read(Data(root=str(root), train=("trainset.txt",)))
    assert [line.id for line in data.train] == ["x01-000-00", "x01-000-01"]
    assert [line.id for line in data.test] == ["x02-001-00", "x02-001-01"]


def test_lists_folder(root, tmp_path, monkeypatch):
    (root / TASK).rename(root / "mine")
    fails(root, f"{root / TASK}: no such folder")
    assert len(iam.read(Data(root=str(root), lists="mine")).train) == 2
    assert len(iam.read(Data(root=str(root), lists=str(root / "mine"))).train) == 2
    monkeypatch.chdir(root.parent)
    assert len(iam.read(Data(root="letters", lists="letters/mine")).train) == 2
    fails(root, "data.lists", "yours", lists="yours")


def test_a_missing_list(root):
    fails(root, "data.val", "no list dev", "trainset.txt", val=("dev",))


def test_unknown_ids_in_a_list(root):
    path = write(root / TASK / "testset.txt", "x02-001-00\nx02-001-07\n")
    fails(root, f"{path}:2: ", "no line x02-001-07")


def test_a_list_that_is_not_utf8(root):
    path = write(root / TASK / "testset.txt", b"x02-001-00\nx02-\xff\n")
    fails(root, f"{path}:2: not UTF-8")


def test_an_id_listed_twice(root):
    path = write(root / TASK / "trainset.txt", "x01-000-00\nx01-000-01\nx01-000-00\n")
    fails(root, f"{path}:3: x01-000-00 (data.train) is listed at {path}:1 (data.train)")
    write(path, "x01-000\nx02-000-00\n")
    fails(root, f"validationset2.txt:1: x02-000-00 (data.val) is listed at {path}:2 (data.train)")


@pytest.mark.parametrize("unit", ["line", "word", "form"])
def test_validating_on_the_test_list_is_allowed_with_a_note(root, unit):
    data = iam.read(Data(root=str(root), val=("testset",), unit=unit))
    assert data.val == data.test
    assert any("WARNING: 2 lines are in val and in test" in note for note in data.notes)
    fails(root, "(data.train)", train=("testset",))
    fails(root, "(data.test)", val=("testset",), test=("testset", "testset"))


def test_lines_that_are_in_two_parts_are_read_once_and_not_converted(root, tmp_path):
    settings = Data(root=str(root), val=("testset",))
    dataset = read(settings)
    every = [line.id for line in lines_of(dataset, "all", settings)]
    assert sorted(every) == sorted({line.id for line in dataset.lines})
    assert len(every) == len(dataset.lines) - 2
    for kind in FORMATS:
        with pytest.raises(hwr.Error, match=r"2 lines are in data\.val and in data\.test \(x02-"):
            convert(dataset, tmp_path / "new", kind)
    assert not (tmp_path / "new").exists()


def test_empty_lists(root):
    for name in ("validationset1", "validationset2", "testset"):
        write(root / TASK / f"{name}.txt", "")
    data = iam.read(Data(root=str(root)))
    assert [len(data.train), len(data.val), len(data.test)] == [2, 0, 0]


# --- Exclusion ---


def test_exclude(root):
    data = iam.read(Data(root=str(root), exclude=("x01-000-00", "x02-001")))
    assert [line.id for line in data.train] == ["x01-000-01"]
    assert data.test == []
    assert data.excluded == ["x01-000-00", "x02-001-00", "x02-001-01"]
    data = iam.read(Data(root=str(root), unit="word", exclude=("x01-000-00-01", "x01-001-00")))
    assert [line.text for line in data.train][:3] == ["A", "to", "stop"]
    assert data.excluded == ["x01-000-00-01", "x01-001-00-00", "x01-001-00-01", "x01-001-00-02"]


def test_excluding_unknown_ids_is_refused(root):
    fails(root, "data.exclude: x01-000-09", exclude=("x01-000-09",))
    fails(root, "data.exclude: x", exclude=("x",))
    notes = iam.read(Data(root=str(root), exclude=("x01-000-00-01",))).notes
    assert any("nothing to exclude for x01-000-00-01" in note for note in notes)


def test_an_excluded_image_may_be_missing(root):
    (root / "lines/x01/x01-000/x01-000-00.png").unlink()
    assert iam.read(Data(root=str(root), exclude=("x01-000-00",))).excluded == ["x01-000-00"]


# --- ascii ---

LINES_TXT = """#--- lines.txt ---#
#
x01-000-00 ok 154 19 408 746 1661 89 A|MOVE|to|stop
x01-000-01 err 156 19 395 932 1850 105 Mr.|Gaitskell|,|from
x01-001-00 ok 157 16 408 1106 1986 105 nominating|any|more
x02-000-00 ok 157 16 408 1106 1986 105 Labour|life B B C|Peers
x02-001-00 ok 157 16 408 1106 1986 105 is|to|be|made
x02-001-01 ok 157 16 408 1106 1986 105 at|a|meeting
"""
WORDS_TXT = "#\nx01-000-00-00 ok 154 408 768 27 51 AT A\nx01-000-00-01 err 154 507 766 213 48 NN B B C\n"


def test_ascii(root):
    write(root / "ascii/lines.txt", LINES_TXT)
    data = iam.read(Data(root=str(root), text="ascii"))
    assert [line.text for line in data.train] == ["A MOVE to stop", "Mr. Gaitskell , from"]
    assert data.val[1].text == "Labour life B B C Peers"
    assert data.train[0].writer == "w1"
    assert data.train[0].source == f"{root / 'ascii/lines.txt'}:3"
    assert len(data.notes) == 1
    assert "punctuation is detached" in data.notes[0]


def test_ascii_without_xml(root):
    for path in (root / "xml").iterdir():
        path.unlink()
    (root / "xml").rmdir()
    fails(root, "xml: no such folder", "hwr iam download")
    write(root / "ascii/lines.txt", LINES_TXT)
    fails(root, "xml: no such folder", "data.text=ascii")
    data = iam.read(Data(root=str(root), text="ascii"))
    assert data.name == "letters"
    assert data.train[0].writer == ""
    assert any("writers are unknown" in note for note in data.notes)
    write(root / "ascii/forms.txt", "# forms\nx01-000 007 2 prt 7 5 52 36\n")
    assert iam.read(Data(root=str(root), text="ascii")).train[0].writer == "007"


def test_ascii_words(root):
    write(root / "ascii/lines.txt", LINES_TXT)
    fails(root, "ascii/words.txt: no such file", text="ascii", unit="word")
    write(root / "ascii/words.txt", WORDS_TXT)
    data = iam.read(Data(root=str(root), text="ascii", unit="word"))
    assert [(line.id, line.text) for line in data.train] == [("x01-000-00-00", "A"), ("x01-000-00-01", "B B C")]
    assert any("5 listed lines have no words" in note for note in data.notes)


def test_ascii_broken(root):
    fails(root, "ascii/lines.txt: no such file", text="ascii")
    path = write(root / "ascii/lines.txt", LINES_TXT.replace("105 at|a|meeting", "105"))
    fails(root, f"{path}:8: 8 columns", text="ascii")
    write(path, LINES_TXT.replace("x02-001-01", "../01"))
    fails(root, f"{path}:8: '../01' is not an id", text="ascii")


def test_words_without_words(root):
    xml(root, "x01-000", '<line id="x01-000-00" text="a"/><line id="x01-000-01" text="b"/>')
    data = iam.read(Data(root=str(root), unit="word"))
    assert any("2 listed lines have no words, x01-000-00" in note for note in data.notes)
    fails(root, "data.unit: word", unit="word", val=(), test=())


# --- Splits ---


def numbered(prefix, sizes):
    """Forms of up to nine lines with ids like IAM's, and lists of these sizes, without shared forms."""
    forms, lists = {}, {}
    for letter, (name, size) in zip("abcd", sizes.items(), strict=True):
        ids = []
        while len(ids) < size:
            form = f"{letter}{len(forms) // 1000:02}-{len(forms) % 1000:03}u"
            forms[form] = (f"{prefix}{len(forms)}", ["text"] * min(9, size - len(ids)))
            ids += [f"{form}-{n:02}" for n in range(min(9, size - len(ids)))]
        lists[name] = ids
    return forms, lists


@pytest.fixture(scope="module")
def iam_folder(tmp_path_factory):
    """As large as the official task, without the lines in none of its lists. Do not modify."""
    root = tmp_path_factory.mktemp("iam")
    forms, lists = numbered("", iam.OFFICIAL)
    make(root, forms, lists, images=("line",))
    return root


def test_official(iam_folder):
    data = iam.read(Data(root=str(iam_folder)))
    assert data.name == "official"
    assert [len(data.train), len(data.val), len(data.test)] == [6161, 1840, 1861]
    assert data.notes == []
    original = Data(root=str(iam_folder), train=("trainset", "validationset1", "validationset2"), val=("testset",))
    assert [len(iam.read(original).part(part)) for part in iam.PARTS] == [8001, 1861, 1861]


def test_exclusion_comes_after_the_check_of_sizes(iam_folder):
    data = iam.read(Data(root=str(iam_folder), exclude=("a00-000u-00",)))
    assert (data.name, len(data.train), data.excluded) == ("official", 6160, ["a00-000u-00"])


def test_official_sizes_are_checked(iam_folder, tmp_path):
    lists = {path.name: path.read_text().split() for path in (iam_folder / TASK).iterdir()}
    for name, ids in lists.items():
        write(tmp_path / name, "\n".join(ids[1:] if name == "validationset2.txt" else ids))
    short = Data(root=str(iam_folder), lists=str(tmp_path))
    path = tmp_path / "validationset2.txt"
    for split in ("auto", "official"):
        message = fails(iam_folder, f"{path}: 939 lines", "940", "data.split=NAME", lists=str(tmp_path), split=split)
        assert "aachen" not in message
    # A line that can't be read counts: it is named, and the size of its list is right.
    write(path, "\n".join(["z99-000u-00", *lists["validationset2.txt"][1:]]))
    data = iam.read(short)
    assert (data.name, [fault.id for fault in data.faults]) == ("official", ["z99-000u-00"])
    write(path, "\n".join(lists["validationset2.txt"][1:]))
    mine = short.model_copy(update={"split": "mine"})
    data = iam.read(mine)
    assert data.name == "mine"
    assert any("custom split of IAM" in note for note in data.notes)
    fails(iam_folder, "data.test", "[testset]", "data.split=NAME", val=(), test=("validationset1",))
    write(tmp_path / "dev.txt", "a00-000u-00")
    fails(iam_folder, "dev.txt: not one of IAM's official lists", lists=str(tmp_path), train=("dev",))


def test_aachen(tmp_path, monkeypatch):
    assert iam.AACHEN == {"train": 6482, "val": 976, "test": 2915}
    monkeypatch.setattr(iam, "AACHEN", {"train": 12, "val": 5, "test": 7})
    forms, lists = numbered("", iam.AACHEN | {"rest": 1})
    root = make(tmp_path / "iam", forms, lists)
    parts = {part: (part,) for part in iam.PARTS}
    data = iam.read(Data(root=str(root), split="aachen", **parts))
    assert (data.name, len(data.train), len(data.val), len(data.test)) == ("aachen", 12, 5, 7)
    assert any("548" in note for note in data.notes)
    fails(root, "train.txt: not one of", "data.split=aachen", **parts)
    fails(root, "data.val: 6 lines", "has 5", "data.split=NAME", split="aachen", **parts | {"val": ("val", "rest")})


def test_names_of_custom_splits(tmp_path):
    assert iam.read(Data(root=str(make(tmp_path / "aachen")))).name == "aachen-custom"
    root = make(tmp_path / "own")
    assert iam.read(Data(root=str(root), split="fold 3")).name == "fold 3"
    fails(root, "trainset.txt: 2 lines", "6161", split="official")
    fails(root, "data.train: 2 lines", "6482", split="aachen")
    fails(root, "data.split", split="")


def test_data_with_few_ids_like_those_of_iam_is_not_iam(tmp_path):
    form = SMALL["x01-000"]
    root = make(tmp_path / "own", {**SMALL, "a01-000u": form}, {**SMALL_LISTS, "validationset2": ["a01-000u-00"]})
    assert iam.read(Data(root=str(root))).name == "own"


def test_shared_writers_are_noted_unknown_ones_are_not(tmp_path):
    forms = {form: ("w1" if form != "x01-001" else "", texts) for form, (_, texts) in SMALL.items()}
    notes = iam.read(Data(root=str(make(tmp_path, forms)))).notes
    assert notes[:2] == [f"WARNING: 1 writer of train is in {part} too: w1" for part in ("val", "test")]


def test_no_such_root(tmp_path):
    fails(tmp_path / "x", "data.root", "no such folder", "hwr iam download --root", "hwr synth --out")
    with pytest.raises(hwr.Error, match=r"x: no such folder or file\. Name your dataset with --set data\.root=PATH"):
        read(Data(root=str(tmp_path / "x")))
    fails(tmp_path, "xml: no such folder", "hwr iam download")
    (tmp_path / "xml").mkdir()
    fails(tmp_path, "no .xml file")


# --- Real folders ---


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there: real handwriting in IAM's layout")
def test_real_folders():
    roots = sorted(path.parent for path in REAL.glob("*/manifest.tsv"))
    assert roots
    for root in roots:
        with open(root / "manifest.tsv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        data = iam.read(Data(root=str(root)))
        assert (data.name, data.excluded) == (root.name, [])
        for part in iam.PARTS:
            expected = {r["id"]: (root / r["image"], r["text"], r["writer"]) for r in rows if r["split"] == part}
            assert {line.id: (line.image, line.text, line.writer) for line in data.part(part)} == expected
            assert len(data.part(part)) == len(expected)
        report = check.check(root, images=False)
        assert (report.lines, report.ok, report.is_iam) == (len(rows), True, False)


# --- The checker ---


def with_images(root):
    """Fill every image file with an image."""
    for path in root.rglob("*.png"):
        Image.new("L", (8, 8), 255).save(path)
    return root


def test_check_of_a_complete_dataset(root):
    (root / TASK / "._testset.txt").write_bytes(b"\x00\x05\x16\x07\xff")  # of macOS; hidden files are skipped
    report = check.check(with_images(root), progress=False)
    assert report.ok
    assert (report.forms, report.lines, report.words, report.writers) == (4, 6, 20, 4)
    assert report.images == {"line": 6, "word": 20, "form": 4}
    assert report.lists == {"trainset": 2, "validationset1": 1, "validationset2": 1, "testset": 2}
    assert "All is well" in check.summary(report)


def test_check_lists_everything_that_is_wrong(root):
    with_images(root)
    lines = root / "lines/x01/x01-000"
    data = (lines / "x01-000-00.png").read_bytes()
    write(lines / "x01-000-00.png", data[:-30])
    write(lines / "x01-000-01.png", b"")
    (root / "lines/x02/x02-000/x02-000-00.png").unlink()
    (root / "words/x02/x02-001/x02-001-00-00.png").unlink()
    (root / "formsA-D/x02-001.png").unlink()
    xml(root, "x01-001", '<line id="x01-001-00" text="">')
    xml(root, "x03-000", '<line id="x01-000-00" text=""/>')
    write(root / TASK / "validationset2.txt", "x02-000-00\nx02-000-07\nx01-000-00\nx01-001-05\n")
    report = check.check(root, progress=False)
    assert not report.ok
    names = [path.name for path in report.missing]
    assert names == ["x02-000-00.png", "x01-000-00.png", "x02-001-00-00.png", "x02-001.png", "x03-000.png"]
    assert [damaged.partition(":")[0][-14:] for damaged in report.damaged] == ["x01-000-00.png", "x01-000-01.png"]
    assert "empty file" in report.damaged[1]
    problems = "\n".join(report.problems)
    for part in (
        "x01-001.xml:5: not well-formed",
        "x03-000.xml:4: x01-000-00 already occurs at",
        "x03-000.xml:4: x01-000-00 has an empty text",
        "validationset2.txt:2: x02-000-07 is in no XML",
        "validationset2.txt:3: x01-000-00 is listed at",
    ):
        assert part in problems
    assert len(report.problems) == 5
    text = check.summary(report)
    assert "missing images: 5" in text
    assert "Not all is well" in text
    assert check.check(root, images=False).damaged == ()


def test_check_compares_iam_with_the_official_numbers(iam_folder):
    report = check.check(iam_folder, images=False)
    assert report.is_iam
    assert report.lists == iam.OFFICIAL
    assert "lines: 9,862, officially 13,353" in report.differences
    assert "words: 9,862, officially 115,320" in report.differences
    assert not any("trainset" in difference for difference in report.differences)
    assert report.problems == ()


def test_check_knows_the_damaged_words_of_iam(tmp_path):
    root = make(tmp_path, {"a01-117": ("1", ["a", "b", "c", "d", "e", "f g h"])}, {"trainset": ["a01-117"]})
    with_images(root)
    write(root / "words/a01/a01-117/a01-117-05-02.png", b"")
    report = check.check(root, progress=False)
    assert report.damaged == ()
    assert len(report.known_damaged) == 1
    assert "data.exclude" in check.summary(report)


def test_check_of_an_almost_empty_folder(tmp_path):
    with pytest.raises(hwr.Error, match="no such folder"):
        check.check(tmp_path / "x")
    report = check.check(tmp_path)
    assert not report.ok
    assert len(report.problems) == 3
    (tmp_path / TASK).mkdir()
    write(tmp_path / "xml/a01-000.xml", "")
    assert any("trainset.txt: no such list" in problem for problem in check.check(tmp_path).problems)


def test_long_lists_are_cut_on_screen_only(tmp_path):
    root = make(tmp_path, {"x01-000": ("1", ["a"] * 30)}, {}, images=())
    (root / "lines").mkdir()
    report = check.check(root)
    assert len(report.missing) == 30
    text = check.summary(report)
    assert "… and 10 more" in text
    assert text.count(".png") == 20


def test_several_roots_are_one_dataset(tmp_path: Path) -> None:
    from hwr.data import synth

    for name, lines in (("a", 44), ("b", 30)):
        synth.write(tmp_path / name, lines, 4, 0)
    alone = [read(Data(root=str(tmp_path / name))) for name in "ab"]
    both = (str(tmp_path / "a"), str(tmp_path / "b"))
    together = read(Data(root=both))
    for part in ("train", "val", "test"):
        expected = [(f"{n}/{x.id}", x.text, x.image) for n, d in zip("ab", alone, strict=True) for x in d.part(part)]
        assert [(x.id, x.text, x.image) for x in together.part(part)] == expected
    assert {x.writer.partition("/")[0] for x in together.train} == {"a", "b"}
    assert together.name == "a + b"
    first = together.train[0].id
    fewer = read(Data(root=both, exclude=(first,)))
    assert (fewer.excluded, len(fewer.train)) == ([first], len(together.train) - 1)
    with pytest.raises(hwr.Error, match=r"data\.exclude: x: with several roots, write FOLDER/ID; the folders are a, b"):
        read(Data(root=both, exclude=("x",)))
    with pytest.raises(hwr.Error, match=r"data\.root: a: several folders have this name"):
        read(Data(root=(both[0], f"{both[0]}/../a")))
    # The recipe iam_word excludes two words of IAM, whichever of the folders that is.
    assert read(Data(root=both, exclude=("r06-022-03-05",))) == together
    assert not any("images are in several folders" in note for note in together.notes)
    (tmp_path / "again").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "again" / path.name).symlink_to(path)
    (note,) = (x for x in read(Data(root=(*both, str(tmp_path / "again")))).notes if "images are in several" in x)
    assert note.startswith("44 images are in several folders of data.root, which are split each by itself")
    assert str(tmp_path / "a/lines") in note
