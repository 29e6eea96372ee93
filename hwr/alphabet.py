"""Text <-> label ids. The CTC blank is always the last class, as in Gluon."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwr import Error
from hwr.system import files
from hwr.system.terminal import CONTROL

ORIGINAL = " !\"#&\\'()*+,-./" + string.digits + ":;?" + string.ascii_uppercase + string.ascii_lowercase
"""The 80 characters of the original system, in its order. The backslash comes from a raw string in its code, but the class
indices of all its checkpoints depend on it."""


# Values of `data.alphabet` other than a file's path.
NAMES = ("auto", "original")

# Bytes of the largest file of characters: all of Unicode.
MOST = 5_000_000


@dataclass(frozen=True)
class Alphabet:
    """The characters that a network can write; character i is class i, and the blank is class `len(characters)`.

    Raises:
        Error: It repeats a character, contains a control character, or is empty.
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise Error("an alphabet needs at least one character")
        if control := CONTROL.search(self.characters):
            raise Error(
                f"the alphabet contains the control character U+{ord(control[0]):04X}, which no text may contain"
            )
        if len(set(self.characters)) != len(self.characters):
            twice = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise Error(f"the alphabet repeats {''.join(twice)!r}")

    @property
    def blank(self) -> int:
        return len(self.characters)

    @property
    def classes(self) -> int:
        """Outputs of the network: the characters and the blank."""
        return len(self.characters) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    def missing(self, text: str) -> str:
        """The characters of `text` that are not in the alphabet, each once, sorted."""
        return "".join(sorted(set(text) - self._ids.keys()))

    def encode(self, text: str) -> np.ndarray:
        """Label ids, (len(text),) int32. Every character must be in the alphabet (see `missing`)."""
        return np.array([self._ids[character] for character in text], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text for label ids without blanks."""
        return "".join(self.characters[i] for i in ids)


def resolve(name: str, texts: Sequence[str]) -> Alphabet:
    """The alphabet that `data.alphabet` names.

    Args:
        name: `original` (the 80 characters), `auto` (those 80, then all other characters of the texts in code-point
            order; on IAM this is the original alphabet), or the path of a UTF-8 file with the characters in order (line
            breaks are ignored).
        texts: The training texts.

    Raises:
        Error: The file can't be read, or repeats a character.
    """
    match name:
        case "original":
            return Alphabet(ORIGINAL)
        case "auto":
            return Alphabet(ORIGINAL + "".join(sorted(set().union(*texts) - set(ORIGINAL))))
        case _:
            try:
                text = files.read_text(name, MOST)
            except Error as error:
                raise Error(
                    f"data.alphabet: {name} is neither original nor auto, and could not be read as a UTF-8 file "
                    f"of characters: {error}"
                ) from error
            try:
                return Alphabet(text.replace("\n", ""))
            except Error as error:
                raise Error(f"{name}: {error}") from None
