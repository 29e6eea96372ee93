#!/usr/bin/env python
"""Fine-tune rapidocr's text detector (PP-OCRv6 small) on pages of handwriting: how models/hwr-lines.onnx was made.

    scripts/tune_detector.py PAGES --out hwr-lines.onnx

PAGES holds, in folders named after their sources, images with a JSON file beside each: `line_height` in pixels; `lines`, each
with `baseline` and `polygon`, lists of [x, y] in pixels; and what is not marked, so that nothing is learned there: `unmarked`,
boxes [x0, y0, x1, y1] in pixels, and `partial`, true if there may be more. `foot_offset`, in pixels, is added to baselines that
run above the feet of the letters.

The network learns to mark the middle of each line. Fine-tuned weights know handwriting, the former ones print and photos, and
weights between the two do both better ("Robust fine-tuning of zero-shot models", Wortsman et al., 2022).

The training is kept beside the network, in hwr-lines.pt: it continues after an interruption, and another --share needs none.

It needs torch, onnx and rapidocr (extras torch, onnx and dev).
"""

import functools
import importlib.util
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from hwr.images import load
from hwr.pages import contrast, detector
from hwr.system.atomic import replacing

MODEL = "models/PP-OCRv6_det_small.onnx"

# Lengths in line heights: how high the middle of a line is, how far above the feet, and how much is cut off at its ends; how far
# beyond its ends, and how high, text of another line is kept apart, with what weight.
MIDDLE, ABOVE, ENDS = 0.42, 0.25, 0.15
BEYOND, BESIDE, APART = 1.2, 0.4, 4.0

# Side of what is cut out of a page, in pixels; how many make a batch; learning rate, weight decay, steps of warm-up.
SIDE, BATCH = 640, 3
RATE, DECAY, WARMUP = 4e-4, 1e-3, 50

# How often a source is drawn, times the square root of its pages. Lines across the columns of tables would teach to join cells.
DRAWN = {"bronod-fr": 0.0, "lectaurep-fr": 2.0}

# Steps between checkpoints.
EVERY = 50


def source_model() -> Path:
    """The network's file in rapidocr's package."""
    package = importlib.util.find_spec("rapidocr")
    if package is None or not package.submodule_search_locations:
        raise click.ClickException("rapidocr is not installed: pip install -e '.[dev]'")
    return Path(package.submodule_search_locations[0]) / MODEL


class Network(torch.nn.Module):
    """An ONNX graph run by torch, with its weights as parameters; without the sigmoid at its end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.model = onnx.load(path)
        values = {each.name: numpy_helper.to_array(each) for each in self.model.graph.initializer}
        same: dict[str, str] = {}
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        for node in self.model.graph.node:
            names = [same.get(name, name) for name in node.input]
            if node.op_type == "Identity":
                same[node.output[0]] = names[0]
                continue
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            self.nodes.append((node.op_type, names, node.output[0], attributes))
        used = {name for _, names, _, _ in self.nodes for name in names}
        learned = {
            name for op, names, _, _ in self.nodes for name in names if op in ("Conv", "ConvTranspose", "Add", "Mul")
        }
        self.constants, self.weights = dict[str, np.ndarray](), torch.nn.ParameterDict()
        for name, value in values.items():
            if name in learned and value.size > 1:
                self.weights[_key(name)] = torch.nn.Parameter(torch.tensor(value))
            elif name in used:
                self.constants[name] = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the middle of lines: (N, 3, H, W) -> (N, 1, H, W)."""
        known = {"x": x} | {name: torch.tensor(value) for name, value in self.constants.items()}
        for op, names, output, attributes in self.nodes:
            inputs = [known[name] if name in known else self.weights[_key(name)] for name in names]
            x = known[output] = _apply(op, inputs, attributes)
        return x


def _key(name: str) -> str:
    """A parameter may have no dot in its name."""
    return name.replace(".", "_")


