"""Edit an XML file that someone else made: only what changes is written anew, and every other byte stays.

lxml forgets how a file was written: quotes, white space inside tags, CDATA, character references, line ends, the
encoding. So edits are made in lxml's tree, and `Document.content` compares the tree with the source, piece by piece. A
piece that still says the same is copied from the source.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.data.formats import xml

# Markup of a well-formed file. The parts of a DOCTYPE are comments, instructions, quoted texts, and the rest.
_MARKUP = re.compile(
    r"""<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>|</[^>]*>
    |<!DOCTYPE(?:"[^"]*"|'[^']*'|[^\["'>])*(?:\[(?:<!--.*?-->|<\?.*?\?>|"[^"]*"|'[^']*'|[^\]"'])*\]\s*)?>
    |<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""",
    re.DOTALL | re.VERBOSE,
)
_NAME = re.compile(r"<([^\s/>]+)")
_ATTRIBUTE = re.compile(r"""(\s+)([^\s=]+)(\s*=\s*)("[^"]*"|'[^']*')""")
_CDATA = re.compile(r"<!\[CDATA\[(?:(?!\]\]>).)*\]\]>", re.DOTALL)
_LAST_LINE = re.compile(r"(?:\r\n|\r|\n)[^\r\n]*\Z")

_XML = "http://www.w3.org/XML/1998/namespace"

_QUOTE = '"'  # of new attributes

# Prefix -> namespace, as lxml has it: None is the prefix of the default namespace.
_Scope = Mapping[str | None, str]


@dataclass(frozen=True)
class _Node:
    """An element, comment or instruction in the source: where it is, and what it said.

    Attributes:
        start: Of its start tag; `inner`: the end of that tag; `close`: the start of its end tag, and `end` the end of
            that. The last three are equal if it has no end tag.
        tail: The text after it.
        outer: The namespaces around it; `scope`: those inside it.
    """

    start: int
    inner: int
    close: int
    end: int
    attributes: Mapping[str, str]
    text: str
    tail: str
    children: tuple[Any, ...]
    outer: _Scope
    scope: _Scope


