"""The recognizer: a checkpoint, an engine and a decoder, which together read lines."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from hwr import Error, bundled, decoding, engines, networks
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.decoding import align
from hwr.engines import side_by_side
from hwr.images import batches, ink, pieces, prepare
from hwr.images.cache import Images
from hwr.images.geometry import steps_needed
from hwr.images.load import grey_of
from hwr.images.load import read as read_image
from hwr.loading import default_model, run_config, settings_for
from hwr.system.files import checked_path

if TYPE_CHECKING:
    from hwr.pages import PageReading


class Character(NamedTuple):
    """A character of a prediction: its left and right edge in pixels of the image, and its probability in 0..1."""

    text: str
    left: float
    right: float
    confidence: float


@dataclass(frozen=True)
class Reading:
    """The prediction for a line.

    Attributes:
        text: The predicted text.
        confidence: Geometric mean of the characters' probabilities, 0..1.
        characters: The characters of the text, if requested.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...] = ()


class Prepared(NamedTuple):
    """A line image, preprocessed for the network.

    Attributes:
        pixels: (H, W) uint8.
        size: Height and width of the original line image, in pixels.
    """

    pixels: np.ndarray
    size: tuple[int, int]


class Output(NamedTuple):
    """The network's output for a line.

    Attributes:
        logits: (T, C) float32, before the softmax; the blank is the last class.
        per_step: Width of a time step in pixels of the prepared line.
    """

    logits: np.ndarray
    per_step: float


class Recognizer:
    """Reads lines with a checkpoint.

    Args:
        checkpoint: The network's weights and alphabet.
        config: The settings; model and image must equal the checkpoint's.
        name: The checkpoint's file, for reports.
        lines: About how many lines it will read, on which the engine may depend (`engines.chosen`); None: unknown.

    Attributes:
        geometry: The shape of the network's line images.
        engine: Runs the network.
        decoder: Turns the network's output into text.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config, name: str = "", lines: int | None = None) -> None:
        self.name = name
        self.checkpoint, self.config = checkpoint, config
        self.alphabet = checkpoint.alphabet
        self.geometry = networks.geometry(config)
        self.decoder = self._decoder()
        self.decoder.expect(lines or 0)
        if checkpoint.exported:
            self.engine = engines.exported(checkpoint.exported, config, checkpoint.alphabet.classes)
        else:
            self.engine = engines.reader(config, checkpoint.alphabet.classes, checkpoint.weights, lines)

    def __repr__(self) -> str:
        return f"<Recognizer: {self.name or 'without a name'}, {self.engine.name} on {self.engine.device}>"

    def with_config(self, config: Config) -> "Recognizer":
        """A recognizer with the same engine and other settings for data, reading and decoding."""
        for section in ("engine", "model", "image"):
            if getattr(config, section) != getattr(self.config, section):
                raise Error(f"{section}: can't be changed in a model that is loaded; load it with other overrides")
        out = copy.copy(self)
        out.config = config
        if config.decode != self.config.decode:
            out.decoder = out._decoder()
        return out

    def _decoder(self) -> decoding.Decoder:
        stored = (self.checkpoint.language_model, self.checkpoint.lexicon)
        config = self.config
        return decoding.build(config.decode, self.alphabet, config.model.edge_spaces, *stored, config.engine.threads)

    def read(self, image: str | Path | bytes | np.ndarray | Image.Image, characters: bool = False) -> Reading:
        """Read one line.

        Args:
            image: A path, the bytes of a file, (H, W) or (H, W, 3) uint8 pixels, or a Pillow image.
            characters: Whether to locate each character; takes a few milliseconds.

        Raises:
            Error: The image can't be read.
        """
        (found,) = self.read_prepared([self.prepare(pixels_of(image))], characters)
        return found

    def read_page(
        self, image: str | Path | bytes | np.ndarray | Image.Image, characters: bool = False
    ) -> "PageReading":
        """Read the lines of a page: see `hwr.pages.read_page`."""
        from hwr.pages import read_page  # a higher layer, imported here for convenience

        return read_page(self, image, characters)

    def read_files(
        self,
        paths: str | Path | Iterable[str | Path],
        characters: bool = False,
        kind: str | None = None,
        segmenter: str | None = None,
    ) -> "Iterator[PageReading]":
        """Read images, PDFs, PAGE and ALTO files, and folders of these: see `hwr.pages.read_files`."""
        from hwr.pages import read_files

        return read_files(self, paths, characters, kind, segmenter)

    def prepare(self, pixels: np.ndarray) -> Prepared:
        """Preprocess a line's pixels, (H, W) uint8; long lines of any width are not squeezed.

        Raises:
            Error: The line is absurdly long, or too long for a network for lines of one width.
        """
        prepare.check_legible(pixels, self.geometry)
        return Prepared(prepare.prepare(pixels, pieces.unsqueezed(self.geometry)), (pixels.shape[0], pixels.shape[1]))

    def read_prepared(self, lines: Sequence[Prepared], characters: bool = False) -> list[Reading]:
        """Read prepared lines in batches of `evaluate.batch_size` lines of similar width, longer lines in pieces.

        The text of empty paper is empty, with confidence 1.
        """
        out: list[Reading] = [Reading("", 0.0)] * len(lines)
        if not lines:
            return out
        images = Images.of([line.pixels for line in lines])
        geometry = self.geometry
        for batch, logits in self.logits(images):
            texts, confidences = self.decode(logits)
            for row, i, text, confidence in zip(logits, batch.index.tolist(), texts, confidences.tolist(), strict=True):
                own: tuple[Character, ...] = ()
                if ink.blank(lines[i].pixels, geometry, text):
                    text, confidence = "", 1.0
                if characters and text:
                    own = self.locate(row, text, lines[i], geometry.step_width(batch.images.shape[2]))
                out[i] = Reading(text, confidence, own)
        return out

    def logits(self, images: Images) -> Iterator[tuple[batches.Batch, np.ndarray]]:
        """Batches of prepared lines with their logits, (N, T, C), the widest first; `batch.index` says which lines they are."""
        geometry = self.geometry
        size = side_by_side.batch_size(self.engine, len(images), self.config.evaluate.batch_size)
        given = batches.reading(images, None, size, geometry.multiple, geometry.width)
        return side_by_side.logits(self.engine, given, geometry, size)

    def decode(self, logits: np.ndarray) -> tuple[list[str], np.ndarray]:
        """(N, T, C) logits -> N texts and their confidences, (N,) in 0..1."""
        return self.decoder(logits)

    def outputs(self, lines: Sequence[Prepared]) -> list[Output]:
        """The network's output for prepared lines, computed in batches as in `read_prepared`."""
        out = [Output(np.zeros((0, self.alphabet.classes), np.float32), 1.0)] * len(lines)
        if not lines:
            return out
        images = Images.of([line.pixels for line in lines])
        steps = self.geometry.time_steps(images.widths)
        geometry = self.geometry
        for batch, logits in self.logits(images):
            per_step = geometry.step_width(batch.images.shape[2])
            for row, i in zip(logits, batch.index.tolist(), strict=True):
                out[i] = Output(row[: steps[i]].copy(), per_step)
        return out

    def locate(self, logits: np.ndarray, text: str, line: Prepared, per_step: float) -> tuple[Character, ...]:
        """Locate the characters of a text in the line's image.

        Args:
            logits: (T, C).
            per_step: Width of a time step in pixels of the prepared line.

        Raises:
            Error: The alphabet lacks a character of the text, or the text does not fit into T time steps.
        """
        written = self.geometry.written(text)
        if missing := self.alphabet.missing(written):
            raise Error(f"the alphabet lacks {missing!r}, so no place can be found for it")
        label = self.alphabet.encode(written)
        if steps_needed(label) > len(logits):  # no room for the spaces at the ends
            label = self.alphabet.encode(text)
        calibration = self.decoder.settings.calibration
        places, sure = align.align(logits, label, calibration.temperature)
        sure = calibration.apply(sure)
        if len(label) > len(text):
            places, sure = places[1:-1], sure[1:-1]
        offset, factor = prepare.columns(*line.size, line.pixels.shape[1], self.geometry)
        # CTC writes a character at some step within it or near it, so its ink tells where it begins and ends.
        inked = ink.edges(line.pixels, places * per_step, [c == " " for c in text], self.geometry)
        edges = np.clip((inked - offset) * factor, 0, line.size[1])
        return tuple(
            Character(c, round(left, 1), round(right, 1), round(p, 4))
            for c, (left, right), p in zip(text, edges.tolist(), sure.tolist(), strict=True)
        )


