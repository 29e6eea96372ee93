"""`hwr data summary`: the contents of a dataset, and its suspicious lines."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hwr import Error
from hwr.data import PARTS, Dataset, Line
from hwr.data.text import name, unusual
from hwr.images import load
from hwr.system.atomic import replacing
from hwr.system.processes import usable_cores
from hwr.system.terminal import counted

# Suspicious lines shown on screen; the JSON has all.
SHOWN = 20
# Pages decoded at once by the workers, to bound memory.
CHUNK = 64


def summarise(
    dataset: Dataset, faults: Callable[[Line, np.ndarray], Sequence[str]]
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Count what a dataset holds, and look at every image.

    Returns JSON values and, for `picture`, the width and height of each line whose image can be read. The values, sizes in
    pixels, lengths in characters: `lines` (all, with those without text), `empty_lines`, `train`, `val`, `test`,
    `excluded`, `writers` and `pages` (0 if unknown), `characters` (of all texts), `charset` (each of them once),
    `frequencies`, `text_length`, `width`, `height`, `suspicious` (id, source, fault), `faults` (id, fault), `notes`, `split`
    (the name of the dataset).

    Args:
        faults: Line and its pixels, (H, W) uint8 -> what is suspicious about them.
    """
    lines = dataset.lines
    texts = [line.text for line in lines]
    counts = Counter(character for text in texts for character in text)
    suspicious = [{"id": id, "source": "", "fault": "has no text"} for id in dataset.empty]
    shapes: list[tuple[int, int]] = []
    for line, (size, found) in zip(lines, _looked_at(lines, faults), strict=True):
        shapes += [size] if size else []
        suspicious += [{"id": line.id, "source": line.source, "fault": fault} for fault in found]
        if odd := unusual(line.text):
            suspicious.append({"id": line.id, "source": line.source, "fault": f"its text has {', '.join(odd)}"})
    first: dict[tuple[Path, tuple[tuple[int, int], ...]], str] = {}
    for line in lines:
        before = first.setdefault((line.image, line.region), line.id)
        if before != line.id:
            suspicious.append({"id": line.id, "source": line.source, "fault": f"is the same image as {before}"})
    values = {
        "lines": len(lines) + len(dataset.empty),
        "empty_lines": len(dataset.empty),
        **{part: len(dataset.part(part)) for part in PARTS},
        "excluded": len(dataset.excluded),
        "writers": len({line.writer for line in lines if line.writer}),
        "pages": _pages(lines),
        "characters": sum(counts.values()),
        "charset": "".join(sorted(counts)),
        "frequencies": dict(counts.most_common()),
        "text_length": _spread([len(text) for text in texts]),
        "width": _spread([width for width, _ in shapes]),
        "height": _spread([height for _, height in shapes]),
        "suspicious": suspicious,
        "faults": [{"id": fault.id, "fault": fault.message} for fault in dataset.faults],
        "notes": dataset.notes,
        "split": dataset.name,
    }
    return values, shapes


def _looked_at(
    lines: Sequence[Line], faults: Callable[[Line, np.ndarray], Sequence[str]]
) -> Iterator[tuple[tuple[int, int] | None, Sequence[str]]]:
    """The size of each line (width and height; None if its image can't be read) and its faults, each page decoded once."""

    def look(page: Sequence[Line]) -> list[tuple[tuple[int, int] | None, Sequence[str]]]:
        regions, baselines = [line.region for line in page], [line.baseline for line in page]
        cuts = load.read_lines(page[0].image, regions, page[0].upright, baselines)
        return [
            (None, [str(cut)]) if isinstance(cut, Error) else ((cut.shape[1], cut.shape[0]), faults(line, cut))
            for line, cut in zip(page, cuts, strict=True)
        ]

    pages = (list(group) for _, group in itertools.groupby(lines, key=lambda line: line.image))
    bar = tqdm(desc="looking at the images", total=len(lines), unit="line", disable=None, leave=False)
    with ThreadPoolExecutor(usable_cores()) as pool, bar:
        for chunk in iter(lambda: list(itertools.islice(pages, CHUNK)), []):
            for found in pool.map(look, chunk):
                bar.update(len(found))
                yield from found


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
        ("lines", f"{found['lines']}, {found['empty_lines']} of them without text, {found['excluded']} excluded"),
        ("  train, val, test", f"{found['train']}, {found['val']}, {found['test']}"),
        ("pages", found["pages"] or "unknown"),
        ("writers", found["writers"] or "unknown"),
        ("characters", f"{found['characters']}, {len(found['charset'])} different"),
    ]
    for title, key in (("text, characters", "text_length"), ("width, pixels", "width"), ("height, pixels", "height")):
        s = found[key]
        rows.append(
            (title, f"{s['min']:g} to {s['max']:g}; median {s['median']:g}, 90 % in {s['p5']:g} to {s['p95']:g}")
        )
    out = [f"{title:<20}{value}" for title, value in rows]
    out += ["", "characters by frequency"]
    shown = [f"{name(c)} {number}" for c, number in found["frequencies"].items()]
    out += ["  " + "   ".join(shown[i : i + 10]) for i in range(0, len(shown), 10)]
    out += [f"note: {note}" for note in found["notes"]]
    if found["faults"]:
        out += ["", f"{counted(len(found['faults']), 'line or page', 'lines or pages')} can't be read"]
        out += [
            "  " + (x["fault"] if x["id"] in x["fault"] else f"{x['id']}: {x['fault']}")
            for x in found["faults"][:SHOWN]
        ]
        if len(found["faults"]) > SHOWN:
            out.append(f"  … and {len(found['faults']) - SHOWN} more; --json has all")
    if found["suspicious"]:
        out += ["", counted(len(found["suspicious"]), "suspicious line")]
        for line in found["suspicious"][:SHOWN]:
            out.append(f"  {line['source'] + ': ' if line['source'] else ''}{line['id']} {line['fault']}")
        if len(found["suspicious"]) > SHOWN:
            out.append(f"  … and {len(found['suspicious']) - SHOWN} more; --json has all")
    return "\n".join(out)


def picture(found: dict[str, Any], dataset: Dataset, shapes: Sequence[tuple[int, int]], path: str) -> None:
    """Draw the frequencies of characters and the sizes of lines, width and height in pixels (PNG)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), layout="constrained")
    shown = list(found["frequencies"].items())[:80]
    axes[0, 0].bar(range(len(shown)), [number for _, number in shown], log=True)
    axes[0, 0].set_xticks(range(len(shown)), [c if c.isprintable() else "?" for c, _ in shown], fontsize=6)
    axes[0, 0].set_title("how often the characters occur" + (", the first 80" if len(found["charset"]) > 80 else ""))
    for axis, values, title in (
        (axes[0, 1], [len(line.text) for line in dataset.lines], "characters a line"),
        (axes[1, 0], [width for width, _ in shapes], "width, pixels"),
        (axes[1, 1], [height for _, height in shapes], "height, pixels"),
    ):
        axis.hist(values, bins=40)
        axis.set_title(title)
        axis.set_ylabel("lines")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
