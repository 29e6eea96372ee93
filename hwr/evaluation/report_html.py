"""A report as one self-contained HTML page: no network, no other file."""

import base64
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rapidfuzz.distance import Levenshtein
from tqdm import tqdm

from hwr import Error
from hwr.data import Line
from hwr.evaluation import metrics
from hwr.evaluation.evaluate import Predictions
from hwr.images import load
from hwr.system import files, json_text
from hwr.system.atomic import replacing

# Height of the line images in pixels, and WebP quality: about 3 KB per line.
HEIGHT, QUALITY = 56, 45
# Rows of each table of confusions; characters per bar in the chart by length.
CONFUSIONS, LENGTHS = 60, 10
_KINDS = {"replace": "s", "insert": "i", "delete": "d", "equal": "="}


def write(
    path: str | Path,
    result: dict[str, Any],
    predictions: Predictions,
    lines: Sequence[Line],
    history: Path | None = None,
) -> None:
    """Write the page.

    Args:
        result: `Report.to_dict()`.
        predictions: For the lines.
        history: The run's history.csv, for the learning curves.
    """
    rows = [
        row(line.id, line.writer, line.text, text, float(confidence), picture)
        for line, text, confidence, picture in zip(
            tqdm(lines, "report", unit="line", disable=None, leave=False),
            predictions.texts,
            predictions.confidences,
            _pictures(lines),
            strict=True,
        )
    ]
    accuracies = metrics.score([line.text for line in lines], predictions.texts).accuracies
    data = {
        "report": result,
        "lines": rows,
        "confusions": confusions(rows),
        "writers": _writers(rows),
        "lengths": _lengths(rows),
        "calibration": [x._asdict() for x in metrics.calibration_bins(predictions.confidences, accuracies)],
        "history": _history(history),
    }
    write_data(path, data)


def write_data(path: str | Path, data: dict[str, Any]) -> None:
    """Write the page with these data, which its script shows."""
    page = Path(__file__).with_name("report_page.html").read_text(encoding="utf-8")
    # `</script>` in a text would end the script element. ASCII, because a file's name may not be valid Unicode.
    text = json.dumps(json_text.plain(data), allow_nan=False).replace("<", "\\u003c")
    with replacing(path) as temporary:
        temporary.write_text(page.replace("__DATA__", text), encoding="utf-8")


def _pictures(lines: Sequence[Line]) -> Iterator[Image.Image]:
    """Small images of lines; a page is decoded once for lines that follow each other."""
    for (image, upright), group in itertools.groupby(lines, key=lambda line: (line.image, line.upright)):
        own = list(group)
        for pixels in load.read_lines(image, [line.region for line in own], upright, [line.baseline for line in own]):
            if isinstance(pixels, Error):
                raise pixels
            picture = Image.fromarray(pixels)
            picture.thumbnail((4 * 800, HEIGHT), Image.Resampling.LANCZOS)
            yield picture


def row(
    id: str, writer: str, reference: str, hypothesis: str, confidence: float, picture: Image.Image
) -> dict[str, Any]:
    """A line or page as the web page's script takes it."""
    codes = Levenshtein.opcodes(reference, hypothesis)
    parts = [
        [_KINDS[code.tag], reference[code.src_start : code.src_end], hypothesis[code.dest_start : code.dest_end]]
        for code in codes
    ]
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY)
    return {
        "id": id,
        "writer": writer,
        "reference": reference,
        "hypothesis": hypothesis,
        "parts": parts,
        "edits": Levenshtein.distance(reference, hypothesis),
        "length": len(reference),
        "confidence": confidence,
        "size": picture.size,
        "image": "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(),
    }


def confusions(rows: Sequence[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    """The most frequent [truth, read, times], [read, times] and [truth, times], per character."""
    found: dict[str, Counter[tuple[str, ...]]] = {kind: Counter() for kind in "sid"}
    for one in rows:
        for kind, is_, read in one["parts"]:
            # A replace opcode has as many characters on both sides.
            pairs = {"s": zip(is_, read, strict=False), "i": ((c,) for c in read), "d": ((c,) for c in is_)}
            if kind in pairs:
                found[kind].update(pairs[kind])
    substitutions, insertions, deletions = (
        [[*key, number] for key, number in found[kind].most_common(CONFUSIONS)] for kind in "sid"
    )
    return {"substitutions": substitutions, "insertions": insertions, "deletions": deletions}


def _rate(rows: Sequence[dict[str, Any]]) -> float:
    return sum(row["edits"] for row in rows) / max(1, sum(row["length"] for row in rows))


def _writers(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The writers' CERs, worst first."""
    of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["writer"]:
            of.setdefault(row["writer"], []).append(row)
    out = [
        {"writer": writer, "lines": len(own), "characters": sum(row["length"] for row in own), "cer": _rate(own)}
        for writer, own in of.items()
    ]
    return sorted(out, key=lambda writer: -float(writer["cer"]))


def _lengths(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    of: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        of.setdefault(min(row["length"], 10 * LENGTHS - 1) // LENGTHS, []).append(row)
    return [
        {"name": f"{k * LENGTHS}" + ("+" if k == 9 else ""), "lines": len(own), "cer": _rate(own)}
        for k, own in sorted(of.items())
    ]


def _history(path: Path | None) -> list[dict[str, float]]:
    if path is None or not path.is_file():
        return []
    try:
        rows = csv.DictReader(files.read_text(path).splitlines())
        return [{name: float(row[name]) for name in ("epoch", "val_cer", "val_wer")} for row in rows]
    except (Error, csv.Error, KeyError, TypeError, ValueError):
        return []  # another program's file