class Document:
    """An XML file whose tree is edited in place.

    White space between elements is that of the source, whatever the tree says. New elements are indented like their
    siblings.

    Args:
        path: For messages.

    Attributes:
        root: The root element.

    Raises:
        Error: As `xml.parse_bytes`; an encoding that can't be written as it was read.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        self.root = xml.parse_bytes(content, path)
        self._codec, self._text = xml.decoded(content, path)
        try:
            self._nodes = dict(_scan(self._text, self.root))
        except (LookupError, ValueError) as error:
            raise Error(f"{path}:1: its markup is not understood ({error}); save it with another program") from None
        first = self._nodes[self.root].children[:1]
        gap = self._text[self._nodes[self.root].inner : self._nodes[first[0]].start] if first else ""
        self._step = re.split(r"[\r\n]", gap)[-1] if not gap.strip() else ""  # of indentation

    def content(self) -> bytes:
        """The file as it should be now: without a change, the bytes that were read."""
        out = [self._text[: self._nodes[self.root].start]]
        # Text, and nodes with their indentation and the namespaces around them. Recursion would have a limit.
        todo: list[Any] = [(self.root, "", {})]
        while todo:
            piece = todo.pop()
            if isinstance(piece, str):
                out.append(piece)
            else:
                todo += reversed(self._pieces(*piece))
        out.append(self._text[self._nodes[self.root].end :])
        return "".join(out).encode(self._codec, "xmlcharrefreplace")

    def _pieces(self, element: Any, indent: str, scope: _Scope) -> list[Any]:
        node = self._nodes.get(element)
        if node is None:
            return self._new(element, indent, scope)
        if not isinstance(element.tag, str):
            return [self._text[node.start : node.end]]
        tag = _tag(self._text[node.start : node.inner], element, node, scope)
        inside = self._inside(element, node, indent)
        if node.inner < node.end:
            return [tag, *inside, self._text[node.close : node.end]]
        if not any(inside):
            return [tag]
        return [f"{tag.removesuffix('/>').rstrip()}>", *inside, f"</{_NAME.match(tag)[1]}>"]  # type: ignore[index]

    def _inside(self, element: Any, node: _Node, indent: str) -> list[Any]:
        """What is between an element's tags."""
        now = list(element)
        texts = [element.text or "", *(child.tail or "" for child in now)]
        gaps = self._gaps(node, now)
        if not now and not node.children:
            return [self._between(texts[0], *gaps[None], exactly=True)]
        # The indentation of a new child is that of the child before it, or else of the first that is or was here.
        like = next((gaps[child][0][1] for child in (*now, *node.children) if child in gaps), None)
        own = (indent + self._step if indent else "") if like is None else _indentation(like)
        out: list[Any] = []
        for child, text in zip(now, texts, strict=False):
            if child in gaps:
                gap = self._between(text, *gaps[child])
                own = _indentation(gap)
            else:
                gap = _escaped(text) if text.strip() else own
            out += [gap, (child, own, node.scope)]
        last = self._between(texts[-1], *gaps[None])
        return [*out, last if node.children or last.strip() or _LAST_LINE.search(last) else indent]

    def _gaps(self, node: _Node, now: list[Any]) -> dict[Any, tuple[tuple[str, str], tuple[str, str]]]:
        """The texts before each child in the source, and before the end tag (None): what they say, and the source itself.

        Of each pair, the second includes the texts before children directly ahead that are no longer here.
        """
        kept, out = {*now, None}, {}
        start, value = node.inner, node.text
        lost = ("", "")
        for child in (*node.children, None):
            here = None if child is None else self._nodes[child]
            own = (value, self._text[start : node.close if here is None else here.start])
            both = (lost[0] + own[0], lost[1] + own[1])
            out[child] = own, both
            lost = ("", "") if child in kept else both
            if here is not None:
                start, value = here.end, here.tail
        return out

    def _between(self, text: str, own: tuple[str, str], both: tuple[str, str], exactly: bool = False) -> str:
        """A text between tags: from the source, if the tree says the same, or both are white space and that is ignored."""
        if text == own[0] or not (exactly or text.strip() or own[0].strip()):
            return own[1]
        if text == both[0]:
            return both[1]
        if text and _CDATA.fullmatch(own[1]) and "]]>" not in text and "\r" not in text and self._encodes(text):
            return f"<![CDATA[{text}]]>"
        return _escaped(text)

    def _encodes(self, text: str) -> bool:
        try:
            text.encode(self._codec)
        except UnicodeEncodeError:
            return False
        return True

    def _new(self, element: Any, indent: str, scope: _Scope) -> list[Any]:
        """An element that is not in the source."""
        prefix = next((p for p in (element.prefix, *scope) if scope.get(p) == _namespace(element.tag)), None)
        name = xml.local(element)
        attributes = "".join(f' {k}="{_escaped(v, _QUOTE)}"' for k, v in element.attrib.items())
        if prefix is not None:
            name = f"{prefix}:{name}"
        elif scope.get(None, "") != _namespace(element.tag):
            scope = {**scope, None: _namespace(element.tag)}
            attributes = f' xmlns="{_escaped(scope[None], _QUOTE)}"{attributes}'
        gap = indent + self._step if indent and not (element.text or "").strip() else ""
        inside: list[Any] = [_escaped(element.text or "")]
        for child in element:
            inside += [gap, (child, gap, scope), _escaped(child.tail or "")]
        if not any(inside):
            return [f"<{name}{attributes}/>"]
        return [f"<{name}{attributes}>", *inside, indent if gap and len(element) else "", f"</{name}>"]


