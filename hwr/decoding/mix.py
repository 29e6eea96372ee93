"""Add texts to a language model whose own texts are gone: mix it with a model of the new texts.

The mixture of two models, (1 - share) p + share q, is a back-off model with the n-grams of both (static interpolation, as
SRILM's `ngram -mix-lm`: Stolcke 2002, "SRILM - an extensible language modeling toolkit"). The best share for a text follows
from the probabilities of its characters by expectation maximisation (Jelinek and Mercer 1980).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwr import Error
from hwr.decoding import ngram, prune
from hwr.decoding.language_model import is_quantised, quantised
from hwr.decoding.ngram import END, LM, NEVER, SPECIAL, START, Grams, assemble

# One line in this many is held out to find the share; fewer lines than FEWEST can't tell.
EVERY, FEWEST = 10, 20
ITERATIONS = 50
# n-grams looked up at once, to bound memory.
CHUNK = 200_000


@dataclass(frozen=True)
class Mixed:
    """A mixed model.

    Attributes:
        share: Of the new texts' model, 0..1.
        before: Perplexity per character of the model, and `after` of the mixture, on the lines that were held out; NaN if
            the share was given.
    """

    lm: LM
    share: float
    before: float
    after: float


def add(lm: LM, texts: Sequence[str], share: float | None = None, order: int | None = None) -> Mixed:
    """Add texts to a model. It is quantised if the model was.

    Args:
        share: Weight of the new texts, 0..1; None: the best for a tenth of them, which is held out for that.
        order: Length of the new texts' longest n-grams; None: as in the model.

    Raises:
        Error: There are too few texts to find the share.
    """
    before = after = float("nan")
    if share is None:
        different = list(dict.fromkeys(texts))
        if len(different) < FEWEST:
            raise Error(
                f"{len(different)} different lines of text are too few to find their share in the mixture; at least {FEWEST} are "
                "needed. Give it with --share, for example 0.3"
            )
        chosen = set(different[::EVERY])  # with all copies: a model knows lines that it has seen
        held_out = [text for text in texts if text in chosen]
        rest = [text for text in texts if text not in chosen]
        old, new = (_probabilities(model, held_out) for model in (lm, ngram.build(rest, order or lm.order)))
        share = _best_share(old, new)
        before, after = (float(np.exp(-np.log(p).mean())) for p in (old, (1 - share) * old + share * new))
    mixture = mixed(lm, ngram.build(texts, order or lm.order), share)
    return Mixed(quantised(mixture) if is_quantised(lm) else mixture, share, before, after)


def _probabilities(lm: LM, texts: Sequence[str]) -> np.ndarray:
    """The probabilities of all characters of the texts, and of the ends of lines."""
    tokens = [np.append(lm.ids(text), END).astype(np.int64) for text in sorted(texts, key=len, reverse=True)]
    lengths = np.array([len(row) for row in tokens])
    contexts = np.repeat(lm.extend(lm.root, np.full(1, START))[1], len(texts), 0)
    found = []
    for place in range(lengths.max()):
        here = int((lengths > place).sum())
        ln, contexts = lm.extend(contexts[:here], np.array([row[place] for row in tokens[:here]]))
        found.append(ln)
    return np.asarray(np.exp(np.concatenate(found)))


def _best_share(old: np.ndarray, new: np.ndarray) -> float:
    share = 0.5
    for _ in range(ITERATIONS):
        ours = share * new
        share = float((ours / (ours + (1 - share) * old)).mean())
    return share


def mixed(one: LM, other: LM, share: float) -> LM:
    """The mixture of two models.

    Args:
        share: Of the other, 0..1.
    """
    characters = "".join(sorted({*one.characters, *other.characters}))
    sides = [_Side(lm, characters) for lm in (one, other)]
    vocabulary = len(characters) + len(SPECIAL)
    grams: list[Grams] = []
    for n in range(max(one.order, other.order)):
        keys = np.unique(np.concatenate([side.keys(n) for side in sides]))
        if not len(keys):  # no text is that long
            break
        context, token = keys // vocabulary, keys % vocabulary
        old, new = (side.descend(context, token, keys) for side in sides)
        p = (1 - share) * old + share * new
        if n == 0:
            p[START] = 0
            p /= p.sum()  # `<unk>` of one model may be several characters of the other
            p[START] = 10.0**NEVER
        # These weights remain where the n-grams of a context take all the mass, as those of a quantised model may.
        kept, added = (side.weights(n + 1) for side in sides)
        weights = np.log10((1 - share) * kept + share * added)
        grams.append(Grams(context, token.astype(np.int32), np.log10(p), weights))
    return prune.renormalised(assemble(characters, grams))


class _Side:
    """A model on the way down the trie of the mixture, order by order.

    Args:
        characters: Of the mixture.
    """

    def __init__(self, lm: LM, characters: str) -> None:
        self._lm = lm
        # Tokens of the mixture as the model's, and the reverse. Both are sorted by their characters.
        self._own = np.concatenate([np.arange(len(SPECIAL)), lm.ids(characters)]).astype(np.int64)
        self._common = np.flatnonzero((self._own > END) | (np.arange(len(self._own)) <= END))
        self._contexts = lm.root  # of each n-gram of the mixture of the order above
        self._where = np.zeros(1, np.int64)  # of each n-gram of the model of the order above, in the mixture
        self._keys = np.zeros(0, np.int64)

    def keys(self, n: int) -> np.ndarray:
        """The model's n-grams of order n + 1: numbers of their contexts in the mixture and of their last tokens."""
        lm = self._lm
        self._keys = np.zeros(0, np.int64)
        if n < lm.order:
            done, above = sum(lm.counts[:n]), lm.counts[n - 1] if n else 1
            children = np.diff(lm.first)[1 + done - above : 1 + done] if n else lm.counts[:1]
            token = self._common[lm.token[done : done + lm.counts[n]]]
            self._keys = np.repeat(self._where, children) * len(self._own) + token
        return self._keys

    def descend(self, context: np.ndarray, token: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The model's probabilities of the mixture's n-grams of the next order."""
        self._where = np.searchsorted(keys, self._keys)
        parts = []
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            parts.append(self._lm.extend(self._contexts[context[part]], self._own[token[part]]))
        self._contexts = np.concatenate([after for _, after in parts])
        return np.asarray(np.exp(np.concatenate([ln for ln, _ in parts])))

    def weights(self, length: int) -> np.ndarray:
        """The model's back-off weights after the n-grams of the latest order, of this length; 1 where it lacks one."""
        if length >= self._lm.order:
            return np.ones(len(self._contexts))
        states = self._contexts[:, length]
        return np.where(states < 0, 1.0, 10.0 ** self._lm.log10_backoff[states])
