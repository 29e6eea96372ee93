"""Nothing that comes from a stranger reaches the terminal unescaped."""

import ast
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import Error, checkpoint
from hwr.alphabet import Alphabet
from hwr.cli import main
from hwr.system import terminal

from .conftest import REPOSITORY

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u2028\x7f"


def test_control_characters_are_shown() -> None:
    assert terminal.visible("a\u202egpj.exe\u2066\t\n") == "a\\u202egpj.exe\\u2066\t\n"
    assert terminal.visible(EVIL) == r"\u001b]0;owned\u0007\u001b[2J\u009b31m\u000d\u2028\u007f"
    assert terminal.visible("a\tb\nc é 日本 \U0001f600") == "a\tb\nc é 日本 \U0001f600"
    assert terminal.visible(os.fsdecode(b"caf\xe9.png")) == r"caf\udce9.png"


@pytest.mark.parametrize("found", [{"name": EVIL, "n": [1, EVIL]}, EVIL])
def test_visible_json_is_the_same_json(found: object) -> None:
    assert json.loads(terminal.visible(json.dumps(found, ensure_ascii=False))) == found


def test_only_one_module_prints() -> None:
    """Everything else calls `hwr.system.terminal.echo`, which shows control characters."""
    wrong = []
    printing = ("terminal.py", "pdfs.py", "train_process.py")  # the last two print to the process that started them
    for path in (REPOSITORY / "hwr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and path.name not in printing:
                name = ast.unparse(node.func)
                if name in (
                    "print",
                    "click.echo",
                    "click.secho",
                    "traceback.print_exc",
                    "traceback.print_exception",
                ) or name.endswith(("stdout.write", "stderr.write")):
                    wrong.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}: {name}; use hwr.system.terminal.echo")
    assert not wrong


def hwr(*arguments: object) -> str:
    """What a command prints, which must have no control characters; that it fails is expected."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    said = result.stdout + result.stderr
    assert not terminal.CONTROL.search(said.replace("\n", "").replace("\t", "")), repr(said)
    return said


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder whose name is an escape sequence."""
    folder = tmp_path / EVIL.replace("/", "")
    folder.mkdir()
    return folder


def png(path: Path) -> Path:
    Image.fromarray(np.full((24, 60), 255, np.uint8)).save(path)
    return path


