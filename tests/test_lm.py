import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from hwr import Error, checkpoint
from hwr.decoding import arpa, ngram

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "the cat sat on the mat, and the dog sat on the log",
    "that this then those there these",
    'a <s> of "<space>" & <unk> is </s> text',
    "the end",
    "",
    "x",
]


def sentences(rng: np.random.Generator, lines: int) -> list[str]:
    """Text of a Zipfian word list, so that the counts of counts are like a language's."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(1, 8), p=rng.dirichlet(np.ones(26)))) for _ in range(300)]
    return [" ".join(words[min(rng.zipf(1.3), 300) - 1] for _ in range(rng.integers(1, 10))) for _ in range(lines)]


class Reference:
    """Modified Kneser-Ney straight from the formulas (Chen and Goodman 1999), with dictionaries."""

    def __init__(self, texts: list[str], order: int) -> None:
        self.order = order
        seen: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 1)]
        for text in texts:
            line = ["<s>", *text, "</s>"]
            for n in range(1, order + 1):
                seen[n].update(tuple(line[i : i + n]) for i in range(len(line) - n + 1))
        self.vocabulary = {g[0] for g in seen[1]} - {"<s>"} | {"<unk>"}
        self.after: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
        self.d = [(0.0, 0.0, 0.0, 0.0)]
        for n in range(1, order + 1):
            counts = []
            for gram, count in seen[n].items():
                if n < order and gram[0] != "<s>":
                    count = sum((v, *gram) in seen[n + 1] for v in [*self.vocabulary, "<s>"])
                if gram == ("<s>",):
                    continue
                self.after[gram[:-1]][gram[-1]] = count
                counts.append(count)
            n1, n2, n3, n4 = (counts.count(k) for k in (1, 2, 3, 4))
            d = (0.0, 0.5, 1.0, 1.5)
            if n1 and n2 and n3 and n4:
                y = n1 / (n1 + 2 * n2)
                own = (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
                d = own if all(0 < own[k] <= k for k in (1, 2, 3)) else d
            self.d.append(d)

    def p(self, context: tuple[str, ...], token: str) -> float:
        context = context[len(context) - self.order + 1 :] if len(context) >= self.order else context
        lower = self.p(context[1:], token) if context else 1 / len(self.vocabulary)
        after = self.after.get(context)
        if not after:
            return lower
        d = self.d[len(context) + 1]
        count = after.get(token, 0)
        gamma = sum(d[min(c, 3)] for c in after.values())
        return (count - d[min(count, 3)] + gamma * lower) / sum(after.values())

    def log10(self, text: str) -> float:
        line = ["<s>", *(c if c in self.vocabulary else "<unk>" for c in text), "</s>"]
        return sum(math.log10(self.p(tuple(line[:i]), line[i])) for i in range(1, len(line)))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["small", "large"])
def test_the_estimate_against_the_formulas(order: int, kind: str, rng: np.random.Generator) -> None:
    texts = TEXTS if kind == "small" else sentences(rng, 400)
    reference = Reference(texts, order)
    if kind == "large" and order == 5:
        assert reference.d[3] != (0.0, 0.5, 1.0, 1.5)  # both ways to the discounts are tried
    model = ngram.build(texts, order)
    for text in [*texts[:20], "", "zebra", "tha that \u00e9 the", "unseen words"]:
        assert model.log10(text) == pytest.approx(reference.log10(text), abs=1e-4)


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_the_next_characters_sum_to_one(order: int, rng: np.random.Generator) -> None:
    model = ngram.build(sentences(rng, 100) + TEXTS, order)
    state = model.start
    for token in rng.integers(2, len(model.characters) + 3, 300):
        total = sum(10 ** model.step(state, t)[0] for t in range(len(model.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=1e-5)
        state = model.step(state, int(token))[1] if token != ngram.END else model.start
    # Those that the model knows itself, all of them.
    for state in range(min(len(model.suffix), 200)):
        total = sum(10 ** model.step(state, t)[0] for t in range(len(model.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_file_gives_the_model_back(order: int, tmp_path: Path) -> None:
    texts = [*TEXTS, "tab\tnbsp\u00a0separator\u2028 wide\U0001f600 lone\ud800 \u2581"]
    model = ngram.build(texts, order)
    arpa.write(tmp_path / "a.arpa", model)
    again = arpa.read(tmp_path / "a.arpa")
    assert (again.order, again.characters, again.counts) == (model.order, model.characters, model.counts)
    for name in ("first", "token", "log10_p", "next_state", "log10_backoff", "suffix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    # The order of a section's lines is free.
    head, *sections = (tmp_path / "a.arpa").read_text(encoding="utf-8").split("-grams:\n")
    turned = []
    for section in sections:
        body, rest = section.split("\n\n")
        turned.append("\r\n".join(reversed(body.split("\n"))) + "\n\n" + rest)
    (tmp_path / "b.arpa").write_text("-grams:\n".join([head, *turned]), encoding="utf-8")
    np.testing.assert_array_equal(arpa.read(tmp_path / "b.arpa").log10_p, model.log10_p)


def test_the_space_and_its_name_differ(tmp_path: Path) -> None:
    model = ngram.build(["a b", "a<space>b"], 3)
    arpa.write(tmp_path / "a.arpa", model)
    text = (tmp_path / "a.arpa").read_text(encoding="utf-8")
    assert "\ta <space> b\n" in text
    assert "\t< s p\n" in text
    assert arpa.read(tmp_path / "a.arpa").characters == " <>abceps"


@pytest.mark.parametrize("order", [2, 4, 6])
def test_against_kenlm(order: int, tmp_path: Path, rng: np.random.Generator) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    texts = sentences(rng, 300) + TEXTS
    model = ngram.build(texts, order)
    arpa.write(tmp_path / "a.arpa", model)
    theirs = kenlm.Model(str(tmp_path / "a.arpa"))
    assert theirs.order == order
    for text in [*texts[::10], "", "Unknown \u00e9 letters", "zzz qqq", "the dog <space> sat"]:
        tokens = " ".join("<space>" if c == " " else c for c in text)
        assert model.log10(text) == pytest.approx(theirs.score(tokens, bos=True, eos=True), abs=1e-4)


PRUNED = r"""
\data\
ngram 1=5
ngram 2=3
ngram 3=1

