"""The Unicode normal form of an alphabet, which language models and word lists are brought to."""

import unicodedata
from typing import Literal


def normal_form(characters: str) -> Literal["NFC", "NFD"]:
    """NFD if accents are characters of their own and no letter has one in it; else NFC."""
    accents = any(unicodedata.combining(c) for c in characters)
    composed = any(unicodedata.normalize("NFD", c) != c for c in characters)
    return "NFD" if accents and not composed else "NFC"
