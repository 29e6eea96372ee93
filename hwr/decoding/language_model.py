"""Language models in files and in checkpoints."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, bundled, checkpoint
from hwr.checkpoint import Checkpoint
from hwr.decoding import arpa
from hwr.decoding.ngram import LM, SPECIAL
from hwr.system.atomic import replacing

# Upper limits for damaged files, above any real model.
MOST_ORDERS = 64
MOST_CHARACTERS = 0x110000

# Limits for deflated arrays, lest a small file fill the memory: this many n-grams, and this many more per byte in the file.
# Real models have less than one n-gram per byte.
FREE_NGRAMS, NGRAMS_PER_BYTE = 2**24, 8

# Values of a quantised model's probabilities, and of its back-off weights. With 32 it reads as well as with 256
# (docs/experiments.md), and each deflates to three fifths of a byte. Federico and Bertoldi 2006, "How many bits are needed to
# store probabilities for phrase-based translation?"
LEVELS = 32


def save(path: str | Path, lm: LM) -> None:
    """Write a model as `.arpa`, which other programs can read, or `.bin`, hwr's own format, which loads faster.

    Raises:
        Error: The file name has another extension, or the file can't be written (a previous file is unchanged).
    """
    match Path(path).suffix:
        case ".arpa":
            arpa.write(path, lm)
        case ".bin":
            with replacing(path) as temporary:
                temporary.write_bytes(to_bytes(lm))
        case _:
            raise Error(f"{path}: the name of a language model must end in .arpa or .bin")


def to_bytes(lm: LM) -> bytes:
    """The content of a `.bin`."""
    arrays, about = to_arrays(lm)
    return checkpoint.content(arrays, {"format": checkpoint.FORMAT, "lm": about})


def load(path: str | Path) -> LM:
    """Read a model from `save`, any tool's character ARPA file, or the model that a `.safetensors` checkpoint stores.

    Raises:
        Error: The file does not exist or is malformed, or the checkpoint stores no model.
    """
    if Path(path).suffix == ".safetensors":
        return stored(path, checkpoint.load(path))
    if Path(path).suffix in (".params", ".onnx"):
        raise Error(
            f"{path}: is a checkpoint, and a language model is needed: a .bin or .arpa file of `hwr lm build`, or a "
            ".safetensors that stores one"
        )
    if Path(path).suffix != ".bin":
        return arpa.read(path)
    arrays, about = checkpoint.read_arrays(path)
    checkpoint.check_format(path, about.get("format", 1))  # older files have none
    if not isinstance(about.get("lm"), dict):
        raise Error(f"{path}: not a language model from `hwr lm build`")
    try:
        return from_arrays(arrays, about["lm"])
    except Error as error:
        raise Error(f"{path}: {error}") from None


def stored(name: str | Path, found: Checkpoint) -> LM:
    """The model that a checkpoint stores.

    Args:
        name: The checkpoint's, for messages.

    Raises:
        Error: It stores none, or a damaged one.
    """
    part = found.language_model
    if part is None:
        raise Error(f"{name}: stores no language model; name a .bin or .arpa file, or {bundled.MODEL}")
    try:
        return from_arrays(part.arrays, part.about)
    except Error as error:
        raise Error(f"{name}: {error}") from None


def to_arrays(lm: LM) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A model as arrays and JSON values, for a file or a checkpoint.

    Only what can't be derived is stored: the number of n-grams that extend each context, their last tokens, probabilities
    and back-off weights. If these have at most 256 distinct values, as in a quantised model, they become one-byte indices.
    Arrays of bytes are deflated (RFC 1950), which halves a quantised model; `deflated` names them.
    """
    arrays = {
        "children": _smallest(np.diff(lm.first)),
        "token": _smallest(lm.token),
        "log10_p": lm.log10_p,
        "log10_backoff": lm.log10_backoff,
    }
    for name in ("log10_p", "log10_backoff"):
        values, code = np.unique(arrays[name], return_inverse=True)
        if len(values) <= 256:
            arrays[name], arrays[f"{name}_values"] = code.reshape(-1).astype(np.uint8), values
    deflated = [name for name, array in arrays.items() if array.dtype == np.uint8]
    arrays |= {name: np.frombuffer(zlib.compress(arrays[name].tobytes(), 9), np.uint8) for name in deflated}
    return arrays, {"characters": lm.characters, "counts": list(lm.counts), "deflated": deflated}


