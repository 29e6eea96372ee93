"""XML files of others, edited: every byte outside of an edit stays, and the edit says what was meant."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from hwr import Error
from hwr.data.formats import PAGE_FORMATS, alto, page, page_edit, xml
from hwr.data.formats.shapes import Marked
from hwr.data.formats.xml_edit import Document
from hwr.data.text import blank

PAGES = Path(__file__).parents[2] / "shared/pages"
FILE = Path("a.xml")
QUICK = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)

# --- Files with odd but legal features ---

# Python's name of the encoding, its name in a declaration, and the byte order mark.
ENCODINGS = (
    ("utf-8", "UTF-8", ""),
    ("utf-8", "utf-8", "\ufeff"),
    ("utf-16-le", "UTF-16", "\ufeff"),
    ("utf-16-be", "UTF-16", "\ufeff"),
    ("utf-16-le", "UTF-16LE", ""),
    ("utf-32-le", "UTF-32", "\ufeff"),
    ("iso-8859-1", "ISO-8859-1", ""),
    ("cp1252", "windows-1252", ""),
    ("ascii", "US-ASCII", ""),
)
DECLARATIONS = ('<?xml version="1.0" encoding="{}"?>', "<?xml  version='1.0'\tencoding = '{}' standalone='yes' ?>")
DOCTYPES = (
    "",
    "<!DOCTYPE {root}>",
    '<!DOCTYPE {root} SYSTEM "other>.dtd">',
    """<!DOCTYPE {root} [ <!-- don't > ]> --> <?odd ]> "?> <!ELEMENT x (#PCDATA)> <!ATTLIST x a CDATA ">]" b CDATA '"'> ] >""",
)
OUTSIDE = ("", "\n", "<!-- before, or <after/> -->", "<?style  href='a'?>", "\n\n")
INSIDE = (
    "",
    "<!-- <TextLine/> & ' -->",
    "<?odd <a> ' ?>",
    "<o:other o:a = '1>2'/>",
    "<o:t  ><![CDATA[<&]]>&#x41;&amp;\u00a0</o:t >",
    '<none xmlns="" a="&#10;&#9;&quot;"><more/></none>',
    "<o:empty></o:empty>",
)
SPACES = ("", "\n  ", "\n\t", "\n\n    \n      ", " ")
WITHIN = (" ", "  ", "\n      ", "\t")  # white space inside of tags
ATTRIBUTES = ("", "custom='odd {{a:\"b\";}}'", 'o:mark = "&lt;&#65;&apos;\'"', "xml:lang='fr'")
EDGES = "\t\u0085\u00a0\u2028\ud7ff\ue000\ufffd\U00010000\U0010ffff\u0301\u200b\ufeff"
LETTERS = st.one_of(
    st.sampled_from(EDGES), st.sampled_from("ab ]>&<\"'é€"), st.characters(blacklist_categories=["Cs", "Cc"])
)
TEXTS = st.text(LETTERS, max_size=8).filter(lambda text: not re.search("[\ufffe\uffff]", text))


@dataclass(frozen=True)
class Spot:
    """A text in the source that edits change."""

    raw: str
    text: str
    quote: str = ""  # of an attribute


Pieces = Sequence[str | Spot]


@dataclass(frozen=True)
class Made:
    """A file: its pieces, and how it is encoded."""

    pieces: Pieces
    codec: str

    def content(self, change: Callable[[int, Spot], str] = lambda number, spot: spot.raw) -> bytes:
        spots = iter(range(len(self.pieces)))
        return "".join(piece if isinstance(piece, str) else change(next(spots), piece) for piece in self.pieces).encode(
            self.codec
        )

    @property
    def spots(self) -> list[Spot]:
        return [piece for piece in self.pieces if isinstance(piece, Spot)]


def escaped(text: str, codec: str, quote: str = "") -> str:
    """A text as XML of an encoding."""
    for a, b in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
        text = text.replace(a, b)
    if quote:
        text = text.replace(quote, "&quot;" if quote == '"' else "&apos;").replace("\n", "&#10;").replace("\t", "&#9;")
    return text.encode(codec, "xmlcharrefreplace").decode(codec)


