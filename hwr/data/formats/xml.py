"""XML from strangers, read safely: nothing outside the file is loaded, declared entities are refused."""

from pathlib import Path
from typing import Any

from hwr import Error


def parse(path: Path) -> Any:
    """The root element of an XML file.

    Raises:
        Error: Unreadable, not well-formed, in a wrong encoding, or it declares entities; names file:line.
    """
    from lxml import etree

    try:
        content = path.read_bytes()
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    # lxml expands entities inside attributes whatever it is told, so a declaration is refused before parsing.
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        if (at := content.find("<!ENTITY".encode(encoding))) >= 0:
            raise Error(f"{path}:{content.count(10, 0, at) + 1}: declares an XML entity, which is not read")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise Error(f"{path}:{error.lineno or 1}: not well-formed XML: {error.msg}") from None
    for problem in parser.error_log:
        # Where a DTD is named but not loaded, an unknown entity is a mere warning, and its character would vanish.
        if "not defined" in problem.message:
            raise Error(f"{path}:{problem.line}: {problem.message}; write the character itself")
    return root
