"""A word list for the beam search: a trie of case-folded words."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet
from hwr.decoding.normal_form import normal_form
from hwr.system import files


class Trie(NamedTuple):
    """The words of a list. Node 0 is the start of a word.

    Attributes:
        letter: (C - 1,) int32: the number of each class's case-folded letter; -1 for characters that separate words
            (spaces, digits, punctuation: `l'eau` is two words, and numbers are not words).
        first: (nodes + 1,) int64: the entries of node n are first[n]:first[n + 1].
        entry: (entries,) int32: a letter's number.
        node: (entries,) int64: the node that it leads to.
        is_word: (nodes,) bool: whether a word may end there.
    """

    letter: np.ndarray
    first: np.ndarray
    entry: np.ndarray
    node: np.ndarray
    is_word: np.ndarray


@dataclass(frozen=True, eq=False)
class Lexicon:
    """A word list for one alphabet: its words, case-folded and sorted, and their trie."""

    words: tuple[str, ...]
    trie: Trie


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc")


def _folded(character: str) -> str:
    """A letter without its case, as one character; one whose case mapping needs several (\u00df, \u0130, ligatures) stays."""
    for found in (character.casefold(), character.lower()):
        if len(found) == 1:
            return found
    return character


def split(text: str) -> list[str]:
    """The words of a text, without case: its runs of letters with their combining accents."""
    return "".join(_folded(c) if _is_letter(c) else " " for c in text).split()


def _spellings(word: str) -> list[str]:
    """A word as its letters are written, and with each as its full case mapping: stra\u00dfe, strasse."""
    whole = "".join(word.split()).casefold()
    return list(dict.fromkeys(["".join(map(_folded, word)), *([whole] if all(map(_is_letter, whole)) else [])]))


def build(words: Iterable[str], alphabet: Alphabet) -> Lexicon:
    """The trie of a list of words, in the alphabet's normal form; words that the alphabet can't write are skipped."""
    numbers: dict[str, int] = {}
    for character in alphabet.characters:
        if _is_letter(character):
            numbers.setdefault(_folded(character), len(numbers))
    letter = [numbers[_folded(c)] if _is_letter(c) else -1 for c in alphabet.characters]
    children: list[dict[int, int]] = [{}]
    ends: set[int] = set()
    form = normal_form(alphabet.characters)
    known = []
    parts = {part for entry in words for part in split(unicodedata.normalize(form, entry))}
    for word in sorted({spelling for part in parts for spelling in _spellings(part)}):
        if all(c in numbers for c in word):
            known.append(word)
            at = 0
            for c in word:
                if numbers[c] not in children[at]:
                    children[at][numbers[c]] = len(children)
                    children.append({})
                at = children[at][numbers[c]]
            ends.add(at)
    counts = [len(found) for found in children]
    trie = Trie(
        np.array(letter, np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([key for found in children for key in found], np.int32),
        np.array([node for found in children for node in found.values()], np.int64),
        np.array([i in ends for i in range(len(children))], bool),
    )
    return Lexicon(tuple(known), trie)


def read(path: str | Path, alphabet: Alphabet) -> Lexicon:
    """The trie of a UTF-8 word list, or of the words in any text.

    Raises:
        Error: The file can't be read, or has no words.
    """
    found = build(files.read_text(path).splitlines(), alphabet)
    if not found.words:
        raise Error(f"{path}: no words that the alphabet can write")
    return found


def to_arrays(lexicon: Lexicon) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The word list as arrays and JSON values, for a checkpoint."""
    text = "\n".join(lexicon.words).encode()
    return {"words": np.frombuffer(text, np.uint8)}, {"words": len(lexicon.words)}


def from_arrays(arrays: Mapping[str, np.ndarray], alphabet: Alphabet) -> Lexicon:
    """Restore a word list from `to_arrays`.

    Raises:
        Error: The arrays are damaged.
    """
    words = arrays.get("words")
    if words is None or words.dtype != np.uint8 or words.ndim != 1:
        raise Error("the word list is damaged: its array `words` is missing, or not a row of bytes")
    try:
        found = build(words.tobytes().decode().split("\n"), alphabet)
    except UnicodeDecodeError as error:
        raise Error(f"the word list is damaged: {error}") from error
    if not found.words:
        raise Error("the word list is damaged: it has no words that the alphabet can write")
    return found
