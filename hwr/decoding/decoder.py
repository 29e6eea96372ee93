"""Logits -> texts and confidences, according to the settings of `config.Decode`."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from hwr import Error, bundled
from hwr.alphabet import Alphabet
from hwr.config.decoder_settings import BEAM, STORED
from hwr.decoding import align, compiled, greedy, lexicon
from hwr.decoding.greedy import UNCALIBRATED, Calibration
from hwr.decoding.lexicon import Lexicon
from hwr.decoding.ngram import LM
from hwr.system import memory, processes

if TYPE_CHECKING:
    from hwr.checkpoint import Part
    from hwr.config import Decode
    from hwr.decoding.beam import Hypothesis

T = TypeVar("T")

# A text that ranks this many nats below the best one is dropped at each step, unless several readings are asked for. With it a
# beam of 32 takes no more time than one of 16 without, and makes 2 % fewer errors (docs/experiments.md).
MARGIN = 9.0

# Time steps around what greedy decoding reads, in which a language model may add characters: at least, at most.
_LEAST, _MOST = 2, 8
_NEVER = 60.0  # nats: characters elsewhere are so much less likely than blank that no language model writes them


@dataclass(frozen=True)
class Settings:
    """The complete settings of a decoder; see `config.Decode`."""

    name: Literal["greedy", "beam"] = "greedy"
    beam: int = BEAM
    lm_weight: float = 0.0
    length_bonus: float = 0.0
    unknown_penalty: float = 0.0
    calibration: Calibration = UNCALIBRATED


@dataclass(frozen=True)
class Decoder:
    """Decodes logits to texts.

    Attributes:
        edge_spaces: Whether the network writes a space before and after each text; the decoder removes them.
        lm: A character n-gram, or None.
        lexicon: A word list for this alphabet, or None.
        threads: Threads of the beam search, once it is compiled.
    """

    alphabet: Alphabet
    settings: Settings = Settings()
    edge_spaces: bool = False
    lm: LM | None = None
    lexicon: Lexicon | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.lm is not None:
            self.lm.spelled(self.alphabet.characters)  # refuses an unsuitable model before reading anything

    def expect(self, lines: int) -> None:
        """Prepare for this number of lines, in the background; see `compiled.expect`."""
        if self.settings.name == "beam":
            compiled.expect(lines, self.lm, self.alphabet)

    def __call__(self, logits: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Decode lines.

        Args:
            logits: (N, T, C) float, before the softmax; the blank is the last class.

        Returns:
            The N texts, and their (N,) confidences in 0..1, see `greedy.confidences`.
        """
        texts, paths = self.read(logits)
        calibration = self.settings.calibration
        return texts, calibration.apply(greedy.confidences(logits, paths, calibration.temperature))

    def read(self, logits: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The N texts, and the most likely path of each, (N, T), from which confidences are computed."""
        paths = greedy.best_path(logits)
        texts = greedy.collapse(paths, self.alphabet)
        if self.settings.name == "beam":
            found = [best[0].text for best in self._search(logits, 1, texts)]
            # The best path is the most likely path of its own text.
            other = [i for i, (a, b) in enumerate(zip(found, texts, strict=True)) if a != b]
            if other:
                labels = [self.alphabet.encode(found[i]) for i in other]
                paths[other] = align.paths(logits[other], labels)
            texts = found
        return [self.stripped(text) for text in texts], paths

    def n_best(self, logits: np.ndarray, n: int) -> "list[list[Hypothesis]]":
        """The best `n` hypotheses of each line or fewer, best first, each text once.

        Raises:
            Error: See `check_n_best`.
        """
        self.check_n_best(n)
        # Texts that differ only in edge spaces are merged, so search for more.
        asked = min(max(n, self.settings.beam), 4 * n) if self.edge_spaces and n > 1 else n
        out = []
        for hypotheses in self._search(logits, asked, greedy.collapse(greedy.best_path(logits), self.alphabet)):
            by_text: dict[str, Hypothesis] = {}
            for hypothesis in hypotheses:
                text = self.stripped(hypothesis.text)
                by_text.setdefault(text, replace(hypothesis, text=text))
            out.append(list(by_text.values())[:n])
        return out

    def check_n_best(self, n: int) -> None:
        """Check that the decoder can give `n` readings of a line.

        Raises:
            Error: The decoder is greedy, or the beam is too narrow.
        """
        if self.settings.name == "greedy":
            raise Error("the greedy decoder gives only one reading per line; use --decoder beam")
        if n > self.settings.beam:
            raise Error(f"a beam of {self.settings.beam} gives fewer than {n} readings; widen it with --beam {n}")

    def stripped(self, text: str) -> str:
        """The text without edge spaces."""
        return text.strip(" ") if self.edge_spaces else text

    def _search(self, logits: np.ndarray, n: int, greedy_texts: Sequence[str]) -> "list[list[Hypothesis]]":
        """At most `n` hypotheses of each line, best first; one of no text where greedy decoding reads nothing.

        A language model likes any text more than none. On a line where the network sees nothing, there is none, and on other
        lines none farther than a character from what the network sees.
        """
        from hwr.decoding import beam

        if self.lm is not None:
            logits = _quiet(logits, greedy_texts, self.alphabet.blank)
        with memory.errors(f"--beam (now {self.settings.beam}) or evaluate.batch_size (now {len(logits)})"):
            found = beam.search(
                logits,
                self.alphabet,
                self.settings.beam,
                self.lm,
                self.settings.lm_weight,
                self.settings.length_bonus,
                n_best=n,
                margin=MARGIN if n == 1 else math.inf,
                edges=self.edge_spaces,
                lexicon=self.lexicon,
                unknown_penalty=self.settings.unknown_penalty,
                threads=self.threads,
            )
        for i, text in enumerate(greedy_texts):
            if not self.stripped(text):
                row = logits[i] - logits[i].max(1, keepdims=True)
                ctc = -float(np.log(np.exp(row).sum(1)).sum())  # of the greedy path, the most likely one
                found[i] = [beam.Hypothesis(text, ctc, ctc, 0.0)]
        return found


def _quiet(logits: np.ndarray, greedy_texts: Sequence[str], blank: int) -> np.ndarray:
    """The logits (N, T, C) without characters at time steps that are far from all that greedy decoding reads.

    Far is more than the time steps that a character takes, on average over the line; a few characters far apart are no measure.
    Over many steps of blank paper the tiny probabilities of characters add up to words.
    """
    out = logits
    for i, text in enumerate(greedy_texts):
        seen = np.flatnonzero(logits[i].argmax(1) != blank)
        if not len(seen):
            continue
        far = min(_MOST, max(_LEAST, math.ceil((seen[-1] - seen[0] + 1) / max(1, len(text)))))
        steps = np.arange(logits.shape[1])
        after = np.searchsorted(seen, steps)  # of the seen steps, the first that is not before this one
        nearest = np.minimum(
            np.abs(steps - seen[np.maximum(after - 1, 0)]), np.abs(seen[np.minimum(after, len(seen) - 1)] - steps)
        )
        if (nearest <= far).all():
            continue
        if out is logits:
            out = logits.copy()
        kept = out[i, nearest > far, blank]
        out[i, nearest > far] = kept[:, None] - _NEVER
        out[i, nearest > far, blank] = kept
    return out


def build(
    settings: "Decode",
    alphabet: Alphabet,
    edge_spaces: bool,
    stored_lm: "Part | None" = None,
    stored_words: "Part | None" = None,
    threads: int | None = None,
) -> Decoder:
    """Build the decoder of a config, reading the files that it names.

    Args:
        settings: `lm` and `words` are paths, or `stored`; `lm` may be the name of the bundled model.
        stored_lm: The checkpoint's language model.
        stored_words: The checkpoint's word list.
        threads: Threads of the beam search; None: one per usable core.

    Raises:
        Error: A file is missing or malformed, or the checkpoint does not store what `stored` asks for.
    """
    full = settings.complete()
    lm = words = None
    if full.lm == STORED:
        part = _stored(stored_lm, "lm", "language model")
        lm = _named(part, lambda: _model_of(part))
    elif full.lm:
        path = str(bundled.model()) if full.lm == bundled.MODEL else full.lm
        lm = _language_model(path, *_changed("lm", path))
    if full.words == STORED:
        list_part = _stored(stored_words, "words", "word list")
        words = _named(list_part, lambda: lexicon.from_arrays(list_part.arrays, alphabet))
    elif full.words:
        words = _word_list(full.words, alphabet, *_changed("words", full.words))
    given = {key: value for key in Settings.__dataclass_fields__ if (value := getattr(full, key, None)) is not None}
    fitted = full.greedy_calibration if full.name == "greedy" else full.calibration
    given["calibration"] = Calibration(*fitted) if fitted else Calibration(full.temperature)
    return Decoder(alphabet, Settings(**given), edge_spaces, lm, words, threads or processes.usable_cores())


def _stored(part: T | None, key: str, what: str) -> T:
    if part is None:
        raise Error(f"decode.{key}: the checkpoint stores no {what}; name a file with --{key}")
    return part


def _named(part: "Part", make: Callable[[], T]) -> T:
    """Call `make` for a part, and name the checkpoint in its errors."""
    try:
        return make()
    except Error as error:
        raise Error(f"{part.source}: {error}") from None


def _model_of(part: "Part") -> LM:
    from hwr.decoding import language_model

    return language_model.from_arrays(part.arrays, part.about)


def _changed(key: str, path: str) -> tuple[int, int]:
    """A file's modification time and size, which identify its content in the caches below."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise Error(f"decode.{key}: {path}: {error.strerror or error}. --{key} names the file") from None
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=2)
def _language_model(path: str, changed: int, size: int) -> LM:
    """A file's language model, cached because training needs it after every epoch."""
    from hwr.decoding import language_model

    return language_model.load(path)


@functools.lru_cache(maxsize=2)
def _word_list(path: str, alphabet: Alphabet, changed: int, size: int) -> Lexicon:
    return lexicon.read(path, alphabet)


def stored(decoder: Decoder, settings: "Decode") -> "tuple[dict[str, Any], Part | None, Part | None]":
    """What a checkpoint must store for a decoder: changes to its `decode` settings, language model, word list."""
    from hwr.checkpoint import Part
    from hwr.decoding import language_model

    changes = {key: STORED for key in ("lm", "words") if getattr(settings, key)}
    lm = Part(*language_model.to_arrays(decoder.lm)) if decoder.lm else None
    words = Part(*lexicon.to_arrays(decoder.lexicon)) if decoder.lexicon else None
    return changes, lm, words