def cdata(text: str, codec: str) -> str:
    """A text as CDATA, if there it can be."""
    fits = "]]>" not in text and text and text.encode(codec, "ignore").decode(codec) == text
    return f"<![CDATA[{text}]]>" if fits else escaped(text, codec)


@st.composite
def files(draw: st.DrawFn, kind: str) -> Made:
    """A PAGE or ALTO file of up to three lines; the texts of its lines are spots."""
    rng = random.Random(draw(st.integers(0, 1 << 32)))  # drawing each part from hypothesis takes ten times as long
    codec, name, mark = rng.choice(ENCODINGS)
    prefix = rng.choice(("", "p:"))
    format = PAGE_FORMATS[kind]
    out: list[str | Spot] = []

    def pick(options: Sequence[str]) -> str:
        return rng.choice(options)

    def space() -> str:
        return pick(SPACES)

    def tag(name: str, *attributes: str, end: str = ">") -> str:
        chosen = [a for a in (*attributes, pick(ATTRIBUTES)) if a]
        return f"<{prefix}{name}{''.join(pick(WITHIN) + a for a in chosen)}{pick(('', ' '))}{end}"

    def add(*pieces: str) -> None:
        out.extend(pieces)

    declared = codec != "utf-8" or rng.random() < 0.5
    add(mark, pick(DECLARATIONS).format(name) if declared else "", pick(DOCTYPES).format(root=f"{prefix}{format.TAG}"))
    add(pick(OUTSIDE))
    colon = f":{prefix[:-1]}" if prefix else ""
    add(tag(format.TAG, f"xmlns{colon}='{format.NAMESPACE}'", 'xmlns:o="urn:other"'), space(), pick(INSIDE), space())  # type: ignore[attr-defined]
    texts = draw(st.lists(TEXTS, min_size=1, max_size=3))
    (_page if kind == "page" else _alto)(texts, out, tag, space, pick, prefix, codec)
    add(space(), pick(INSIDE), space(), f"</{prefix}{format.TAG}{pick(WITHIN)}>", pick(OUTSIDE))
    newline = pick(("\n", "\r\n", "\r"))

    def ended(piece: str) -> str:
        return escaped_all(piece.replace("\n", newline), codec)

    return Made([replace(p, raw=ended(p.raw)) if isinstance(p, Spot) else ended(p) for p in out], codec)


def escaped_all(piece: str, codec: str) -> str:
    """Whatever the encoding lacks becomes a character reference; CDATA and comments have none of it."""
    return piece.encode(codec, "xmlcharrefreplace").decode(codec)


def _page(texts: Sequence[str], out: list[Any], tag: Any, space: Any, pick: Any, prefix: str, codec: str) -> None:
    out += [tag("Page", 'imageFilename="a.png"', "imageWidth='90'", "imageHeight='90'"), space()]
    out += [tag("TextRegion", "id='r'"), space()]
    for number, text in enumerate(texts):
        out += [tag("TextLine", f'id="l{number}"'), space(), tag("Coords", 'points="1,1 9,1 9,9"', end="/>"), space()]
        out += [pick(INSIDE), tag("TextEquiv"), space()]
        match pick(("plain", "cdata", "references", "comment", "empty", "self-closing")):
            case "plain":
                out += [tag("Unicode"), Spot(escaped(text, codec), text), f"</{prefix}Unicode>"]
            case "cdata":
                out += [tag("Unicode"), Spot(cdata(text, codec), text), f"</{prefix}Unicode>"]
            case "references":
                raw = "".join(f"&#x{ord(c):X};" if c != "\r" else "" for c in text)
                out += [tag("Unicode"), Spot(raw, text), f"</{prefix}Unicode>"]
            case "comment":
                out += [tag("Unicode"), Spot(escaped(text, codec), text), "<!-- within -->", f"</{prefix}Unicode >"]
            case "empty":
                out += [tag("Unicode"), Spot("", ""), f"</{prefix}Unicode>"]
            case "self-closing":
                out += [f"<{prefix}Unicode", Spot("/>", "")]
        out += [space(), f"</{prefix}TextEquiv>", space(), f"</{prefix}TextLine>", space(), pick(INSIDE), space()]
    out += [f"</{prefix}TextRegion>", space(), f"</{prefix}Page>"]


