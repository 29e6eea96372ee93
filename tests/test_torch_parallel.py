"""Two real processes over gloo: in the engine, and from the command line with torchrun."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr import Error, checkpoint, config
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.images import batches

from . import forked
from .conftest import TINY, TINY_CRNN, whole

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.once

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hwr"]


def _together(work: Callable[..., None], size: int, *arguments: object) -> None:
    """Call a function of this module in `size` new processes, with rank, size and further arguments."""
    each = [(work, variables, rank, size, *arguments) for rank, variables in enumerate(_variables(size))]
    processes = [forked.CONTEXT.Process(target=_as, args=one, daemon=True) for one in each]
    for process in processes:
        process.start()
    for process in processes:
        assert forked.end(process) == 0


def _as(work: Callable[..., None], variables: dict[str, str], *arguments: object) -> None:
    os.environ |= variables
    work(*arguments)


def _variables(size: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    each = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(size)]
    return [{name: str(value) for name, value in variables.items()} for variables in each]


def test_only_gloo_waits_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL keeps its own time limit, whether or not there are GPUs."""
    from hwr.engines import torch_parallel

    calls: list[tuple[str, Any]] = []
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_parallel.atexit, "register", lambda function: None)
    monkeypatch.setattr(
        torch_parallel.dist, "init_process_group", lambda backend, timeout: calls.append((backend, timeout))
    )
    monkeypatch.setattr(
        torch_parallel.dist, "new_group", lambda backend, timeout=None: calls.append((backend, timeout))
    )
    torch_parallel._nccl.cache_clear()
    torch_parallel.TorchGroup()
    assert torch_parallel._group(torch.device("cpu")) is None
    torch_parallel._group(torch.device("cuda"))
    torch_parallel._nccl.cache_clear()
    assert calls == [("gloo", torch_parallel.PATIENCE), ("nccl", None)]


def _step(rank: int, size: int, settings: dict[str, Any], batch: batches.Batch, out: Path) -> None:
    """One training step as process `rank` of `size`, which gives its rows of the batch; gradients and all go to a file."""
    from hwr import engines

    engine = engines.trainer(config.from_dict(settings), 81)
    engine.load({name: np.full_like(a, 0.02) if a.ndim < 2 else a for name, a in engine.weights().items()})
    rows = batches.Batch(
        batch.images[rank::size], batch.widths[rank::size], batch.labels[rank::size], None, batch.index[rank::size]
    )
    loss = float(engine.train_step(rows, 0.0))
    net = engine._net  # type: ignore[attr-defined]
    grown = {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}
    buffers = {name: b.numpy() for name, b in net.named_buffers() if "running" in name}
    np.savez(out / f"{size}-{rank}.npz", loss=loss, **grown, **buffers)


@pytest.mark.parametrize("settings", [TINY, [*TINY, "model.downsamples=1"], TINY_CRNN], ids=["original", "one", "crnn"])
def test_the_gradient_of_two_processes_is_that_of_one(
    settings: list[str], rng: np.random.Generator, tmp_path: Path
) -> None:
    settings_ = config.load(None, [*settings, "model.dropout=0", "train.clip=1.0"])
    if settings is TINY_CRNN:
        settings_ = config.override(config.to_dict(settings_), ["model.head_dropout=0", "train.ema=0.9"])
    # Each line occurs twice, once per process, so batch norm sees the same lines in both as in one process.
    images = rng.integers(0, 256, (4, settings_.image.height, 320), dtype=np.uint8).repeat(2, 0)
    labels = batches.pad(
        [Alphabet(ORIGINAL).encode(text) for text in ("a nice", "day", "for", "two") for _ in range(2)]
    )
    for size in (1, 2):
        _together(_step, size, config.to_dict(settings_), whole(images, labels), tmp_path)
    alone, *two = (dict(np.load(tmp_path / name)) for name in ("1-0.npz", "2-0.npz", "2-1.npz"))
    assert len(alone) > 20
    for name, value in alone.items():
        assert np.abs(value).max() > 0 or name.endswith("bias"), name
        for other in two:
            if np.abs(value).max() < 1e-5:  # a bias before batch norm: its gradient is 0, but for rounding
                assert np.abs(other[name]).max() < 1e-5, name
            else:
                assert np.allclose(other[name], value, rtol=1e-3, atol=1e-4 * np.abs(value).max()), name
        assert np.array_equal(two[0][name], two[1][name])  # to the bit, or the processes would diverge


def _pull(rank: int, size: int, features: np.ndarray, labels: np.ndarray, out: Path) -> None:
    """The center loss, twice, for lines that are all read correctly except the last."""
    from hwr.engines.torch_trainer import TorchTrainer
    from hwr.networks.original.torch import Output

    engine = TorchTrainer(config.load(None, TINY_CRNN), 6)
    read = np.where(labels < 0, 5, labels)  # the blank is 5
    read[-1] = 5
    logits = torch.nn.functional.one_hot(torch.from_numpy(read[rank::size]).long(), 6).float()
    for turn in range(2):
        own = torch.from_numpy(features[rank::size]).requires_grad_()
        loss = engine._center_loss(Output(logits, None, own), labels[rank::size])
        loss.backward()
        assert own.grad is not None
        assert engine._centers is not None
        arrays = {"loss": loss.detach(), "pull": own.grad, "centers": engine._centers}
        np.savez(out / f"{size}-{rank}-{turn}.npz", **{name: array.numpy() for name, array in arrays.items()})


