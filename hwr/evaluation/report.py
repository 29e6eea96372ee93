"""A report as a table, and as an image of lines with their predictions."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from hwr.config import DECODER, Decode, decoder_settings
from hwr.data import Line
from hwr.images import load
from hwr.system.atomic import replacing
from hwr.system.terminal import counted, some


def table(report: dict[str, Any]) -> str:
    """The report of `evaluate` as a table of text."""
    low, high = report["cer_ci95"]
    rows = [
        ("checkpoint", report["checkpoint"]),
        ("data", report["data"]),
        (
            "split",
            f"{report['split']} of {report['split_name']}, {counted(report['lines'], 'line')}, {counted(report['characters'], 'character')}",
        ),
        (
            "CER",
            f"{percent(report['cer'])}   95 % interval {percent(low)} to {percent(high)}, over {report['cer_ci95_over']}",
        ),
        ("  mean of lines", percent(report["cer_mean_per_line"])),
        ("  case-folded", percent(report["cer_casefold"])),
        ("WER", f"{percent(report['wer'])}   words split at white space"),
        ("  punctuation apart", percent(report["wer_punct"])),
        (
            "confidence",
            f"{percent(report['confidence'])} on average; calibration error {percent(report['calibration_error'])} (ECE, ten bins)",
        ),
        ("decoder", decoder_settings.describe(report["decoder"], DECODER)),
        ("CTC loss", _loss(report)),
        (
            "speed",
            f"{report['lines_per_second']:.1f} lines/s, {report['engine']} on {report['device']}, {report['precision']}",
        ),
    ]
    rows += [("note", note) for note in report["notes"]]
    if report["excluded"]:
        rows.append(("excluded", f"{len(report['excluded'])} by data.exclude"))
    if report["without_loss"]:
        ids = report["without_loss"]
        rows.append(("without loss", f"{counted(len(ids), 'line')} that the network can't write ({some(ids, 3)})"))
    lines = [f"{name:<20}{value}" for name, value in rows]
    if report["worst"]:
        lines += ["", "worst lines"]
        for line in report["worst"][:5]:
            lines += [
                f"  {line['id']}  {counted(line['edits'], 'edit')}",
                f"    truth  {line['reference']}",
                f"    read   {line['hypothesis']}",
            ]
    return "\n".join(lines)


def _loss(report: dict[str, Any]) -> str:
    if not math.isfinite(report["ctc_loss"]):
        return "not computed: exported networks are scored on their text" if report["engine"] == "onnx" else "none"
    return f"{report['ctc_loss']:.3f} nats per line; weighted {report['ctc_loss_weighted']:.3f}"


def described(settings: Decode) -> str:
    """A decoder as a report shows it."""
    return decoder_settings.describe(settings.complete().model_dump(), DECODER)


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def write_picture(path: str | Path, lines: Sequence[Line], hypotheses: Sequence[str]) -> None:
    """Draw a dozen of the lines, evenly spaced, with their predictions (PNG)."""
    shown = np.linspace(0, len(lines) - 1, min(12, len(lines))).astype(int).tolist()
    sheet = picture(
        [load.read_line(lines[i].image, lines[i].region, lines[i].upright, lines[i].baseline) for i in shown],
        [lines[i].text for i in shown],
        [hypotheses[i] for i in shown],
    )
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")


def picture(images: Sequence[np.ndarray], references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Lines with the ground truth (grey, missed characters in red) and the prediction (black, wrong characters in red).

    Args:
        images: Greyscale line images, uint8, of any size.

    Returns:
        (H, W, 3) uint8.
    """
    width, margin = 900, 12
    rows = [
        _row(pixels, reference, hypothesis, width - 2 * margin)
        for pixels, reference, hypothesis in zip(images, references, hypotheses, strict=True)
    ]
    sheet = Image.new("RGB", (width, margin + sum(row.height + margin for row in rows)), "white")
    y = margin
    for row in rows:
        sheet.paste(row, (margin, y))
        y += row.height + margin
    pixels = np.asarray(sheet)
    ink = np.flatnonzero((pixels < 255).any((0, 2)))
    return pixels[:, : ink[-1] + margin] if len(ink) else pixels


def _row(pixels: np.ndarray, reference: str, hypothesis: str, width: int) -> Image.Image:
    line = Image.fromarray(_trimmed(pixels))
    scale = min(width / line.width, 48 / line.height)
    line = line.resize(
        (max(1, round(line.width * scale)), max(1, round(line.height * scale))), Image.Resampling.LANCZOS
    )
    # A long text gets a smaller font, so that it fits.
    letter = min(10.0, width / max(1, len(reference) + 2, len(hypothesis) + 2))
    font = ImageFont.truetype(_font(), max(5, int(letter / 0.602)))  # DejaVu Sans Mono is 0.602 em wide
    pitch = font.getlength("n")
    height = sum(font.getmetrics())
    row = Image.new("RGB", (width, line.height + 2 * height + 6), "white")
    row.paste(line, (0, 0))
    draw = ImageDraw.Draw(row)
    missed, wrong = _errors(reference, hypothesis)
    texts = ((reference, missed, "#888888", line.height + 2), (hypothesis, wrong, "black", line.height + 4 + height))
    for text, red, colour, y in texts:
        for i, character in enumerate(text):
            draw.text((i * pitch, y), character, "#cc0000" if i in red else colour, font)
            if i in red and character == " ":  # a space has no ink to colour
                draw.line((i * pitch, y + height - 2, (i + 1) * pitch, y + height - 2), "#cc0000", 2)
    return row


def _errors(reference: str, hypothesis: str) -> tuple[set[int], set[int]]:
    """Positions of missed characters in the reference, and of wrong or extra ones in the hypothesis."""
    edits = Levenshtein.editops(reference, hypothesis)
    missed = {edit.src_pos for edit in edits if edit.tag == "delete"}
    return missed, {edit.dest_pos for edit in edits if edit.tag != "delete"}


def _trimmed(pixels: np.ndarray) -> np.ndarray:
    """The line without the white border that `prepare.fit` adds."""
    ink = pixels < pixels.max()
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return pixels
    return pixels[max(0, rows[0] - 2) : rows[-1] + 3, max(0, columns[0] - 4) : columns[-1] + 5]


def _font() -> str:
    # Matplotlib bundles DejaVu, which covers nearly all scripts' letters.
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf")