def _alto(texts: Sequence[str], out: list[Any], tag: Any, space: Any, pick: Any, prefix: str, codec: str) -> None:
    out += [tag("Layout"), space(), tag("Page", "WIDTH='90'", 'HEIGHT="90"'), space(), tag("TextBlock"), space()]
    for number, text in enumerate(texts):
        word = "".join(text.split()) or "x"
        quote = pick("\"'")
        out += [
            tag("TextLine", f'ID="l{number}"', "HPOS='1' VPOS='1' WIDTH='9' HEIGHT='9'"),
            space(),
            pick(INSIDE),
            space(),
        ]
        out += [f"<{prefix}String{pick(WITHIN)}CONTENT{pick(('', ' '))}={quote}"]
        out += [Spot(escaped(word, codec, quote), word, quote), f"{quote} WC='0.25'{pick(('', ' '))}/>"]
        out += [space(), pick(INSIDE), f"</{prefix}TextLine >", space()]
    out += [f"</{prefix}TextBlock>", space(), f"</{prefix}Page>", space(), f"</{prefix}Layout>"]


# --- Bytes that stay ---


@QUICK
@given(made=st.sampled_from(["page", "alto"]).flatmap(files))
def test_a_file_without_an_edit_stays_as_it_is(made: Made) -> None:
    assert Document(made.content(), FILE).content() == made.content()


@QUICK
@given(made=files("page"), texts=st.lists(TEXTS, min_size=3, max_size=3), which=st.sets(st.integers(0, 2)))
def test_a_text_of_page_changes_alone(made: Made, texts: list[str], which: set[int]) -> None:
    document, found, _ = page_edit.parse(made.content(), FILE)
    for number, line in enumerate(found.lines):
        if number in which:
            page_edit.set_text(document.root, line.id, texts[number], None, checked=False)

    def changed(number: int, spot: Spot) -> str:
        text = texts[number]
        if number not in which or (text and text.strip() == spot.text.strip()):
            return spot.raw
        if spot.raw == "/>":
            return f">{escaped(text, made.codec)}</{_prefix(made)}Unicode>" if text else spot.raw
        return cdata(text, made.codec) if spot.raw.startswith("<![CDATA[") else escaped(text, made.codec)

    assert document.content() == made.content(changed)
    again = page.parse(FILE, xml.parse_bytes(document.content(), FILE))
    expected = [texts[n] if n in which else spot.text for n, spot in enumerate(made.spots)]
    assert [line.text.strip() for line in again.lines] == ["" if blank(text) else text.strip() for text in expected]


def _prefix(made: Made) -> str:
    return "p:" if any("<p:" in piece for piece in made.pieces if isinstance(piece, str)) else ""


@QUICK
@given(made=files("alto"), texts=st.lists(TEXTS, min_size=3, max_size=3))
def test_a_text_of_alto_changes_alone(made: Made, texts: list[str]) -> None:
    document = Document(made.content(), FILE)
    words = ["".join(text.split()) or "y" for text in texts]
    lines = alto.parse(FILE, document.root).lines
    new = [Marked(x.id, text, x.polygon, (), "", confidence=0.25) for x, text in zip(lines, words, strict=False)]
    alto.update(document.root, new)

    def changed(number: int, spot: Spot) -> str:
        return escaped(words[number], made.codec, spot.quote) if words[number] != spot.text else spot.raw

    left = re.sub(rb"WC='0\.25(00)?'", b"WC", document.content().replace(b"\0", b""))
    assert left == re.sub(rb"WC='0\.25(00)?'", b"WC", made.content(changed).replace(b"\0", b""))
    assert [x.text for x in alto.parse(FILE, xml.parse_bytes(document.content(), FILE)).lines] == words[: len(lines)]