def _scan(text: str, root: Any) -> Iterator[tuple[Any, _Node]]:
    """Find the nodes of a tree in its source; children come before their parents.

    Raises:
        ValueError: The source is that of another tree; so is LookupError.
    """
    nodes = root.iter()
    # The elements that are open: the element, start and end of its start tag, namespaces around and inside it.
    open_: list[tuple[Any, int, int, _Scope, _Scope]] = []
    for found in _MARKUP.finditer(text):
        mark, (start, end) = found[0], found.span()
        outside = not open_
        if mark.startswith(("<!--", "<?")):
            if not outside:  # what lies outside of the root is never changed
                yield _noted(next(nodes, None), start, end, end, end, {}, {})
            continue
        if mark.startswith("<!"):
            continue
        if mark.startswith("</"):
            element, first, inner, outer, scope = open_.pop()
            yield _noted(element, first, inner, start, end, outer, scope)
        else:
            element, outer = next(nodes, None), {} if outside else open_[-1][-1]
            name = _NAME.match(mark)[1]  # type: ignore[index]
            if element is None or name.rpartition(":")[2] != xml.local(element):
                raise ValueError(f"<{name}> is not expected")
            scope = element.nsmap if "xmlns" in mark else outer
            if mark.endswith("/>"):
                yield _noted(element, start, end, end, end, outer, scope)
            else:
                open_.append((element, start, end, outer, scope))
        if not open_:
            break
    if open_ or next(nodes, None) is not None:
        raise ValueError("an element is missing")


def _noted(
    element: Any, start: int, inner: int, close: int, end: int, outer: _Scope, scope: _Scope
) -> tuple[Any, _Node]:
    if element is None:
        raise ValueError("a comment is not expected")
    attributes = dict(element.attrib) if isinstance(element.tag, str) else {}
    text, tail = element.text or "", element.tail or ""
    return element, _Node(start, inner, close, end, attributes, text, tail, tuple(element), outer, scope)


def _tag(source: str, element: Any, node: _Node, scope: _Scope) -> str:
    """The start tag of an element, given that in the source."""
    now = dict(element.attrib)
    # Namespaces that a moved element takes along.
    taken = {p: node.outer.get(p, "") for p in (*node.outer, *scope) if scope.get(p) != node.outer.get(p)}
    if now == node.attributes and not taken:
        return source
    inside = source.removesuffix(">").removesuffix("/").rstrip()
    out, space = [_NAME.match(source)[0]], " "  # type: ignore[index]
    for space, key, equals, value in _ATTRIBUTE.findall(inside):
        prefix, _, own = key.rpartition(":")
        if "xmlns" in (prefix, key):
            taken.pop(own if prefix else None, None)
            out.append(f"{space}{key}{equals}{value}")
            continue
        full = f"{{{_XML if prefix == 'xml' else node.scope[prefix]}}}{own}" if prefix else key
        said = now.pop(full, None)
        if said is not None:
            quoted = value if said == node.attributes[full] else f"{value[0]}{_escaped(said, value[0])}{value[0]}"
            out.append(f"{space}{key}{equals}{quoted}")
    # Attributes that a DTD adds are not in the source.
    out += [f'{space}{key}="{_escaped(said, _QUOTE)}"' for key, said in now.items() if said != node.attributes.get(key)]
    out += [f' xmlns{f":{p}" if p else ""}="{_escaped(uri, _QUOTE)}"' for p, uri in taken.items() if uri or p is None]
    return "".join([*out, source[len(inside) :]])


def _indentation(gap: str) -> str:
    """The line break and the white space before an element; "" if it stands behind something else."""
    found = None if gap.strip() else _LAST_LINE.search(gap)
    return found[0] if found else ""


def _namespace(tag: str) -> str:
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


def _escaped(text: str, quote: str = "") -> str:
    """A text as XML: of an attribute in these quotes, or between tags."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    if quote:
        named = "&quot;" if quote == '"' else "&apos;"
        text = text.replace(quote, named).replace("\n", "&#10;").replace("\t", "&#9;")
    return text
