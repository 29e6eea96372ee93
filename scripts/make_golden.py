#!/usr/bin/env python
"""Freeze the original network's outputs in Apache MXNet 1.9.1, as the reference for tests of the engines.

MXNet needs Python <= 3.11 and numpy < 1.24, so this runs in an environment of its own:

    python3.11 -m venv .venv-golden
    .venv-golden/bin/pip install mxnet==1.9.1 numpy==1.23.5 opencv-python-headless scikit-image
    .venv-golden/bin/python -W ignore::DeprecationWarning scripts/make_golden.py

It imports nothing from hwr: network, preprocessing, augmentation and decoder are implemented here independently, with only
MXNet, OpenCV and scikit-image. Weights and line images come from
tests/golden/recipe.py. tests/golden/README.md says what each array is. The same machine gives the same bytes;
another may differ in the last bits of a float, which --check tolerates.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"
sys.path.insert(0, str(REPOSITORY))
from tests.golden import recipe  # noqa: E402

# Pixel statistics of the original's training set, for normalisation.
MEAN, DEVIATION = 0.942532484060557, 0.15926149044640417
BLANK = len(recipe.ALPHABET)
LEARNING_RATE = 1e-4
LOSS_WEIGHT = 0.2

# height, width, paper, ink, seed. Smaller than 60 x 800 in both, larger in both, only too high, only too wide, as
# large, a word; paper above 230 (which turns white) and below (which stays, with a padding of 230 around it).
LINES = [
    (45, 520, 246, 30, 0),
    (117, 1713, 205, 40, 1),
    (96, 411, 231, 10, 2),
    (57, 1502, 238, 70, 3),
    (60, 800, 255, 0, 4),
    (28, 110, 225, 20, 5),
]
SIZES = [(60, 800), (30, 140)]

# gamma, translation in x and y as parts of width and height, scale in x and y, shear in radians.
WARPS = [
    (1.0, 0.0, 0.0, 1.0, 1.0, 0.0),
    (0.5, 0.03, -0.03, 1.0, 1.0, 0.0),
    (2.0, 0.0, 0.0, 0.9, 1.1, 0.0),
    (1.0, 0.0, 0.0, 1.0, 1.0, 0.7),
    (0.001, -0.02, 0.01, 1.1, 0.9, -0.35),
    (1.37, 0.0113, 0.0271, 1.043, 0.951, -0.618),
]
WARPED_LINE = 1

NETWORKS: dict[str, dict[str, Any]] = {
    "small": {
        "size": [30, 140],
        "steps": 32,
        "hidden": 16,
        "layers": 2,
        "downsamples": 2,
        "channels": 64,
        "lines": [0, 5],
        "texts": ['Off, "book"', "W\\&?"],
    },
    "full": {
        "size": [60, 800],
        "steps": 160,
        "hidden": 512,
        "layers": 2,
        "downsamples": 2,
        "channels": 64,
        "lines": [1, 3],
        "texts": ["All the letters will soon follow, too.", "No. 7"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDEN, help="the folder to write to (default: tests/golden)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing: compute again and compare with what is stored in --out"
    )
    arguments = parser.parse_args()
    # A single thread sums in a fixed order.
    os.environ["OMP_NUM_THREADS"] = "1"

    described: dict[str, Any] = {}
    arrays = {"images": images(), "warps": warps()}
    for name, sizes in NETWORKS.items():
        described[name], arrays[name] = network(sizes, everything=name == "small")
        print(f"{name}: {described[name]['parameters']} parameters, sha256 {described[name]['sha256']}")
        for parameter, shape in described[name]["shapes"].items():
            print(f"  {parameter} {tuple(shape)}")
        print("  decoded", arrays[name]["decoded"].tolist(), "loss", arrays[name]["loss"].tolist())
    if arguments.check:
        check(arguments.out, described, arrays)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "networks.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    for name, those in arrays.items():
        np.savez_compressed(arguments.out / f"{name}.npz", **those)  # type: ignore[arg-type]
    for path in sorted(arguments.out.glob("*.npz")):
        print(f"{path}: {path.stat().st_size} bytes")


def check(folder: Path, described: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]]) -> None:
    stored = json.loads((folder / "networks.json").read_text(encoding="utf-8"))
    if stored != described:
        sys.exit(f"{folder / 'networks.json'} differs")
    for name, those in arrays.items():
        with np.load(folder / f"{name}.npz") as file:
            if sorted(file) != sorted(those):
                sys.exit(f"{name}.npz holds {sorted(file)}, computed were {sorted(those)}")
            for key, array in those.items():
                if array.dtype.kind == "f":
                    np.testing.assert_allclose(file[key], array, rtol=1e-4, atol=1e-5, err_msg=f"{name}.npz {key}")
                else:
                    np.testing.assert_array_equal(file[key], array, err_msg=f"{name}.npz {key}")
    print("all as stored")


def resize_and_pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (h, w) of any size -> uint8 (height, width): shrunk to fit, centred, lighter than 230 made white."""
    import cv2

    h, w = image.shape
    if h > height or w > width:
        ratio = min(height / h, width / w)
        image = cv2.resize(image, (int(w * ratio), int(h * ratio)))  # (width, height), bilinear
        h, w = image.shape
    top, left = (height - h) // 2, (width - w) // 2
    padded = np.full((height, width), max(230, int(image[0, 0])), np.uint8)
    padded[top : top + h, left : left + w] = image
    padded[padded > 230] = 255
    return padded


