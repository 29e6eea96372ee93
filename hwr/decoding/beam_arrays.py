"""The beam search in NumPy: all lines advance together, one time step at a time.

It finds the same texts as `beam_compiled`, and starts at once.

A text is identified by a 64-bit hash of its line and characters, so it keeps its identity when it leaves the beam and returns. The
beams of all lines are one table of N * W rows, W of each line: as many as the fullest beam has. A row without a text has the
length -1 and the rank -inf.
"""

import functools
from typing import NamedTuple

import numpy as np

from hwr.alphabet import Alphabet
from hwr.decoding.beam import Limits, Weights
from hwr.decoding.lexicon import Trie
from hwr.decoding.ngram import END, LM, START

# Columns of `Texts.numbers`. The paths of a text that end with a blank are summed separately from the others. LM_INSIDE is the
# language model's score before the space at the end of a text, if it has one; COST the penalty of its unknown words so far.
BLANK, CHARACTER, LM_SCORE, LM_INSIDE, COST = range(5)
# Columns of `Texts.whole`: characters of the text, the last one (-1 if it is empty), and the node of the word list for the
# unfinished word at its end. Then come the language model's contexts, and those of LM_INSIDE.
LENGTH, LAST, WORD, CONTEXTS = range(4)
# Odd numbers for hashes: of a text with one more character (Knuth's, of MMIX), and of a line's empty text (the golden ratio).
MULTIPLIER, SEED = np.uint64(6364136223846793005), np.uint64(0x9E3779B97F4A7C15)


class Texts(NamedTuple):
    """A table of texts, one per row.

    Attributes:
        names: (rows, 2) uint64: the hash of the text, and that of the text without its last character; 0 without a text.
        whole: (rows, 3 + 2 * order) int64.
        numbers: (rows, 5) float64.
    """

    names: np.ndarray
    whole: np.ndarray
    numbers: np.ndarray

    def take(self, rows: np.ndarray) -> "Texts":
        return Texts(self.names[rows], self.whole[rows], self.numbers[rows])


class Model(NamedTuple):
    """A language model for one alphabet.

    Attributes:
        lm: The model.
        tokens: (C, most) int64: the tokens of each class, -1 where it has fewer.
        start: (order,) int64: the contexts at the start of a line; see `LM.extend`.
    """

    lm: LM
    tokens: np.ndarray
    start: np.ndarray


@functools.lru_cache(maxsize=4)
def model(lm: LM | None, alphabet: Alphabet) -> Model | None:
    """Convert the language model for this search, once per model and alphabet; raises Error like `LM.spelled`."""
    if lm is None:
        return None
    spelled = lm.spelled(alphabet.characters)
    tokens = np.full((len(spelled), max(1, *map(len, spelled))), -1)
    for row, own in zip(tokens, spelled, strict=True):
        row[: len(own)] = own
    return Model(lm, tokens, lm.extend(lm.root, np.full(1, START))[1][0])


