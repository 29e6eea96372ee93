"""Synthetic handwriting in IAM's own layout: for the demo, for tests and for training.

`folder` writes the dataset. A line comes from `strokes` (skeletons of letters, drawn with a pen), or from the fonts of a
folder: `corpus` finds a text, `writers` sets it in a hand, `paper` puts the ink on paper, `scan` photographs it. Or
`relaid` takes the ink of real lines.
"""

from hwr.data.synth.folder import write

__all__ = ["write"]
