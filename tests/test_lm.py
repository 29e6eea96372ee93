import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import Error, checkpoint
from hwr.alphabet import Alphabet
from hwr.cli import main
from hwr.decoding import arpa, beam, language_model, ngram, prune

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
        assert reference.d[3] != (0.0, 0.5, 1.0, 1.5)  # covers both ways of computing the discounts
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
    # All tokens that the model knows.
    for state in range(min(len(model.suffix), 200)):
        total = sum(10 ** model.step(state, t)[0] for t in range(len(model.characters) + 3) if t != ngram.START)
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_saved_model_is_restored(order: int, tmp_path: Path) -> None:
    texts = [*TEXTS, "tab\tnbsp\u00a0separator\u2028 wide\U0001f600 lone\ud800 \u2581"]
    model = ngram.build(texts, order)
    arpa.write(tmp_path / "a.arpa", model)
    again = arpa.read(tmp_path / "a.arpa")
    assert (again.order, again.characters, again.counts) == (model.order, model.characters, model.counts)
    for name in ("first", "token", "log10_p", "next_state", "log10_backoff", "suffix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    # The lines of a section may have any order.
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
    (tmp_path / "windows.arpa").write_bytes(b"\xef\xbb\xbf" + PRUNED.lstrip().replace("\n", "\r\n").encode())
    assert arpa.read(tmp_path / "windows.arpa").log10("a ") == model.log10("a ")
    (tmp_path / "b.arpa").write_text(PRUNED.replace("ngram 1=5", "ngram 1=4").replace("-1.0 <unk>\n", ""))
    assert arpa.read(tmp_path / "b.arpa").log10("b") == pytest.approx(-0.5 - 100 - 0.7)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("\\data\\", "", 22, "not an ARPA file"),
        ("ngram 2=3", "ngram 3=3", 4, "expected `ngram 2=`"),
        ("ngram 2=3", "ngram 2=4", 19, "promises 4 2-grams, but there are 3"),
        ("-1.0 <unk>", "-1.0 <unk> 0 0", 8, "expected a number, 1 tokens"),
        ("-0.05 <s> a <space>", "-0.05 <s> a <space> -1", 20, "expected a number, 3 tokens, found"),
        ("-0.3 a a", "-0,3 a a", 17, "'-0,3' is not a finite number"),
        ("-0.3 a a", "nan a a", 17, "not a finite number"),
        ("-0.3 a a", "0.3 a a", 17, "above 0"),
        ("-0.3 a a", "-0.3 a b", 17, "'b' is not among the 1-grams"),
        ("-0.3 a a", "-0.3 a <space>", 17, "'a <space>' occurs twice"),
        ("-0.05 <s> a <space>", "-0.05 <s> <space> a", 20, "'<s> <space>' is not among the 2-grams"),
        ("-0.4 a -0.3", "-0.4 the -0.3", 11, "'the' is not a character"),
        ("-0.4 a -0.3", "-0.4 <space> -0.3", 12, "'<space>' occurs twice"),
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
    with pytest.raises(Error, match=r"none\.arpa: no such file"):
        arpa.read(tmp_path / "none.arpa")
    (tmp_path / "a.arpa").write_bytes(b"\\data\\\nngram 1=\xff\n")
    with pytest.raises(Error, match=r"a\.arpa:2: not UTF-8"):
        arpa.read(tmp_path / "a.arpa")


def test_unusable_texts_are_refused() -> None:
    with pytest.raises(Error, match="not empty"):
        ngram.build([], 3)
    with pytest.raises(Error, match="not empty"):
        ngram.build(["", ""], 3)
    with pytest.raises(Error, match="at least 1, not 0"):
        ngram.build(["a"], 0)
    with pytest.raises(Error, match="text 2 contains a line break"):
        ngram.build(["a", "b\n"], 3)


@pytest.mark.parametrize("suffix", [".arpa", ".bin"])
def test_files_of_both_formats_are_restored_to_the_bit(tmp_path: Path, suffix: str) -> None:
    model = ngram.build(["the quick brown fox", "été à l'eau", "a  b"], 4)
    language_model.save(tmp_path / f"m{suffix}", model)
    again = language_model.load(tmp_path / f"m{suffix}")
    assert (again.order, again.characters, again.counts) == (model.order, model.characters, model.counts)
    for name in ("first", "token", "log10_p", "next_state", "log10_backoff", "suffix"):
        assert np.array_equal(getattr(again, name), getattr(model, name)), name


def test_other_files_are_refused_as_language_models(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"m\.txt: .* must end in \.arpa or \.bin"):
        language_model.save(tmp_path / "m.txt", ngram.build(["ab"], 2))
    (tmp_path / "x.bin").write_bytes(b"nothing")
    with pytest.raises(Error, match=r"x\.bin: not a complete"):
        language_model.load(tmp_path / "x.bin")
    checkpoint.write_arrays(tmp_path / "y.bin", {"a": np.zeros(2)}, {"format": 1})
    with pytest.raises(Error, match=r"y\.bin: not a language model"):
        language_model.load(tmp_path / "y.bin")
    checkpoint.write_arrays(tmp_path / "y.bin", {"a": np.zeros(2)}, {"format": 99, "lm": {}})
    with pytest.raises(Error, match=r"y\.bin: was written by a newer hwr \(format 99\)"):
        language_model.load(tmp_path / "y.bin")
    checkpoint.write_arrays(tmp_path / "y.bin", {"a": np.zeros(2)}, {"format": "two", "lm": {}})
    with pytest.raises(Error, match=r"y\.bin: its metadata is damaged: its format is 'two'"):
        language_model.load(tmp_path / "y.bin")


def inflated(model: ngram.LM) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a model as files had them before they were deflated."""
    arrays, about = language_model.to_arrays(model)
    for name in about.pop("deflated"):
        arrays[name] = np.frombuffer(zlib.decompress(arrays[name].tobytes()), np.uint8)
    return arrays, about


def load_changed(arrays: dict[str, np.ndarray], about: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, change in changes.items():
        if name in about:
            about[name] = change
        elif change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name].copy()) if callable(change) else change
    language_model.from_arrays(arrays, about)


def damaged(**changes: object) -> None:
    """Load a small model with some of its arrays or its header replaced."""
    arrays, about = inflated(ngram.build(TEXTS, 3))
    for name in ("log10_p", "log10_backoff"):
        if f"{name}_values" in arrays:
            arrays[name] = arrays.pop(f"{name}_values")[arrays[name]]
    load_changed(arrays, about, changes)


def put(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": None}, "token is not"),
        ({"token": lambda a: a[:-1]}, "token is not"),
        ({"token": lambda a: a.astype(np.float32)}, "token is not"),
        ({"token": lambda a: a[:, None]}, "token is not"),
        ({"token": put(40, 10**6)}, "token is out of range"),
        ({"token": put(40, -1)}, "token is out of range"),
        ({"token": put(3, 4)}, "the 1-grams are not sorted"),
        ({"children": None}, "children is not"),
        ({"children": put(0, 10**12)}, "children is out of range"),
        ({"children": put(5, -1)}, "children is out of range"),
        ({"children": put(0, 3)}, "children do not add up"),
        ({"children": lambda a: np.zeros_like(a)}, "children do not add up"),
        ({"log10_p": put(5, math.nan)}, "not finite"),
        ({"log10_p": put(5, 0.5)}, "log10_p is above 0"),
        ({"log10_p": lambda a: a.astype(np.float64)}, "log10_p is not"),
        (
            {"log10_p": lambda a: (a * 0).astype(np.uint8), "log10_p_values": np.zeros(0, np.float32)},
            "out of range",
        ),
        ({"log10_p": lambda a: (a * 0).astype(np.int64), "log10_p_values": np.zeros(3, np.float32)}, "or its values"),
        ({"log10_backoff": lambda a: np.full_like(a, math.inf, np.float32)}, "log10_backoff"),
        ({"characters": 7}, "its characters"),
        ({"characters": "aa"}, "its characters"),
        ({"characters": "abc"}, "the 1-grams are not the characters|is out of range"),
        ({"counts": []}, "counts"),
        ({"counts": [1.5, 2]}, "counts"),
        ({"counts": [True]}, "counts"),
        ({"counts": [2**40]}, "counts"),
        ({"counts": [1] * 1000}, "counts"),
        ({"counts": "abc"}, "counts"),
    ],
)
def test_a_damaged_model_is_an_error(changes: dict[str, object], message: str) -> None:
    damaged()
    with pytest.raises(Error, match=message):
        damaged(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deflated": "token"}, "the names of its deflated arrays"),
        ({"deflated": [["token"]]}, "the names of its deflated arrays"),
        ({"deflated": ["characters"]}, "the names of its deflated arrays"),
        ({"deflated": ["token", "token"]}, "not all there"),
        ({"token": None}, "not all there"),
        ({"token": lambda a: a.astype(np.int32)}, "not all there"),
        ({"token": lambda a: a[:-9]}, "token is not"),
        ({"token": lambda a: a[::-1]}, "token: "),
        ({"token": lambda a: np.frombuffer(zlib.compress(bytes(5)), np.uint8)}, "token is not"),
    ],
)
def test_damaged_deflated_arrays_are_an_error(changes: dict[str, Any], message: str) -> None:
    arrays, about = language_model.to_arrays(ngram.build(TEXTS, 3))
    assert set(about["deflated"]) == {"children", "token", "log10_p", "log10_backoff"}
    with pytest.raises(Error, match=message):
        load_changed(arrays, about, changes)


def test_a_small_file_cannot_fill_the_memory() -> None:
    arrays, about = language_model.to_arrays(ngram.build(TEXTS, 2))
    many = 2**31 - 2 - about["counts"][0]
    arrays["token"] = np.frombuffer(zlib.compress(bytes(2**24), 9), np.uint8)
    with pytest.raises(Error, match="token is out of range"):
        language_model.from_arrays(arrays, {**about, "counts": [about["counts"][0], many]})


def test_damaged_models_never_lead_the_search_out_of_bounds(rng: np.random.Generator) -> None:
    """An array with replaced values is refused, or gives a model that can be used."""
    alphabet = Alphabet("abcdefghijklmnopqrstuvwxyz ")
    logits = rng.normal(0, 1, (2, 20, 28)).astype(np.float32)
    refused = 0
    for _ in range(150):
        arrays, about = inflated(ngram.build(TEXTS[:3], 3))
        name = rng.choice(["children", "token", "log10_p", "log10_backoff"])
        array = arrays[name].copy()
        at = rng.integers(len(array), size=rng.integers(1, 4))
        array[at] = rng.permutation(array)[: len(at)] if rng.random() < 0.5 else rng.integers(0, 255, len(at))
        try:
            model = language_model.from_arrays({**arrays, name: array}, about)
        except Error:
            refused += 1
            continue
        assert beam.search(logits, alphabet, 8, model, 0.7, 1.0)[0][0].text
    assert 20 < refused < 150


def test_files_of_the_older_format_are_read(tmp_path: Path) -> None:
    model = ngram.build(TEXTS, 4)
    names = ("first", "token", "log10_p", "next_state", "log10_backoff", "suffix")
    arrays = {name: getattr(model, name) for name in names}
    about = {"lm": {"characters": model.characters, "counts": list(model.counts)}}
    checkpoint.write_arrays(tmp_path / "old.bin", arrays, about)
    again = language_model.load(tmp_path / "old.bin")
    for name in names:
        assert np.array_equal(getattr(again, name), getattr(model, name)), name
    checkpoint.write_arrays(tmp_path / "bad.bin", {**arrays, "first": arrays["first"] * 3}, about)
    with pytest.raises(Error, match=r"bad\.bin: the language model is damaged"):
        language_model.load(tmp_path / "bad.bin")


def test_a_quantised_model_is_nearly_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    texts = sentences(rng, 300)
    model = ngram.build(texts, 5)
    small = language_model.quantised(model)
    language_model.save(tmp_path / "whole.bin", model)
    language_model.save(tmp_path / "small.bin", small)
    assert (tmp_path / "small.bin").stat().st_size < 0.6 * (tmp_path / "whole.bin").stat().st_size
    again = language_model.load(tmp_path / "small.bin")
    assert np.array_equal(again.log10_p, small.log10_p)
    assert np.array_equal(again.log10_backoff, small.log10_backoff)
    assert sum(map(again.log10, texts)) == pytest.approx(sum(map(model.log10, texts)), rel=0.05)
    for text in texts[::20]:
        assert again.log10(text) == pytest.approx(model.log10(text), abs=0.1 * len(text))


def total(model: ngram.LM, state: int) -> float:
    """The sum of the probabilities of all tokens after a state."""
    return sum(10 ** model.step(state, token)[0] for token in range(len(model.characters) + 3) if token != ngram.START)


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_a_pruned_model_is_small_and_sums_to_one(share: float, tmp_path: Path, rng: np.random.Generator) -> None:
    texts = sentences(rng, 400)
    model, times = ngram.count(texts, 5)
    whole = prune.megabytes(language_model.quantised(model))
    small = prune.to_size(model, times, whole * share)
    assert 0.9 * whole * share < prune.megabytes(small) <= whole * share
    language_model.save(tmp_path / "m.bin", small)
    assert (tmp_path / "m.bin").stat().st_size <= whole * share * 1e6  # with its header
    again = language_model.load(tmp_path / "m.bin")
    assert (again.order, again.counts) == (small.order, small.counts)
    states = [0, *rng.integers(len(small.suffix), size=20).tolist()]
    assert [total(small, state) for state in states] == pytest.approx([1] * len(states), abs=0.1)  # it is quantised
    # It loses less than a lower-order model with about as many n-grams.
    unseen = sentences(np.random.default_rng(0), 50)
    assert sum(map(small.log10, unseen)) > sum(map(ngram.build(texts, 2).log10, unseen)) or share < 0.5


@pytest.mark.parametrize("part", [0.3, 0.8])
def test_a_pruned_model_sums_to_one_exactly_before_it_is_quantised(part: float, rng: np.random.Generator) -> None:
    model, times = ngram.count(sentences(rng, 200), 4)
    losses, below = prune._losses(model, times), prune._below(model)
    important = losses >= np.quantile(losses[np.isfinite(losses)], part)
    small = prune._pruned(model, below, prune._kept(model, below, important))
    assert important.sum() <= sum(small.counts) < sum(model.counts)
    for state in range(0, len(small.suffix), 10):
        assert total(small, state) == pytest.approx(1, abs=1e-4)


def test_pruning_removes_what_matters_least() -> None:
    """After `a` comes `b`, or anything as often as elsewhere; only the informative n-gram is kept."""
    model, times = ngram.count(["ab" * 30, "cccbaca", "bcacb"], 2)
    before = prune._pruned(model, prune._below(model), np.ones(sum(model.counts), bool))
    np.testing.assert_allclose(before.log10_backoff, model.log10_backoff, atol=1e-5)
    assert np.array_equal(before.log10_p, model.log10_p)
    losses = prune._losses(model, times)
    assert losses[np.isfinite(losses)].min() > -1e-9
    # By hand: the relative entropy of the model without one n-gram.
    e = sum(model.counts[:1]) + 3
    context = int(np.searchsorted(model.first, e, side="right")) - 1
    keep = np.ones(len(losses), bool)
    keep[e] = False
    without = prune._pruned(model, prune._below(model), keep)
    p = [10 ** model.step(context, t)[0] for t in range(len(model.characters) + 3) if t != ngram.START]
    q = [10 ** without.step(context, t)[0] for t in range(len(model.characters) + 3) if t != ngram.START]
    assert sum(q) == pytest.approx(1)
    likely = times[context - 1] / times[: model.counts[0]].sum()
    expected = likely * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert losses[e] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    with pytest.raises(Error, match="no room even for the 6 characters"):
        prune.to_size(model, times, 1e-6)
    assert prune.to_size(model, times, 1.0).counts == model.counts


def test_an_exported_network_is_no_language_model() -> None:
    with pytest.raises(Error, match=r"is a checkpoint, and a language model is needed.*or a .safetensors"):
        language_model.load("best.onnx")


def test_texts_that_the_model_knows_are_noted(tmp_path: Path, rng: np.random.Generator) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(sentences(rng, 60)))
    build = ["lm", "build", "--text", str(text)]
    assert CliRunner().invoke(main, [*build, "--out", str(tmp_path / "a.bin")]).exit_code == 0
    done = CliRunner().invoke(main, [*build, "--add-to", str(tmp_path / "a.bin"), "--out", str(tmp_path / "b.bin")])
    assert "note: the texts add nothing to" in done.stderr, done.output


def test_weights_that_are_nearly_the_same_are_rounded() -> None:
    values = np.array([-99, -1, np.nextafter(np.float32(-1), np.float32(0)), 0], np.float32)
    assert language_model._rounded(values) == pytest.approx(values)
