"""A word list, as the beam search walks it: a trie of case-folded words."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwr import Error
from hwr.alphabet import Alphabet


@dataclass(frozen=True, eq=False)
class Words:
    """A trie for one alphabet. Node 0 is the beginning of a word.

    Attributes:
        letter: (C - 1,) int32: what a class is in a word: a case-folded letter's number; -1 of what parts words (spaces,
            digits, punctuation: `l'eau` is two words, and numbers are none).
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


def split(text: str) -> list[str]:
    """The words of a text, case-folded: its runs of letters."""
    return "".join(c if c.isalpha() else " " for c in text).casefold().split()


def build(words: Iterable[str], alphabet: Alphabet) -> Words:
    """The trie of a list of words; those that the alphabet can't write are of no use and left out."""
    numbers: dict[str, int] = {}
    for character in alphabet.characters:
        if character.isalpha():
            numbers.setdefault(character.casefold(), len(numbers))
    letter = [numbers[c.casefold()] if c.isalpha() else -1 for c in alphabet.characters]
    children: list[dict[int, int]] = [{}]
    ends: set[int] = set()
    for word in {part for entry in words for part in split(entry)}:
        # Some letters fold to two (ß), which no class of the alphabet is.
        if all(c in numbers for c in word):
            at = 0
            for c in word:
                if numbers[c] not in children[at]:
                    children[at][numbers[c]] = len(children)
                    children.append({})
                at = children[at][numbers[c]]
            ends.add(at)
    counts = [len(found) for found in children]
    return Words(
        np.array(letter, np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([key for found in children for key in found], np.int32),
        np.array([node for found in children for node in found.values()], np.int64),
        np.array([i in ends for i in range(len(children))], bool),
    )


def read(path: str | Path, alphabet: Alphabet) -> Words:
    """The trie of a UTF-8 file of words (or of any text: its words).

    Raises:
        Error: It can't be read, or has no word.
    """
    try:
        found = build(Path(path).read_text(encoding="utf-8-sig").splitlines(), alphabet)
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{path}: could not be read as a UTF-8 word list: {error}") from error
    if not found.is_word.any():
        raise Error(f"{path}: no word that the alphabet can write")
    return found
