"""Fuzzing: damaged files for every reader. Only an Error is allowed, in bounded time and memory."""

import contextlib
import hashlib
import mmap
import os
import re
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from hwr import Error
from torturing import readers, served
from torturing.common import Result
from torturing.readers import Reader

# Per input: seconds of computing, seconds in all (for readers that wait), and bytes of memory above those at the start.
SECONDS, WAITING, MEMORY = 10, 120, 2 << 30
BATCH = 500  # inputs per process

READERS: dict[str, Reader] = {**readers.READERS, **served.SERVED}
# Their threads would not survive a fork, so they start in each process.
IN_CHILDREN = ("onnx", "request")

# What every file gets: numbers at the limits of their types, other encodings, control characters, deep nesting.
WORDS = (
    *(struct.pack(kind, value) for kind in ("<I", "<Q") for value in (0, 1, 2**31 - 1, 2**31, 2**32 - 1)),
    *(struct.pack("<Q", value) for value in (2**63, 2**64 - 1, 2**40)),
    *(b"\0", b"\xff\xfe", b"\xc3", b"\x1b[2J", b"\r", b"\n", b"\t", b" ", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(b"-1", b"0", b"1e19", b"1e400", b"nan", b"inf", b"9" * 400, b"9" * 5000, b"-0", b"18446744073709551616"),
    *(b"[" * 3000, b"{" * 3000, b"<a>" * 3000, b"../../etc/passwd", b"", b"A" * 5000),
)
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")

Change = tuple[str, int, int, bytes]


def changes(words: tuple[bytes, ...]) -> st.SearchStrategy[list[Change]]:
    """One to four changes of a file. Few of them cut it off, which most readers notice at once."""
    places = st.integers(0, 2**32 - 1)
    kinds = st.sampled_from(
        [*["flip", "byte", "insert", "overwrite", "number", "number", "drop", "repeat"] * 3, "swap", "cut"]
    )
    return st.lists(st.tuples(kinds, places, places, st.sampled_from((*WORDS, *words))), min_size=1, max_size=4)


def changed(content: bytes, made: list[Change]) -> bytes:
    """The file after changes; places are taken modulo its length."""
    for kind, first, second, word in made:
        at = first % max(1, len(content))
        end = min(len(content), at + second % 64 + 1)
        match kind:
            case "flip" if content:
                content = content[:at] + bytes([content[at] ^ (1 << second % 8)]) + content[at + 1 :]
            case "byte" if content:
                content = content[:at] + bytes([second % 256]) + content[at + 1 :]
            case "insert":
                content = content[:at] + word + content[at:]
            case "overwrite":
                content = content[:at] + word + content[at + len(word) :]
            case "number" if found := list(_NUMBER.finditer(content)):
                chosen = found[first % len(found)]
                content = content[: chosen.start()] + word + content[chosen.end() :]
            case "cut":
                content = content[:at]
            case "drop":
                content = content[:at] + content[end:]
            case "repeat":
                content = content[:end] + content[at:end] * (second % 3 + 1) + content[end:]
            case "swap":
                content = content[end:] + content[:at] + content[at:end]
    return content


@dataclass
class Found:
    """What fuzzing a reader has found.

    Attributes:
        inputs: How many were read.
        refused: How many of them were refused with an Error.
        faults: Fault -> the smallest input that causes it.
    """

    inputs: int = 0
    refused: int = 0
    faults: dict[str, bytes] = field(default_factory=dict)

    def add(self, fault: str, content: bytes) -> None:
        if fault not in self.faults or len(content) < len(self.faults[fault]):
            self.faults[fault] = content


def check(reader: Reader, content: bytes, folder: Path) -> bool:
    """Read one input in an empty folder; whether it was refused. Anything but an Error passes through."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = (
        folder
        / f"{'state' if reader.suffix == '.safetensors' else 'a' if 'gt' in reader.suffix else 'good'}{reader.suffix}"
    )
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(path)
        except Error:
            return True
    return False


def run(name: str, inputs: int, number: int) -> Found:
    """Fuzz a reader.

    Args:
        inputs: How many inputs.
        number: The random seed.
    """
    found, files = Found(), READERS[name].good()
    if name not in IN_CHILDREN:
        for good in files:  # also imports and compiles what the children need
            with tempfile.TemporaryDirectory() as folder:
                assert not check(READERS[name], good, Path(folder, "files")), f"{name}: a good file is refused"
    batch, size = 0, min(BATCH, max(50, -(-inputs // len(files))))
    while found.inputs < inputs:
        before = found.inputs
        _one_process(name, files[batch % len(files)], min(size, inputs - found.inputs), (number << 16) + batch, found)
        batch += 1
        found.inputs = max(found.inputs, before + 1)
    return found


class _Shared:
    """Memory shared with the child: the number of inputs, of refused ones, its CPU time at the last, and that input."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 1 << 22)

    def start(self, content: bytes) -> None:
        inputs, refused, _, _ = self.read()
        self.memory[:32] = struct.pack("<QQdQ", inputs + 1, refused, time.process_time(), len(content))
        self.memory[32 : 32 + len(content)] = content

    def refuse(self) -> None:
        inputs, refused, when, length = self.read()
        self.memory[:32] = struct.pack("<QQdQ", inputs, refused + 1, when, length)

    def read(self) -> tuple[int, int, float, int]:
        inputs, refused, when, length = struct.unpack("<QQdQ", self.memory[:32])
        return inputs, refused, when, length

    def content(self) -> bytes:
        return bytes(self.memory[32 : 32 + self.read()[3]])


def _one_process(name: str, good: bytes, inputs: int, number: int, found: Found) -> None:
    """Read `inputs` changed files in a child process, and note what happens to it."""
    shared, folder = _Shared(), Path(tempfile.mkdtemp(prefix="torture"))
    shared.start(b"")
    errors = folder / "errors"
    child = os.fork()
    if not child:
        _child(READERS[name], good, inputs, number, shared, folder)
    status: int | None = None
    last, since = shared.read()[0], time.monotonic()
    while status is None:
        done, code = os.waitpid(child, os.WNOHANG)
        if shared.read()[0] != last:
            last, since = shared.read()[0], time.monotonic()
        if done:
            status = code
        elif _computed(child) - shared.read()[2] > SECONDS or time.monotonic() - since > WAITING:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found.add(f"took more than {SECONDS} seconds", shared.content())
            status = 0
        else:
            time.sleep(0.02)
    if os.WIFSIGNALED(status):
        found.add(f"died of signal {signal.Signals(os.WTERMSIG(status)).name}", shared.content())
    elif status and errors.exists():
        text = errors.read_text(encoding="utf-8", errors="replace")
        found.add(text, (folder / "input").read_bytes())
    elif status:
        found.add(f"ended with status {os.WEXITSTATUS(status)}", shared.content())
    read, refused, _, _ = shared.read()
    found.inputs, found.refused = found.inputs + read - 1, found.refused + refused
    shutil.rmtree(folder, ignore_errors=True)


def _computed(process: int) -> float:
    """CPU seconds of a process."""
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def _child(reader: Reader, good: bytes, inputs: int, number: int, shared: _Shared, folder: Path) -> None:
    """Search for an input that raises anything but an Error; leave the smallest one that was found. Never returns."""
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, base + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    last = b""

    @seed(number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(changes(reader.words))
    def fuzz(made: list[Change]) -> None:
        nonlocal last
        last = changed(good, made)[: 1 << 21]
        shared.start(last)
        if check(reader, last, folder / "files"):
            shared.refuse()

    try:
        fuzz()
    except BaseException as error:
        with contextlib.suppress(OSError):
            (folder / "input").write_bytes(last)  # hypothesis ends with the smallest
            (folder / "errors").write_text(_fault(error), encoding="utf-8", errors="replace")
        os._exit(1)
    os._exit(0)


def _fault(error: BaseException) -> str:
    """The kind of an exception and where in hwr it was raised."""
    inner: Any = error
    while getattr(inner, "exceptions", None):  # a group, of hypothesis
        inner = inner.exceptions[0]
    frames = [frame for frame in traceback.extract_tb(inner.__traceback__) if "/hwr/" in frame.filename]
    place = f"{frames[-1].filename.rpartition('/hwr/')[2]}:{frames[-1].name}" if frames else "outside hwr"
    return f"{type(inner).__name__} in {place}: {str(inner)[:200]}"


def save(name: str, content: bytes, folder: Path) -> Path:
    """Keep an input as a seed: NAME-HASH.SUFFIX."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '_')}-{hashlib.sha256(content).hexdigest()[:8]}{READERS[name].suffix}"
    path.write_bytes(content)
    return path


def fuzz(names: Sequence[str], inputs: int, number: int, keep: Path | None, say: Callable[[str], None]) -> list[Result]:
    """Fuzz readers.

    Args:
        inputs: How many inputs in all. Slow readers get fewer.
        number: The random seed.
        keep: A folder for the inputs that cause a fault.
    """
    results = []
    total = sum(READERS[name].share for name in names)
    for name in names:
        found = run(name, max(1, round(inputs * READERS[name].share / total)), number)
        faults = [f"{fault} (with {content[:60]!r})" for fault, content in found.faults.items()]
        results.append(Result(f"Damaged files: {name}", found.inputs, faults, f"{found.refused} refused"))
        say(str(results[-1]))
        if keep:
            for content in found.faults.values():
                save(name, content, keep)
    return results