\1-grams:
-1.0 <unk>
-99 <s> -0.5
-0.7 </s>
-0.4 a -0.3
-0.6 <space> -0.2

\2-grams:
-0.2 <s> a -0.1
-0.5 a <space>
-0.3 a a -0.4

\3-grams:
-0.05 <s> a <space>

\end\
"""


def test_another_tools_pruned_model(tmp_path: Path) -> None:
    """Summed by hand."""
    (tmp_path / "a.arpa").write_text(PRUNED)
    model = arpa.read(tmp_path / "a.arpa")
    # p(a | <s>), p(space | <s> a), then </s> after "a space": its own back-off is 0, the space's is -0.2
    assert model.log10("a ") == pytest.approx(-0.2 - 0.05 - 0.2 - 0.7)
    # p(a | <s>); "<s> a a" backs off to "a a"; </s> after "a a": -0.4, then after "a": -0.3
    assert model.log10("aa") == pytest.approx(-0.2 - 0.1 - 0.3 - 0.4 - 0.3 - 0.7)
    (tmp_path / "b.arpa").write_text(PRUNED.replace("ngram 1=5", "ngram 1=4").replace("-1.0 <unk>\n", ""))
    assert arpa.read(tmp_path / "b.arpa").log10("b") == pytest.approx(-0.5 - 100 - 0.7)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("\\data\\", "", 22, "no ARPA file"),
        ("ngram 2=3", "ngram 3=3", 4, "expected `ngram 2=`"),
        ("ngram 2=3", "ngram 2=4", 19, "says 4 2-grams, here are 3"),
        ("-1.0 <unk>", "-1.0 <unk> 0 0", 8, "expected a number, 1 tokens"),
        ("-0.05 <s> a <space>", "-0.05 <s> a <space> -1", 20, "expected a number, 3 tokens, found"),
        ("-0.3 a a", "-0,3 a a", 17, "'-0,3' is not a finite number"),
        ("-0.3 a a", "nan a a", 17, "not a finite number"),
        ("-0.3 a a", "0.3 a a", 17, "above 0"),
        ("-0.3 a a", "-0.3 a b", 17, "'b' is not among the 1-grams"),
        ("-0.3 a a", "-0.3 a <space>", 17, "'a <space>' stands twice"),
        ("-0.05 <s> a <space>", "-0.05 <s> <space> a", 20, "'<s> <space>' is not among the 2-grams"),
        ("-0.4 a -0.3", "-0.4 the -0.3", 11, "'the' is no character"),
        ("-0.4 a -0.3", "-0.4 <space> -0.3", 12, "'<space>' stands twice"),
        ("-0.7 </s>", "-0.7 b", 14, "</s> is not among"),
        ("\\2-grams:", "\\3-grams:", 14, "expected \\2-grams:"),
        ("\\end\\\n", "", 21, "ends in its 3-grams"),
    ],
)
def test_malformed_files(old: str, new: str, line: int, message: str, tmp_path: Path) -> None:
    assert old in PRUNED
    path = tmp_path / "a.arpa"
    path.write_text(PRUNED.replace(old, new, 1))
    with pytest.raises(Error) as raised:
        arpa.read(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}:{line}: ")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"none\.arpa: could not be read"):
        arpa.read(tmp_path / "none.arpa")
    (tmp_path / "a.arpa").write_bytes(b"\\data\\\nngram 1=\xff\n")
    with pytest.raises(Error, match=r"a\.arpa:2: not UTF-8"):
        arpa.read(tmp_path / "a.arpa")


def test_texts_that_make_no_model() -> None:
    with pytest.raises(Error, match="not empty"):
        ngram.build([], 3)
    with pytest.raises(Error, match="not empty"):
        ngram.build(["", ""], 3)
    with pytest.raises(Error, match="at least 1, not 0"):
        ngram.build(["a"], 0)
    with pytest.raises(Error, match="text 2 has a line break"):
        ngram.build(["a", "b\n"], 3)


@pytest.mark.parametrize("suffix", [".arpa", ".bin"])
def test_files_of_both_kinds_come_back_to_the_bit(tmp_path: Path, suffix: str) -> None:
    model = ngram.build(["the quick brown fox", "été à l'eau", "a  b"], 4)
    ngram.save(tmp_path / f"m{suffix}", model)
    again = ngram.load(tmp_path / f"m{suffix}")
    assert (again.order, again.characters, again.counts) == (model.order, model.characters, model.counts)
    for name in ("first", "token", "log10_p", "next_state", "log10_backoff", "suffix"):
        assert np.array_equal(getattr(again, name), getattr(model, name)), name


def test_other_files_are_no_language_models(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"m\.txt: a language model's file ends with \.arpa or \.bin"):
        ngram.save(tmp_path / "m.txt", ngram.build(["ab"], 2))
    (tmp_path / "x.bin").write_bytes(b"nothing")
    with pytest.raises(Error, match=r"x\.bin: not a whole"):
        ngram.load(tmp_path / "x.bin")
    checkpoint.write_arrays(tmp_path / "y.bin", {"a": np.zeros(2)}, {"format": 1})
    with pytest.raises(Error, match=r"y\.bin: not a language model"):
        ngram.load(tmp_path / "y.bin")