def load(model: str | Path | None = None, overrides: Sequence[str] = ()) -> Recognizer:
    """Load a model for reading.

    It runs on this machine's best device and in a suitable precision, whatever it was trained on. The caller's random
    generators and torch's global flags are not changed, except that `engine.threads`, if given, is PyTorch's number of
    threads from then on. Threads may share a model. So may processes that are forked: there PyTorch computes with one
    thread, because more would hang. A process that is started by `spawn` uses all.

    Args:
        model: A `.safetensors`, `.params` or `.onnx` file, or the name of a bundled model; None: $HWR_MODEL, else the
            bundled model.
        overrides: Settings in the form of `--set`: `["decode.name=greedy", "engine.device=cpu"]`.

    Raises:
        Error: The file is missing or damaged, a setting contradicts the model, or an engine is not installed.
    """
    if model is not None:
        checked_path(model, "load: model")
    path = default_model() if model is None else bundled.model(model)
    checkpoint, config = settings_for(path, None, overrides, dataset=run_config(path) is not None)
    return Recognizer(checkpoint, config, str(path))


def pixels_of(image: str | Path | bytes | np.ndarray | Image.Image) -> np.ndarray:
    """The grey pixels of an image, (H, W) uint8; see `Recognizer.read`."""
    if isinstance(image, Image.Image):
        if 0 in image.size:  # an empty crop
            raise Error(f"an image must have pixels, and this one has {image.width} x {image.height}")
        return grey_of(image)
    if isinstance(image, bytes):
        return read_image(image)
    if isinstance(image, str | Path):
        return read_image(checked_path(image, "an image"))
    if not isinstance(image, np.ndarray):
        raise Error(f"an image must be a path, bytes, a NumPy array or a Pillow image, not a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
        raise Error(f"an image must be (H, W) or (H, W, 3) uint8, not {image.shape} {image.dtype}")
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))
