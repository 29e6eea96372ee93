"""The Unicode normal form of an alphabet, to which language models and word lists are converted."""

import unicodedata
from typing import Literal


def normal_form(characters: str) -> Literal["NFC", "NFD"]:
    """NFD if the alphabet has combining accents and no precomposed letters; else NFC."""
    accents = any(unicodedata.combining(c) for c in characters)
    composed = any(unicodedata.normalize("NFD", c) != c for c in characters)
    return "NFD" if accents and not composed else "NFC"
