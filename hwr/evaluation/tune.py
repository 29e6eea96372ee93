"""`hwr lm tune`: the decoder's weights, and the temperature of confidences, on held-out lines; never on test lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hwr import Error, checkpoint, data
from hwr.checkpoint import Checkpoint
from hwr.config import Decode
from hwr.decoding import decode
from hwr.evaluation import metrics
from hwr.evaluation.evaluate import lines_of
from hwr.images import batches, cache
from hwr.recognizer import Recognizer

# Where the search for the two weights begins; it goes on in halved steps about the best.
LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.3)
INSERTIONS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
REFINEMENTS = 2
UNKNOWN = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
TEMPERATURES = tuple(np.geomspace(0.5, 8, 41).tolist())


@dataclass(frozen=True)
class Tuned:
    """What was found on the held-out lines.

    Attributes:
        decode: The settings.
        greedy_cer: CER without a language model; `cer` with the settings.
        tried: (lm_weight, insertion, unknown, CER) of each combination, in their order.
        error_before: Expected calibration error at temperature 1, and `error` at the settings' temperature.
    """

    decode: Decode
    greedy_cer: float
    cer: float
    tried: list[tuple[float, float, float, float]]
    error_before: float
    error: float


def tune(model: Recognizer, lm: str | None, words: str | None, beam: int) -> Tuned:
    """Choose lm_weight and insertion, then unknown, by the CER of the held-out lines; then the temperature.

    Args:
        lm: A file of `hwr lm build`, or None.
        words: A word list, or None. With neither the config's decoder stays, and the temperature alone is found.
        beam: Texts kept per step.
    """
    config, geometry = model.config, model.geometry
    lines = lines_of(data.read(config.data), "val", config.data)
    images = cache.prepared(lines, geometry, config.data.cache, progress=True)
    reading = batches.reading(images, None, config.evaluate.batch_size, geometry.multiple)
    # Of a validation list: some thousands of lines of 100 kB.
    bar = tqdm(reading, "validation lines", -(-len(lines) // config.evaluate.batch_size), disable=None, leave=False)
    outputs = [(batch.index, model.engine.logits(batch)) for batch in bar]

    def read(settings: Decode) -> tuple[metrics.Score, np.ndarray]:
        used = config.model_copy(update={"decode": settings})
        texts, confidences = [""] * len(lines), np.zeros(len(lines))
        for index, logits in outputs:
            found, confidences[index] = decode.texts(logits, model.alphabet, used)
            for i, text in zip(index.tolist(), found, strict=True):
                texts[i] = text
        return metrics.score([line.text for line in lines], texts), confidences

    score, _ = read(Decode())
    greedy_cer, settings = score.cer, config.decode
    tried: dict[tuple[float, float, float], float] = {}
    if lm is not None or words is not None:
        settings = _weights(Decode(name="beam", beam=beam, lm=lm, words=words), lambda s: read(s)[0].cer, tried)
    if settings.name == "beam":
        score, _ = read(settings)

    def error(temperature: float) -> float:
        # The texts are settled; confidences are of the network's output and need no beam search.
        _, confidences = read(Decode(temperature=temperature))
        return metrics.calibration_error(confidences, score.accuracies)

    temperature = min(TEMPERATURES, key=error)
    settings = settings.model_copy(update={"temperature": round(temperature, 3)})
    combinations = [(*key, cer) for key, cer in tried.items()]
    return Tuned(settings, greedy_cer, score.cer, combinations, error(1.0), error(settings.temperature))


def _weights(start: Decode, cer: Callable[[Decode], float], tried: dict[tuple[float, float, float], float]) -> Decode:
    """The best weights of a coarse grid, refined; then what an unknown word should cost. Of equals the smaller ones."""
    keys = ("lm_weight", "insertion", "unknown")

    def best(grid: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
        for key in tqdm(grid, "weights", disable=None, leave=False):
            if key not in tried:
                tried[key] = cer(start.model_copy(update=dict(zip(keys, key, strict=True))))
        return min(tried, key=lambda key: (tried[key], key))

    weights = LM_WEIGHTS if start.lm else (0.0,)
    a, b, c = best([(a, b, 0.0) for a in weights for b in INSERTIONS])
    for turn in range(1, REFINEMENTS + 1):
        step_a, step_b = LM_WEIGHTS[1] / 2**turn * bool(start.lm), INSERTIONS[1] / 2**turn
        a, b, c = best([(max(0.0, a + i * step_a), b + j * step_b, 0.0) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    if start.words:
        a, b, c = best([(a, b, c) for c in UNKNOWN])
    return start.model_copy(update=dict(zip(keys, (a, b, c), strict=True)))


def save(path: str | Path, loaded: Checkpoint, tuned: Tuned) -> None:
    """Write the checkpoint with the settings in its config, and what they brought among its scores."""
    brought = {"greedy_val_cer": tuned.greedy_cer, "val_cer": tuned.cer, "calibration_error": tuned.error}
    settings = loaded.config.model_copy(update={"decode": tuned.decode})
    checkpoint.save(path, replace(loaded, config=settings, scores={**loaded.scores, "decode": brought}))


def texts_of(paths: list[Path]) -> list[str]:
    """The lines of text files, UTF-8, empty ones left out.

    Raises:
        Error: A file can't be read, or all are empty.
    """
    texts: list[str] = []
    for path in paths:
        try:
            texts += [row.strip() for row in path.read_text(encoding="utf-8-sig").splitlines() if row.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"{path}: could not be read as UTF-8 text: {error}") from error
    if not texts:
        raise Error(f"{', '.join(map(str, paths))}: no text in it")
    return texts