def test_the_center_loss_of_two_processes_is_that_of_one(rng: np.random.Generator, tmp_path: Path) -> None:
    # One process has three characters in correctly read lines, the other seven.
    labels = np.array([[1, -1, -1, -1], [1, 2, 3, 4], [2, 3, -1, -1], [4, 1, 2, -1], [1, 2, 3, 4]], np.int32)
    features = rng.normal(size=(5, 4, 8)).astype(np.float32)
    for size in (1, 2):
        _together(_pull, size, features, labels, tmp_path)
    for turn in range(2):
        alone, *two = (dict(np.load(tmp_path / f"{name}-{turn}.npz")) for name in ("1-0", "2-0", "2-1"))
        assert alone["loss"] > 0
        assert sum(each["loss"] for each in two) / 2 == pytest.approx(alone["loss"], rel=1e-5)
        for rank, each in enumerate(two):
            assert np.allclose(each["pull"] / 2, alone["pull"][rank::2], atol=1e-7)
            assert np.allclose(each["centers"], alone["centers"], atol=1e-6)


def _lose(rank: int, size: int) -> None:
    """Process 0 ends, and the others notice."""
    from hwr.engines.torch_parallel import TorchGroup

    group = TorchGroup()
    assert group.all_gather(rank) == [*range(size)]
    if rank:
        with pytest.raises(Error, match="another process has ended"):
            group.highest([1.0])


def test_the_end_of_another_process_is_reported_without_a_traceback() -> None:
    _together(_lose, 2)


def _hwr(folder: Path, *arguments: object) -> tuple[int, str]:
    """Run hwr in two processes. Returns the higher exit status, and what both said."""
    said = [folder / f"said-{rank}" for rank in (0, 1)]
    started = [
        forked.start(out, "-m", "hwr", *arguments, environment=one)
        for out, one in zip(said, _variables(2), strict=True)
    ]
    return max(map(forked.end, started)), "".join(out.read_text() for out in said)


@pytest.fixture
def recipe(tmp_path: Path, drawn: Path) -> Path:
    more = [
        "train.epochs=20",
        "train.ema=0.9",
        "train.schedule=cosine",
        "train.center_loss=0.1",
        "train.center_from=0.0",
        "train.optimizer=muon",
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(config.dump(config.load(None, [*TINY_CRNN, f"data.root={drawn}", *more])))
    return path


def test_two_processes_train_from_the_command_line(recipe: Path, tmp_path: Path) -> None:
    status, said = _hwr(tmp_path, "train", "--config", recipe, "--out", tmp_path / "unbroken")
    assert status == 0, said
    assert said.count("epoch   1/20") == 1
    assert "2 processes" in said
    # Interrupted in the middle, by torchrun, and resumed, it gives the same result, to the bit.
    command = [*TORCHRUN, "train", "--config", recipe, "--out", tmp_path / "broken"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watch = threading.Timer(300, process.kill)  # in case the two wait for each other forever
        watch.start()
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("epoch   2/20"):
                process.send_signal(signal.SIGINT)
        watch.cancel()
    assert "interrupted and saved" in told
    assert not list((tmp_path / "broken").glob(".*.tmp"))
    status, said = _hwr(tmp_path, "train", "--resume", "--out", tmp_path / "broken")
    assert status == 0, said
    assert "resuming after" in said
    one, other = (checkpoint.load(tmp_path / name / "last.safetensors") for name in ("unbroken", "broken"))
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
    status, said = forked.run(tmp_path / "alone", "-m", "hwr", "train", "--resume", "--out", tmp_path / "broken")
    assert status == 2
    assert "was trained by 2 processes, not 1" in said


def test_every_line_is_read_once(model: Path, drawn: Path, tmp_path: Path) -> None:
    def alone(*arguments: object) -> tuple[int, str]:
        return forked.run(tmp_path / "alone", "-m", "hwr", *arguments)

    def together(*arguments: object) -> tuple[int, str]:
        return _hwr(tmp_path, *arguments)

    arguments = ["evaluate", "--checkpoint", model, "--split", "train", "--set", "evaluate.batch_size=3", "--json"]
    reports = []
    for run in (alone, together):
        status, said = run(*arguments, tmp_path / "report.json")
        assert status == 0, said
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    one, two = ({k: v for k, v in report.items() if k != "lines_per_second"} for report in reports)
    assert one == two
    paths = sorted(drawn.rglob("*.png"))[:21]
    assert len(paths) == 21
    arguments = ["predict", *paths, tmp_path / "nothing.png", "--checkpoint", model, "--json"]
    # One line at a time, with the same library: onnxruntime would read so few lines.
    more = ["--set", "evaluate.batch_size=1", "--engine", "torch"]
    found = []
    for run in (alone, together):
        status, said = run(*arguments, *more)
        assert status == 1  # nothing.png
        assert "nothing.png: " in said
        found.append([json.loads(line) for line in said.splitlines() if line.startswith("{")])
    assert [line["image"] for line in found[0]] == [str(path) for path in paths]
    assert found[0] == found[1]


def test_commands_that_refuse_several_processes(recipe: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["synth", "--out", tmp_path / "x"], "hwr synth runs in one process"),
        (
            ["train", "--config", recipe, "--set", "train.batch_size=7", "--out", tmp_path / "run"],
            "can't be split evenly among 2 processes",
        ),
    ):
        status, said = _hwr(tmp_path, *arguments)
        assert status
        assert words in said


def test_without_torchrun_the_group_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwr.engines.torch_parallel import TorchGroup

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    group = TorchGroup()
    assert (group.rank, group.local_rank, group.size) == (0, 0, 1)
    assert group.all_gather("x") == ["x"]
    assert group.highest([1.0, 2.0]) == [1.0, 2.0]
