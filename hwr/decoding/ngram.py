"""Character n-grams: texts -> LM, in arrays for the beam search.

Smoothing is interpolated modified Kneser-Ney (Chen and Goodman 1999, "An empirical study of smoothing techniques for
language modeling", Computer Speech and Language 13, section 4.1.6); the lowest order is interpolated with the uniform
distribution over the characters, `</s>` and `<unk>`, the only probability of `<unk>` (as in KenLM: Heafield et al. 2013).
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hwr import Error
from hwr.decoding.normal_form import normal_form
from hwr.system import memory

UNKNOWN, START, END = 0, 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")
# The log10 of `<s>`, which is never predicted (SRILM's value, which KenLM accepts).
NEVER = -99.0
# KenLM's log10 of `<unk>` if a file has none.
NO_UNKNOWN = -100.0
# KenLM's `--discount_fallback`: for counts of one, two, and three or more.
FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True, eq=False)
class LM:
    """A back-off model as a trie. A state is a node: 0 is the empty context, and entry e of an order below the highest
    (entries are numbered through all orders, sorted by their context's node and then by token) is the context e + 1.

    Attributes:
        order: Length of the longest n-grams, in characters.
        characters: Its characters in code-point order; token ids are 0 `<unk>`, 1 `<s>`, 2 `</s>`, then these.
        counts: (order,) number of n-grams of each order.
        first: (states + 1,) int64: the entries of state s are first[s]:first[s + 1].
        token: (entries,) int32: the n-gram's last token.
        log10_p: (entries,) float32: log10 probability of that token after the entry's state.
        log10_backoff: (states,) float32: the weight to add if the state has no entry for a token; then look in `suffix`.
    """

    order: int
    characters: str
    counts: tuple[int, ...]
    first: np.ndarray
    token: np.ndarray
    log10_p: np.ndarray
    log10_backoff: np.ndarray

    @cached_property
    def keys(self) -> np.ndarray:
        """(entries,) int64: the number of each entry's state times the number of tokens, plus its token; ascending."""
        # An entry's state: how many states after the root have their first entry here or before.
        states = np.bincount(self.first[1:-1], minlength=len(self.token) + 1)[:-1].cumsum()
        keys = states * (len(self.characters) + len(SPECIAL))
        keys += self.token
        return keys

    def find(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of these tokens after these states (any shapes that broadcast), and whether each exists.

        A state below 0 has no entries. An entry that does not exist has an arbitrary number.
        """
        wanted = states * (len(self.characters) + len(SPECIAL)) + tokens
        entry = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return entry, (self.keys[entry] == wanted) & (states >= 0)

    @property
    def root(self) -> np.ndarray:
        """(1, order) int64: the contexts after no character; see `extend`."""
        return np.concatenate([np.zeros((1, 1), np.int64), np.full((1, self.order - 1), -1)], 1)

    def extend(self, contexts: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p(token | contexts), (n,), and the contexts after it, (n, order).

        Args:
            contexts: (n, order) int64: the states of the last 0, 1, 2, … tokens; -1 for those that are no states.
            tokens: (n,) int64.
        """
        entry, found = self.find(contexts, tokens[:, None])
        # Back off from the longest context to the longest that knows the token.
        longest = self.order - 1 - found[:, ::-1].argmax(1)
        weight = np.where(contexts > 0, self.log10_backoff[contexts].astype(np.float64), 0.0)
        weight[np.arange(self.order) <= longest[:, None]] = 0.0
        log10 = weight[:, ::-1].cumsum(1)[:, -1] + self.log10_p[entry[np.arange(len(tokens)), longest]]
        after = np.empty_like(contexts)
        after[:, 0] = 0
        after[:, 1:] = np.where(found, entry + 1, -1)[:, :-1]
        return np.log(10) * log10, after

    @cached_property
    def suffix(self) -> np.ndarray:
        """(states,) int32: the longest known context without the first token, in which to look after a back-off."""
        return self._links[0]

    @cached_property
    def next_state(self) -> np.ndarray:
        """(entries,) int32: the state after the entry's token."""
        return self._links[1]

    @cached_property
    def _links(self) -> tuple[np.ndarray, np.ndarray]:
        # The node of an order's first n-gram; the lowest order's context is the root, node 0.
        nodes = np.cumsum([1, *self.counts])
        vocabulary = len(self.characters) + len(SPECIAL)
        suffix = np.zeros(nodes[-1], np.int64)
        for n in range(1, len(self.counts)):
            mine = slice(nodes[n] - 1, nodes[n + 1] - 1)
            lower = self.keys[: nodes[n] - 1]
            state, todo = suffix[self.keys[mine] // vocabulary], np.arange(self.counts[n])
            found = np.zeros(self.counts[n], np.int64)
            while len(todo):
                wanted = state * vocabulary + self.token[mine][todo]
                at = np.minimum(np.searchsorted(lower, wanted), len(lower) - 1)
                hit = lower[at] == wanted
                found[todo[hit]] = at[hit] + 1
                # A pruned model may lack a suffix; then try the next shorter one.
                todo, state = todo[~hit], suffix[state[~hit]]
            suffix[nodes[n] : nodes[n + 1]] = found
        states, after = int(nodes[-2]), np.arange(1, nodes[-1])
        return suffix[:states].astype(np.int32), np.where(after < states, after, suffix[after]).astype(np.int32)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters, len(SPECIAL))}

    @cached_property
    def start(self) -> int:
        """The state at the start of a line."""
        return self.step(0, START)[1]

    def ids(self, text: str) -> np.ndarray:
        """Token ids, (len(text),) int32; `<unk>` for a character that the model does not know."""
        return np.array([self._ids.get(character, UNKNOWN) for character in text], np.int32)

    def spelled(self, characters: str) -> list[np.ndarray]:
        """The model's token ids for each character of an alphabet; `<unk>` for an unknown character.

        A character may be known in another normal form: é may be two tokens, e and its accent.

        Raises:
            Error: The alphabet has combining accents but the model has precomposed letters, which can't be predicted
                piecewise.
        """
        if normal_form(characters) == "NFD":
            for character in self.characters:
                parts = unicodedata.normalize("NFD", character)
                if parts != character and all(part in characters for part in parts):
                    raise Error(
                        f"the language model has {character!r} as one character but the network writes {len(parts)}; "
                        "build the model with --normalise NFD"
                    )
        return [self.ids(self._form(character)) for character in characters]

    def _form(self, character: str) -> str:
        for form in (character, *(unicodedata.normalize(name, character) for name in ("NFC", "NFD"))):
            if all(part in self._ids for part in form):
                return form
        return character

    def step(self, state: int, token: int) -> tuple[float, int]:
        """log10 p(token | state), and the state after it."""
        total = 0.0
        while True:
            low, high = self.first[state], self.first[state + 1]
            at = low + np.searchsorted(self.token[low:high], token)
            if at < high and self.token[at] == token:
                return total + float(self.log10_p[at]), int(self.next_state[at])
            # State 0 has all tokens, so the loop ends.
            total += float(self.log10_backoff[state])
            state = int(self.suffix[state])

    def log10(self, text: str) -> float:
        """log10 of the probability of a whole line, including its end."""
        total, state = 0.0, self.start
        for token in [*self.ids(text), END]:
            p, state = self.step(state, int(token))
            total += p
        return total


class Grams(NamedTuple):
    """The n-grams of one order, sorted by context and token."""

    context: np.ndarray  # (n,) int64: index of their first n - 1 tokens among the n-grams of the next lower order
    token: np.ndarray  # (n,) int32
    log10_p: np.ndarray  # (n,) float32
    log10_backoff: np.ndarray  # (n,) float32; unused for the highest order


def assemble(characters: str, grams: list[Grams]) -> LM:
    """Assemble the orders into one trie. The lowest must have all tokens, and every n-gram's context must exist."""
    counts = [len(g.token) for g in grams]
    # The node of an order's first n-gram; the lowest order's context is the root, node 0.
    nodes = np.cumsum([1, *counts])
    node = np.concatenate([g.context + (nodes[n - 1] if n else 0) for n, g in enumerate(grams)])
    return LM(
        order=len(grams),
        characters=characters,
        counts=tuple(counts),
        first=np.searchsorted(node, np.arange(int(nodes[-2]) + 1)),
        token=np.concatenate([g.token for g in grams]).astype(np.int32),
        log10_p=np.concatenate([g.log10_p for g in grams]).astype(np.float32),
        log10_backoff=np.concatenate([[0.0], *[g.log10_backoff for g in grams[:-1]]]).astype(np.float32),
    )


def discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2 and D3+ of one order (Chen and Goodman 1999, equation 26): the discounts of n-grams by count.

    Args:
        counts: (n,) int: counts for the highest order, continuation counts for the others.

    Returns:
        The three discounts; `FALLBACK` if no n-gram has count 1, 2, 3 or 4, or if a discount is not in (0, count]. Small
        texts need it, and the lowest order, which has few characters.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    return (d1, d2, d3) if 0 < d1 <= 1 and 0 < d2 <= 2 and 0 < d3 <= 3 else FALLBACK


def build(texts: Iterable[str], order: int) -> LM:
    """Estimate a model; see `count`."""
    return count(texts, order)[0]


@memory.errors("--order, or give less --text")
def count(texts: Iterable[str], order: int) -> tuple[LM, np.ndarray]:
    """Estimate a model; the lines are independent of each other.

    Args:
        texts: Lines, without their line ends.
        order: Length of the longest n-grams, >= 1. (KenLM needs at least 2.)

    Returns:
        The model, and (entries,) int64: the count of each n-gram in the texts.

    Raises:
        Error: There is no text, a text contains a line break, or the order is below 1.
    """
    if order < 1:
        raise Error(f"the order of a language model must be at least 1, not {order}")
    lines = list(texts)
    for number, text in enumerate(lines, 1):
        if "\n" in text or "\r" in text:
            raise Error(f"text {number} contains a line break: {text!r}")
    if not any(lines):
        raise Error("a language model needs at least one text that is not empty")

    characters = "".join(sorted(set().union(*lines)))
    ids = {character: i for i, character in enumerate(characters, len(SPECIAL))}
    stream = np.array([i for text in lines for i in (START, *map(ids.__getitem__, text), END)], np.int64)
    lengths = np.array([len(text) + 2 for text in lines])
    column = np.arange(len(stream)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # place in its line
    vocabulary = len(characters) + len(SPECIAL)

    # For each order: the index of the n-gram that ends at each position, among the sorted n-grams.
    which = stream
    context, token = [np.zeros(vocabulary, np.int64)], [np.arange(vocabulary)]
    suffix = [np.zeros(vocabulary, np.int64)]
    counts = [np.bincount(stream, minlength=vocabulary)]
    times = [counts[0].copy()]
    for n in range(2, order + 1):
        ends = np.flatnonzero(column >= n - 1)
        keys, inverse, seen = np.unique(
            which[ends - 1] * vocabulary + stream[ends], return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(-1)
        context.append(keys // vocabulary)
        token.append(keys % vocabulary)
        suffix.append(np.zeros(len(keys), np.int64))
        suffix[-1][inverse] = which[ends]
        # Below the highest order, the count is the number of different preceding tokens. An n-gram at the start of a line has
        # none and keeps its count.
        at_start = np.zeros(len(counts[-1]), bool)
        at_start[which[column == n - 2]] = True
        continuations = np.bincount(suffix[-1], minlength=len(counts[-1]))
        counts[-1] = np.where(at_start, counts[-1], continuations)
        counts.append(seen)
        times.append(seen)
        which = np.full(len(stream), -1)
        which[ends] = inverse
    counts[0][START] = 0  # never predicted

    grams: list[Grams] = []
    lower = np.full(1, 1 / (vocabulary - 1))
    for n in range(order):
        own = counts[n]
        d = np.array([0.0, *discounts(own)])[np.minimum(own, 3)]
        contexts = len(counts[n - 1]) if n else 1
        total = np.bincount(context[n], own, contexts)
        # A context without continuation leaves all mass to the lower order.
        backoff = np.where(total > 0, np.bincount(context[n], d, contexts) / np.maximum(total, 1), 1)
        p = (own - d) / total[context[n]] + backoff[context[n]] * lower[suffix[n]]
        if n:
            grams[-1] = grams[-1]._replace(log10_backoff=np.log10(backoff))
        grams.append(Grams(context[n], token[n], np.log10(p), np.zeros(len(p))))
        lower = p
    grams[0].log10_p[START] = NEVER
    return assemble(characters, grams), np.concatenate(times)
