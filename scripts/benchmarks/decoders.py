"""Benchmark the decoders."""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.common import conditions, json_option, write
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.data.synth import text as synth_text
from hwr.decoding import beam, greedy, ngram


@click.command("decode")
@click.option("--lines", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--beam", "beams", multiple=True, default=(4, 16, 64), show_default=True, type=click.IntRange(min=1))
@click.option("--order", default=6, show_default=True, type=click.IntRange(min=2), help="Order of the language model.")
@json_option
def compare_decoders(lines: int, beams: tuple[int, ...], order: int, json_path: Path | None) -> None:
    """Lines per second of the decoders on one core, on outputs like the original network's: 160 steps, 81 classes.

    The outputs are made of drawn texts: blanks, a step or two for each character, one in five of them unsure. The language
    model is of other drawn texts.
    """
    about = conditions()
    alphabet, rng = Alphabet(ORIGINAL), np.random.default_rng(0)
    texts = [synth_text.compose(np.random.default_rng((1, i))) for i in range(lines + 4000)]
    logits = np.stack([made_up(text[:55], alphabet, rng) for text in texts[:lines]])
    model = ngram.build(texts[lines:], order)
    decoders: dict[str, Callable[[], object]] = {"greedy": lambda: greedy.greedy(logits, alphabet)}
    for size in beams:
        for name, compiled in (("NumPy", False), ("numba", True)):
            search = functools.partial(beam.search, logits, alphabet, size, compiled=compiled)
            decoders[f"beam {size}, {name}"] = search
            decoders[f"beam {size}, {name}, {order}-gram"] = functools.partial(
                search, lm=model, lm_weight=0.5, length_bonus=0.5
            )
    rates = {}
    for name, decode in decoders.items():
        decode()  # the first call compiles
        start = time.perf_counter()
        decode()
        rates[name] = lines / (time.perf_counter() - start)
        click.echo(f"{name:>20}{rates[name]:>12.0f} lines/s")
    write(json_path, {"conditions": about, "rates": rates})


def made_up(text: str, alphabet: Alphabet, rng: np.random.Generator) -> np.ndarray:
    """(160, C) logits like those of a trained network for this text, with one uncertain character in five."""
    out = rng.normal(0, 1.5, (160, alphabet.classes)).astype(np.float32)
    out[:, -1] += 14
    steps = np.sort(rng.choice(np.arange(0, 160, 2), min(len(text), 80), replace=False))
    for step, c in zip(steps, alphabet.encode(text), strict=False):
        out[step, [c, -1]] += 14, -14
        if rng.random() < 0.2:
            out[step, rng.integers(alphabet.blank)] += rng.uniform(10, 13.5)
    return out
