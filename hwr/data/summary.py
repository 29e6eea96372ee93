"""`hwr data summary`: the contents of a dataset, and its suspicious lines."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error
from hwr.atomic import replacing
from hwr.data import Dataset, Line
from hwr.images import load

# Pixels in height or width; less is hardly a line of handwriting.
TINY = 8
# Suspicious lines shown on screen; the JSON has all.
SHOWN = 20


def summarise(dataset: Dataset, too_long: Callable[[Line, int, int], str]) -> dict[str, Any]:
    """Count what a dataset holds.

    Images are opened for their size, not decoded. Returns JSON values, sizes in pixels, lengths in characters: `lines`
    (all, with those without text), `empty_lines`, `train`, `val`, `test`, `writers` and `pages` (0 if unknown),
    `characters` (of all texts), `charset` (each of them once), `frequencies`, `text_length`, `width`, `height`,
    `suspicious` (id, source, fault), `notes`.

    Args:
        too_long: Line, its width and its height in pixels -> why a network can't write the text, or "".
    """
    parts = {part: dataset.part(part) for part in ("train", "val", "test")}
    lines = [line for part in parts.values() for line in part]
    texts = [line.text for line in lines]
    counts = Counter(character for text in texts for character in text)
    suspicious = [{"id": id, "source": "", "fault": "has no text"} for id in dataset.empty]
    sizes: list[tuple[int, int]] = []
    for line in lines:
        try:
            size = _size(line)
        except Error as error:
            suspicious.append({"id": line.id, "source": line.source, "fault": str(error)})
            continue
        sizes.append(size)
        fault = too_long(line, *size) if min(size) >= TINY else f"its image is {size[0]} x {size[1]} pixels"
        if fault:
            suspicious.append({"id": line.id, "source": line.source, "fault": fault})
    first: dict[tuple[Path, tuple[tuple[int, int], ...]], str] = {}
    for line in lines:
        before = first.setdefault((line.image, line.region), line.id)
        if before != line.id:
            suspicious.append({"id": line.id, "source": line.source, "fault": f"is the same image as {before}"})
    return {
        "lines": len(lines) + len(dataset.empty),
        "empty_lines": len(dataset.empty),
        **{part: len(chosen) for part, chosen in parts.items()},
        "left_out": len(dataset.excluded),
        "writers": len({line.writer for line in lines if line.writer}),
        "pages": _pages(lines),
        "characters": sum(counts.values()),
        "charset": "".join(sorted(counts)),
        "frequencies": dict(counts.most_common()),
        "text_length": _spread([len(text) for text in texts]),
        "width": _spread([width for width, _ in sizes]),
        "height": _spread([height for _, height in sizes]),
        "suspicious": suspicious,
        "notes": dataset.notes,
        "split": dataset.name,
    }


def _size(line: Line) -> tuple[int, int]:
    """Width and height of a line in pixels.

    Raises:
        Error: There is no such image, or it can't be opened.
    """
    width, height = load.size(line.image, line.upright or not line.region)
    if not line.region:
        return width, height
    xs, ys = zip(*line.region, strict=True)
    right, bottom = min(max(xs) + 1, width), min(max(ys) + 1, height)
    return max(0, right - max(min(xs), 0)), max(0, bottom - max(min(ys), 0))


def _pages(lines: Sequence[Line]) -> int:
    """The number of page images if lines are cut from such, or of XML files that hold the texts; else 0."""
    if any(line.region for line in lines):
        return len({line.image for line in lines})
    files = {line.source.rpartition(":")[0] for line in lines}
    return len(files) if all(name.endswith(".xml") for name in files) else 0


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Minimum, 5th percentile, median, 95th percentile and maximum; all 0 if there are no values."""
    names = ("min", "p5", "median", "p95", "max")
    found = np.percentile(values, (0, 5, 50, 95, 100)) if values else np.zeros(5)
    return dict(zip(names, found.round(1).tolist(), strict=True))


def table(found: dict[str, Any]) -> str:
    """The summary for the screen."""
    rows = [
        ("split", found["split"]),
        ("lines", f"{found['lines']}, {found['empty_lines']} of them without text, {found['left_out']} excluded"),
        ("  train, val, test", f"{found['train']}, {found['val']}, {found['test']}"),
        ("pages", found["pages"] or "unknown"),
        ("writers", found["writers"] or "unknown"),
        ("characters", f"{found['characters']}, {len(found['charset'])} different"),
    ]
    for name, key in (("text, characters", "text_length"), ("width, pixels", "width"), ("height, pixels", "height")):
        s = found[key]
        rows.append(
            (name, f"{s['min']:g} to {s['max']:g}; median {s['median']:g}, 90 % in {s['p5']:g} to {s['p95']:g}")
        )
    out = [f"{name:<20}{value}" for name, value in rows]
    out += ["", "characters by frequency"]
    shown = [f"{_visible(c)} {number}" for c, number in found["frequencies"].items()]
    out += ["  " + "   ".join(shown[i : i + 10]) for i in range(0, len(shown), 10)]
    out += [f"note: {note}" for note in found["notes"]]
    if found["suspicious"]:
        out += ["", f"{len(found['suspicious'])} suspicious lines"]
        for line in found["suspicious"][:SHOWN]:
            out.append(f"  {line['source'] + ': ' if line['source'] else ''}{line['id']} {line['fault']}")
        if len(found["suspicious"]) > SHOWN:
            out.append(f"  … and {len(found['suspicious']) - SHOWN} more; --json has all")
    return "\n".join(out)


def _visible(character: str) -> str:
    """A character, or its name if it is invisible."""
    if character == " ":
        return "space"
    unseen = unicodedata.category(character)[0] in "CZM"
    return unicodedata.name(character, f"U+{ord(character):04X}") if unseen else character


def picture(found: dict[str, Any], dataset: Dataset, path: str) -> None:
    """Draw the frequencies of characters and the sizes of lines (PNG)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for part in ("train", "val", "test") for line in dataset.part(part)]
    sizes = []
    for line in lines:
        try:
            sizes.append(_size(line))
        except Error:
            continue  # the summary names it
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), layout="constrained")
    shown = list(found["frequencies"].items())[:80]
    axes[0, 0].bar(range(len(shown)), [number for _, number in shown], log=True)
    axes[0, 0].set_xticks(range(len(shown)), [c if c.isprintable() else "?" for c, _ in shown], fontsize=6)
    axes[0, 0].set_title("how often the characters occur" + (", the first 80" if len(found["charset"]) > 80 else ""))
    for axis, values, title in (
        (axes[0, 1], [len(line.text) for line in lines], "characters a line"),
        (axes[1, 0], [width for width, _ in sizes], "width, pixels"),
        (axes[1, 1], [height for _, height in sizes], "height, pixels"),
    ):
        axis.hist(values, bins=40)
        axis.set_title(title)
        axis.set_ylabel("lines")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
