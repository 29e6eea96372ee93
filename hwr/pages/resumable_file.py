"""One file of rows that is written over hours: what a killed process has written is kept, and continued."""

import contextlib
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from hwr import Error
from hwr.pages.journal import stamp
from hwr.system import files
from hwr.system.atomic import remedy, replacing
from hwr.system.processes import lock

# Seconds between notes of what is written.
INTERVAL = 2.0


class Partial:
    """A file that grows beside its final place, with a note of which inputs it holds.

    A device or a pipe is written to directly.

    Args:
        out: The final place.
        model: The fingerprint of what reads.
        inputs: The names of the inputs, in order.
        again: Whether to begin anew.
        state: Tells whether an input has changed, by its name.

    Attributes:
        done: How many inputs the file holds already.
        noted: What was noted with them.

    Raises:
        Error: The file can't be opened.
    """

    def __init__(
        self,
        out: Path,
        model: str,
        inputs: Sequence[str],
        again: bool = False,
        state: Callable[[str], object] = lambda name: stamp(Path(name)),
    ) -> None:
        self._out, self._model, self._inputs, self._state = out, model, inputs, state
        real = Path(os.path.realpath(out))
        self._part = real.with_name(f".{real.name}.part")
        self._note = real.with_name(f".{real.name}.part.json")
        self._direct = real.exists() and not real.is_file()
        self._digest = hashlib.sha256()
        self._seen: deque[object] = deque()
        self._time = time.monotonic()
        self.done, self.noted = 0, dict[str, Any]()
        try:
            if self._direct:
                self._file: IO[bytes] = open(out, "wb")  # noqa: SIM115
                return
            self._file = _locked(self._part, out)
            self.done, size, self.noted = (0, 0, {}) if again else self._found()
            if not self.done:  # a note of other rows must not be taken for one of those to come
                self._note.unlink(missing_ok=True)
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            raise _refused(out, error) from error

    def _found(self) -> tuple[int, int, dict[str, Any]]:
        """Number of inputs and bytes of an earlier run's file, and its notes; 0 if it does not fit."""
        try:
            note = files.parse_json(files.read_bytes(self._note))
            done, size, noted = int(note["inputs"]), int(note["bytes"]), dict(note["noted"])
            fits = note["model"] == self._model and done <= len(self._inputs) and self._part.stat().st_size >= size
            if not fits or self._after(done).hexdigest() != note["digest"]:
                raise ValueError
        except (Error, OSError, ValueError, TypeError, KeyError):
            self._digest, self._hashed = hashlib.sha256(), 0
            return 0, 0, {}
        return done, size, noted

    _hashed = 0

    def _after(self, inputs: int) -> Any:
        """The digest of the names and states of the first inputs."""
        for name in self._inputs[self._hashed : inputs]:
            state = self._seen.popleft() if self._seen else self._state(name)
            self._digest.update(os.fsencode(name) + f"\0{state}\0".encode())
        self._hashed = inputs
        return self._digest

    def rest(self) -> Iterator[str]:
        """The inputs that are left, each as it is to be read: the note has the state from before, so that a change is noticed."""
        for name in self._inputs[self.done :]:
            if not self._direct:
                self._seen.append(self._state(name))
            yield name

    def write(self, rows: bytes, done: int, noted: Callable[[], dict[str, Any]] = dict) -> None:
        """Append rows.

        Args:
            done: How many inputs are written with them, completely.
            noted: Returns what to find again in `noted`.

        Raises:
            Error: The file system refuses.
        """
        try:
            self._file.write(rows)
            # Only between two inputs: rows after the last complete one would be written again.
            complete, self.done = done > self.done, done
            if not self._direct and complete and time.monotonic() - self._time > INTERVAL:
                self._file.flush()
                os.fsync(self._file.fileno())  # before the note that they are there
                note = {"model": self._model, "inputs": done, "bytes": self._file.tell(), "noted": noted()}
                with replacing(self._note) as temporary:
                    temporary.write_text(json.dumps(note | {"digest": self._after(done).hexdigest()}))
                self._time = time.monotonic()
        except OSError as error:
            raise Error(f"{self._out}: could not be written: {error.strerror or error}") from error

    def finish(self) -> None:
        """Move the file to its place.

        Raises:
            Error: The file system refuses.
        """
        try:
            self._file.flush()
            if self._direct:
                return
            with replacing(self._out) as temporary:
                os.replace(self._part, temporary)
            self._note.unlink(missing_ok=True)
        except OSError as error:
            raise Error(f"{self._out}: could not be written: {error.strerror or error}") from error
        finally:
            self._file.close()  # and so unlock it

    def close(self) -> None:
        """Close the file, and keep it for the next run."""
        self._file.close()


@contextlib.contextmanager
def alone(path: Path, out: Path) -> Iterator[None]:
    """Hold a file, which is there only meanwhile, so that no other process writes to `out`.

    Raises:
        Error: Another process holds it; it can't be written.
    """
    try:
        file = _locked(path, out)
    except OSError as error:
        raise _refused(out, error) from error
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()


def _locked(path: Path, out: Path) -> IO[bytes]:
    """Open a file, which stays as it is, for this process alone.

    Args:
        out: What the process writes with its help.

    Raises:
        Error: Another process holds it.
    """
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115
        if not _lock(file):
            file.close()
            raise Error(f"{out}: another process is writing this file; wait for it, or name another --out")
        # The process that held it may just have moved it to its place, or removed it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


def _refused(out: Path, error: OSError) -> Error:
    return Error(f"{out}: could not be written: {error.strerror or error}.{remedy(error, out.parent)}")


def _lock(file: IO[bytes]) -> bool:
    with contextlib.suppress(OSError):  # a file system without locks
        return lock(file)
    return True
