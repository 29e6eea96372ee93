"""Text <-> label ids, and where the CTC blank is: always the last class, as in Gluon."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hwr import Error

ORIGINAL = " !\"#&\\'()*+,-./" + string.digits + ":;?" + string.ascii_uppercase + string.ascii_lowercase
"""The 80 characters of the original system, in its order. The backslash got in by way of a raw string there; the class
indices of every checkpoint of it depend on that."""


# What `data.alphabet` may be beside a file's path.
NAMES = ("auto", "original")


@dataclass(frozen=True)
class Alphabet:
    """The characters that a network can write; character i is class i, and the blank is class `len(characters)`.

    Raises:
        Error: A character stands twice, or there is none.
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise Error("an alphabet needs at least one character")
        if len(set(self.characters)) != len(self.characters):
            twice = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise Error(f"the alphabet has {''.join(twice)!r} more than once")

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
        """The characters of `text` that the alphabet lacks, each once, sorted."""
        return "".join(sorted(set(text) - self._ids.keys()))

    def encode(self, text: str) -> np.ndarray:
        """Label ids, (len(text),) int32. The alphabet must have every character (see `missing`)."""
        return np.array([self._ids[character] for character in text], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids without blanks."""
        return "".join(self.characters[i] for i in ids)


def resolve(name: str, texts: Sequence[str]) -> Alphabet:
    """The alphabet that `data.alphabet` names.

    Args:
        name: `original` (the 80 characters), `auto` (those 80 and then, in code-point order, whatever else the texts
            have; on IAM that is the original alphabet), or the path of a UTF-8 file that holds the characters in their
            order (line ends are not part of it).
        texts: The training texts.

    Raises:
        Error: No such file, or a character in it stands twice.
    """
    match name:
        case "original":
            return Alphabet(ORIGINAL)
        case "auto":
            return Alphabet(ORIGINAL + "".join(sorted(set().union(*texts) - set(ORIGINAL))))
        case _:
            try:
                text = Path(name).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise Error(
                    f"data.alphabet: {name} is neither original nor auto, and as a UTF-8 file of characters "
                    f"it could not be read: {error}"
                ) from error
            try:
                return Alphabet(text.replace("\r", "").replace("\n", ""))
            except Error as error:
                raise Error(f"{name}: {error}") from None
