from pathlib import Path

import pytest

from hwr import Error
from hwr.alphabet import ORIGINAL, Alphabet, resolve


def test_the_original_alphabet_matches_the_original_system() -> None:
    assert len(ORIGINAL) == 80
    assert ORIGINAL[:15] == " !\"#&\\'()*+,-./"  # the backslash is class 5
    assert ORIGINAL[15:28] == "0123456789:;?"
    assert ORIGINAL[28:] == "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert (Alphabet(ORIGINAL).blank, Alphabet(ORIGINAL).classes) == (80, 81)


def test_encode_and_decode() -> None:
    alphabet = Alphabet("abc ")
    assert alphabet.encode("a cab").tolist() == [0, 3, 2, 0, 1]
    assert alphabet.decode(alphabet.encode("a cab")) == "a cab"
    assert alphabet.missing("axbyx") == "xy"


def test_auto_appends_new_characters_to_the_original_alphabet() -> None:
    assert resolve("auto", ["Plain text."]).characters == ORIGINAL
    assert resolve("auto", ["été", "à"]).characters == ORIGINAL + "àé"
    assert resolve("original", ["été"]).characters == ORIGINAL


def test_a_file_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "characters.txt"
    path.write_text("xyz\nåäö\n", encoding="utf-8")
    assert resolve(str(path), []).characters == "xyzåäö"
    path.write_text("xyx", encoding="utf-8")
    with pytest.raises(Error, match=r"characters\.txt: .*repeats 'x'"):
        resolve(str(path), [])
    with pytest.raises(Error, match=r"data\.alphabet: nowhere\.txt is neither original nor auto"):
        resolve("nowhere.txt", [])


@pytest.mark.parametrize(
    ("characters", "message"), [("", "at least one character"), ("ab\0", r"U\+0000"), ("aba", "'a'")]
)
def test_unusable_alphabets(characters: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        Alphabet(characters)
