"""The line images that a network takes, and the time steps that it makes of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Batches of lines of any width are padded to multiples of so many pixels, so that an engine meets few different shapes.
MULTIPLE = 32


@dataclass(frozen=True)
class Geometry:
    """Sizes of a network's input and output.

    Attributes:
        height: Of every line image, in pixels.
        width: In pixels: of every line image if `steps` is given, else the most that one may have, margins included.
        steps: T, the time steps of every line; None where they follow from the line's width.
        strides: By which the network shrinks the width, one after the other, each rounded up.
        frames: Time steps that it makes of each remaining column.
        margin: Paper added to the left and right of a line, in pixels.
        straighten: Whether sloping lines are made level first.
        edge_spaces: Whether the network writes a space before and after each text, for the paper there.
    """

    height: int
    width: int
    steps: int | None = None
    strides: tuple[int, ...] = ()
    frames: int = 1
    margin: int = 0
    straighten: bool = False
    edge_spaces: bool = False

    @property
    def any_width(self) -> bool:
        """Whether lines keep their own widths."""
        return self.steps is None

    @property
    def multiple(self) -> int:
        """What the widths of batches are rounded up to, in pixels."""
        return MULTIPLE if self.any_width else 1

    def time_steps(self, widths: np.ndarray) -> np.ndarray:
        """T of lines of these widths: (N,) int."""
        if self.steps is not None:
            return np.full(len(widths), self.steps)
        columns = np.asarray(widths)
        for stride in self.strides:
            columns = -(-columns // stride)
        return columns * self.frames

    def least_widths(self, labels: Sequence[np.ndarray]) -> np.ndarray | None:
        """(N,) pixels of width that give labels the time steps that they need; None where all lines have one width."""
        if not self.any_width:
            return None
        return np.ceil(np.array([steps_needed(label) for label in labels]) * math.prod(self.strides) / self.frames)

    def written(self, text: str) -> str:
        """What the network learns to write for a line's text.

        Spaces for the paper left and right of the ink take the pressure off the first and last character (Retsinas et
        al. 2022).
        """
        return f" {text} " if self.edge_spaces else text

    def stripped(self, text: str) -> str:
        """The line's text of what the network wrote."""
        return text.strip(" ") if self.edge_spaces else text


def steps_needed(label: np.ndarray) -> int:
    """Time steps that CTC needs for a label: one per character, and a blank between equal neighbours."""
    return len(label) + int((label[1:] == label[:-1]).sum())