def from_arrays(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> LM:
    """Restore a model from `to_arrays`, checked so that it can't lead the compiled search out of bounds.

    Raises:
        Error: Something is missing, has another type or shape, or is out of range.
    """
    characters, counts = _header(about)
    vocabulary, states = len(characters) + len(SPECIAL), 1 + sum(counts[:-1])
    arrays = _inflated(
        arrays, about, {"children": states, "token": sum(counts), "log10_p": sum(counts), "log10_backoff": states}
    )
    if "first" in arrays:  # an older format with larger arrays
        first = _integers(arrays, "first", states + 1).astype(np.int64)
        _require(first[0] == 0, "first does not start with 0")
        children = np.diff(first)
    else:
        children = _integers(arrays, "children", states)
    token = _integers(arrays, "token", sum(counts))
    log10_p = _numbers(arrays, "log10_p", sum(counts))
    log10_backoff = _numbers(arrays, "log10_backoff", states)
    _require(float(log10_p.max()) <= 0, "log10_p is above 0")
    _require(int(children.min()) >= 0 and int(children.max()) <= vocabulary, "children is out of range")
    _require(int(token.min()) >= 0 and int(token.max()) < vocabulary, "token is out of range")
    _require(counts[0] == vocabulary, "the 1-grams are not the characters")
    first = np.zeros(states + 1, np.int64)
    np.cumsum(children, out=first[1:])
    # The contexts of an order's n-grams are the n-grams of the order below.
    ends = np.cumsum([0, 1, *counts[:-1]])
    for n, count in enumerate(counts):
        _require(first[ends[n + 1]] - first[ends[n]] == count, f"children do not add up to the {count} {n + 1}-grams")
    # The highest order has no back-off weights, and neither does the empty context.
    log10_backoff = np.concatenate([np.zeros(1, np.float32), log10_backoff[1:]])
    lm = LM(len(counts), characters, tuple(counts), first, token.astype(np.int32), log10_p, log10_backoff)
    unsorted = lm.keys[1:] <= lm.keys[:-1]
    if unsorted.any():
        n = int(np.searchsorted(np.cumsum(counts), unsorted.argmax() + 1, side="right"))
        _require(False, f"the {n + 1}-grams are not sorted")
    return lm


def _require(holds: Any, fault: str) -> None:
    if not holds:
        raise Error(f"the language model is damaged: {fault}")


def _header(about: Mapping[str, Any]) -> tuple[str, list[int]]:
    characters, counts = about.get("characters"), about.get("counts")
    _require(isinstance(characters, str) and len(set(characters)) == len(characters), "its characters")
    _require(isinstance(counts, list) and 0 < len(counts) <= MOST_ORDERS, "its counts of n-grams")
    assert isinstance(characters, str)
    assert isinstance(counts, list)
    _require(all(type(count) is int and 0 <= count < 2**31 for count in counts), "its counts of n-grams")
    _require(sum(counts) < 2**31, "its counts of n-grams")
    return characters, counts


def _inflated(
    arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], lengths: Mapping[str, int]
) -> Mapping[str, np.ndarray]:
    """The arrays, those of `deflated` restored; none takes more than its length in bytes, whatever the file says."""
    names = about.get("deflated", [])
    _require(
        isinstance(names, list) and all(name in list(lengths) for name in names), "the names of its deflated arrays"
    )
    found = dict(arrays)
    packed = {name: found[name] for name in names if name in found and found[name].dtype == np.uint8}
    _require(len(packed) == len(names), "its deflated arrays are not all there")
    limit = FREE_NGRAMS + NGRAMS_PER_BYTE * sum(array.nbytes for array in packed.values())
    for name, array in packed.items():
        _require(lengths[name] <= limit, f"{name} is out of range")
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(array.tobytes(), lengths[name] + 1)
        except zlib.error as error:
            raise Error(f"the language model is damaged: {name}: {error}") from None
        _require(inflater.eof and len(content) == lengths[name], f"{name} is not {lengths[name]} bytes")
        found[name] = np.frombuffer(content, np.uint8)
    return found


def _integers(arrays: Mapping[str, np.ndarray], name: str, length: int) -> np.ndarray:
    array = arrays.get(name)
    _require(
        array is not None and array.dtype.kind in "iu" and array.shape == (length,), f"{name} is not {length} integers"
    )
    assert array is not None
    _require(length == 0 or int(array.max()) < 2**31, f"{name} is out of range")
    return array


def _numbers(arrays: Mapping[str, np.ndarray], name: str, length: int) -> np.ndarray:
    array, values = arrays.get(name), arrays.get(f"{name}_values")
    if values is not None and array is not None:
        _require(array.dtype == np.uint8 and values.dtype == np.float32 and values.ndim == 1, f"{name} or its values")
        _require(int(array.max(initial=0)) < len(values), f"{name} is out of range")
        array = values[array]
    _require(
        array is not None and array.dtype == np.float32 and array.shape == (length,), f"{name} is not {length} numbers"
    )
    assert array is not None
    _require(np.isfinite(array).all(), f"{name} has a value that is not finite")
    return array


def _smallest(array: np.ndarray) -> np.ndarray:
    """Non-negative integers in the smallest type that holds them."""
    most = int(array.max(initial=0))
    return array.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32)


def is_quantised(lm: LM) -> bool:
    """Whether the model's numbers have at most 256 values each."""
    return all(len(np.unique(values)) <= 256 for values in (lm.log10_p, lm.log10_backoff))


def quantised(lm: LM) -> LM:
    """The model with probabilities and back-off weights rounded to 32 values each, to be stored in less than a byte."""
    return replace(lm, log10_p=_rounded(lm.log10_p), log10_backoff=_rounded(lm.log10_backoff))


def _rounded(values: np.ndarray) -> np.ndarray:
    """(n,) float32 rounded to the means of 30 bins, narrower where values are dense.

    The density of the bins is proportional to the cube root of that of the values, which minimises the squared error for
    many bins (Panter and Dite 1951, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels").
    The lowest value and 0 have their own bins, because `<s>`'s marker and the weight of a context without n-grams must stay
    exact.
    """
    low = float(values.min())
    common = values[(values != low) & (values != 0)]
    code = np.ones(len(values), np.int64)
    if len(common):
        try:
            number, edges = np.histogram(common, 4096)
        except ValueError:  # they are nearly the same
            number, edges = np.histogram(common.astype(np.float64), 4096)
        density = np.concatenate([[0.0], np.cumsum(np.cbrt(number))])
        inner = np.interp(np.linspace(0, density[-1], LEVELS - 1)[1:-1], density, edges)
        code += np.searchsorted(inner, values, side="right")
    code[values == low], code[values == 0] = 0, LEVELS - 1
    means = np.bincount(code, values, LEVELS) / np.maximum(np.bincount(code, minlength=LEVELS), 1)
    means[0], means[LEVELS - 1] = low, 0.0
    return np.asarray(means[code], np.float32)
