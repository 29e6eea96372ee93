import csv
import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr import Error, checkpoint, config, engines
from hwr.config import Config
from hwr.data import synth
from hwr.decoding import greedy
from hwr.evaluation import evaluate
from hwr.training import interrupt, loop, run_folder
from hwr.training.loop import train
from hwr.training.run_folder import Epoch

from . import forked
from .conftest import TINY, events


def history(out: Path) -> list[dict[str, str]]:
    """history.csv without its timings."""
    with open(out / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def assert_same_run(one: Path, two: Path) -> None:
    assert history(one) == history(two)
    for name in ("best", "last"):
        a, b = (checkpoint.load(out / f"{name}.safetensors") for out in (one, two))
        assert all(np.array_equal(array, b.weights[key]) for key, array in a.weights.items())


def with_(settings: Config, *overrides: str) -> Config:
    return config.override(config.to_dict(settings), overrides)


@pytest.fixture(scope="module")
def unbroken(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three epochs."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train(config.load(None, [*TINY, "train.epochs=3", f"data.root={drawn}"]), out, say=lambda line: None)
    return out


def test_the_contents_of_a_run_folder(unbroken: Path) -> None:
    assert {p.name for p in unbroken.iterdir() if not p.name.startswith("events")} == {
        ".lock",
        "best.safetensors",
        "config.yaml",
        "history.csv",
        "last.safetensors",
        "state.safetensors",
    }
    rows = history(unbroken)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    losses = [float(row["val_loss"]) for row in rows]
    assert losses[-1] < losses[0]
    best = checkpoint.load(unbroken / "best.safetensors")
    assert best.scores["val_loss"] == min(losses)
    assert best.scores["split_name"] == "drawn"
    last = checkpoint.load(unbroken / "last.safetensors").scores
    assert last["epoch"] == 3
    assert last["lines_per_second"] * last["seconds"] == pytest.approx(8 * (last["updates"] - int(rows[1]["updates"])))


def test_tensorboard_reads_the_events(unbroken: Path) -> None:
    read, rows = events(unbroken), history(unbroken)
    for name in ("train_loss", "val_loss", "val_cer", "val_wer"):
        assert [step for step, _ in read["scalars"][name]] == [1, 2, 3]
        values = [value for _, value in read["scalars"][name]]
        assert values == pytest.approx([float(row[name]) for row in rows], rel=1e-6)
    weighted = [0.2 * float(row["val_loss"]) for row in rows]  # the original's
    assert [value for _, value in read["scalars"]["val_loss_weighted"]] == pytest.approx(weighted, rel=1e-6)
    ((step, width, *_),) = read["images"]["validation_lines"]
    assert step == 3
    assert width > 300


def test_training_reports_its_steps(tiny: Config, tmp_path: Path) -> None:
    said: list[str] = []
    train(with_(tiny, "train.epochs=1"), tmp_path / "run", say=said.append)
    text = "\n".join(said)
    assert "split drawn: 23 training lines, 14 validation lines, 7 test lines" in text
    assert "80 characters" in text
    assert "parameters; torch on cpu" in text
    assert "epoch   1/1  train loss" in text
    assert "best epoch 1: validation CER" in text


def test_interrupted_runs_resume_exactly(
    unbroken: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after every third batch, again and again, until the run is done."""
    settings = config.load(None, [*TINY, "train.epochs=3", f"data.root={drawn}"])
    steps = 0
    real = engines.trainer

    def build(*args: object, **kwargs: object) -> engines.Trainer:
        engine = real(*args, **kwargs)  # type: ignore[arg-type]
        step = engine.train_step

        def counted(*args: object) -> float:
            nonlocal steps
            steps += 1
            if steps % 3 == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return step(*args)  # type: ignore[arg-type]

        engine.train_step = counted  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr(engines, "trainer", build)
    said: list[str] = []
    tries = 1
    while not train(settings, tmp_path / "run", resume=tries > 1, say=said.append):
        tries += 1
        assert tries < 10
    assert (tries, steps) == (3, 8)  # each time in mid-epoch; no step was done twice
    assert f"resume with: hwr train --resume --out {tmp_path / 'run'}" in "\n".join(said)
    assert_same_run(unbroken, tmp_path / "run")


def killed(out: Path, drawn: Path, code: str, *overrides: str) -> None:
    """Run a training that kills itself with SIGKILL where `code` says."""
    program = (
        "import os, sys\nfrom hwr import checkpoint, config, engines\nfrom hwr.training.loop import train\n"
        "def die(): os.kill(os.getpid(), 9)\n"
        f"{code}\n"
        "train(config.load(None, sys.argv[2:]), sys.argv[1], resume=os.path.exists(sys.argv[1]))\n"
    )
    arguments = [str(out), *TINY, "train.epochs=3", f"data.root={drawn}", *overrides]
    status, said = forked.run(out.with_name("said"), "-c", program, *arguments)
    assert status == -signal.SIGKILL, said


IN_MID_EPOCH = """
from hwr.engines.torch_trainer import TorchTrainer
step = TorchTrainer.train_step
def train_step(self, *arguments):
    if self._updates == 4: die()
    return step(self, *arguments)
TorchTrainer.train_step = train_step
"""
# The third file of the second epoch is the state; die with half of it on disk.
IN_MID_SAVE = """
from contextlib import contextmanager
replacing, count = checkpoint.replacing, 0
@contextmanager
def dying(path):
    global count
    count += 1
    with replacing(path) as temporary:
        yield temporary
        if count == 6:
            os.truncate(temporary, os.path.getsize(temporary) // 2)
            die()
checkpoint.replacing = dying
"""
# Die after the checkpoints of the second epoch are in place, and before the state is.
BETWEEN_SAVES = """
from hwr.training import run_folder as run
save, count = run.save_state, 0
def save_state(*arguments):
    global count
    count += 1
    if count == 2: die()
    save(*arguments)
run.save_state = save_state
"""
IN_THE_FIRST_SAVES = BETWEEN_SAVES.replace("== 2", "== 1")


@pytest.mark.once
@pytest.mark.parametrize("code", [IN_MID_EPOCH, IN_MID_SAVE, BETWEEN_SAVES, IN_THE_FIRST_SAVES])
def test_killed_runs_resume_exactly(unbroken: Path, drawn: Path, tmp_path: Path, code: str) -> None:
    out = tmp_path / "run"
    killed(out, drawn, code)
    for name in ("best", "last", "state"):  # all existing files are complete
        if (out / f"{name}.safetensors").exists():
            checkpoint.read_arrays(out / f"{name}.safetensors")
    train(config.load(None, [*TINY, "train.epochs=3", f"data.root={drawn}"]), out, resume=True, say=lambda line: None)
    assert_same_run(unbroken, out)
    assert [path.name for path in out.glob(".*")] == [".lock"]  # no temporary file is left


def test_ignored_signals_stay_ignored() -> None:
    """As under nohup, and in a script's background jobs."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.interruptible() as interrupted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupted()
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupted()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_long_epoch_is_saved_on_the_way(unbroken: Path, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = [*TINY, "train.epochs=3", "train.save_minutes=1e-9", f"data.root={drawn}"]
    killed(out, drawn, IN_MID_EPOCH.replace("== 4", "== 1"), "train.save_minutes=1e-9")
    _, about = checkpoint.read_arrays(out / "state.safetensors")
    assert (about["progress"]["epoch"], about["progress"]["batch"]) == (0, 1)
    train(config.load(None, arguments), out, resume=True, say=lambda line: None)
    assert_same_run(unbroken, out)


@pytest.mark.once
def test_ctrl_c_in_a_real_terminal_program(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sets = [f"--set={override}" for override in [*TINY, "train.epochs=500", f"data.root={drawn}"]]
    command = [sys.executable, "-m", "hwr", "train", "--config", "configs/iam_line.yaml", *sets, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    deadline = time.monotonic() + 60
    while not (out / "history.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"interrupted and saved; resume with: hwr train --resume --out {out}" in said
    checkpoint.read_arrays(out / "state.safetensors")


def test_a_finished_run_can_be_extended(unbroken: Path, tiny: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(with_(tiny, "train.epochs=1"), out, say=lambda line: None)
    train(with_(tiny, "train.epochs=3"), out, resume=True, say=lambda line: None)
    assert_same_run(unbroken, out)


def test_existing_runs_are_not_overwritten_and_need_their_own_config(
    unbroken: Path, tiny: Config, tmp_path: Path
) -> None:
    with pytest.raises(Error, match=r"exists already; resume it with --resume"):
        train(tiny, unbroken)
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    with pytest.raises(Error, match=r"can't be resumed(?s:.*)train\.lr: 0\.001 -> 0\.01"):
        train(with_(tiny, "train.lr=0.01"), out, resume=True)
    with pytest.raises(Error, match=r"config\.yaml: no such config file"):
        train(tiny, tmp_path / "new", resume=True)
    with pytest.raises(Error, match=r"data\.cache: .*cache lies in the run folder"):
        train(with_(tiny, f"data.cache={tmp_path / 'new/cache'}"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_changed_training_lines_are_noticed(unbroken: Path, drawn: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "drawn", tmp_path / "run"
    shutil.copytree(drawn, root)
    settings = config.load(None, [*TINY, "train.epochs=1", f"data.root={root}"])
    train(settings, out, say=lambda line: None)
    lists = root / "largeWriterIndependentTextLineRecognitionTask/trainset.txt"
    lists.write_text("\n".join(lists.read_text().split()[:-1]))
    with pytest.raises(Error, match=r"the lines have changed"):
        train(with_(settings, "train.epochs=2"), out, resume=True, say=lambda line: None)


def test_a_diverged_training_is_explained(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(
        Error, match=r"the loss became (nan|inf) in epoch \d+, batch \d+: .*Lower train\.lr \(now 1e\+30\)"
    ):
        train(with_(tiny, "train.lr=1e30", "train.epochs=9"), tmp_path / "run", say=lambda line: None)


def test_a_blank_model_is_explained(tiny: Config, tmp_path: Path) -> None:
    said: list[str] = []
    row = Epoch(1, 1000, 9.0, 9.0, 1.0, 1.0, 1e-3, 1.0, 1.0)
    blank = evaluate.Predictions(["", ""], np.zeros(2), np.zeros(2), np.ones(2, bool), 1.0)
    loop._check_blank(row, blank, said.append)
    assert "nothing but blanks" in said[0]
    assert "train.lr" in said[0]
    loop._check_blank(
        row, evaluate.Predictions(["", "a"], np.zeros(2), np.zeros(2), np.ones(2, bool), 1.0), said.append
    )
    assert len(said) == 1


def test_a_full_disk_stops_the_run_and_keeps_the_last_state(tiny: Config, drawn: Path, tmp_path: Path) -> None:
    import resource

    out = tmp_path / "run"
    train(with_(tiny, "train.epochs=1"), out, say=lambda line: None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Error, match=r"could not be written: .*"):
            train(with_(tiny, "train.epochs=2"), out, resume=True, say=lambda line: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert train(with_(tiny, "train.epochs=2"), out, resume=True, say=lambda line: None)
    assert [row["epoch"] for row in history(out)] == ["1", "2"]


def test_interrupted_during_validation(
    unbroken: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(None, [*TINY, "train.epochs=3", f"data.root={drawn}"])
    real, calls = greedy.best_path, 0

    def best_path(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(greedy, "best_path", best_path)
    assert not train(settings, tmp_path / "run", say=lambda line: None)
    _, about = checkpoint.read_arrays(tmp_path / "run/state.safetensors")
    assert (about["progress"]["epoch"], about["progress"]["batch"]) == (0, 2)
    assert train(settings, tmp_path / "run", resume=True, say=lambda line: None)
    assert_same_run(unbroken, tmp_path / "run")


def test_a_diverged_epoch_replaces_nothing(tiny: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Error, match="diverged"):  # in its only batch, whose loss was still finite
        train(with_(tiny, "train.batch_size=23", "train.lr=1e30"), out, say=lambda line: None)
    assert not list(out.glob("*.safetensors"))


def test_a_run_without_its_state_is_not_restarted(unbroken: Path, tiny: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    (out / "state.safetensors").unlink()
    with pytest.raises(Error, match=r"state\.safetensors is missing"):
        train(with_(tiny, "train.epochs=9"), out, resume=True, say=lambda line: None)
    assert history(out) == history(unbroken)


def test_a_refused_resume_changes_nothing(unbroken: Path, tiny: Config, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(unbroken, out)
    synth.write(other, 44, 6, 9)
    before = (out / "config.yaml").read_text()
    with pytest.raises(Error, match="the lines have changed"):
        train(with_(tiny, "train.epochs=9", f"data.root={other}"), out, resume=True, say=lambda line: None)
    assert (out / "config.yaml").read_text() == before


def test_changed_images_are_noticed_and_moved_ones_are_not(tiny: Config, drawn: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "moved", tmp_path / "run"
    train(with_(tiny, "train.epochs=1"), out, say=lambda line: None)
    shutil.copytree(drawn, root)
    moved = with_(tiny, "train.epochs=2", f"data.root={root}")
    assert train(moved, out, resume=True, say=lambda line: None)
    image = next((root / "lines").rglob("*.png"))
    shutil.copy(next(p for p in (root / "lines").rglob("*.png") if p.read_bytes() != image.read_bytes()), image)
    with pytest.raises(Error, match="the lines have changed"):
        train(with_(moved, "train.epochs=3"), out, resume=True, say=lambda line: None)


def test_a_batch_larger_than_the_data_is_refused_at_once(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"train\.batch_size is 24, but there are only 23 training lines"):
        train(with_(tiny, "train.batch_size=24"), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_train_in_one_folder(tiny: Config, tmp_path: Path) -> None:
    with run_folder.locked(tmp_path / "run"), pytest.raises(Error, match="another process is training here"):
        train(tiny, tmp_path / "run", say=lambda line: None)


@pytest.mark.once
def test_a_closed_pipe_stops_nothing(drawn: Path, tmp_path: Path) -> None:
    sets = " ".join(f"--set {override}" for override in [*TINY, "train.epochs=3", f"data.root={drawn}"])
    command = f"{sys.executable} -m hwr train --config configs/iam_line.yaml {sets} --out {tmp_path / 'run'} | head -1"
    subprocess.run(
        ["bash", "-c", command], check=True, capture_output=True, cwd=Path(__file__).parent.parent, timeout=120
    )
    assert [row["epoch"] for row in history(tmp_path / "run")] == ["1", "2", "3"]


def test_a_run_ends_at_its_time_limit(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 0.05)  # seconds; read twice per batch
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    settings = with_(
        tiny, "train.minutes=0.03", "train.epochs=100000", "train.schedule=cosine", "train.save_minutes=0.02"
    )
    said: list[str] = []
    saved, real = list[int](), run_folder.save_state
    monkeypatch.setattr(run_folder, "save_state", lambda *arguments: saved.append(1) or real(*arguments))
    assert train(settings, tmp_path / "run", say=said.append)
    rows = history(tmp_path / "run")
    assert 1 <= len(rows) < 1000
    assert len(rows) <= len(saved) <= len(rows) + 1  # at the end of each epoch; the run lasts 1.8 seconds
    assert float(rows[-1]["lr"]) < 0.5 * settings.train.lr
    assert "min)" in "\n".join(said)
    assert (tmp_path / "run/best.safetensors").exists()
    # With a longer time limit, it continues.
    more = with_(settings, "train.minutes=0.05")
    assert train(more, tmp_path / "run", resume=True, say=said.append)
    assert len(history(tmp_path / "run")) > len(rows)


def test_the_time_limit_includes_the_validation(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, real = [0.0], loop.read

    def read(*arguments: Any, **more: Any) -> Any:
        now[0] += 25
        return real(*arguments, **more)

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop, "read", read)
    assert train(with_(tiny, "train.minutes=1", "train.epochs=9"), tmp_path / "run", say=lambda line: None)
    assert len(history(tmp_path / "run")) == 3


@pytest.mark.parametrize(("best", "chosen"), [("loss", 2), ("cer", 4)])
def test_the_best_epoch_and_patience(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: str, chosen: int
) -> None:
    """With the loss and CER given here; ties go to the later epoch."""
    losses, rates = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], [0.9, 0.8, 0.5, 0.5, 0.7, 0.7, 0.7, 0.7]
    real = loop._validate

    def held_out(*arguments: Any) -> Any:
        row, reading = real(*arguments)
        return dataclasses.replace(row, val_loss=losses[row.epoch - 1], val_cer=rates[row.epoch - 1]), reading

    monkeypatch.setattr(loop, "_validate", held_out)
    said: list[str] = []
    settings = with_(tiny, f"train.best={best}", "train.patience=3", "train.epochs=8")
    assert train(settings, tmp_path / "run", say=said.append)
    assert checkpoint.load(tmp_path / "run/best.safetensors").scores["epoch"] == chosen
    assert len(history(tmp_path / "run")) == chosen + 3
    assert any("no improvement for 3 epochs" in line for line in said)
    assert said[-1].startswith(f"best epoch {chosen}:")
    # It does not continue.
    assert train(settings, tmp_path / "run", resume=True, say=said.append)
    assert len(history(tmp_path / "run")) == chosen + 3


def test_a_run_folder_that_is_the_cache_is_refused_before_anything_is_prepared(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"data\.cache: .*run is the run folder"):
        train(with_(tiny, f"data.cache={tmp_path / 'run'}"), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_in_the_precision_that_auto_chose(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwr.engines import torch as torch_engine

    said: list[str] = []
    settings, out = with_(tiny, "engine.precision=auto", "train.epochs=1"), tmp_path / "run"
    for multiplies, epochs in ((False, 1), (True, 2)):  # the second machine would choose bf16
        monkeypatch.setattr(torch_engine, "_multiplies_bf16", lambda device, answer=multiplies: answer)
        train(with_(settings, f"train.epochs={epochs}"), out, resume=epochs > 1, say=said.append)
    assert [line.rpartition(", ")[2] for line in said if line.startswith("network:")] == ["fp32", "fp32"]
    assert config.load(out / "config.yaml").engine.precision == "auto"
    train(settings, tmp_path / "other", say=said.append)
    assert said[-1 - next(i for i, x in enumerate(reversed(said)) if x.startswith("network:"))].endswith("bf16")
