"""Self-training: a second round of fine-tuning, with lines that have no ground truth.

The network of the first round reads them, with its language model. The second round trains on both: the lines with ground
truth, and those read with the highest confidences, whose texts are called pseudo-labels. So the network learns from more
lines of the same writers, and learns what the language model knows (Kahn, Lee and Hannun, "Self-training for end-to-end
speech recognition", ICASSP 2020).

A run folder has the first round in `first`, the pseudo-labels in `pseudo_labels.json`, and else the second round.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error, checkpoint, data
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.data import Line
from hwr.evaluation import evaluate
from hwr.images import batches, load
from hwr.pages import page_or_line, sources
from hwr.recognizer import Recognizer
from hwr.system.atomic import replacing
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import counted
from hwr.training import run_folder

FIRST = "first"
LABELS = "pseudo_labels.json"

# The first round's part of `train.minutes`.
FIRST_MINUTES = 0.5

Run = Callable[[Config, Path, bool, Callable[[str], None]], bool]


@dataclass(frozen=True)
class Pseudo:
    """The lines of the second round.

    Attributes:
        lines: With pseudo-labels as their texts.
        best: The lowest validation loss or CER (train.best) of the first round.
    """

    lines: list[Line]
    best: float


def check(settings: Config) -> None:
    """Check that the settings allow self-training.

    Raises:
        Error: They do not.
    """
    if settings.train.init is None:
        raise Error("self_training.unlabelled: applies to fine-tuning only; drop it, or set train.init")
    if rank_and_world_size()[1] > 1:
        raise Error("self_training.unlabelled: needs a single process; start hwr train without torchrun")


def first_round(settings: Config, out: Path, resume: bool, say: Callable[[str], None], run: Run) -> bool:
    """Train the first round and read the lines without ground truth, or what is left of that after an interruption.

    Args:
        run: Trains a round.

    Returns:
        Whether it is complete; False if it was interrupted (and saved).
    """
    check(settings)
    run_folder.check(out, settings, resume)
    if (out / LABELS).exists():
        return True
    # Before the training, so that a wrong name shows at once.
    lines = _spread(unlabelled(settings, data.read(settings.data).lines, say), settings.self_training.most)
    with run_folder.locked(out):
        run_folder.check(out, settings, resume)  # again, now that no other process can change it
        run_folder.begin(out, settings)
        say("first round: the lines with ground truth")
        if not run(_first(settings), out / FIRST, (out / FIRST / "config.yaml").exists(), say):
            return False
        found = checkpoint.load(out / FIRST / "best.safetensors")
        say(f"reading {counted(len(lines), 'line')} without ground truth with the network of the first round")
        rows = _read(found, settings, lines, say)
        # The second round starts from the first one's best network, and keeps it unless it finds a better one.
        for name in ("best.safetensors", run_folder.INITIAL):
            checkpoint.save(out / name, found)
        best = found.scores["val_cer" if settings.train.best == "cer" else "val_loss"]
        with replacing(out / LABELS) as temporary:
            text = json.dumps({"best": best, "lines": rows}, ensure_ascii=False, indent=1)
            temporary.write_text(text, encoding="utf-8")
    return True


def _first(settings: Config) -> Config:
    """The settings of the first round."""
    train = settings.train
    if train.minutes is not None:
        train = train.model_copy(update={"minutes": train.minutes * FIRST_MINUTES})
    alone = type(settings.self_training)()
    return settings.model_copy(update={"train": train, "self_training": alone})


def unlabelled(settings: Config, known: Sequence[Line], say: Callable[[str], None]) -> list[Line]:
    """The lines of `self_training.unlabelled`, with empty texts.

    Their ids do not depend on where the files are: a run can be resumed after a move.

    Args:
        known: Lines to exclude.

    Raises:
        Error: There are none, or some can't be read (and `data.faults` is refuse).
    """
    asked = settings.self_training.unlabelled
    assert asked is not None
    paths = [Path(path) for path in ([asked] if isinstance(asked, str) else asked)]
    files = sources.files_in(paths, settings.data.images).files
    faults, lines = list[str](), list[Line]()
    root = os.path.commonpath([os.path.abspath(path) for path in paths])
    for job in sources.jobs(files, images=settings.data.images):
        if job.error:
            faults.append(job.error)
        for number, target in enumerate(job.targets):
            id = f"{os.path.relpath(job.source, root)}/{target.id or number}"
            if error := target.error or (not job.kind and _fault(target.image)):
                faults.append(error)
                continue
            place = (target.region, target.baseline, target.upright)
            lines.append(Line(id, target.image, "", "", str(job.source), *place))
    if faults and settings.data.faults == "refuse":
        more = [f"… and {len(faults) - 5} more"] if len(faults) > 5 else []
        remedy = "Repair or remove them, or skip them: --set data.faults=skip"
        raise Error("self_training.unlabelled: " + "\n".join([*faults[:5], *more, remedy]))
    if faults:
        say(
            f"note: {counted(len(faults), 'line or page', 'lines or pages')} without ground truth can't be read and {'is' if len(faults) == 1 else 'are'} skipped: {faults[0]}"
        )
    taken = {(line.image.resolve(), line.region) for line in known}
    new = [line for line in lines if (line.image.resolve(), line.region) not in taken]
    if len(new) < len(lines):
        known_too = counted(
            len(lines) - len(new), "line of self_training.unlabelled is", "lines of self_training.unlabelled are"
        )
        say(f"{known_too} in the dataset and therefore not used")
    if not new:
        raise Error(f"self_training.unlabelled: {asked}: no lines without ground truth")
    return new


def _spread(lines: Sequence[Line], most: int) -> list[Line]:
    """At most `most` of the lines, spread evenly over all."""
    most = min(most, len(lines))
    return [lines[i * len(lines) // most] for i in range(most)]


def _fault(path: Path) -> str:
    """Why an image is no line; "" if it is one."""
    try:
        width, height = load.size(path)
    except Error as error:
        return str(error)
    if page_or_line.is_page(width, height, []):
        return f"{path} seems to be a page; mark its lines first: hwr predict {path} --format page"
    return ""


def _read(
    found: Checkpoint, settings: Config, lines: Sequence[Line], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Read the lines; returns those to train on, in their order."""
    own = found.config.model_copy(update={"engine": settings.engine, "evaluate": settings.evaluate})
    model = Recognizer(found, own, lines=len(lines))
    # Prepared as for training, so that what is read is what is trained on.
    examples = evaluate.prepared(lines, model.alphabet, model.geometry, settings.data.cache)
    predictions = evaluate.read_with(model, examples)
    texts, sure = predictions.texts, predictions.confidences
    read = [replace(line, text=text) for line, text in zip(lines, texts, strict=True)]
    faults = batches.encode(read, examples.images, model.alphabet, model.geometry).faults
    fit = [i for i in np.argsort(-sure, kind="stable").tolist() if texts[i].strip() and not faults[i]]
    kept = sorted(fit[: max(1, round(settings.self_training.keep * len(fit)))])
    if not kept:
        raise Error("self_training.unlabelled: the network of the first round reads no text in any of these lines")
    say(
        f"{len(kept)} of {len(lines)} are trained on with the texts that it reads: those with the highest confidences, "
        f"{min(sure[i] for i in kept):.2f} or more"
    )
    return [{"id": read[i].id, "text": texts[i], "confidence": round(float(sure[i]), 4)} for i in kept]


