"""Text files -> pieces of text as they fall between two line breaks of a letter."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwr import Error
from hwr.system import files
from hwr.system.files import below

LONGEST = 90  # characters of a line

# Transcriptions have ASCII for typographic quotes, dashes and ellipses; what is drawn keeps them.
_FOLD = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2039\u203a`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    "\u2026": "...",
}
_TABLE = str.maketrans(_FOLD)


def fold(text: str) -> str:
    """Typographic quotes, dashes and ellipses -> those of ASCII."""
    return text.translate(_TABLE)


def capitals(text: str) -> str:
    """The text in capitals; the micro sign, whose capital is a Greek letter, stays."""
    return "".join(c if c == "\xb5" else c.upper() for c in text)


class Corpus:
    """Paragraphs of several sources, each of which is drawn from equally often, however long it is."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read UTF-8 files of one paragraph a line; a folder stands for its .txt files, which share its part.

        Naming a path twice doubles its share.

        Raises:
            Error: A path is missing, has no text, or is not UTF-8.
        """
        if not paths:
            raise Error("no text to write: name files or folders with --text")
        read: dict[Path, list[str]] = {}
        self._sources: list[list[list[str]]] = []
        for path in paths:
            files = [Path(name) for name in below(path) if name.lower().endswith(".txt")] if path.is_dir() else [path]
            if not files:
                raise Error(f"{path}: no .txt files in this folder or below it")
            for file in files:
                if file not in read:
                    read[file] = _paragraphs(file)
            self._sources.append([read[file] for file in files])

    def piece(self, rng: np.random.Generator) -> str:
        """A piece of a paragraph of 1 to `LONGEST` characters, cut at spaces; mostly 20 to 70 characters.

        A paragraph that is shorter than that comes whole.
        """
        source = self._sources[rng.integers(len(self._sources))]
        paragraphs = source[rng.integers(len(source))]
        paragraph = paragraphs[rng.integers(len(paragraphs))]
        wanted = int(rng.triangular(20, 45, 72)) if rng.random() < 0.8 else int(rng.integers(3, LONGEST + 1))
        if len(paragraph) <= min(wanted * 1.2, LONGEST):
            return paragraph
        # Half of the pieces open the paragraph, as in letters of short ones, and the others start within it.
        start = int(rng.integers(len(paragraph))) if rng.random() < 0.7 else 0
        words = paragraph[start:].split(" ")
        words = words[1:] if start and len(words) > 1 else paragraph.split(" ")
        line = words[0]
        for word in words[1:]:
            if len(line) + 1 + len(word) > wanted:
                break
            line += " " + word
        return line if len(line) <= LONGEST else line[:LONGEST].strip()


def _paragraphs(path: Path) -> list[str]:
    lines = (" ".join(unicodedata.normalize("NFC", line).split()) for line in files.read_text(path).splitlines())
    paragraphs = [line for line in lines if line]
    if not paragraphs:
        raise Error(f"{path}: no text in this file")
    return paragraphs