def normalise(pixels: np.ndarray) -> np.ndarray:
    return ((pixels / 255.0 - MEAN) / DEVIATION).astype(np.float32)


def prepared(line: int, height: int, width: int) -> np.ndarray:
    return resize_and_pad(recipe.line_image(*LINES[line]), height, width)


def images() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {"lines": np.array(LINES, np.int32)}
    found["sources_sha256"] = np.array([recipe.sha256(recipe.line_image(*line)) for line in LINES])
    for height, width in SIZES:
        pixels = np.stack([prepared(i, height, width) for i in range(len(LINES))])  # (6, H, W)
        found[f"pixels_{height}x{width}"] = pixels[:, ::5, ::10]
        found[f"normalised_{height}x{width}"] = normalise(pixels)[:, ::10, ::40]
        found[f"sha256_{height}x{width}"] = np.array([recipe.sha256(each) for each in pixels])
    return found


def warps() -> dict[str, np.ndarray]:
    """A warp's matrix takes a place (x, y, 1) of the output to the place in the input from which its value comes."""
    from skimage.transform import warp

    height, width = SIZES[0]
    pixels = prepared(WARPED_LINE, height, width)
    warped = []
    for gamma, tx, ty, sx, sy, shear in WARPS:
        matrix = np.array(
            [[sx, -sy * np.sin(shear), tx * width], [0.0, sy * np.cos(shear), ty * height], [0.0, 0.0, 1.0]]
        )
        warped.append(warp((pixels / 255.0) ** gamma, matrix, cval=1.0))
    stacked = np.stack(warped)  # (6, 60, 800), 0 black to 1 white
    return {
        "parameters": np.array(WARPS),
        "line": np.array(WARPED_LINE, np.int32),
        "values": stacked[:, ::5, ::16].astype(np.float32),
        "mean": stacked.mean((1, 2)),
        "deviation": stacked.std((1, 2)),
    }


