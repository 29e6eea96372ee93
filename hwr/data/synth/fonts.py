"""Handwriting fonts: which characters each has, and grey masks of words set in it."""

import logging
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

from hwr import Error
from hwr.system import files

SUFFIXES = (".ttf", ".otf")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PROBE = 100  # px, the size at which a font is measured
_SAME = 0.7  # likeness from which small letters are taken for capitals

# It remarks on details of many fonts that are of no consequence here.
logging.getLogger("fontTools").setLevel(logging.ERROR)


class Font:
    """One font file. What is measured of it is there only if it is `latin`.

    Attributes:
        path: The file.
        latin: Whether it has all Latin letters.
        x_height: Height of the small letter x, as a fraction of the font's size.
        extent: Height from the deepest descender to the highest ascender, as a fraction of the font's size.
        stroke: Usual thickness of its strokes, as a fraction of the font's size.
        joined: Whether neighbouring small letters touch, so that a word must be set as a whole.
        capitals: Whether its small letters are capitals in another size: then it is for upper-case text only.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        Error: The file is not a font.
        """
        self.path = path
        try:
            with files.open_regular(path) as stream, TTFont(stream, lazy=True) as file:
                names = file.getBestCmap() or {}
            self._mapped = frozenset(chr(code) for code, name in names.items() if name != ".notdef")
            self._sizes: dict[int, ImageFont.FreeTypeFont] = {}
            self._inked: dict[str, bool] = {}
            self.latin = self.can_write(_LETTERS)
        except (OSError, TTLibError, ValueError, KeyError) as error:
            raise Error(f"{path}: not a font that can be used: {error}") from error
        if not self.latin:
            return
        self.x_height = self._height("x") / _PROBE
        self.extent = self._height("lpgfhT") / _PROBE
        self.stroke = self._stroke()
        self.joined = self._pieces("nuneum") < 4
        self.capitals = float(np.median([self._likeness(c, c.upper()) for c in "abdeghqrnmt"])) > _SAME

    def can_write(self, text: str) -> bool:
        """Whether it has every character of `text`, each with ink (but for the space)."""
        return all(c == " " or self._has(c) for c in text)

    def _has(self, character: str) -> bool:
        if character not in self._inked:
            # Some fonts map a character to an empty glyph: that would leave a silent gap.
            there = character in self._mapped
            self._inked[character] = there and self._at(_PROBE).getmask(character).getbbox() is not None
        return self._inked[character]

    def _at(self, size: int) -> ImageFont.FreeTypeFont:
        if size not in self._sizes:
            # The basic layout is part of Pillow; the other one depends on libraries of the system.
            self._sizes[size] = ImageFont.truetype(str(self.path), size, layout_engine=ImageFont.Layout.BASIC)
        return self._sizes[size]

    def _height(self, text: str) -> int:
        _, top, _, bottom = self._at(_PROBE).getbbox(text, anchor="ls")
        return max(1, int(bottom - top))

    def _pieces(self, text: str) -> int:
        """The number of separate pieces of its ink."""
        mask, _, _ = self.mask(text, _PROBE)
        return cv2.connectedComponents((mask > 100).astype(np.uint8), connectivity=8)[0] - 1

    def _stroke(self) -> float:
        mask = (self.mask("nuneohl", _PROBE)[0] > 127).astype(np.uint8)
        outlines, _ = cv2.findContours(np.pad(mask, 1), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        around = sum(cv2.arcLength(outline, True) for outline in outlines)
        return 2 * float(mask.sum()) / max(around, 1.0) / _PROBE

    def _likeness(self, a: str, b: str) -> float:
        """Correlation of two letters' shapes, brought to one size: 1 if they are the same."""
        shapes = []
        for letter in (a, b):
            shape = cv2.resize(self.mask(letter, _PROBE)[0], (32, 32), interpolation=cv2.INTER_AREA)
            shapes.append(cv2.GaussianBlur(shape, (0, 0), 2).ravel())
        return float(np.asarray(np.corrcoef(shapes))[0, 1])

    def advance(self, text: str, size: int) -> float:
        """How far the pen moves on, px."""
        return float(self._at(size).getlength(text))

    def mask(self, text: str, size: int) -> tuple[np.ndarray, int, int]:
        """Set `text` at this size: an (H, W) uint8 mask (255 is ink), cut to the ink, and where it belongs.

        Returns:
            The mask, and the position of its upper left corner relative to the pen on the base line: x, y in px (y points
            down).
        """
        return _mask(self, text, size)

    def __repr__(self) -> str:
        return f"Font({self.path})"


@lru_cache(20_000)
def _mask(font: Font, text: str, size: int) -> tuple[np.ndarray, int, int]:
    mask, offset = font._at(size).getmask2(text, mode="L", anchor="ls")
    pixels = np.array(mask, np.uint8).reshape(mask.size[::-1])
    return pixels, int(offset[0]), int(offset[1])


def find(folder: Path) -> list[Font]:
    """The fonts with Latin letters in and below a folder, in the order of their paths.

    Raises:
        Error: There is none, or one can't be used.
    """
    if not folder.is_dir():
        raise Error(f"{folder}: no such folder of fonts")
    paths = sorted(Path(name) for name in files.below(folder) if name.lower().endswith(SUFFIXES))
    if not paths:
        raise Error(f"{folder}: no fonts ({', '.join(SUFFIXES)}) in this folder or below it")
    found = [Font(path) for path in paths]
    latin = [font for font in found if font.latin]
    if not latin:
        raise Error(f"{folder}: none of its {len(found)} fonts has the Latin letters")
    return latin
