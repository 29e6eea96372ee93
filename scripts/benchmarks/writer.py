"""Fine-tuning to one writer: character error rates on the writer's last lines after training on the first ones."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.common import conditions, json_option, write
from hwr import Error, config
from hwr.config import Data
from hwr.data import Line
from hwr.data import read as read_dataset
from hwr.data.formats import pairs
from hwr.evaluation import metrics
from hwr.evaluation.metrics import Score
from hwr.images import load
from hwr.loading import settings_for
from hwr.recognizer import Prepared, Recognizer
from hwr.serve.training.lines import LEAST_UNCHECKED, VALIDATION
from hwr.serve.training.train import FEW
from hwr.training.loop import train

DECODERS = ("greedy", "default")


@click.command("writer")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--checkpoint", default="hwr-latin", show_default=True, metavar="FILE", help="The model to fine-tune.")
@click.option("--writer", metavar="ID", help="Of the lines (default: all lines are one writer's).")
@click.option("--lines", multiple=True, default=(0, 20, 50, 100, 200), show_default=True, help="Corrected lines.")
@click.option("--test", default=150, show_default=True, type=click.IntRange(min=10), help="Last lines, to test on.")
@click.option(
    "--unlabelled", default=300, show_default=True, type=click.IntRange(min=0), help="Further lines, without texts."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Settings of the training.")
@json_option
def measure_writer(
    data: Path,
    checkpoint: str,
    writer: str | None,
    lines: tuple[int, ...],
    test: int,
    unlabelled: int,
    overrides: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """The recipe of "Train on my N corrected lines", on the first N lines of a writer, a tenth of them for validation.

    With 100 training lines or fewer, up to --unlabelled of the lines between these and the test lines are used without
    their texts (self-training).

    The model must not have seen the writer.
    """
    own = lines_of(data, writer)
    rest, last = own[:-test], own[-test:]
    if len(rest) < max(lines):
        raise Error(f"{data}: {len(own)} lines of this writer are too few for {max(lines)} and {test} to test on")
    click.echo(f"{len(own)} lines, {len(last)} of them to test on; CER in % with 95 % intervals over lines")
    click.echo(f"{'lines':>5}{'greedy':>22}{'default':>22}{'minutes':>10}{'CPU min':>9}{'updates':>9}")
    found: dict[str, Any] = {"conditions": conditions(), "checkpoint": checkpoint, "data": str(data), "rows": []}
    prepared: list[Prepared] = []
    for number in lines:
        with tempfile.TemporaryDirectory() as folder:
            more = rest[number:][:unlabelled]
            run = _tuned(rest[:number], more, checkpoint, overrides, Path(folder)) if number else Run(checkpoint)
            scores = {}
            for decoder in DECODERS:
                chosen = ["engine.device=cpu", *(["decode.name=greedy"] if decoder == "greedy" else [])]
                recognizer = Recognizer(*settings_for(run.checkpoint, None, chosen))
                prepared = prepared or [
                    recognizer.prepare(load.read(line.image)) if not line.region else _cut(recognizer, line)
                    for line in last
                ]
                texts = [reading.text for reading in recognizer.read_prepared(prepared)]
                scores[decoder] = metrics.score([line.text for line in last], texts)
        cells = "".join(f"{_shown(scores[decoder]):>22}" for decoder in DECODERS)
        click.echo(f"{number:>5}{cells}{run.minutes:>10.1f}{run.cpu_minutes:>9.1f}{run.updates:>9}")
        row = {decoder: [score.cer, *score.cer_interval(1000)[:2]] for decoder, score in scores.items()}
        costs = {"minutes": run.minutes, "cpu_minutes": run.cpu_minutes, "updates": run.updates}
        found["rows"].append({"lines": number, **row, **costs})
    write(json_path, found)


@dataclass(frozen=True)
class Run:
    """A fine-tuning: the checkpoint that it chose, the time that it took, and the updates up to its end."""

    checkpoint: str
    minutes: float = 0.0
    cpu_minutes: float = 0.0
    updates: int = 0


def lines_of(data: Path, writer: str | None) -> list[Line]:
    """The lines of a writer, in the order of the dataset, whatever split they are in."""
    root = config.load(None, [f"data.root={data}"]).data
    dataset = read_dataset(Data(root=root.root, val_share=0.0, test_share=0.0))
    found = dataset.lines
    own = [line for line in found if writer in (None, line.writer)]
    if not own:
        writers = sorted({line.writer for line in found})
        raise Error(f"--writer {writer}: {data} has no such writer; it has {', '.join(writers[:20])}")
    return own


def _tuned(lines: Sequence[Line], more: Sequence[Line], checkpoint: str, overrides: Sequence[str], folder: Path) -> Run:
    """Train on lines as the workbench does."""
    every = round(1 / VALIDATION)
    for number, line in enumerate(lines):
        part = folder / "lines" / ("val" if number % every == every // 2 else "train")
        part.mkdir(parents=True, exist_ok=True)
        path = part / f"{number:04}{line.image.suffix}"
        path.symlink_to(line.image.resolve())
        pairs.write_text(path, line.text)
    if len(more) >= LEAST_UNCHECKED and len(lines) * (1 - VALIDATION) <= FEW:
        (folder / "more").mkdir()
        for number, line in enumerate(more):
            (folder / f"more/{number:04}{line.image.suffix}").symlink_to(line.image.resolve())
        overrides = [f"self_training.unlabelled={folder / 'more'}", *overrides]
    keys = [f"data.root={folder / 'lines'}", "data.format=gt", f"train.init={checkpoint}", "engine.device=cpu"]
    said: list[str] = []
    began, spent = time.monotonic(), os.times()
    train("finetune", folder / "run", say=said.append, overrides=[*keys, *overrides])
    now = os.times()
    minutes, cpu = (time.monotonic() - began) / 60, (now.user + now.system - spent.user - spent.system) / 60
    updates = sum(_updates(path) for path in (folder / "run").rglob("history.csv"))
    return Run(str(folder / "run/best.safetensors"), minutes, cpu, updates)


def _updates(history: Path) -> int:
    rows = history.read_text(encoding="utf-8").splitlines()
    return int(rows[-1].split(",")[rows[0].split(",").index("updates")])


def _cut(recognizer: Recognizer, line: Line) -> Prepared:
    (cut,) = load.read_lines(line.image, [line.region], line.upright, [line.baseline])
    if isinstance(cut, Error):
        raise cut
    return recognizer.prepare(cut)


def _shown(score: Score) -> str:
    low, high, _ = score.cer_interval(1000)
    return f"{100 * score.cer:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
