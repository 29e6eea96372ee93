"""Names that modules had in earlier versions, for one release: `from hwr import beam, lm, words`."""

import warnings
from types import SimpleNamespace
from typing import Any

# Former name -> the module that has its functions now.
MODULES = {"beam": "hwr.decoding.beam", "lm": "hwr.decoding.ngram", "words": "hwr.decoding.lexicon"}


def module(name: str) -> Any:
    """What a former module offered, under its former names."""
    from hwr.decoding import beam, lexicon, ngram

    warnings.warn(f"hwr.{name} is now {MODULES[name]}", DeprecationWarning, stacklevel=3)
    match name:
        case "beam":
            return SimpleNamespace(search=_search, Hypothesis=beam.Hypothesis)
        case "lm":
            return SimpleNamespace(build=ngram.build, LM=ngram.LM)
        case _:
            return SimpleNamespace(read=lexicon.read, build=lexicon.build, Lexicon=lexicon.Lexicon)


def _search(*arguments: Any, **options: Any) -> Any:
    from hwr.decoding import beam

    now = {"words": "lexicon", "unknown": "unknown_penalty", "insertion": "length_bonus"}
    return beam.search(*arguments, **{now.get(key, key): value for key, value in options.items()})
