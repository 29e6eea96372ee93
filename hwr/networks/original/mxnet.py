"""The original system's network on MXNet Gluon, its trunk from gluoncv's model zoo.

Import this after `hwr.engines.mxnet_library.load`, which finds MXNet's libraries.
"""

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mxnet import gluon
from mxnet.gluon import nn

from hwr import Error
from hwr.config import Image, Original
from hwr.networks.original import spec
from hwr.networks.original import trunk as files


class Encoder(gluon.HybridBlock):
    """Splits the features of one scale into time steps and reads them with a biLSTM."""

    def __init__(self, model: Original) -> None:
        super().__init__()
        self._steps = model.steps
        with self.name_scope():
            self.lstm = gluon.rnn.LSTM(model.hidden, model.layers, layout="NTC", bidirectional=True)

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        """(N, c, H, W) -> (N, T, 2 * hidden)."""
        # Equal steps, not columns: in the original a step is 1.25 columns wide. 0 keeps N.
        columns = features.transpose((0, 3, 1, 2))  # (N, W, c, H)
        return self.lstm(columns.reshape((0, self._steps, -1)))  # from (N, T, W * c * H / T)


class OriginalNetwork(gluon.HybridBlock):
    """Truncated ResNet-34, a biLSTM on each of several scales, one dense layer over all of them.

    The attributes' names, and each layer's place in its sequence, make up the names in a `.params` file.

    Args:
        image: The size of the line images.
        classes: C, with the blank.
    """

    def __init__(self, model: Original, image: Image, classes: int) -> None:
        super().__init__()
        self._model, self._shapes = model, spec.shapes(model, image, classes)
        self._dropout = model.dropout
        with self.name_scope():
            self.body = trunk(model.channels)
            self.downsampler = nn.HybridSequential()
            for _ in range(2):
                self.downsampler.add(nn.Conv2D(model.channels, 3, padding=1))
                self.downsampler.add(nn.BatchNorm())
                self.downsampler.add(nn.Activation("relu"))
            self.downsampler.add(nn.MaxPool2D(2))
            self.encoders = nn.HybridSequential()
            for _ in range(model.downsamples):
                scale = nn.HybridSequential()
                scale.add(Encoder(model))
                self.encoders.add(scale)
            self.decoder = nn.Dense(classes, flatten=False)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, 1, H, W) normalised pixels -> (N, T, C) logits."""
        features = self.body(x)  # (N, c, H/4, W/4)
        hidden = []
        for i in range(len(self.encoders)):
            if i:
                features = self.downsampler(features)  # (N, c, H/4/2^i, W/4/2^i)
            # cuDNN's dropout has its own generator; MXNet's obeys mx.random.seed.
            hidden.append(F.Dropout(self.encoders[i](features), p=self._dropout, cudnn_off=True))
        return self.decoder(F.concat(*hidden, dim=2))

    def initial(self, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
        """Initial weights, the same on every engine, and a sentence on the source of the trunk's weights."""
        weights = spec.initial(self._shapes, seed)
        path, note = files.pretrained(self._model.pretrained, weights, pth=False)
        if path is not None:
            weights |= _read_trunk(path)
        return weights, [note]

    def is_used(self, name: str) -> bool:
        """Whether a parameter is used: a single scale needs no downsampler."""
        return self._model.downsamples > 1 or not name.startswith("downsampler")


def trunk(channels: int) -> Any:
    """The model zoo's resnet34_v1 up to the end of its first stage: convolution, batch norm, ReLU, pooling, three blocks.

    Its first convolution has no shape yet, so it accepts greyscale images. The zoo's network has 64 channels; for other
    numbers, the same class is built with one stage.
    """
    zoo = _model_zoo()
    if channels == 64:
        network = zoo.get_model("resnet34_v1", pretrained=False)
    else:
        network = zoo.resnet.ResNetV1(zoo.resnet.BasicBlockV1, [spec.BLOCKS], [channels, channels])
    return network.features[:5]


@functools.cache
def _model_zoo() -> ModuleType:
    """The module `gluoncv.model_zoo`.

    gluoncv can't be imported beside torch 2 or later, which it does not need here. So torch is hidden during the import.
    It also tells Pillow to read damaged images as if they were whole; that is undone.

    Raises:
        Error: It is not installed or can't be imported.
    """
    from PIL import ImageFile

    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    absent = object()
    found = sys.modules.get("torch", absent)
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import gluoncv.model_zoo
    except ImportError as error:
        raise Error(
            f"engine mxnet needs gluoncv, which can't be imported ({error}): pip install -e '.[mxnet]' or "
            "-e '.[mxnet-cu112]'. Its opencv-python needs the system's libGL.so.1"
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        if found is absent:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = found  # type: ignore[assignment]
    zoo: ModuleType = gluoncv.model_zoo
    return zoo


def _read_trunk(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".pth":
        raise Error(
            f"{path}: engine mxnet can't read torch's .pth; set model.pretrained to a Gluon .params or a .safetensors of "
            "ResNet-34, or to none"
        )
    return files.read_trunk(path)
