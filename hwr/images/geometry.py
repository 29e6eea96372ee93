"""The shape of a network's line images, and the number of time steps for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Batches of lines of any width are padded to a multiple of this, in pixels, so that an engine sees few different shapes.
MULTIPLE = 32


@dataclass(frozen=True)
class Geometry:
    """Sizes of a network's input and output.

    Attributes:
        height: Height of all line images in pixels.
        width: Width in pixels: of all line images if `steps` is given, else the maximum, including margins.
        steps: T, the time steps of all lines; None if they depend on the line's width.
        strides: Successive factors by which the network shrinks the width, each rounding up.
        frames: Time steps per remaining column.
        margin: Paper added left and right of a line, in pixels.
        straighten: Whether slanting lines are levelled first.
        edge_spaces: Whether the network writes a space before and after each text, for the paper there.
        whole: Whether lines that are wider than `width` keep their aspect ratio, to be read in pieces; else they are squeezed.
    """

    height: int
    width: int
    steps: int | None = None
    strides: tuple[int, ...] = ()
    frames: int = 1
    margin: int = 0
    straighten: bool = False
    edge_spaces: bool = False
    whole: bool = False

    @property
    def any_width(self) -> bool:
        """Whether lines keep their own widths."""
        return self.steps is None

    @property
    def multiple(self) -> int:
        """Batch widths are rounded up to a multiple of this, in pixels."""
        return MULTIPLE if self.any_width else 1

    def time_steps(self, widths: np.ndarray) -> np.ndarray:
        """T for lines of these widths: (N,) int."""
        if self.steps is not None:
            return np.full(len(widths), self.steps)
        columns = np.asarray(widths)
        for stride in self.strides:
            columns = -(-columns // stride)
        return columns * self.frames

    def step_width(self, width: int) -> float:
        """Width of a time step in pixels, in a batch of this width."""
        return width / self.steps if self.steps is not None else math.prod(self.strides) / self.frames

    def least_widths(self, labels: Sequence[np.ndarray]) -> np.ndarray | None:
        """(N,) minimum widths in pixels that give labels enough time steps; None if all lines have one width."""
        if not self.any_width:
            return None
        return np.ceil(np.array([steps_needed(label) for label in labels]) * math.prod(self.strides) / self.frames)

    def written(self, text: str) -> str:
        """The text that the network is trained to write for a line.

        Spaces for the paper left and right of the ink make the first and last character easier to learn (Retsinas et al.
        2022).
        """
        return f" {text} " if self.edge_spaces else text


def steps_needed(label: np.ndarray) -> int:
    """Time steps that CTC needs for a label: one per character, and a blank between equal neighbours."""
    return len(label) + int((label[1:] == label[:-1]).sum())