def second_round(settings: Config, out: Path, known: Sequence[Line], say: Callable[[str], None]) -> Pseudo:
    """The lines of the second round with their pseudo-labels.

    Raises:
        Error: The file of the pseudo-labels is damaged, or a line that it names is gone.
    """
    path = out / LABELS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        texts = {str(row["id"]): str(row["text"]) for row in found["lines"]}
        best = float(found["best"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(f"{path}: is damaged ({error}); start a new run with --out") from None
    # Of all lines: with files that came later, others than in the first round would be chosen.
    lines = [replace(line, text=texts[line.id]) for line in unlabelled(settings, known, say) if line.id in texts]
    if len(lines) < len(texts):
        raise Error(
            f"self_training.unlabelled: {counted(len(texts) - len(lines), 'line is', 'lines are')} gone that {path} names; put them back, or "
            "start a new run with --out"
        )
    return Pseudo(lines, best)


def repeats(labelled: int, pseudo: int, share: float) -> int:
    """How often the lines with ground truth stand among the training lines of the second round."""
    return max(1, round(pseudo * (1 - share) / share / labelled))


def limits(settings: Config) -> tuple[int, float | None]:
    """Epochs and minutes of the second round."""
    minutes = settings.train.minutes
    return settings.self_training.epochs, None if minutes is None else minutes * (1 - FIRST_MINUTES)
