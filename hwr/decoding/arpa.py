"""Character n-grams as ARPA files, the format that every toolkit reads.

Blanks separate the tokens, so a space is written `<space>`, and other unprintable characters like `<U+00A0>`. All other
characters stand for themselves: one code point each, so no text can be confused with one of these names. Any other token of
several characters is refused, because it comes from a word model.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hwr import Error
from hwr.decoding.ngram import END, LM, NO_UNKNOWN, SPECIAL, START, UNKNOWN, Grams, assemble
from hwr.system import files
from hwr.system.atomic import replacing


def _name(character: str) -> str:
    """A character as an ARPA token."""
    if character == " ":
        return "<space>"
    return character if character.isprintable() else f"<U+{ord(character):04X}>"


def _character(token: str) -> str | None:
    """The character of an ARPA token; None if it is not a character."""
    if len(token) == 1:
        return token
    if token == "<space>":
        return " "
    code = re.fullmatch(r"<U\+([0-9A-F]{4,6})>", token)
    return chr(int(code[1], 16)) if code and int(code[1], 16) < 0x110000 else None


def write(path: str | Path, lm: LM) -> None:
    """Write a standard ARPA file in UTF-8, which `read` restores to the bit.

    Raises:
        Error: The file can't be written; a previous file is unchanged.
    """
    names = [*SPECIAL, *map(_name, lm.characters)]
    grams, done = [""], 0
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n" + "".join(f"ngram {n}={count}\n" for n, count in enumerate(lm.counts, 1)))
        contexts = np.repeat(np.arange(len(lm.first) - 1), np.diff(lm.first))
        for n, count in enumerate(lm.counts, 1):
            mine = slice(done, done + count)
            context = contexts[mine] - (done - len(grams) + 1 if n > 1 else 0)
            grams = [
                f"{grams[c]} {names[t]}" if n > 1 else names[t]
                for c, t in zip(context.tolist(), lm.token[mine].tolist(), strict=True)
            ]
            file.write(f"\n\\{n}-grams:\n")
            p = lm.log10_p[mine].tolist()
            # Nine digits represent a float32 exactly.
            if n < lm.order:
                backoff = lm.log10_backoff[done + 1 : done + count + 1].tolist()
                file.writelines(f"{a:.9g}\t{g}\t{b:.9g}\n" for a, g, b in zip(p, grams, backoff, strict=True))
            else:
                file.writelines(f"{a:.9g}\t{g}\n" for a, g in zip(p, grams, strict=True))
            done += count
        file.write("\n\\end\\\n")


def _number(field: str, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Error(f"{where}: {field[:60]!r} is not a finite number")
    return value


def _counts(lines: Iterator[tuple[str, str]]) -> tuple[list[int], str]:
    """The header's counts of n-grams, and the first line after the header."""
    for _, line in lines:
        if line == "\\data\\":
            break
    else:
        raise Error("not an ARPA file: it has no line \\data\\")
    counts: list[int] = []
    for where, line in lines:
        if not line:
            continue
        found = re.fullmatch(r"ngram (\d{1,18}) *= *(\d{1,18})", line)
        if not found and counts:
            return counts, line
        if not found or int(found[1]) != len(counts) + 1:
            raise Error(f"{where}: expected `ngram {len(counts) + 1}=` and a number, found {line[:60]!r}")
        counts.append(int(found[2]))
    raise Error("the file ends in its header")


def _section(
    lines: Iterator[tuple[str, str]], n: int, order: int, count: int
) -> tuple[list[list[str]], np.ndarray, list[str], str]:
    """The entries of one order: their tokens, (count, 2) numbers, places in the file, and the line after them."""
    tokens: list[list[str]] = []
    numbers: list[tuple[float, float]] = []
    places: list[str] = []
    for where, line in lines:
        if not line:
            continue
        if line.startswith("\\") and (line == "\\end\\" or line.endswith("-grams:")):
            if len(tokens) != count:
                raise Error(f"{where}: the header promises {count} {n}-grams, but there are {len(tokens)}")
            return tokens, np.array(numbers, np.float64).reshape(-1, 2), places, line
        fields = re.split("[ \t]+", line)
        if len(fields) not in ((n + 1,) if n == order else (n + 1, n + 2)):
            wanted = f"a number, {n} tokens" + (" and optionally a number" if n < order else "")
            raise Error(f"{where}: expected {wanted}, found {line[:60]!r}")
        p = _number(fields[0], where)
        if p > 0:
            raise Error(f"{where}: {fields[0]} is above 0, so it is not the log10 of a probability")
        numbers.append((p, _number(fields[n + 1], where) if len(fields) == n + 2 else 0.0))
        tokens.append(fields[1 : n + 1])
        places.append(where)
    raise Error(f"the file ends in its {n}-grams, before \\end\\")


