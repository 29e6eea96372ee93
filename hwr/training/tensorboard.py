"""TensorBoard's event files, for either engine."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwr import Error
from hwr.config import Train
from hwr.evaluation import report
from hwr.images.batches import Examples
from hwr.training.run_folder import Epoch


class Board:
    """Writes scalars and pictures into a new event file.

    tensorboardX's writer is used without the thread that its SummaryWriter puts before it: what can't be written is
    then an error here and now, not a traceback of a thread.

    Args:
        folder: The run folder.
        first_step: Where a resumed run goes on: TensorBoard forgets what earlier files have from here on.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        # Imports torch if it finds it, which only engines may: so not before an engine is built.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder = folder
        try:
            self._writer = EventsWriter(str(folder / "events"), f".{uuid.uuid4().hex[:8]}")
        except OSError as error:
            raise Error(f"{folder}: TensorBoard's events could not be written: {error.strerror}") from error
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        self._writer.close()

    def scalar(self, name: str, value: float, step: int) -> None:
        from tensorboardX.summary import scalar

        self._write(step, summary=scalar(name, value))

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Pixels are (H, W, 3) uint8."""
        from tensorboardX.summary import image

        self._write(step, summary=image(name, pixels, dataformats="HWC"))

    def epoch(self, row: Epoch, settings: Train, validation: Examples, texts: Sequence[str]) -> None:
        """Write an epoch's numbers, and now and then some validation lines with their predictions.

        Args:
            texts: The predictions for the validation lines.
        """
        scalars = asdict(row)
        step = scalars.pop("epoch")
        for name, value in scalars.items():
            self.scalar(name, value, step)
        self.scalar("val_loss_weighted", settings.loss_weight * row.val_loss, step)  # the original's number
        every = settings.images_every
        if every and (step % every == 0 or step == settings.epochs):
            shown = np.linspace(0, len(validation) - 1, min(8, len(validation))).astype(int).tolist()
            sheet = report.picture(
                [validation.images[i] for i in shown],
                [validation.lines[i].text for i in shown],
                [texts[i] for i in shown],
            )
            self.picture("held_out_lines", sheet, step)

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        try:
            self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
            self._writer.flush()
        except OSError as error:
            raise Error(f"{self._folder}: TensorBoard's events could not be written: {error.strerror}") from error