@QUICK
@given(made=files("page"), after=st.sampled_from([None, 0, 1]))
def test_lines_are_added_moved_and_deleted_alone(made: Made, after: int | None) -> None:
    content = made.content()
    document, found, _ = page_edit.parse(content, FILE)
    ids = [line.id for line in found.lines]
    where = None if after is None else ids[min(after, len(ids) - 1)]
    id = page_edit.add(document.root, ((1, 1), (9, 1), (9, 9)), ((1, 8), (9, 8)), where)
    added = document.content()
    start, end = ends_alike(content, added)
    assert start + end >= len(content)
    place = 0 if where is None else ids.index(where) + 1
    expected = [*ids[:place], id, *ids[place:]]
    assert [x.id for x in page.parse(FILE, xml.parse_bytes(added, FILE)).lines] == expected
    page_edit.delete(document.root, id)
    assert document.content() == content
    page_edit.delete(document.root, ids[-1])
    start, end = ends_alike(content, document.content())
    assert start + end >= len(document.content())
    if len(ids) > 2:
        page_edit.move(document.root, ids[1], None)
        moved = document.content()
        blocks = [line for line in lines_of(content, made.codec) if line not in lines_of(moved, made.codec)]
        assert blocks == lines_of(content, made.codec)[-1:]  # the deleted one
        assert [x.id for x in page.parse(FILE, xml.parse_bytes(moved, FILE)).lines] == [ids[1], ids[0]]