def _apply(op: str, inputs: Sequence[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    x = inputs[0]
    match op:
        case "Conv":
            if attributes.get("auto_pad") == b"SAME_UPPER":  # kernels of 2 x 2
                x = F.pad(x, (0, 1, 0, 1))
            pads = attributes.get("pads", [0, 0])[:2]
            return F.conv2d(
                x, inputs[1], None, attributes["strides"], pads, attributes["dilations"], attributes["group"]
            )
        case "ConvTranspose":
            return F.conv_transpose2d(x, inputs[1], None, attributes["strides"])
        case "MaxPool":
            return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, 1)
        case "Resize":
            return F.interpolate(x, scale_factor=tuple(inputs[2][2:].tolist()), mode="nearest")
        case "HardSigmoid":
            return torch.clamp(x * attributes["alpha"] + attributes["beta"], 0, 1)
        case "Concat":
            return torch.cat(list(inputs), attributes["axis"])
        case "GlobalAveragePool" | "ReduceMean":
            return x.mean((2, 3), keepdim=True)
        case "Add":
            return x + inputs[1]
        case "Mul":
            return x * inputs[1]
        case "Div":
            return x / inputs[1]
        case "Erf":
            return torch.erf(x)
        case "Relu":
            return F.relu(x)
        case "Sigmoid":
            return x
    raise ValueError(f"{op}: not in the network that this was written for")


def save(network: Network, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write the network with other weights, in fp16; onnxruntime computes in fp32."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    graph = model.graph
    casts = []
    for value in graph.initializer:
        if (weight := weights.get(_key(value.name))) is None:
            continue
        name, half = value.name, f"{value.name}.half"
        value.CopyFrom(numpy_helper.from_array(weight.numpy().astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


@dataclass(frozen=True)
class Page:
    """A page as the network sees it.

    Attributes:
        source: Where it is from.
        grey: (H, W) uint8, with even contrast.
        target: (H, W) uint8, 1 in the middle of lines.
        weight: (H, W) float32, of each pixel in the loss.
    """

    source: str
    grey: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def read_page(path: Path) -> Page:
    """The page of a JSON file."""
    said = json.loads(path.read_text(encoding="utf-8"))
    image = next((path.with_suffix(suffix) for suffix in load.EITHER_CASE if path.with_suffix(suffix).is_file()), None)
    if image is None:
        raise click.ClickException(f"{path}: no image of this name beside it")
    page = load.read(image, upright=False)
    height, width = detector.scaled_size(page)
    grey = contrast.evened(detector.scaled(page))
    scale = np.array([width / page.shape[1], height / page.shape[0]])
    target, weight = _target(said, scale, (height, width))
    return Page(path.parent.name, grey, target, weight)


def _target(said: dict[str, Any], scale: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    target, marked, beyond = (np.zeros(shape, np.uint8) for _ in range(3))
    usual, foot = said["line_height"], said["foot_offset"] or 0.0
    lines = [_Line.of(line, usual) for line in said["lines"] if len(line["baseline"]) > 1]
    lines = [line for line in lines if line.length >= 1]

    def fill(mask: np.ndarray, points: np.ndarray) -> None:
        cv2.fillPoly(mask, [np.rint(points * scale * 16).astype(np.int32)], 1, shift=4)

    for line in lines:
        high = min([MIDDLE * line.height, *(0.5 * distance for distance in line.distances(lines, usual))])
        middle, along, up = line.middle(foot)
        fill(target, np.concatenate([middle + up * high / 2, (middle - up * high / 2)[::-1]]))
        fill(marked, line.polygon)
        for end, out in ((middle[0], -along), (middle[-1], along)):
            beside, far = up * line.height * BESIDE, out * BEYOND * line.height
            fill(beyond, np.array([end + beside, end - beside, end - beside + far, end + beside + far]))
    weight = np.where((beyond > 0) & (target == 0), APART, 1).astype(np.float32)
    hidden = np.zeros(shape, np.uint8)
    for box in said["unmarked"]:
        x0, y0, x1, y1 = (np.array(box) * [*scale, *scale]).astype(int)
        hidden[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] = 1
    weight[(hidden > 0) & (marked == 0)] = 0
    if said["partial"]:
        around = np.ones((int(1.2 * usual) | 1, int(3 * usual) | 1), np.uint8)
        weight[cv2.dilate(marked, around) == 0] = 0
    return target, weight


@dataclass(frozen=True)
class _Line:
    """A marked line: (P, 2) baseline and polygon, and its height and length, in pixels of the page."""

    baseline: np.ndarray
    polygon: np.ndarray
    height: float
    length: float

    @classmethod
    def of(cls, line: dict[str, Any], usual: float) -> "_Line":
        baseline, polygon = np.array(line["baseline"], np.float64), np.array(line["polygon"], np.float64)
        length = float(np.hypot(*np.diff(baseline, axis=0).T).sum())
        area = cv2.contourArea(polygon.astype(np.float32)) if length >= 1 else 0
        return cls(
            baseline, polygon, float(np.clip(area / length, 0.6 * usual, 1.5 * usual)) if area else usual, length
        )

    def distances(self, lines: Sequence["_Line"], usual: float) -> list[float]:
        """How far the lines above and below are, at its centre."""
        x, y = self.baseline.mean(0)
        left, right = sorted(self.baseline[[0, -1], 0])
        found = []
        for other in lines:
            start, end = sorted(other.baseline[[0, -1], 0])
            if other is not self and min(right, end) - max(left, start) > 0.2 * min(right - left, end - start):
                found.append(abs(float(np.interp(x, *other.baseline[np.argsort(other.baseline[:, 0])].T)) - y))
        return [distance for distance in found if distance > 0.3 * usual]

    def middle(self, foot: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points along its middle, without its ends, and the directions along it and up."""
        whole = self.baseline[-1] - self.baseline[0]
        along = whole / max(1e-6, float(np.hypot(*whole)))
        up = np.array([along[1], -along[0]])
        points = self.baseline + up * (ABOVE * self.height)
        if abs(whole[0]) >= abs(whole[1]):
            points += [0, foot]
        at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        cut = min(ENDS * self.height, 0.2 * at[-1])
        kept = np.concatenate([[cut], at[(at > cut) & (at < at[-1] - cut)], [at[-1] - cut]])
        return np.column_stack([np.interp(kept, at, points[:, 0]), np.interp(kept, at, points[:, 1])]), along, up


def cut(page: Page, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A place on a page, scaled, turned and made worse: pixels of -1 to 1, target and weight, (SIDE, SIDE) float32 each."""
    height, width = page.grey.shape
    scale = np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    tilt = rng.uniform(-15, 15) if rng.random() < 0.15 else rng.normal(0, 2)
    matrix = cv2.getRotationMatrix2D((0, 0), tilt + rng.choice([0, 90, 180, 270], p=[0.6, 0.15, 0.1, 0.15]), scale)
    centre = [rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height]
    matrix[:, 2] = SIDE / 2 - matrix[:, :2] @ centre
    move = functools.partial(cv2.warpAffine, M=matrix, dsize=(SIDE, SIDE))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey: np.ndarray = move(page.grey, flags=flags, borderValue=255).astype(np.float32)
    target = move(page.target, flags=cv2.INTER_LINEAR).astype(np.float32)
    weight = move(page.weight, flags=cv2.INTER_NEAREST, borderValue=1)
    if rng.random() < 0.3:
        grey = 255 - (255 - grey) * rng.uniform(0.35, 1)
    if rng.random() < 0.3:
        grey = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.4:
        grey = grey + rng.normal(0, rng.uniform(1, 10), grey.shape)
    return (np.clip(grey, 0, 255) / 127.5 - 1).astype(np.float32), target, weight


def loss_of(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, three times, and Dice; all (N, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p, counted = torch.sigmoid(logits), weight.clamp(max=2)
    both, either = (p * target * counted).sum(), (p * counted).sum() + (target * counted).sum()
    return 3 * (entropy * weight).sum() / weight.sum() + 1 - (2 * both + 1) / (either + 1)


@click.command(help=__doc__)
@click.argument("folder", metavar="PAGES", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .onnx file to write.")
@click.option(
    "--steps", default=700, type=click.IntRange(1), show_default=True, help="Steps of training; 3 s each on two cores."
)
@click.option(
    "--share",
    default=0.5,
    type=click.FloatRange(0, 1),
    show_default=True,
    help="Part of the fine-tuned weights, 0 to 1.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the places on the pages.")
def main(folder: Path, out: Path, steps: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pages = [read_page(path) for path in sorted(folder.rglob("*.json"))]
    if not pages:
        raise click.ClickException(f"{folder}: no pages: JSON files beside images")
    sizes = Counter(page.source for page in pages)
    drawn = np.array([DRAWN.get(page.source, 1.0) / sizes[page.source] ** 0.5 for page in pages])
    network = Network(source_model())
    former = {name: value.detach().clone() for name, value in network.weights.items()}
    mean = {name: value.clone() for name, value in former.items()}
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    state, start, of = out.with_suffix(".pt"), 0, {"steps": steps, "seed": seed, "pages": len(pages)}
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        if saved["of"] != of:
            raise click.ClickException(
                f"{state} is of a training with {saved['of']}, and this is one with {of}: remove it"
            )
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        mean, start, rng.bit_generator.state = saved["mean"], saved["step"], saved["rng"]
    for step in range(start, steps):
        rate = RATE * min(1, (step + 1) / WARMUP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        cuts = [cut(pages[i], rng) for i in rng.choice(len(pages), BATCH, p=drawn / drawn.sum())]
        grey, target, weight = (torch.tensor(np.stack(each)) for each in zip(*cuts, strict=True))
        x = grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
        loss = loss_of(network(x)[:, 0], target, weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        with torch.no_grad():
            for name, value in network.weights.items():
                mean[name].lerp_(value, 1 - min(0.99, (step + 1) / (step + 20)))
        if (step + 1) % 20 == 0:
            click.echo(f"step {step + 1} of {steps}: loss {loss.item():.3f}")
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            found = {"of": of, "step": step + 1, "rng": rng.bit_generator.state, "mean": mean}
            found |= {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            with replacing(state) as temporary:
                torch.save(found, temporary)
    save(network, {name: former[name].lerp(mean[name], share) for name in former}, out)
    click.echo(f"{out}: {os.path.getsize(out) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
