"""Characters that nobody sees: in texts they are usually leftovers of another program."""

import unicodedata

# Beside control and format characters, spaces of other kinds than U+0020, private and unassigned characters: fillers, joiners,
# variation selectors, the empty Braille pattern (Unicode's Default_Ignorable_Code_Point), and what replaces lost characters.
_UNSEEN = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0xFFFD, *range(0xFE00, 0xFE10)}


def unseen(character: str) -> bool:
    """Whether a character is invisible, or a space of another kind than U+0020."""
    if character == " ":
        return False
    code = ord(character)
    return code in _UNSEEN or 0xE0100 <= code <= 0xE01EF or unicodedata.category(character)[0] in "CZ"


def folded(text: str) -> str:
    """A text to search in or for: without the differences between cases and between composed and decomposed characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return all(c.isspace() or unseen(c) for c in text)


def name(character: str) -> str:
    """What to call a character that can't be seen: `U+200B ZERO WIDTH SPACE`; others stand for themselves."""
    if not (unseen(character) or unicodedata.category(character)[0] == "M"):
        return "space" if character == " " else character
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()


def unusual(text: str) -> list[str]:
    """The names of the invisible characters in a text, each once."""
    return [name(c) for c in dict.fromkeys(text) if unseen(c)]


def shown(characters: str) -> str:
    """Characters for a message: those that are seen, then the names of the others."""
    return ", ".join(
        filter(None, ["".join(c for c in characters if not unseen(c)), *map(name, filter(unseen, characters))])
    )