def ends_alike(a: bytes, b: bytes) -> tuple[int, int]:
    """How many bytes two files have in common at their starts and ends."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = next((i for i, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
    return start, end


def lines_of(content: bytes, codec: str) -> list[str]:
    return re.findall(r"<(?:p:)?TextLine[\s>].*?</(?:p:)?TextLine>", content.decode(codec), re.DOTALL)


# --- Any edit of any tree says what was meant ---

TREES = st.recursive(
    st.sampled_from(("<a/>", "<b:x/>", "<!--c-->", "t&amp;", "<![CDATA[<]]>", "\n  ", "<?p q?>", "<c xmlns='urn:c'/>")),
    lambda inner: (
        st.builds("<{0}>{1}</{0}>".format, st.sampled_from(("a", "b:y")), st.lists(inner, max_size=5).map("".join))
        | st.builds("<e xmlns:b='urn:2' b:k='v' k=\"w\">{}</e>".format, st.lists(inner, max_size=3).map("".join))
    ),
    max_leaves=12,
)


@settings(QUICK, max_examples=200)
@given(inside=st.lists(TREES, min_size=1, max_size=4), data=st.data())
def test_edits_say_what_the_tree_says(inside: list[str], data: st.DataObject) -> None:
    source = f"<r xmlns='urn:1' xmlns:b='urn:b'>{''.join(inside)}</r>"
    document = Document(source.encode(), FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        elements = [e for e in document.root.iter() if isinstance(e.tag, str)]
        one, two = data.draw(st.sampled_from(elements)), data.draw(st.sampled_from(elements))
        match data.draw(st.sampled_from(("text", "attribute", "no attribute", "remove", "add", "move", "namespace"))):
            case "text":
                one.text = data.draw(st.sampled_from(("new & <", "", "]]>", None)))
            case "attribute":
                one.set(data.draw(st.sampled_from(("k", "n"))), "\"'<\n\t&é")
            case "no attribute":
                one.attrib.pop("k", None)
            case "remove" if one is not document.root:
                xml.detach(one)
            case "add":
                xml.add(xml.add(one, "new", k="1"), "inner").text = "x"
            case "namespace":
                one.append(etree.fromstring("<q xmlns='urn:q'><w/>t</q>"))
            case "move" if two not in one.iterancestors() and one is not two and one is not document.root:
                if one not in two.iterancestors():
                    xml.detach(one)
                    two.insert(0, one)
    assert plain(xml.parse_bytes(document.content(), FILE)) == plain(document.root)


def plain(element: Any) -> tuple[Any, ...]:
    """What an element says, without the white space between elements."""
    if not isinstance(element.tag, str):
        return (str(element.tag), element.text)
    texts = [element.text or "", *(child.tail or "" for child in element)]
    if len(element):
        texts = [text if text.strip() else "" for text in texts]
    return element.tag, tuple(sorted(element.attrib.items())), texts, [plain(child) for child in element]


# --- Particular cases ---


def test_new_elements_are_indented_like_their_siblings() -> None:
    document = Document(b"<a>\r\n\t<b  x='1'\r\n\t\ty='2' />\r\n\t<c/>\r\n</a>\r\n", FILE)
    b, _ = document.root
    b.set("z", "3")
    xml.add(xml.add(b, "d"), "e")
    document.root.insert(1, xml.new("n", ""))
    xml.remove(document.root, "c")
    assert document.content() == (
        b"<a>\r\n\t<b  x='1'\r\n\t\ty='2'\r\n\t\tz=\"3\">\r\n\t\t<d>\r\n\t\t\t<e/>\r\n\t\t</d>\r\n\t</b>\r\n\t<n/>\r\n</a>\r\n"
    )


def test_a_file_on_one_line_stays_on_one_line() -> None:
    document = Document(b"<a><b/><c>x</c></a>", FILE)
    xml.add(document.root[0], "d", k='"')
    xml.add(document.root, "e").text = "&"
    assert document.content() == b'<a><b><d k="&quot;"/></b><c>x</c><e>&amp;</e></a>'


def test_text_after_a_removed_element_stays() -> None:
    document = Document(b"<a>x &#65; <b/> y <![CDATA[&]]><c/>z</a>", FILE)
    xml.remove(document.root, "b", "c")
    assert document.content() == b"<a>x &#65;  y <![CDATA[&]]>z</a>"


def test_an_encoding_that_can_not_be_kept_is_refused() -> None:
    """UTF-7 can write one text in many ways."""
    with pytest.raises(Error, match=r"a\.xml:1: is encoded as utf-7.*save it in UTF-8"):
        Document(b"<?xml version='1.0' encoding='utf-7'?><a>+AOk-+AOk-</a>", FILE)


def test_deep_and_long_files_take_little_time() -> None:
    deep = b"<a>" * 250 + b"</a>" * 250
    document = Document(deep, FILE)
    next(iter(document.root.iter("a"))).set("k", "v")
    assert document.content() == b'<a k="v">' + deep[3:]
    for long in (
        b"<a" + b" " * 300_000 + b"k='v'" + b"\n" * 300_000 + b"/>",
        b"<!DOCTYPE a [" + b"<!-- ' -->" * 30_000 + b"]><a/>",
    ):
        document = Document(long, FILE)
        document.root.set("n", "v")
        assert b'n="v"' in document.content()


def test_a_default_attribute_of_a_dtd_is_not_written() -> None:
    source = b"""<!DOCTYPE a [<!ATTLIST a k CDATA "v">]><a j="1"/>"""
    document = Document(source, FILE)
    document.root.set("j", "2")
    assert document.content() == source.replace(b'"1"', b'"2"')


# --- Real exports ---


def exports() -> list[Path]:
    return sorted(PAGES.rglob("*.xml"))


@pytest.mark.skipif(not PAGES.is_dir(), reason="no ../shared/pages")
def test_real_exports_stay_byte_for_byte_outside_of_an_edit() -> None:
    assert len(exports()) == 8
    for path in exports():
        content = path.read_bytes()
        document = Document(content, path)
        assert document.content() == content
        kind = next(kind for kind, format in PAGE_FORMATS.items() if xml.local(document.root) == format.TAG)
        found = PAGE_FORMATS[kind].parse(path, document.root).lines
        new = [Marked(x.id, "gelesen", (), (), "", fault="" if n == 1 else "not read") for n, x in enumerate(found)]
        PAGE_FORMATS[kind].update(document.root, new)
        start, end = ends_alike(content, re.sub(rb"(?<=<LastChange>)[^<]+", _last_change(content), document.content()))
        line = content[start - 1 : len(content) - end]
        assert b"TextLine" not in line.replace(b"</TextLine", b"", 1)
        assert line.count(b"\n") < 12


def _last_change(content: bytes) -> bytes:
    found = re.search(rb"<LastChange>([^<]+)", content)
    return found[1] if found else b""
