"""The models of a project: the one that it began with, and those trained on its corrections. One of them reads."""

import json
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwr import Error, bundled
from hwr.loading import default_model, settings_for
from hwr.recognizer import Recognizer
from hwr.serve.project.page_state import Missing
from hwr.system.atomic import replacing

# The name of the model that the project began with.
BASE = "base"

# The files of a trained model. Either may lack the other, after a kill.
_OWN = re.compile(r"model-([0-9]{1,9})\.(?:json|safetensors)")


@dataclass(frozen=True)
class Trained:
    """A model trained on a project's corrections, and how it was judged.

    Attributes:
        name: Of its file, without the suffix.
        created: In seconds since 1970.
        lines: Lines trained on, validation lines included.
        held_back: Lines that judged it.
        before: CER on these lines, a fraction, of the model that read before; and its 95 % interval.
        after: The same of this model.
        gain: `before - after`, and its 95 % interval over the same resamples of lines.
        accepted: Whether it read them better and so was put into use.
    """

    name: str
    created: float
    lines: int
    held_back: int
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    gain: tuple[float, float, float]
    accepted: bool


class Models:
    """The models of a project.

    Args:
        folder: Where trained models are kept; created on demand.
        checkpoint: The model to begin with; None: the one that the project began with and the model that it used last, else
            the default one.
        overrides: Settings in the form of `--set` for reading.
        training: Such settings for training.

    Raises:
        Error: The model that the project began with is gone.
    """

    def __init__(
        self, folder: Path, checkpoint: str | None = None, overrides: Sequence[str] = (), training: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._given = checkpoint
        self.base: str | Path = (self._remembered() or default_model()) if checkpoint is None else checkpoint
        self.overrides, self.training = list(overrides), list(training)
        self._lock = threading.Lock()
        chosen = self._chosen() if checkpoint is None else BASE
        self.current = chosen if chosen == BASE or self._path(chosen).is_file() else BASE

    def remember(self) -> None:
        """Keep the model that the caller named, for when the server starts again without one."""
        if self._given is None:
            return
        model = self._given if bundled.is_model_name(self._given) else os.path.abspath(self._given)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "base.json") as temporary:
            temporary.write_text(json.dumps({"model": model}), encoding="utf-8")
        self.choose(BASE)

    def load(self, name: str) -> Recognizer:
        """Load a model.

        Raises:
            Missing: There is no such model.
            Error: It can't be loaded.
        """
        return self.load_file(self.file(name))

    def load_file(self, path: str | Path) -> Recognizer:
        """Load a file with the settings for reading.

        Raises:
            Error: It can't be loaded.
        """
        return Recognizer(*settings_for(path, None, self.overrides), str(path))

    def file(self, name: str) -> str | Path:
        """The file, or the name of a bundled model, that a model is loaded from.

        Raises:
            Missing: There is no such model.
        """
        if name == BASE:
            return self.base
        if name not in {model.name for model in self.trained()}:
            raise Missing(f"there is no model {name}")
        return self._path(name)

    def choose(self, name: str) -> None:
        """Use a model from now on, and when the server starts again."""
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / "current.json") as temporary:
                temporary.write_text(json.dumps({"name": name}), encoding="utf-8")
            self.current = name

    def new_name(self) -> str:
        """A name for the next trained model. Copies like `model-1 (copy).json` don't matter."""
        names = (path.name for path in self.folder.glob("model-*"))
        numbers = [int(found[1]) for name in names if (found := _OWN.fullmatch(name))]
        return f"model-{max(numbers, default=0) + 1}"

    def add(self, model: Trained, content: bytes) -> None:
        """Keep a trained model.

        Args:
            content: Of its `.safetensors`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(model.name)) as temporary:
            temporary.write_bytes(content)
        with replacing(self.folder / f"{model.name}.json") as temporary:
            temporary.write_text(json.dumps(asdict(model), indent=1), encoding="utf-8")

    def trained(self) -> list[Trained]:
        """The trained models, newest first. A damaged one is not shown."""
        found = []
        for path in self.folder.glob("model-*.json"):
            try:
                about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
                model = Trained(**values)
            except (OSError, ValueError, TypeError):
                continue
            if model.name == path.stem and self._path(model.name).is_file():
                found.append(model)
        return sorted(found, key=lambda model: model.created, reverse=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _remembered(self) -> str | None:
        try:
            model = json.loads((self.folder / "base.json").read_text(encoding="utf-8"))["model"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(model, str) or not (bundled.is_model_name(model) or Path(model).is_file()):
            raise Error(f"{model}: the model that this folder began with is gone; name another with --checkpoint")
        return model

    def _chosen(self) -> str:
        try:
            name = json.loads((self.folder / "current.json").read_text(encoding="utf-8"))["name"]
        except (OSError, ValueError, KeyError, TypeError):
            return BASE
        return name if name in {model.name for model in self.trained()} else BASE


def judged(name: str, lines: int, before: Any, after: Any, gain: tuple[float, float, float], held: int) -> Trained:
    """A trained model with the scores of the model before and its own."""

    def interval(score: Any) -> tuple[float, float, float]:
        low, high, _ = score.cer_interval(1000)
        return score.cer, low, high

    if not held:
        raise Error("no line is held back to judge the training")
    return Trained(name, time.time(), lines, held, interval(before), interval(after), gain, after.cer < before.cer)
