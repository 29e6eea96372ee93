"""Which corrected lines are held back to judge trainings: decided once, so that no model is judged on lines it has seen."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwr.system.atomic import replacing

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


def read(path: Path) -> dict[str, bool]:
    """The decisions of a project; none if there is no such file or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): bool(value) for key, value in found.items()} if isinstance(found, dict) else {}


def write(path: Path, decided: Mapping[str, bool]) -> None:
    """Keep the decisions."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(decided, indent=1, sort_keys=True), encoding="utf-8")


def _draw(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
