"""Which beam search is used, and loading the compiled one in the background.

numba takes half a second to load, as long as the search in NumPy takes for `FEW_LINES` lines; and 20 s on a machine that has
not compiled the search yet. So single lines are searched in NumPy. If the caller says how many lines will come, many are
searched by numba from the first; otherwise those after the first `FEW_LINES`.
"""

import importlib.util
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwr.alphabet import Alphabet
    from hwr.decoding.ngram import LM

FEW_LINES = 100

_lock = threading.Lock()
_searched = 0  # lines of this process so far
_loading: threading.Thread | None = None


def expect(lines: int, lm: "LM | None", alphabet: "Alphabet") -> None:
    """Start to load numba, in a thread, if it is installed and `lines`, to be searched with these, are enough for it."""
    global _loading
    with _lock:
        if _loading is None and lines > FEW_LINES and _installed():
            _loading = threading.Thread(target=_load, args=(lm, alphabet), name="hwr numba")
            _loading.start()


def is_used(lines: int) -> bool:
    """Whether to search `lines` more lines with numba. Waits while numba is being loaded."""
    global _searched
    with _lock:
        _searched += lines
        many = _searched > FEW_LINES
    if _loading is not None:
        _loading.join()
        return True
    return many and _installed()


def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def _load(lm: "LM | None", alphabet: "Alphabet") -> None:
    """Import numba, and call the smaller of its functions, for which numba sets up its types.

    The search itself is not called here: it may have to be compiled, which must not delay the end of the program.
    """
    from hwr import Error
    from hwr.decoding import beam

    try:
        beam.model(lm, alphabet)
    except Error:
        return  # the search will raise it again
