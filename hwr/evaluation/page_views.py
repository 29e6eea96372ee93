"""A report on pages as a table of text, and as a web page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from hwr import Error
from hwr.config import DECODER, decoder_settings
from hwr.evaluation import page_metrics, report_html
from hwr.evaluation.page_metrics import ScoredLine
from hwr.evaluation.pages import EvaluatedPage, PagesReport
from hwr.evaluation.report import percent
from hwr.images import load
from hwr.system.terminal import counted

# Longer side of a page's picture in pixels, and the colours of ground-truth and found lines (RGB).
PICTURE, TRUE, FOUND = 1000, (60, 160, 60), (220, 60, 40)


def table(report: dict[str, Any]) -> str:
    """`PagesReport.to_dict` as a table of text."""
    given = report["ground_truth_lines"]
    head = f"{report['split']} of {report['split_name']}, {counted(report['pages'], 'page')}, {counted(report['lines'], 'line')}, "
    rows = [
        ("checkpoint", report["checkpoint"]),
        ("data", report["data"]),
        ("split", head + counted(report["characters"], "character")),
        ("", f"{'lines found':<36}ground-truth lines"),
        *(
            (title, f"{_with_interval(report, key):<36}{_with_interval(given, key)}")
            for key, title in (
                ("cer", "page CER"),
                ("cer_in_order", "  in true order"),
                ("wer", "page WER"),
                ("bag_of_words", "  without order"),
                ("similarity", "similarity"),
            )
        ),
        ("CER ratio", f"{report['cer_ratio']:.2f}   lines found / ground-truth lines"),
        (
            "lines",
            f"{report['lines_found']} found, {report['lines_split']} split, {report['lines_merged']} merged, "
            f"{report['lines_missed']} missed; {report['lines_extra']} of {report['lines_predicted']} found ones are extra",
        ),
        ("decoder", decoder_settings.describe(report["decoder"], DECODER)),
        (
            "speed",
            f"{report['seconds_finding']:.2f} s per page to find lines, {report['seconds_reading']:.2f} s to read them; "
            f"{report['engine']} on {report['device']}, {report['precision']}",
        ),
        *(("note", note) for note in report["notes"]),
    ]
    lines = [f"{name:<20}{value}" for name, value in rows]
    if report["worst"]:
        lines += ["", "worst pages"]
    for page in report["worst"][:5]:
        lines.append(
            f"  {page['id']}  CER {percent(page['cer'])}, with ground-truth lines {percent(page['cer_given'])}; "
            f"{page['found']} of {counted(page['lines'], 'line')} found, {page['split']} split, {page['merged']} merged"
        )
    return "\n".join(lines)


def _with_interval(rates: dict[str, Any], key: str) -> str:
    low, high = rates[f"{key}_ci95"]
    return f"{percent(rates[key])} ({percent(low)} to {percent(high)})"


def write_html(path: str | Path, report: PagesReport) -> None:
    """Write the page: totals, confusions, and every page with its lines drawn and its errors marked."""
    pages = tqdm(report.pages, "report", unit="page", disable=None, leave=False)
    rows = [
        report_html.row(page.image.stem, "", _text(page.truth), _text(page.found), 1.0, drawn(page)) for page in pages
    ]
    data = {
        "report": report.to_dict(),
        "lines": rows,
        "confusions": report_html.confusions(rows),
        "writers": [],
        "lengths": [],
        "calibration": [],
        "history": [],
    }
    report_html.write_data(path, data)


def write_picture(path: str | Path, pages: Sequence[EvaluatedPage]) -> None:
    """Draw half a dozen of the pages, evenly spaced, with their lines (PNG): ground truth green, found lines red."""
    from hwr.system.atomic import replacing

    chosen = [drawn(pages[i]) for i in np.linspace(0, len(pages) - 1, min(6, len(pages))).astype(int)]
    sheet = Image.new("RGB", (sum(x.width for x in chosen), max(x.height for x in chosen)), "white")
    left = 0
    for picture in chosen:
        sheet.paste(picture, (left, 0))
        left += picture.width
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def drawn(page: EvaluatedPage) -> Image.Image:
    """The page with its lines: ground truth green, found lines red. White if its image can't be read."""
    try:
        pixels = load.read(page.image, page.upright)
    except Error:
        pixels = np.full((PICTURE, PICTURE), 255, np.uint8)
    scale = min(1.0, PICTURE / max(pixels.shape))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    for lines, colour in ((page.truth, TRUE), (page.found, FOUND)):
        outlines = [np.rint(np.array(line.region, float) * scale).astype(np.int32) for line in lines if line.region]
        cv2.polylines(canvas, outlines, True, colour, 1, cv2.LINE_AA)
    return Image.fromarray(canvas)


def _text(lines: Sequence[ScoredLine]) -> str:
    return page_metrics.page_text([line.text for line in lines])