def build(sizes: dict[str, Any], dropout: float) -> Any:
    """The original network. Its attributes and the places in its sequences make the names in a `.params` file."""
    from mxnet import gluon, nd
    from mxnet.gluon import nn
    from mxnet.gluon.model_zoo.vision import resnet34_v1

    steps, channels = sizes["steps"], sizes["channels"]

    class EncoderLayer(gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.lstm = gluon.rnn.LSTM(sizes["hidden"], sizes["layers"], bidirectional=True)

        def forward(self, features: Any) -> Any:
            columns = features.transpose((0, 3, 1, 2))  # (N, C, H, W) -> (N, W, C, H)
            cut = columns.reshape((columns.shape[0], steps, -1))  # (N, T, W * C * H / T)
            return self.lstm(cut.swapaxes(0, 1)).swapaxes(0, 1)  # (N, T, 2 * hidden)

    class Original(gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.body = nn.HybridSequential()
                self.body.add(nn.Conv2D(channels, kernel_size=7, strides=2, padding=3, use_bias=False))
                self.body.add(nn.BatchNorm())
                self.body.add(nn.Activation("relu"))
                self.body.add(nn.MaxPool2D(pool_size=3, strides=2, padding=1))
                self.body.add(resnet34_v1(pretrained=False).features[4])
                self.encoders = nn.Sequential()
                for _ in range(sizes["downsamples"]):
                    encoder = nn.Sequential()
                    encoder.add(EncoderLayer())
                    encoder.add(nn.Dropout(dropout))
                    self.encoders.add(encoder)
                self.decoder = nn.Dense(BLANK + 1, flatten=False)
                self.downsampler = nn.HybridSequential()
                for _ in range(2):
                    self.downsampler.add(nn.Conv2D(channels, kernel_size=3, padding=1))
                    self.downsampler.add(nn.BatchNorm())
                    self.downsampler.add(nn.Activation("relu"))
                self.downsampler.add(nn.MaxPool2D(2))

        def forward(self, lines: Any) -> Any:
            features = self.body(lines)  # (N, 1, H, W) -> (N, C, H / 4, W / 4)
            scales = []
            for i, encoder in enumerate(self.encoders):
                if i:
                    features = self.downsampler(features)
                scales.append(encoder(features))
            return self.decoder(nd.concat(*scales, dim=2))  # (N, T, 81)

    return Original()


def network(sizes: dict[str, Any], everything: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run one network on the recipe's weights; `everything` adds whole logits and one step of training."""
    import mxnet as mx
    from mxnet import autograd, gluon, nd

    height, width = sizes["size"]
    pixels = np.stack([normalise(prepared(line, height, width)) for line in sizes["lines"]])
    lines = nd.array(pixels[:, None])  # (N, 1, H, W)
    numbers = [[recipe.ALPHABET.index(character) for character in text] for text in sizes["texts"]]
    longest = max(len(row) for row in numbers)
    labels = np.array([row + [-1] * (longest - len(row)) for row in numbers], np.int32)
    plain = gluon.loss.CTCLoss(layout="NTC", label_layout="NT")
    weighted = gluon.loss.CTCLoss(layout="NTC", label_layout="NT", weight=LOSS_WEIGHT)

    def loaded(dropout: float) -> tuple[Any, dict[str, Any]]:
        net = build(sizes, dropout)
        net.initialize(mx.init.Zero())
        net(lines)  # Gluon learns the shapes from a first batch.
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "zeros.params")
            net.save_parameters(path)
            shapes = {name: tuple(array.shape) for name, array in sorted(mx.nd.load(path).items())}
            mx.nd.save(path, {name: nd.array(array) for name, array in recipe.weights(shapes).items()})
            net.load_parameters(path)
        return net, shapes

    net, shapes = loaded(dropout=0.5)
    logits = net(lines)  # (N, T, 81)
    found = {
        "labels": labels,
        "loss": plain(logits, nd.array(labels)).asnumpy(),
        "loss_weighted": weighted(logits, nd.array(labels)).asnumpy(),
        "decoded": np.array([greedy(line) for line in logits.asnumpy()]),
        "logits": logits.asnumpy() if everything else logits.asnumpy()[:, ::8, ::4],
    }

    # From here on without dropout, so that training is not random.
    net, _ = loaded(dropout=0.0)
    parameters = net._collect_params_with_prefix()
    if everything:
        found |= one_step(net, parameters, lambda: weighted(net(lines), nd.array(labels)), len(labels))
    with autograd.train_mode():
        key = "train_loss_weighted_after_step" if everything else "train_loss_weighted"
        found[key] = weighted(net(lines), nd.array(labels)).asnumpy()

    recipes = recipe.weights(shapes)
    described = {
        **sizes,
        "parameters": sum(array.size for name, array in recipes.items() if "running" not in name),
        "sha256": recipe.sha256(*recipes.values()),
        "shapes": shapes,
    }
    return described, found


def one_step(net: Any, parameters: dict[str, Any], loss: Callable[[], Any], count: int) -> dict[str, np.ndarray]:
    """One step of Adam as the original trains: the gradient of the lines' summed loss, then `Trainer.step(count)`."""
    from mxnet import autograd, gluon

    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": LEARNING_RATE})
    with autograd.record():
        losses = loss()
    losses.backward()
    # The downsampler's convolutions have a BatchNorm behind them that takes their bias away: its gradient is float noise.
    trained = sorted(
        name
        for name, parameter in parameters.items()
        if parameter.grad_req != "null" and not (name.startswith("downsampler") and name.endswith("bias"))
    )
    gradients = [parameters[name].grad().asnumpy().astype(np.float64) for name in trained]
    trainer.step(count)
    return {
        "train_loss_weighted": losses.asnumpy(),
        "gradient_names": np.array(trained),
        "gradient_norms": np.array([np.sqrt((gradient**2).sum()) for gradient in gradients]),
        "running_mean_after_step": parameters["body.1.running_mean"].data().asnumpy(),
        "running_var_after_step": parameters["body.1.running_var"].data().asnumpy(),
    }


def greedy(logits: np.ndarray) -> str:
    """(T, 81) -> the best class of each step, repetitions merged, blanks dropped."""
    best = logits.argmax(1)
    kept = [k for i, k in enumerate(best) if k != BLANK and (i == 0 or k != best[i - 1])]
    return "".join(recipe.ALPHABET[k] for k in kept)


if __name__ == "__main__":
    main()