def _vocabulary(unigrams: list[list[str]], places: list[str]) -> tuple[str, dict[str, int]]:
    """The characters, and the ids of the file's tokens."""
    known: dict[str, str] = {}
    for (token,), where in zip(unigrams, places, strict=True):
        character = token if token in SPECIAL else _character(token)
        if character is None:
            raise Error(
                f"{where}: {token!r} is not a character; the model must be a character model with <space> for the space"
            )
        if character in known:
            raise Error(f"{where}: {token!r} occurs twice")
        known[character] = token
    missing = [token for token in (SPECIAL[START], SPECIAL[END]) if token not in known]
    if missing:
        raise Error(f"{missing[0]} is not among the 1-grams")
    characters = "".join(sorted(known.keys() - set(SPECIAL)))
    ids = {token: i for i, token in enumerate(SPECIAL)}
    return characters, ids | {known[character]: i for i, character in enumerate(characters, len(SPECIAL))}


def _parse(lines: Iterator[tuple[str, str]]) -> LM:
    counts, header = _counts(lines)
    grams: list[Grams] = []
    keys: list[np.ndarray] = []
    for n, count in enumerate(counts, 1):
        if header != f"\\{n}-grams:":
            raise Error(f"expected \\{n}-grams:, found {header!r}")
        tokens, numbers, places, header = _section(lines, n, len(counts), count)
        if n == 1:
            characters, ids = _vocabulary(tokens, places)
            vocabulary = len(characters) + len(SPECIAL)
            if [SPECIAL[UNKNOWN]] not in tokens:
                tokens.append([SPECIAL[UNKNOWN]])
                numbers = np.concatenate([numbers, [[NO_UNKNOWN, 0.0]]])
        for row, where in zip(tokens, places, strict=False):
            for token in row:
                if token not in ids:
                    raise Error(f"{where}: {token!r} is not among the 1-grams")
        columns = np.array([[ids[token] for token in row] for row in tokens], np.int64).reshape(-1, n)
        context = np.zeros(len(columns), np.int64)
        for lower, column in zip(keys, columns.T, strict=False):
            wanted = context * vocabulary + column
            context = np.minimum(np.searchsorted(lower, wanted), max(len(lower) - 1, 0))
            bad = np.flatnonzero(lower[context] != wanted) if len(lower) else np.arange(len(wanted))
            if len(bad):
                raise Error(f"{places[bad[0]]}: {' '.join(tokens[bad[0]][:-1])!r} is not among the {n - 1}-grams")
        key = context * vocabulary + columns[:, -1]
        sort = np.argsort(key, kind="stable")
        keys.append(key[sort])
        twice = np.flatnonzero(keys[-1][1:] == keys[-1][:-1])
        if len(twice):
            at = sort[twice[0] + 1]
            raise Error(f"{places[at]}: {' '.join(tokens[at])!r} occurs twice")
        grams.append(Grams(context[sort], columns[sort, -1], numbers[sort, 0], numbers[sort, 1]))
    if header != "\\end\\":
        raise Error(f"expected \\end\\ after the {len(counts)}-grams, found {header!r}")
    return assemble(characters, grams)


def read(path: str | Path) -> LM:
    """Read a character ARPA file from `write`, or from any tool that names the space `<space>`.

    The model may be pruned, but the first n - 1 tokens of every n-gram must be an n-gram too (back-off needs it).

    Raises:
        Error: The file does not exist or is malformed; names file and line.
    """

    number = 0

    def numbered() -> Iterator[tuple[str, str]]:
        nonlocal number
        for line in file:
            number += 1
            # Decode line by line, to know which line is not UTF-8. The first may start with a byte order mark.
            yield f"line {number}", line.decode("utf-8" if number > 1 else "utf-8-sig").strip(" \t\r\n")

    file = files.open_regular(path)
    try:
        with file:
            return _parse(numbered())
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Error(f"{path}:{number}: not UTF-8") from error
    except Error as error:
        message = str(error)
        place = re.match(r"line (\d+): ", message)
        raise Error(
            f"{path}:{place[1]}: {message[place.end() :]}" if place else f"{path}:{number}: {message}"
        ) from None
