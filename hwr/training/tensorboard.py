"""TensorBoard's event files: written by tensorboardX for the torch engine, by mxboard for the MXNet engine."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error
from hwr.config import Train
from hwr.evaluation import report
from hwr.images.batches import Examples
from hwr.training.run_folder import Epoch


class EventFile:
    """One event file, written with either package.

    Both packages write from a thread, where an error would only print a traceback. So this class calls their writers
    directly.

    Args:
        messages: The package's module of protobuf messages.
        writer: The package's event writer.
    """

    def __init__(self, messages: Any, writer: Any) -> None:
        self._messages, self._writer = messages, writer

    def write(self, **content: Any) -> None:
        """Append an event and flush it."""
        self._writer.write_event(self._messages.Event(wall_time=time.time(), **content))
        self._writer.flush()

    def start(self, step: int) -> None:
        """Record that a run starts or resumes here."""
        self.write(step=step, session_log=self._messages.SessionLog(status=self._messages.SessionLog.START))

    def scalar(self, name: str, value: float, step: int) -> None:
        raise NotImplementedError

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        """Close the file after an error, and drop its buffer."""
        raise NotImplementedError


class Board:
    """Writes scalars and pictures into a new event file.

    Args:
        folder: The run folder.
        first_step: The first step that a resumed run writes; TensorBoard drops later steps of earlier files.
        engine: The name of the engine that trains.

    Raises:
        Error: The file can't be written; raised by every method.
    """

    def __init__(self, folder: Path, first_step: int, engine: str) -> None:
        self._folder = folder
        self._file: EventFile | None = None
        with self._errors():
            match engine:
                case "torch":
                    self._file = TensorboardX(folder)
                case "mxnet":
                    self._file = MXBoard(folder)
                case _:
                    raise AssertionError(engine)
            self._file.start(first_step)

    def close(self) -> None:
        if self._file is not None:
            with self._errors():
                self._file.close()
            self._file = None

    def scalar(self, name: str, value: float, step: int) -> None:
        assert self._file is not None
        with self._errors():
            self._file.scalar(name, value, step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Pixels are (H, W, 3) uint8."""
        assert self._file is not None
        with self._errors():
            self._file.picture(name, pixels, step)

    def epoch(self, row: Epoch, settings: Train, validation: Examples, texts: Sequence[str]) -> None:
        """Write an epoch's scalars and, every `images_every` epochs, some validation lines with their predictions.

        Args:
            texts: The predictions for the validation lines.
        """
        scalars = asdict(row)
        step = scalars.pop("epoch")
        for name, value in scalars.items():
            self.scalar(name, value, step)
        self.scalar("val_loss_weighted", settings.loss_weight * row.val_loss, step)  # as in the original
        every = settings.images_every
        if every and (step % every == 0 or step == settings.epochs):
            shown = np.linspace(0, len(validation) - 1, min(8, len(validation))).astype(int).tolist()
            sheet = report.picture(
                [validation.images[i] for i in shown],
                [validation.lines[i].text for i in shown],
                [texts[i] for i in shown],
            )
            self.picture("validation_lines", sheet, step)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._file is not None:
                self._file.abandon()
                self._file = None
            raise Error(f"{self._folder}: TensorBoard events could not be written: {error.strerror}") from error


class TensorboardX(EventFile):
    """Imports torch if installed, which only engines may do: create it after an engine."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        super().__init__(event_pb2, EventsWriter(str(folder / "events"), _suffix()))
        self._summary = summary

    def scalar(self, name: str, value: float, step: int) -> None:
        self.write(step=step, summary=self._summary.scalar(name, value))

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self.write(step=step, summary=self._summary.image(name, pixels, dataformats="HWC"))

    def abandon(self) -> None:
        with suppress(OSError):
            self._writer._py_recordio_writer.close()


class MXBoard(EventFile):
    """Writes with mxboard.

    Raises:
        Error: mxboard can't be imported. It defines TensorBoard's messages under the same names, so a process can't import
            both.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from mxboard import summary
            from mxboard.event_file_writer import EventsWriter
            from mxboard.proto import event_pb2
        except ImportError as error:
            raise Error(
                f"engine mxnet needs mxboard, which can't be imported ({error}): pip install -e '.[mxnet]' or "
                "-e '.[mxnet-cu112]'"
            ) from error
        except TypeError as error:
            raise Error(
                "the mxnet engine writes its events with mxboard, which can't be imported after TensorBoard "
                f"({error}); train in a new process, or use --engine torch"
            ) from error
        super().__init__(event_pb2, EventsWriter(str(folder / "events"), verbose=False))
        self._summary = summary
        try:
            self._writer.init_with_suffix(_suffix())
            # mxboard omits the version, without which TensorBoard ignores that a run resumes.
            self.write(file_version="brain.Event:2")
        except OSError:
            self.abandon()
            raise
        except ValueError as error:  # mxboard turns an OSError into this
            raise error.__context__ or error from None

    def scalar(self, name: str, value: float, step: int) -> None:
        self.write(step=step, summary=self._summary.scalar_summary(name, value))

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self.write(step=step, summary=self._summary.image_summary(name, pixels.transpose(2, 0, 1)))

    def abandon(self) -> None:
        # Take the writer away from mxboard, whose destructors would flush again.
        records, self._writer._recordio_writer = self._writer._recordio_writer, None
        if records is not None:
            with suppress(OSError):
                records._writer.close()
            records._writer = None


def _suffix() -> str:
    """Distinguishes the files of runs that start in the same second."""
    return f".{uuid.uuid4().hex[:8]}"
