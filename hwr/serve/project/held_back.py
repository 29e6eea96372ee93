"""Which corrected lines are held back to judge trainings: decided once, so that no model is judged on lines it has seen."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hwr import Error
from hwr.system import terminal
from hwr.system.atomic import replacing

# The file of the decisions, in the project's hidden folder.
NAME = "held_back.json"

# The share of lines that is held back, and the number of pages from which whole pages are.
HELD_BACK = 0.2
WHOLE_PAGES = 5


def assign(known: Mapping[str, bool], lines: Sequence[tuple[str, str]]) -> dict[str, bool]:
    """Decide for each new line or page whether it is held back.

    With few pages, single lines are held back; with more, the lines of whole pages, which judge better how unseen pages
    are read. What was decided stays: a line that was trained on is never held back later.

    Args:
        known: Earlier decisions, by `page` or `page/line`.
        lines: The (page, line) of all corrected lines.

    Returns:
        All decisions, old and new.
    """
    out = dict(known)
    pages = sorted({page for page, _ in lines})
    new = [(page, line) for page, line in lines if page not in out and f"{page}/{line}" not in out]
    held = sum(is_held_back(out, page, line) for page, line in lines if (page, line) not in set(new))
    if len(pages) >= WHOLE_PAGES:
        touched = {key.partition("/")[0] for key in out}
        sizes = {page: sum(one == page for one, _ in new) for page in pages}
        for page in sorted({page for page, _ in new}, key=_draw):
            wanted = HELD_BACK * len(lines)
            # A page with lines that were trained on is not new to a model.
            hold = page not in touched and held < wanted and held + sizes[page] <= 1.5 * max(wanted, sizes[page])
            out[page] = hold
            held += sizes[page] if hold else 0
        return out
    for page, line in sorted(new, key=lambda key: _draw("/".join(key))):
        hold = held < HELD_BACK * len(lines)
        out[f"{page}/{line}"] = hold
        held += hold
    return out


def is_held_back(decided: Mapping[str, bool], page: str, line: str) -> bool:
    """Whether a line is held back. A line's own decision goes before its page's."""
    return decided.get(f"{page}/{line}", decided.get(page, False))


def split(known: Mapping[str, bool], page: str, line: str, second: str) -> dict[str, bool]:
    """The decisions after a line was split: what holds for it holds for its second part."""
    own, key = known.get(f"{page}/{line}"), f"{page}/{second}"
    others = {one: held for one, held in known.items() if one != key}  # there may be one of a line that was deleted
    return others if own is None else {**others, key: own}


def merge(known: Mapping[str, bool], page: str, lines: Sequence[str]) -> dict[str, bool]:
    """The decisions after lines were merged into the first of them: it is held back if one of them was."""
    own = [known.get(f"{page}/{line}", known.get(page)) for line in lines]
    decided = [one for one in own if one is not None]
    return {**known, f"{page}/{lines[0]}": any(decided)} if decided else dict(known)


# A training and an edit must not overwrite each other's decisions.
_LOCK = threading.Lock()


def update(folder: Path, change: Callable[[dict[str, bool]], dict[str, bool]]) -> dict[str, bool]:
    """Change the decisions of a project, and return them.

    Args:
        folder: The project's hidden folder.
        change: Known decisions -> all decisions.

    Raises:
        Error: They can't be read or written.
    """
    path = folder / NAME
    with _LOCK:
        known = _read(path)
        decided = change(known)
        if decided != known:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(decided, indent=1, sort_keys=True), encoding="utf-8")
    return decided


def _read(path: Path) -> dict[str, bool]:
    """The decisions of a project; none if there is no such file. A damaged one is set aside."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): bool(value) for key, value in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error
    except (ValueError, AttributeError):  # no JSON, or no object
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        terminal.echo(f"{path}: damaged, and now called {aside.name}; held-back lines are chosen anew", err=True)
        return {}


def _draw(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