class Search:
    """The search in the lines of a batch.

    Args:
        logits: (N, T, C) float32.
        limits: This and the others are as in `beam`.
    """

    def __init__(self, logits: np.ndarray, limits: Limits, weights: Weights, trie: Trie, model: Model | None) -> None:
        self.lines, self.steps, self.classes = logits.shape
        self.limits, self.weights, self.trie, self.model = limits, weights, trie, model
        away = (logits - logits.max(2, keepdims=True, initial=-np.inf)).astype(np.float64)
        self.log_p = away - np.log(np.exp(away).sum(2, keepdims=True))  # (N, T, C)
        self.order = model.lm.order if model else 0
        self.line = np.arange(self.lines)  # of each row
        self.taken = np.zeros((self.lines * limits.beam, self.classes), bool)
        whole = np.zeros((self.lines, CONTEXTS + 2 * self.order), np.int64)
        whole[:, LAST] = -1
        numbers = np.zeros((self.lines, 5))
        numbers[:, CHARACTER] = -np.inf
        if model:
            whole[:, CONTEXTS:] = np.tile(model.start, 2)
        names = np.zeros((self.lines, 2), np.uint64)
        names[:, 0] = np.arange(1, self.lines + 1, dtype=np.uint64) * SEED
        self.texts = Texts(names, whole, numbers)
        if weights.unknown_penalty > 0:
            # Entries of the word list by node and letter; the last is a sentinel.
            keys = np.repeat(np.arange(len(trie.is_word)), np.diff(trie.first)) * len(trie.letter) + trie.entry
            sort = np.argsort(keys)
            self.words = np.append(keys[sort], -1), np.append(trie.node[sort], -1)
        # For each step and row: the row of the previous step that it comes from, and the class added to it, -1 for none.
        self.sources: list[np.ndarray] = []
        self.added: list[np.ndarray] = []

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `beam_compiled.search`."""
        for t in range(self.steps):
            self._step(self.log_p[:, t])
        return self._finished()

    def _step(self, p: np.ndarray) -> None:
        """Advance by a time step with these log-probabilities, (N, C)."""
        texts, weights = self.texts, self.weights
        whole, numbers = texts.whole, texts.numbers
        length = whole[:, LENGTH]
        both = np.logaddexp(numbers[:, BLANK], numbers[:, CHARACTER])
        constant = weights.lm * numbers[:, LM_SCORE] - numbers[:, COST]
        stay = self._stay(p, both)
        rank = np.logaddexp(stay.numbers[:, BLANK], stay.numbers[:, CHARACTER])
        rank = rank + constant + weights.length_bonus * length
        longer, source, longer_rank = self._lengthen(p, both, constant + weights.length_bonus * (length + 1), rank)
        lowest = rank.reshape(self.lines, -1).max(1) - self.limits.margin
        if not len(source) and not ((length >= 0) & (rank < lowest[self.line])).any():
            self.texts = stay
            self.sources.append(np.arange(len(length)))
            self.added.append(np.full(len(length), -1))
            return
        rank = np.concatenate([rank, longer_rank])
        line = np.concatenate([self.line, self.line[source]])
        # Each line's best, in order. Of equal ranks the text that was in the beam stays.
        order = np.lexsort((-rank, line))
        rank, line = rank[order], line[order]
        first = np.searchsorted(line, np.arange(self.lines))[line]
        place = np.arange(len(order)) - first
        kept = (place < self.limits.beam) & (rank >= rank[first] - self.limits.margin) & (rank > -np.inf)
        width = int(place[kept].max()) + 1
        row = np.full(self.lines * width, -1)
        row[line[kept] * width + place[kept]] = order[kept]
        empty = row < 0
        merged = Texts(*(np.concatenate(pair) for pair in zip(stay, longer, strict=True)))
        self.texts = merged.take(row)
        self.texts.names[empty] = 0
        self.texts.whole[empty, LENGTH] = self.texts.whole[empty, LAST] = -1
        self.texts.numbers[empty, BLANK] = self.texts.numbers[empty, CHARACTER] = -np.inf
        self.line = np.repeat(np.arange(self.lines), width)
        self.sources.append(np.where(empty, 0, np.concatenate([np.arange(len(length)), source])[row]))
        self.added.append(np.where(empty, -1, np.concatenate([np.full(len(length), -1), longer.whole[:, LAST]])[row]))

    def _stay(self, p: np.ndarray, both: np.ndarray) -> Texts:
        """The texts of the beam: they continue with a blank or a repeat, or are reached from the text one character shorter.

        Marks the latter in `taken`.
        """
        names, whole, numbers = self.texts
        length, last = whole[:, LENGTH], whole[:, LAST]
        own = p[self.line, last]
        out = numbers.copy()
        out[:, BLANK] = both + p[self.line, -1]
        out[:, CHARACTER] = numbers[:, CHARACTER] + own
        out[length < 1, CHARACTER] = -np.inf
        order = np.argsort(names[:, 0])
        at = np.searchsorted(names[:, 0], names[:, 1], sorter=order)
        shorter = order[np.minimum(at, len(order) - 1)]
        i = np.flatnonzero((names[shorter, 0] == names[:, 1]) & (length > 0) & (length[shorter] >= 0))
        j = shorter[i]
        # Equal neighbours need a blank between them.
        before = np.where(last[j] == last[i], numbers[j, BLANK], both[j])
        out[i, CHARACTER] = np.logaddexp(out[i, CHARACTER], before + own[i])
        self.taken[j, last[i]] = True
        self._marked = j, last[i]
        return Texts(names, whole, out)

    def _lengthen(
        self, p: np.ndarray, both: np.ndarray, constant: np.ndarray, rank: np.ndarray
    ) -> tuple[Texts, np.ndarray, np.ndarray]:
        """The texts with one more likely character that beat the worst text of the beam, their rows, and their ranks.

        Args:
            both: (rows,) ln of the sum of all paths.
            constant: (rows,) what is added to the longer text's, before the language model sees the character.
            rank: (rows,) of the texts that stay.
        """
        whole, numbers = self.texts.whole, self.texts.numbers
        last = whole[:, LAST]
        # The language model and the word list can only lower the rank.
        highest = both + constant
        width = len(rank) // self.lines
        bar = self._bar(rank, self.line)
        possible = p[:, :-1] >= self.limits.least
        possible &= highest.reshape(self.lines, -1).max(1)[:, None] + p[:, :-1] > bar[:, None]
        line, c = possible.nonzero()
        above = (highest.reshape(self.lines, -1)[line] + p[line, c][:, None]) > bar[line][:, None]
        which, place = above.nonzero()
        line, c = line[which], c[which]
        j = line * width + place
        free = ~self.taken[j, c]
        self.taken[self._marked] = False
        line, c, j = line[free], c[free], j[free]
        reached = np.where(last[j] == c, numbers[j, BLANK], both[j]) + p[line, c]
        ranks = reached + constant[j]
        # First those above the beam's middle, which usually raise the bar for the others.
        middle = np.partition(rank.reshape(self.lines, -1), width // 2, 1)[:, width // 2]
        high = ranks > middle[line]
        parts = []
        for chosen in (high, ~high):
            rows = np.flatnonzero(chosen & (ranks > bar[line]))
            part = self._scored(j[rows], c[rows], reached[rows], ranks[rows])
            keep = part[2] > bar[line[rows]]
            parts.append((Texts(*(column[keep] for column in part[0])), part[1][keep], part[2][keep]))
            if chosen is high:
                more = self.line[parts[0][1]]
                bar = self._bar(np.concatenate([rank, parts[0][2]]), np.concatenate([self.line, more]))
        texts = Texts(*(np.concatenate(columns) for columns in zip(*(part[0] for part in parts), strict=True)))
        return texts, np.concatenate([parts[0][1], parts[1][1]]), np.concatenate([parts[0][2], parts[1][2]])

    def _bar(self, rank: np.ndarray, line: np.ndarray) -> np.ndarray:
        """(N,) the rank that another text of each line must exceed, with texts of these ranks in these lines."""
        order = np.lexsort((-rank, line))
        rank, line = rank[order], line[order]
        first = np.searchsorted(line, np.arange(self.lines))
        last = first + self.limits.beam - 1
        full = last < np.append(first[1:], len(line))
        worst = np.where(full, rank[np.minimum(last, len(rank) - 1)], -np.inf)
        return np.maximum(worst, rank[first] - self.limits.margin)

    def _scored(
        self, j: np.ndarray, c: np.ndarray, reached: np.ndarray, ranks: np.ndarray
    ) -> tuple[Texts, np.ndarray, np.ndarray]:
        """The texts of rows j with the characters c, their rows, and their ranks."""
        names, whole, numbers = self.texts.take(j)
        length = whole[:, LENGTH].copy()
        numbers[:, BLANK], numbers[:, CHARACTER] = -np.inf, reached
        whole[:, LENGTH] += 1
        whole[:, LAST] = c
        if self.model:
            ranks = ranks + self.weights.lm * self._score(whole, numbers, c, length)
        if self.weights.unknown_penalty > 0:
            ranks = ranks - self._penalise(whole, numbers, c)
        names = np.stack([names[:, 0] * MULTIPLIER + (c + 1).astype(np.uint64), names[:, 0]], 1)
        return Texts(names, whole, numbers), j, ranks

    def _score(self, whole: np.ndarray, numbers: np.ndarray, c: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Add the language model's score of the added characters c to the texts; returns it."""
        assert self.model
        edge, order = c == self.limits.edge, self.order
        contexts = whole[:, CONTEXTS : CONTEXTS + order].copy()
        gain = np.zeros(len(c))
        for tokens in self.model.tokens[c].T:
            rows = np.flatnonzero((tokens >= 0) & ~(edge & (length == 0)))
            ln, contexts[rows] = self.model.lm.extend(contexts[rows], tokens[rows])
            gain[rows] += ln
        before = np.flatnonzero(edge)
        numbers[before, LM_INSIDE] = numbers[before, LM_SCORE]
        whole[before, CONTEXTS + order :] = whole[before, CONTEXTS : CONTEXTS + order]
        numbers[:, LM_SCORE] += gain
        whole[:, CONTEXTS : CONTEXTS + order] = contexts
        inside = np.flatnonzero(~edge)
        numbers[inside, LM_INSIDE] = numbers[inside, LM_SCORE]
        whole[inside, CONTEXTS + order :] = contexts[inside]
        return gain

    def _penalise(self, whole: np.ndarray, numbers: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Advance the unfinished words by the characters c; returns the penalties of words that are unknown now."""
        trie, penalty, at = self.trie, self.weights.unknown_penalty, whole[:, WORD]
        letter = trie.letter[c].astype(np.int64)
        keys, nodes = self.words
        wanted = at * len(trie.letter) + letter
        entry = np.searchsorted(keys[:-1], wanted)
        ends, known = letter < 0, (keys[entry] == wanted) & (at >= 0)
        loss = np.where(ends, (at > 0) & ~trie.is_word[at], (at >= 0) & ~known) * penalty
        whole[:, WORD] = np.where(ends, 0, np.where(known, nodes[entry], -1))
        numbers[:, COST] += loss
        return loss

    def _finished(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose each line's best texts, with the language model's end of line and unknown words at the end of texts."""
        _, whole, numbers = self.texts
        weights, n_best = self.weights, self.limits.n_best
        lm, cost = numbers[:, LM_SCORE], numbers[:, COST].copy()
        if self.model:
            ends = np.full(len(whole), END)
            lm = numbers[:, LM_INSIDE] + self.model.lm.extend(whole[:, CONTEXTS + self.order :], ends)[0]
        word = whole[:, WORD]
        cost[(word > 0) & ~self.trie.is_word[word]] += weights.unknown_penalty
        both = np.logaddexp(numbers[:, BLANK], numbers[:, CHARACTER])
        rank = both + weights.lm * lm + weights.length_bonus * whole[:, LENGTH] - cost
        best = np.argsort(-rank.reshape(self.lines, -1), 1, kind="stable")[:, :n_best]
        row = best + np.arange(self.lines)[:, None] * (len(rank) // self.lines)  # (N, n_best)
        missing = ((0, 0), (0, n_best - row.shape[1]))
        lengths = np.pad(whole[row, LENGTH], missing, constant_values=-1)
        scores = np.pad(np.stack([rank[row], both[row], lm[row]], 2), (*missing, (0, 0)))
        found = np.zeros((self.lines, n_best, self.steps), np.int32)
        at = np.maximum(lengths, 0)
        for source, added in zip(reversed(self.sources), reversed(self.added), strict=True):
            c = added[row]
            n, k = (c >= 0).nonzero()
            at[n, k] -= 1
            found[n, k, at[n, k]] = c[n, k]
            row = source[row]
        return found, lengths, scores
