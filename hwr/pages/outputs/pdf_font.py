"""A font without outlines, for the invisible text of a PDF: any character, in a thousand bytes.

Tesseract and OCRmyPDF write such a font, too. Every character is the same glyph without area, half as wide as high; the text is
stretched to the width of its word. Characters are numbered in order of appearance, and the font's ToUnicode table says
which is which, so that viewers find and copy any Unicode text.
"""

import functools
import io
from typing import Any

# Units: an em is 1000.
WIDTH, ASCENT, DESCENT = 500, 750, -250

_CMAP_HEAD = b"""/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
"""
_CMAP_END = b"endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"


class Codes:
    """The codes of the characters of a page, from 1."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def hex(self, text: str) -> str:
        """A text as a PDF string of 16-bit codes."""
        return "<" + "".join(f"{self.of.setdefault(c, len(self.of) + 1):04X}" for c in text) + ">"

    def to_unicode(self) -> bytes:
        """The ToUnicode table."""
        rows = [f"<{code:04X}> <{c.encode('utf-16-be', 'replace').hex().upper()}>" for c, code in self.of.items()]
        parts = [rows[i : i + 100] for i in range(0, len(rows), 100)]  # the format's limit
        blocks = [f"{len(part)} beginbfchar\n" + "\n".join(part) + "\nendbfchar\n" for part in parts]
        return _CMAP_HEAD + "".join(blocks).encode("ascii") + _CMAP_END


def embed(pdf: Any, codes: Codes) -> Any:
    """Put the font into a pikepdf document; returns the font object."""
    from pikepdf import Array, Dictionary, Name, Stream

    file = Stream(pdf, _truetype())
    file.Length1 = len(_truetype())
    descriptor = pdf.make_indirect(
        Dictionary(
            Type=Name.FontDescriptor,
            FontName=Name.Invisible,
            Flags=5,  # fixed pitch, symbolic
            FontBBox=Array([0, DESCENT, WIDTH, ASCENT]),
            ItalicAngle=0,
            Ascent=ASCENT,
            Descent=DESCENT,
            CapHeight=ASCENT,
            StemV=80,
            FontFile2=file,
        )
    )
    # All codes are glyph 1; glyph 0 is .notdef, which PDF/A does not allow in a text.
    glyphs = Stream(pdf, b"\x00\x00" + b"\x00\x01" * len(codes.of))
    inner = pdf.make_indirect(
        Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=Name.Invisible,
            CIDSystemInfo=Dictionary(Registry=b"Adobe", Ordering=b"Identity", Supplement=0),
            FontDescriptor=descriptor,
            DW=WIDTH,
            CIDToGIDMap=glyphs,
        )
    )
    return pdf.make_indirect(
        Dictionary(
            Type=Name.Font,
            Subtype=Name.Type0,
            BaseFont=Name.Invisible,
            Encoding=Name("/Identity-H"),
            DescendantFonts=Array([inner]),
            ToUnicode=Stream(pdf, codes.to_unicode()),
        )
    )


@functools.cache
def _truetype() -> bytes:
    """The font file: .notdef and one glyph without area."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    # A line there and back: it has no area to paint, but gives the letter its box, which pdfium marks when text is found.
    pen = TTGlyphPen(None)
    pen.moveTo((0, DESCENT))
    pen.lineTo((WIDTH, ASCENT))
    pen.lineTo((WIDTH // 2, (ASCENT + DESCENT) // 2))
    pen.closePath()
    glyph = pen.glyph()

    names = [".notdef", "empty"]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({0x20: "empty"})
    font.setupGlyf({name: glyph for name in names})
    font.setupHorizontalMetrics({name: (WIDTH, 0) for name in names})
    font.setupHorizontalHeader(ascent=ASCENT, descent=DESCENT)
    font.setupNameTable({"familyName": "Invisible", "styleName": "Regular", "psName": "Invisible"})
    font.setupOS2(sTypoAscender=ASCENT, sTypoDescender=DESCENT, usWinAscent=ASCENT, usWinDescent=-DESCENT)
    font.setupPost(isFixedPitch=1)
    font.font["head"].created = font.font["head"].modified = 0  # the same bytes every time
    font.font.recalcTimestamp = False
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()
