import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import Error, checkpoint, config, data
from hwr.cli import main
from hwr.config import Config
from hwr.data import Line
from hwr.evaluation import evaluate
from hwr.training import loop, self_training
from hwr.training.loop import train

from .conftest import TINY_CRNN

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def unlabelled(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve line images, without texts."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for path in sorted(drawn.glob("lines/**/*.png"))[:12]:
        shutil.copy(path, folder)
    return folder


def settings(model: Path, drawn: Path, unlabelled: Path, *more: str) -> Config:
    own = ["train.epochs=1", "self_training.epochs=2", "self_training.most=10", f"train.init={model}"]
    return config.load(None, [*TINY_CRNN, f"data.root={drawn}", *own, f"self_training.unlabelled={unlabelled}", *more])


def test_a_second_round_trains_on_what_the_first_one_reads(
    model: Path, drawn: Path, unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = settings(model, drawn, unlabelled)
    read, real = list[evaluate.Predictions](), evaluate.read_with

    def seen(*arguments: Any) -> evaluate.Predictions:
        read.append(real(*arguments))
        return read[-1]

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "read_with", seen)
        assert train(asked, tmp_path / "run", say=said.append)
    found = json.loads((tmp_path / "run/pseudo_labels.json").read_text(encoding="utf-8"))
    assert 0 < len(found["lines"]) <= 8  # three quarters of ten
    assert all(row["text"] and 0 <= row["confidence"] <= 1 for row in found["lines"])
    sure = [c for text, c in zip(read[0].texts, read[0].confidences.tolist(), strict=True) if text.strip()]
    assert [row["confidence"] for row in found["lines"]] == pytest.approx(
        [c for c in sure if c >= sorted(sure)[-len(found["lines"])]], abs=1e-4
    )
    history = (tmp_path / "run/history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 3
    assert [line for line in said if line.startswith(("first round", "reading 10 lines", "second round"))][2:]
    best = checkpoint.load(tmp_path / "run/best.safetensors")
    assert best.scores["val_cer" if asked.train.best == "cer" else "val_loss"] <= found["best"]
    assert best.config.self_training == config.SelfTraining()  # a checkpoint names no files
    assert not (tmp_path / "run/init.safetensors").exists()

    # Interrupted between the rounds and in the second one, it gives the same weights.
    for killed in ("_read", "_finish_epoch"):
        out, calls = tmp_path / killed, list[int]()
        original: Any = getattr(self_training if killed == "_read" else loop, killed)

        def kill(*arguments: object, calls: list[int] = calls, original: Any = original) -> Any:
            calls.append(1)
            if len(calls) == (1 if original.__name__ == "_read" else 3):
                raise MemoryError
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(self_training if killed == "_read" else loop, killed, kill)
            with pytest.raises(MemoryError):
                train(asked, out, say=said.append)
        result = CliRunner().invoke(main, ["train", "--resume", "--out", str(out)])
        assert result.exit_code == 0, result.output
        again = checkpoint.load(out / "last.safetensors")
        last = checkpoint.load(tmp_path / "run/last.safetensors")
        assert all(np.array_equal(again.weights[name], array) for name, array in last.weights.items())


@pytest.mark.parametrize("chosen", [1, 3])
def test_the_network_of_the_round_that_reads_better_is_kept(
    model: Path, drawn: Path, unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: int
) -> None:
    """With the losses and CERs given here: the first round has one epoch, the second one two."""
    best = {1: "cer", 3: "loss"}[chosen]
    losses, real, epochs = {1: [1.0, 2.0, 3.0], 3: [3.0, 4.0, 2.0]}[chosen], loop._validate, list[int]()

    def given(*arguments: Any) -> Any:
        row, predictions = real(*arguments)
        epochs.append(row.epoch)
        value = losses[len(epochs) - 1]
        return replace(row, val_loss=value, val_cer=value / 10), predictions

    monkeypatch.setattr(loop, "_validate", given)
    said, out = list[str](), tmp_path / "run"
    assert train(settings(model, drawn, unlabelled, f"train.best={best}"), out, say=said.append)
    assert epochs == [1, 1, 2]
    assert checkpoint.load(out / "best.safetensors").scores["val_loss"] == min(losses)
    assert checkpoint.load(out / "last.safetensors").scores["val_loss"] == losses[-1]
    kept = "the second round did not read the validation lines better: best.safetensors is the first round's"
    assert (kept in said) == (chosen == 1)


def test_a_run_is_resumed_after_a_move(
    model: Path, drawn: Path, unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("data", drawn), ("lines", unlabelled)):
        shutil.copytree(folder, tmp_path / "before" / name)
    old = settings(model, tmp_path / "before/data", tmp_path / "before/lines")
    calls: list[int] = []
    original = loop._finish_epoch

    def kill(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_finish_epoch", kill)
        with pytest.raises(MemoryError):  # in the second round
            train(old, tmp_path / "before/run", say=lambda line: None)
    (tmp_path / "before").rename(tmp_path / "after")
    out = tmp_path / "after/run"
    with pytest.raises(Error, match=r"These keys differ:\s+self_training\.unlabelled: .* -> None"):
        train(config.load(None, [*TINY_CRNN, f"train.init={model}", "train.epochs=1"]), out, True, lambda line: None)
    moved = settings(model, tmp_path / "after/data", tmp_path / "after/lines")
    assert train(moved, out, True, lambda line: None)
    found = json.loads((out / "pseudo_labels.json").read_text(encoding="utf-8"))
    assert all(str(tmp_path) not in row["id"] for row in found["lines"])


def test_what_can_not_be_obeyed_is_refused(model: Path, drawn: Path, unlabelled: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"keep has no effect without self_training\.unlabelled"):
        config.load(None, ["self_training.keep=0.5"])
    alone = config.load(None, [*TINY_CRNN, f"data.root={drawn}", f"self_training.unlabelled={unlabelled}"])
    with pytest.raises(Error, match=r"self_training\.unlabelled: applies to fine-tuning only"):
        train(alone, tmp_path / "run", say=lambda line: None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="no images"):
        train(settings(model, drawn, tmp_path / "empty"), tmp_path / "run", say=lambda line: None)
    result = CliRunner().invoke(main, ["evaluate", "--checkpoint", str(model), "--set", "self_training.keep=0.5"])
    assert result.exit_code == 2
    assert "this command does not use self_training.keep" in result.output
    assert not (tmp_path / "run").exists()


def test_lines_of_the_dataset_and_pages_are_no_lines_without_ground_truth(
    model: Path, drawn: Path, unlabelled: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    images = sorted(unlabelled.glob("*.png"))
    known = [Line("a", images[0], "text", "", ""), Line("b", images[1], "text", "", "")]
    asked = settings(model, drawn, unlabelled, "self_training.most=4")
    lines = self_training.unlabelled(asked, known, said.append)
    assert [line.image for line in lines] == images[2:]
    assert [line.image for line in self_training._spread(lines, 4)] == [images[i] for i in (2, 4, 7, 9)]
    assert said == ["2 lines of self_training.unlabelled are in the dataset and therefore not used"]
    with pytest.raises(Error, match="no lines without ground truth"):
        self_training.unlabelled(asked, [Line("", image, "", "", "") for image in images], said.append)
    folder = tmp_path / "pages"
    shutil.copytree(unlabelled, folder)
    Image.new("L", (600, 800), 255).save(folder / "page.png")
    with pytest.raises(Error, match=r"page\.png seems to be a page"):
        self_training.unlabelled(settings(model, drawn, folder), [], said.append)
    skipping = settings(model, drawn, folder, "data.faults=skip")
    assert len(self_training.unlabelled(skipping, [], said.append)) == 12
    assert "1 line or page without ground truth can't be read and is skipped" in said[-1]


def test_a_test_line_whose_page_has_lines_without_text_is_no_line_without_ground_truth(
    model: Path, drawn: Path, tmp_path: Path
) -> None:
    """The band along its baseline is the same in the dataset, which has no lines without text, and on its page."""
    Image.new("L", (400, 200), 255).save(tmp_path / "page.png")
    rows = (
        f'<TextLine id="l{i}"><Baseline points="10,{y} 300,{y}"/><TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine>'
        for i, (y, text) in enumerate(((40, "one"), (80, ""), (160, "two")))
    )
    page = f'<Page imageFilename="page.png" imageWidth="400" imageHeight="200">{"".join(rows)}</Page>'
    (tmp_path / "page.xml").write_text(f"<PcGts>{page}</PcGts>", encoding="utf-8")
    asked = settings(model, drawn, tmp_path)
    known = data.read(config.Data(root=str(tmp_path))).lines
    assert len(known) == 2
    found = self_training.unlabelled(asked, known, lambda line: None)
    assert [line.id for line in found] == ["page.xml/l1"]


def test_files_that_come_during_a_run_change_nothing(
    model: Path, drawn: Path, unlabelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(unlabelled, tmp_path / "lines")
    asked = settings(model, drawn, tmp_path / "lines", "self_training.most=4")

    def lines() -> list[Line]:
        return self_training.unlabelled(asked, [], lambda line: None)

    chosen = self_training._spread(lines(), 4)
    rows = [{"id": line.id, "text": "read", "confidence": 0.5} for line in chosen]
    (tmp_path / "pseudo_labels.json").write_text(json.dumps({"best": 1.0, "lines": rows}), encoding="utf-8")
    first = min((tmp_path / "lines").iterdir())
    for name in ("a1", "a2", "a3"):
        shutil.copy(first, tmp_path / f"lines/{name}.png")
    assert [line.id for line in self_training._spread(lines(), 4)] != [line.id for line in chosen]
    second = self_training.second_round(asked, tmp_path, [], lambda line: None)
    assert second.lines == [replace(line, text="read") for line in chosen]
    chosen[1].image.unlink()
    with pytest.raises(Error, match=r"1 line is gone that .*pseudo_labels\.json names"):
        self_training.second_round(asked, tmp_path, [], lambda line: None)


def test_labelled_lines_are_repeated_until_they_are_the_rest() -> None:
    assert self_training.repeats(45, 225, 0.65) == 3
    assert self_training.repeats(180, 225, 0.65) == 1
    assert self_training.repeats(5, 100, 0.5) == 20


def test_the_rounds_share_the_time_limit() -> None:
    keys = [*TINY_CRNN, "train.init=a.safetensors", "self_training.unlabelled=lines", "self_training.epochs=3"]
    asked = config.load(None, [*keys, "train.minutes=10"])
    first = self_training._first(asked)
    assert (first.train.minutes, first.self_training) == (5, config.SelfTraining())
    assert self_training.limits(asked) == (3, 5)
    assert self_training.limits(config.load(None, keys)) == (3, None)
