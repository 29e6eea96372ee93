"""Writing that is cut short: by a kill, a full disk, an error. There is the old content or the new, and no manual repair."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import Error, data
from hwr.cli import main
from hwr.config import Config, Data
from hwr.data import synth
from hwr.data.convert import convert
from hwr.system import atomic, memory
from hwr.system.atomic import new_folder, replacing
from hwr.training import run_folder
from hwr.training.loop import train

from .conftest import REPOSITORY


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "a/b"
    with new_folder(out) as folder:
        (folder / "file").write_text("x")
        assert not out.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "file"]
    for there in (out, out / "file"):
        with pytest.raises(Error, match="exists already"), new_folder(there):
            pass
    with pytest.raises(ValueError, match="half"), new_folder(tmp_path / "c") as folder:  # noqa: PT012
        (folder / "file").write_text("x")
        raise ValueError("half")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with new_folder(tmp_path / "link") as folder:
        (folder / "file").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty/file").exists()


@pytest.mark.parametrize("write", [replacing, new_folder])
def test_a_link_that_leads_back_to_itself(tmp_path: Path, write: Callable[[Path], Iterator[Path]]) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Error, match="a link that leads back to itself"), write(tmp_path / "a"):  # type: ignore[attr-defined]
        pass
    assert len(list(tmp_path.iterdir())) == 2


def killed_in(code: str, folder: Path) -> None:
    """Run code that writes, and kill it when it prints."""
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert started.stdout is not None
    with started.stdout:
        assert started.stdout.readline()
        started.kill()
    started.wait()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "ABANDONED", 0)
    code = "from hwr.system.atomic import *\nimport time\nwith {}('out') as t:\n    print(1, flush=True)\n    time.sleep(60)"
    killed_in(code.format("replacing"), tmp_path)
    assert [path.is_dir() for path in tmp_path.glob(".out.*.tmp")] == [False]
    killed_in(code.format("new_folder"), tmp_path)
    assert [path.is_dir() for path in tmp_path.glob(".out.*.tmp")] == [True]
    with replacing(tmp_path / "out") as held:
        with replacing(tmp_path / "out") as temporary:  # what is still being written stays
            temporary.write_text("new")
        assert held.exists()
        held.write_text("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "newer"


def test_a_young_temporary_file_may_be_one_that_has_lost_its_lock(tmp_path: Path) -> None:
    """As some libraries replace the file that they write to."""
    young = tmp_path / ".out.01234567.tmp"
    young.touch()
    for left, changed in ((True, time.time()), (False, 1)):
        os.utime(young, (changed, changed))
        with replacing(tmp_path / "out") as temporary:
            temporary.write_text("new")
        assert young.exists() is left


def test_a_read_only_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also refuses to remove what is not there."""

    def refuses(*arguments: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), ".x.tmp")

    with monkeypatch.context() as changed:
        changed.setattr(os, "open", refuses)
        changed.setattr(Path, "unlink", refuses)
        with pytest.raises(Error) as raised, atomic.replacing(tmp_path / "x.pdf"):
            pass
    assert str(raised.value) == (
        f"{tmp_path / 'x.pdf'}: could not be written: {os.strerror(errno.EROFS)}. Name another folder, or make {tmp_path} "
        "writable. The previous file is unchanged."
    )


@pytest.mark.parametrize("kind", ["iam", "table", "page", "alto", "gt"])
def test_a_conversion_that_fails_leaves_no_dataset(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from hwr.data.formats import writing, xml

    def failing(function: Callable[..., object]) -> Callable[..., object]:
        calls: list[object] = []

        def call(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) > 5:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return call

    module, name = (xml, "write") if kind in ("page", "alto") else (writing, "save_image")
    monkeypatch.setattr(module, name, failing(getattr(module, name)))
    dataset = data.read(Data(root=str(drawn)))
    with pytest.raises(Error, match="No space left"):
        convert(dataset, tmp_path / "out", kind)
    assert not list(tmp_path.iterdir())


def test_drawing_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synth.folder, "_write_lists", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synth.write(tmp_path / "out", 4, 4, 0)
    assert not list(tmp_path.iterdir())


# --- a run folder


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_while_its_config_is_written_starts_again(tiny: Config, tmp_path: Path, resume: bool) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".config.yaml.0123abcd.tmp").write_text("data:\n  ro")
    settings = tiny.model_copy(update={"train": tiny.train.model_copy(update={"epochs": 1})})
    assert train(settings, out, resume=resume, say=lambda line: None)
    assert not list(out.glob("*.tmp"))
    assert (out / "best.safetensors").exists()


def test_a_run_that_was_never_started_is_not_resumed(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(Error, match="no run to resume"):
        run_folder.check(tmp_path / "run", tiny, resume=True)
    (tmp_path / "run").mkdir()
    with pytest.raises(Error, match="no run to resume"):
        run_folder.check(tmp_path / "run", tiny, resume=True)
    (tmp_path / "run/mine.txt").touch()
    with pytest.raises(Error, match="no such config"):
        run_folder.check(tmp_path / "run", tiny, resume=True)
    result = CliRunner().invoke(main, ["train", "--resume", "--out", str(tmp_path / "run")])
    assert (result.exit_code, "start one with --config FILE" in result.stderr) == (2, True)


# --- a full disk, too little memory


@contextmanager
def limited(which: int, bytes_: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(which, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", ["torchscript", "onnx", "safetensors"])
def test_an_export_on_a_full_disk(model: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("torch")
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    out = tmp_path / f"out{'' if kind == 'torchscript' else f'.{kind}'}"
    with limited(resource.RLIMIT_FSIZE, 20_000):
        result = CliRunner().invoke(main, ["export", str(model), "--format", kind, "--out", str(out)])
    assert result.exit_code == 2, result.exception
    assert f"hwr: {out}: could not be written: " in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("std::bad_alloc"),
        SystemError("error return without exception set"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_says_what_to_lower(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hwr import describe

    def fail(*arguments: object) -> None:
        raise error

    assert memory.is_short(error)
    monkeypatch.setattr(describe, "describe", fail)
    result = CliRunner().invoke(main, ["info", "hwr-latin"])
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "memory" in result.stderr
    assert isinstance(error, OSError) or "lower the batch size" in result.stderr
    with pytest.raises(Error, match="out of memory: lower this"), memory.errors("this"):
        raise error


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not memory.is_short(ValueError("no"))
    assert not memory.is_short(Error("out of memory: lower that"))
    with pytest.raises(ValueError, match="no"), memory.errors("this"):
        raise ValueError("no")


def test_the_beam_names_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwr.alphabet import Alphabet
    from hwr.decoding import Decoder, Settings, beam

    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(beam, "search", fail)
    with pytest.raises(Error, match=r"lower --beam \(now 50\) or evaluate\.batch_size \(now 2\)"):
        Decoder(Alphabet("ab"), Settings("beam", 50))(np.zeros((2, 3, 3), np.float32))
