"""XML: files from strangers read safely, and elements found, made and written whatever their namespace."""

import codecs
import re
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.system import files
from hwr.system.atomic import replacing

# How files begin whose declaration does not tell the encoding: with a mark of the byte order, or a wide "<".
_BEGINNINGS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    b"<\0\0\0": "utf-32-le",
    b"\0\0\0<": "utf-32-be",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_DECLARED = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)""")


def parse(path: Path) -> Any:
    """Read a file and return its root element. Nothing outside the file is loaded.

    Raises:
        Error: Unreadable, not well-formed, in a wrong encoding, or it declares entities; names file:line.
    """
    return parse_bytes(files.read_bytes(path), path)


def root_tag(path: Path) -> str:
    """The local name of a file's root element, from its first bytes alone; "" if they do not tell."""
    try:
        with files.open_regular(path) as file:
            start = re.sub(rb"<!--.*?-->", b"", file.read(4096), flags=re.DOTALL)
    except (Error, OSError):
        return ""
    found = re.search(rb"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)[\s>/]", start)
    return found[1].decode("ascii", "replace") if found else ""


def parse_bytes(content: bytes, path: Path) -> Any:
    """`parse` for the content of a file.

    Raises:
        Error: As `parse`; `path` is for its messages.
    """
    from lxml import etree

    # lxml expands entities in attributes even with resolve_entities=False, so declarations are refused before parsing.
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        if (at := content.find("<!ENTITY".encode(encoding))) >= 0:
            raise Error(f"{path}:{content.count(10, 0, at) + 1}: declares an XML entity, which is not read")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise Error(f"{path}:{error.lineno or 1}: not well-formed XML: {error.msg}") from None
    # libxml2 knows more encodings than those above: UTF-32, UTF-7, EBCDIC, … Its limits have kept the expansion small.
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(declared.iterentities(), None) is not None:
        raise Error(f"{path}:1: declares an XML entity, which is not read")
    for problem in parser.error_log:
        # If a DTD is named but not loaded, an unknown entity is only a warning, and its character would vanish.
        if "not defined" in problem.message:
            raise Error(f"{path}:{problem.line}: {problem.message}; write the character itself")
    return root


def decoded(content: bytes, path: Path) -> tuple[str, str]:
    """The encoding of a file, as Python names it, and its text.

    Raises:
        Error: Python does not know the encoding, or writes it in another way.
    """
    declared = _DECLARED.match(content)
    default = declared[1].decode("ascii") if declared else "utf-8"
    codec = next((name for start, name in _BEGINNINGS.items() if content.startswith(start)), default)
    try:
        text = content.decode(codec)
        same = text.encode(codec) == content
    except (LookupError, UnicodeError):
        same = False
    if not same:
        raise Error(f"{path}:1: is encoded as {codec}, which can be read but not edited; save it in UTF-8")
    return codec, text


def local(element: Any) -> str:
    """An element's name without its namespace; "" of a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def children(element: Any, name: str) -> list[Any]:
    """The children of that name, in any namespace."""
    return [child for child in element if local(child) == name]


def descendants(element: Any, name: str) -> list[Any]:
    """The elements of that name at any depth, in any namespace."""
    return [child for child in element.iter() if local(child) == name]


def remove(element: Any, *names: str) -> None:
    """Remove the children of these names."""
    for child in list(element):
        if local(child) in names:
            detach(child)


def detach(element: Any) -> None:
    """Take an element out of its parent, but leave the text that follows it."""
    parent, before = element.getparent(), element.getprevious()
    if element.tail and before is not None:
        before.tail = (before.tail or "") + element.tail
    elif element.tail:
        parent.text = (parent.text or "") + element.tail
    element.tail = None
    parent.remove(element)


def new(name: str, namespace: str) -> Any:
    """A root element whose default namespace is the given one, or in none ("")."""
    from lxml import etree

    return etree.fromstring(f'<{name} xmlns="{namespace}"/>') if namespace else etree.Element(name)


def add(parent: Any, name: str, **attributes: object) -> Any:
    """Append a child in the parent's namespace, and return it."""
    from lxml import etree

    namespace = etree.QName(parent).namespace
    tag = f"{{{namespace}}}{name}" if namespace else name
    return etree.SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})


def text(root: Any) -> bytes:
    """An element as the content of a file, indented, with the comments and instructions around it."""
    from lxml import etree

    out: bytes = etree.tostring(root.getroottree(), xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return out


def write(root: Any, path: Path) -> None:
    """Write an element as a file, indented."""
    with replacing(path) as temporary:
        temporary.write_bytes(text(root))