COMMANDS: list[tuple[str, ...]] = [
    ("data", "summary", "{}"),
    ("data", "summary", "{}/gone"),
    ("data", "convert", "{}", "{}/out", "--to", "gt"),
    ("info", "{}"),
    ("info", "{}/gone.safetensors"),
    ("info", "{}/gone.params"),
    ("export", "{}/gone.safetensors", "--format", "onnx"),
    ("train", "--config", "{}/gone.yaml"),
    ("train", "--config", "lines_cpu", "--set", "data.root={}", "--out", "{}/run"),
    ("train", "--config", "lines_cpu", "--set", "data.{}=1", "--out", "{}/run"),
    ("evaluate", "--checkpoint", "{}/gone.safetensors"),
    ("evaluate", "--checkpoint", "hwr-latin", "--config", "{}"),
    ("predict", "{}"),
    ("predict", "{}/gone.png"),
    ("predict", "--{}", "x"),
    ("lm", "build", "--text", "{}/gone", "--out", "{}/lm.bin"),
    ("lm", "build", "--text", "{}/gone", "--out", "{}/gone/lm.bin"),
    ("lm", "tune", "--checkpoint", "{}/gone.safetensors"),
    ("synth", "--out", "{}/a", "--fonts", "{}", "--text", "{}"),
    ("synth", "--lines", "4", "--writers", "4", "--out", "{}/drawn"),
    ("iam", "check", "--root", "{}"),
    ("iam", "check", "--root", "{}/gone"),
    ("augment", "--out", "{}/gone/sheet.png"),
    ("{}",),
    ("data", "{}"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_names_and_arguments_are_shown(evil: Path, command: tuple[str, ...]) -> None:
    assert hwr(*(part.replace("{}", str(evil)) for part in command))


def test_contents_of_files_are_shown(evil: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text('"\\e[2Jdata":\n  root: x\n', encoding="utf-8")
    assert r"\u001b[2Jdata" in hwr("train", "--config", config)
    config.write_text('data:\n  "\\e[2J": x\n  root: "\\e[2J"\n', encoding="utf-8")
    assert r"\u001b" in hwr("train", "--config", config)
    png(evil / "a.png")
    (evil / "a.gt.txt").write_text("the text \x1b[2J\n", encoding="utf-8")
    hwr("data", "summary", evil)
    table = tmp_path / "t.tsv"
    table.write_text("image\ttext\tid\n\x1b[2J.png\tx\t\x1b[2J\n", encoding="utf-8")
    assert r"\u001b[2J.png" in hwr("data", "summary", table)
    table.write_text('image\ttext\tid\n"a\x1b[2J', encoding="utf-8")
    hwr("data", "summary", table)
    page = tmp_path / "p.xml"
    page.write_text("<PcGts><Page imageFilename='&#x9b;31m.png'/></PcGts>", encoding="utf-8")
    hwr("predict", page)


def test_predictions_are_shown(evil: Path, model: Path) -> None:
    pytest.importorskip("torch")
    image = png(evil / "a\rb\n.png")
    for kind in ("txt", "tsv", "json"):
        said = hwr("predict", "--checkpoint", model, image, "--format", kind)
        assert len(said.splitlines()) == 1 + (kind == "tsv")
    assert json.loads(said)["image"] == str(image)
    png(evil / "c.png").write_bytes(b"damaged")
    assert r"\u001b" in hwr("predict", "--checkpoint", model, evil)
    hwr("predict", "--checkpoint", model, image, "--format", "page", "--out", evil / "read")
    hwr("evaluate", "--checkpoint", model, "--set", f"data.root={evil}")


def test_an_alphabet_has_no_control_characters(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"control character U\+009B"):
        Alphabet("ab\x9b")
    arrays, about = checkpoint.read_arrays(model)
    path = tmp_path / "evil.safetensors"
    checkpoint.write_arrays(path, arrays, {**about, "alphabet": "\x1b" + about["alphabet"][1:]})
    assert "control character U+001B" in hwr("info", path)
    checkpoint.write_arrays(path, arrays, {**about, "scores": {**about["scores"], "split_name": EVIL}})
    assert r"\u001b" in hwr("info", path)
    assert r"\u001b" in hwr("info", path, "--json")


# --- streams and signals


def program(*arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    """Run hwr in a shell, with `shell` after its arguments."""
    command = " ".join([sys.executable, "-m", "hwr", *arguments, shell])
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=REPOSITORY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_are_closed_or_full(tmp_path: Path) -> None:
    closed = program("info", "gone.safetensors", shell="2>&-")
    assert (closed.returncode, closed.stdout) == (2, "")
    assert program("info", "gone.safetensors", shell="2>/dev/full").returncode == 2
    full = program("info", "hwr-latin", shell=">/dev/full")
    assert (full.returncode, full.stderr) == (2, "hwr: [Errno 28] No space left on device\n")


def test_a_closed_stream_is_not_written_into_a_file(tmp_path: Path) -> None:
    """The next file that is opened gets the number of the closed stream."""
    code = "from hwr.system import terminal; terminal.prepare(); import os; print(os.open(os.devnull, os.O_RDONLY), flush=True)"
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{code}' 2>&-"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert int(done.stdout) > 2


def test_an_encoding_without_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, "latin-1"))
    terminal.echo("naïve …", err=True)
    sys.stderr.flush()
    assert raw.getvalue() == b"na\xefve \\u2026\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.08, 0.3])
def test_a_signal_during_the_imports_shows_no_traceback(number: signal.Signals, status: int, delay: float) -> None:
    started = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "hwr", "evaluate", "--checkpoint", "hwr-latin"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a background job ignores Ctrl-C
    )
    assert started.stderr is not None
    with started.stderr as messages:
        while "hwr.system.terminal" not in messages.readline():  # then the program has begun
            pass
        time.sleep(delay)
        started.send_signal(number)
        rest = "".join(line for line in messages if not line.startswith("import time:"))
    assert started.wait() == status, rest
    assert "Traceback" not in rest


def test_a_traceback_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        terminal._show(ValueError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "\x1b" not in said


def test_only_names_that_are_left_out_are_dots() -> None:
    assert [terminal.some(["a", "b", "c"], most) for most in (1, 2, 3, 4)] == ["a, …", "a, b, …", "a, b, c", "a, b, c"]
    assert terminal.some([]) == ""
