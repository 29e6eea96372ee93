"""The network for lines of any width: matches its description, and is independent of batching and padding."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwr import Error, checkpoint, config, data, decoding, engines, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.config import Config
from hwr.engines import torch_augment
from hwr.engines.torch_trainer import TorchTrainer, disagreement
from hwr.images import augment, batches
from hwr.images.batches import Batch
from hwr.images.cache import Images
from hwr.networks.crnn import torch as torch_crnn
from hwr.networks.shared import torch as shared
from hwr.networks.shared.torch import normed
from hwr.training.loop import train

from .conftest import REPOSITORY, TINY, TINY_CRNN, assert_same, encoded, predictions, prepared_images, recipe_of

With = Callable[..., Config]


@pytest.fixture
def with_(device: str) -> With:
    """The tiny network's config with these overrides, on each device."""
    return lambda *overrides: config.load(None, [*TINY_CRNN, f"engine.device={device}", *overrides])


@pytest.fixture
def settings(drawn: Path, with_: With) -> Config:
    return with_(f"data.root={drawn}")


def engine_of(settings: Config, classes: int = 81) -> TorchTrainer:
    built = engines.trainer(settings, classes)
    assert isinstance(built, TorchTrainer)
    return built


def batch_of(images: Images, index: list[int], labels: list[list[int]] | None = None, multiple: int = 32) -> Batch:
    at = np.array(index)
    padded = batches.pad([np.array(label, np.int32) for label in labels or [[]] * len(index)])
    return Batch(images.batch(at, multiple), images.widths[at], padded, None, at)


@pytest.fixture
def noise(rng: np.random.Generator) -> Images:
    return Images.of([rng.integers(0, 256, (24, width), np.uint8) for width in (33, 57, 64, 129, 250)])


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.layers=0"],
        ["model.shortcut=0"],
        ["model.frames=3", "model.stride=[4, 1]"],
        ["model.blocks=[[1, 8]]", "model.pools=[]", "model.hidden=5"],
        [
            "model.blocks=[[2, 64], [3, 128], [2, 256]]",
            "model.stem=32",
            "image.height=64",
            "model.stride=[4, 2]",
            "model.pools=[[2, 2], [2, 2]]",
        ],
    ],
    ids=str,
)
def test_names_shapes_and_time_steps_are_as_described(overrides: list[str], noise: Images, with_: With) -> None:
    settings = with_(*overrides)
    engine = engine_of(settings, 11)
    assert {name: array.shape for name, array in engine.weights().items()} == networks.shapes(settings, 11)
    if settings.image.height == 24:
        batch = batch_of(noise, [0, 3, 4])
        logits = engine.logits(batch)
        assert logits.shape[2] == 11
        assert logits.shape[1] >= networks.geometry(settings).time_steps(batch.widths).max()


def test_iam_line_best_is_the_published_network() -> None:
    settings = config.load(Path(__file__).parent.parent / "configs/iam_line_best.yaml")
    shapes = networks.shapes(settings, 80)
    trained = sum(int(np.prod(shape)) for name, shape in shapes.items() if "running_" not in name)
    # Retsinas et al.'s code of 2024 has 7.36 M, with 80 outputs.
    assert trained == pytest.approx(7.36e6, rel=0.01)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_line_reads_the_same_alone_and_in_any_batch(frames: int, noise: Images, with_: With) -> None:
    settings = with_(f"model.frames={frames}")
    engine = engine_of(settings)
    with torch.no_grad():  # statistics like a trained network's: paper is not 0 after batch norm
        for name, buffer in engine._net.named_buffers():
            if "running_mean" in name:
                buffer.uniform_(-1, 1)
    decoder = decoding.build(settings.decode, Alphabet(ORIGINAL), settings.model.edge_spaces)
    for others in ([0, 1, 2, 3, 4], [4, 2], [2, 1, 0]):
        together = engine.logits(batch_of(noise, others))
        texts, sure = decoder(together)
        for place, i in enumerate(others):
            alone = engine.logits(batch_of(noise, [i], multiple=1))
            steps = networks.geometry(settings).time_steps(noise.widths[[i]])[0]
            assert np.abs(together[place, :steps] - alone[0, :steps]).max() < 1e-4
            assert (together[place, steps:].argmax(1) == 80).all()
            text, confidence = decoder(alone)
            assert text == [texts[place]]
            assert confidence[0] == pytest.approx(sure[place], abs=1e-4)


def test_padding_adds_nothing_to_the_loss(noise: Images, with_: With) -> None:
    engine = engine_of(with_())
    labels = [[1, 2], [3], [4, 4], [5], [6, 7, 8]]
    together = batch_of(noise, [0, 1, 2, 3, 4], labels)
    losses = engine.loss(engine.logits(together), together.labels)
    for i, label in enumerate(labels):
        alone = batch_of(noise, [i], [label], multiple=1)
        assert engine.loss(engine.logits(alone), alone.labels)[0] == pytest.approx(losses[i], rel=1e-4)


@pytest.fixture
def by_cudnn(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Take the GPU's code path for LSTMs on any device."""

    def switch(on: bool) -> None:
        for module in (shared, torch_crnn):
            monkeypatch.setattr(module, "by_cudnn", lambda x: on)

    return switch


# cuDNN's complaint about the weights of one direction, which it gets only here: without it, nothing is said on a GPU.
@pytest.mark.filterwarnings("ignore:RNN module weights:UserWarning")
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_packed_lines_are_read_as_padded_ones(
    layers: int, noise: Images, by_cudnn: Callable[[bool], None], with_: With
) -> None:
    labels = [[1, 2], [3], [4, 4], [5], [6, 7, 8]]
    out = []
    for packed in (False, True):
        by_cudnn(packed)
        engine = engine_of(with_(f"model.layers={layers}", "model.dropout=0", "model.head_dropout=0"))
        batch = batch_of(noise, [2, 0, 4, 3, 1], labels)
        logits = engine.logits(batch)
        loss = float(engine.train_step(batch, 0.0))
        out.append((logits, loss, {name: p.grad for name, p in engine._net.named_parameters()}))
    (padded, loss, gradients), (packed_, loss_, gradients_) = out
    assert np.abs(padded - packed_).max() < 1e-5
    assert loss == pytest.approx(loss_, rel=1e-6)
    for name, gradient in gradients.items():
        assert (gradient is None) == (gradients_[name] is None)
        if gradient is not None:
            assert float((gradient - gradients_[name]).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


def test_lstms_by_cudnn_stay_out_of_autocast(device: str, by_cudnn: Callable[[bool], None], with_: With) -> None:
    """In bf16 their inputs, weights and outputs are fp32; on a CPU they are bf16's, which oneDNN has kernels for."""
    original = config.load(None, [*TINY, f"engine.device={device}"])
    found: list[torch.dtype] = []
    for settings in (with_(), original):
        engine = engine_of(settings)
        engine.precision = "bf16"
        pixels = np.zeros((2, settings.image.height, 320), np.uint8)
        batch = Batch(pixels, np.array([100, 320], np.int32), np.zeros((2, 1), np.int32), None, np.arange(2))
        found.clear()
        for lstm in (module for module in engine._net.modules() if isinstance(module, torch.nn.LSTM)):
            lstm.register_forward_hook(lambda module, given, out: found.append(getattr(out[0], "data", out[0]).dtype))
        by_cudnn(True)
        exact = engine.logits(batch)
        assert found
        assert set(found) == {torch.float32}
        by_cudnn(False)
        inside = np.abs(exact) < 1e3
        assert 0 < np.abs(engine.logits(batch) - exact)[inside].max() < 0.15


def test_padding_has_no_gradient(noise: Images, device: str, with_: With) -> None:
    net = engine_of(with_("model.dropout=0", "model.head_dropout=0"))._net
    pixels = torch.from_numpy(noise.batch(np.array([0, 4]))).float()[:, None].to(device).requires_grad_()
    net(pixels, torch.tensor([33, 250])).logits[:, ::3].tanh().sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad[0, ..., 33:] == 0).all()
    assert (pixels.grad[0, ..., :33] != 0).any()


@pytest.mark.once
def test_learns_eight_lines_by_heart(settings: Config) -> None:
    dataset = data.read(settings.data)
    lines = dataset.train[:8]
    images, alphabet = prepared_images(lines, settings), Alphabet(ORIGINAL)
    labels = [label.tolist() for label in encoded(lines, alphabet, settings, images.widths)]
    engine = engine_of(settings)
    batch = batch_of(images, list(range(8)), labels)
    losses = [engine.train_step(batch, 5e-3) for _ in range(350)]
    assert losses[-1] < 0.1 * losses[0]
    assert predictions(engine, images, lines, alphabet, settings).texts == [line.text for line in lines]


def test_the_moving_average_of_the_weights_reads(noise: Images, with_: With) -> None:
    settings = with_("train.ema=0.5", "train.weight_decay=0.1", "train.clip=1")
    engine = engine_of(settings)
    batch = batch_of(noise, [0, 1], [[1], [2]])
    expected = {name: array.astype(np.float64) for name, array in engine.weights().items()}
    for update in range(1, 6):
        engine.train_step(batch, 1e-2)
        decay = min(0.5, (1 + update) / (10 + update))
        trained = engine._arrays(engine._net)
        expected = {name: decay * mean + (1 - decay) * trained[name] for name, mean in expected.items()}
    for name, array in engine.weights().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)
    assert np.abs(engine.weights()["head.weight"] - trained["head.weight"]).max() > 1e-3


def test_weight_decay_and_clipping(noise: Images, with_: With) -> None:
    batch = batch_of(noise, [0, 1], [[1], [2]])
    # Gradients so large that Adam's epsilon is negligible.
    large = "train.loss_weight=1e6"
    start = engine_of(with_()).weights()
    # Adam's first step is lr times the gradient's sign, whatever its size; decay takes lr * decay of the weight besides.
    plain, decayed = engine_of(with_(large)), engine_of(with_(large, "train.weight_decay=0.5"))
    for engine in (plain, decayed):
        engine.train_step(batch, 1e-3)
    difference = decayed.weights()["head.weight"] - plain.weights()["head.weight"]
    # Almost all: rounding decides the sign of gradients near 0.
    assert (np.abs(difference + 1e-3 * 0.5 * start["head.weight"]) < 1e-6).mean() > 0.98
    np.testing.assert_allclose(decayed.weights()["head.bias"], plain.weights()["head.bias"], atol=1e-6)
    clipped = engine_of(with_("train.clip=0.5"))
    clipped.train_step(batch, 0.0)
    norm = np.sqrt(sum(float(p.grad.square().sum()) for p in clipped._net.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.5, rel=1e-3)


def test_the_anchor_pulls_towards_the_weights_that_were_loaded(noise: Images, with_: With) -> None:
    batch = batch_of(noise, [0, 1], [[1], [2]])
    large = "train.loss_weight=1e6"  # as above
    start = engine_of(with_()).weights()
    free, pulled = engine_of(with_(large)), engine_of(with_(large, "train.anchor=200"))
    for engine in (free, pulled):
        engine.load(start)
        engine.train_step(batch, 1e-3)
    for name in ("head.weight", "head.bias"):
        # A fifth of the way back: lr x anchor.
        back = free.weights()[name] + 0.2 * (start[name] - free.weights()[name])
        assert (np.abs(pulled.weights()[name] - back) < 1e-6).mean() > 0.98
    other = engine_of(with_(large, "train.anchor=200"))
    other.load(pulled.weights())
    other.load_state(pulled.state())
    assert all(torch.equal(a, b) for a, b in zip(other._anchors, pulled._anchors, strict=True))


def test_frozen_norms_keep_their_statistics_and_learn_their_scales(noise: Images, with_: With) -> None:
    engine = engine_of(with_("train.freeze_norm=true"))
    before = engine.weights()
    engine.train_step(batch_of(noise, [0, 1], [[1], [2]]), 1e-2)
    after = engine.weights()
    running = [name for name in before if "running_" in name]
    assert running
    assert all(np.array_equal(before[name], after[name]) for name in running)
    assert not np.array_equal(before["norm.weight"], after["norm.weight"])


@pytest.mark.once
def test_center_loss_pulls_the_features_of_a_character_together(settings: Config, with_: With) -> None:
    lines = data.read(settings.data).train[:8]
    images, alphabet = prepared_images(lines, settings), Alphabet(ORIGINAL)
    labels = [label.tolist() for label in encoded(lines, alphabet, settings, images.widths)]
    batch = batch_of(images, list(range(8)), labels)
    spread = {}
    for weight in (0.0, 500.0):
        engine = engine_of(with_("model.dropout=0", "model.head_dropout=0"))
        for step in range(220):  # it counts only in lines that are read without errors
            engine.train_step(batch, 3e-3, weight if step > 150 else 0.0)
        engine._net.train()
        with torch.no_grad():
            output = engine._forward(engine._net, *engine._pixels(batch))
        assert output.features is not None
        if weight:  # neither the space nor a character of no line has a centre of its own
            assert engine._centers is not None
            moved = (engine._centers != 0.5).any(1).cpu().numpy()
            absent = [c not in "".join(line.text for line in lines) for c in ORIGINAL]
            assert moved[ORIGINAL.index("e")]
            assert not moved[ORIGINAL.index(" ")]
            assert not moved[np.array(absent)].any()
        best = output.logits.argmax(2)
        features, classes = torch.sigmoid(output.features)[best != 80], best[best != 80]
        of_e = features[classes == ORIGINAL.index("e")]
        assert len(of_e) > 10
        spread[weight] = float(of_e.var(0).mean())
    assert spread[500.0] < 0.7 * spread[0.0]


def test_the_shortcut_has_its_weight(noise: Images, with_: With) -> None:
    """Nothing but its own loss reaches its output, whose gradient is proportional to the weight."""
    gradients = []
    for weight in (0.1, 0.3):
        engine = engine_of(with_(f"model.shortcut={weight}", "model.dropout=0", "model.head_dropout=0"))
        engine.train_step(batch_of(noise, [0, 1], [[1], [2]]), 0.0)
        gradients.append({name: p.grad for name, p in engine._net.named_parameters() if name.startswith("shortcut")})
    one, three = gradients
    assert one
    for name, gradient in one.items():
        assert float(gradient.norm()) > 0
        assert torch.allclose(3 * gradient, three[name], rtol=1e-4, atol=1e-7), name


def test_the_consistency_is_the_mean_divergence_of_two_views(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (6, 5, 4))
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    one, two = p[:3], p[3:]
    wanted = ((one - two) * (np.log(one) - np.log(two))).sum((1, 2)) / 2  # both directions together
    views = torch.tensor(logits, requires_grad=True)
    found = disagreement(views)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6)
    found.sum().backward()
    # Each view is drawn to the other, which counts as fixed: the gradient of KL(fixed, q) is q - fixed.
    assert views.grad is not None
    np.testing.assert_allclose(views.grad.numpy(), np.concatenate([one - two, two - one]) / 2, atol=1e-9)


def test_a_second_view_counts_as_another_line_that_should_read_the_same(noise: Images, with_: With) -> None:
    settings = with_("train.consistency=0.5", "model.dropout=0", "model.head_dropout=0", "augment.contrast=0.9")
    examples = batches.Examples(noise, [], [np.array([i + 1], np.int32) for i in range(5)], [""] * 5)
    batch = batches.warped(examples, recipe_of(settings), [(0, i) for i in range(5)])
    gradients, losses = [], []
    for second in (None, batch.warps, batch.second):
        engine = engine_of(settings)
        losses.append(float(engine.train_step(replace(batch, second=second), 0.0)))
        gradients.append(torch.cat([p.grad.ravel() for p in engine._net.parameters() if p.grad is not None]))
    alone, same, other = gradients
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)  # two equal views agree, and their mean loss is that of one
    assert float((same - alone).norm()) < 1e-3 * float(alone.norm())
    assert float((other - alone).norm()) > 1e-2 * float(alone.norm())
    # Of no weight, the second view is only one more line.
    engine = engine_of(with_("train.consistency=1e-9", *["model.dropout=0", "model.head_dropout=0"]))
    engine.train_step(batch, 0.0)
    unweighted = torch.cat([p.grad.ravel() for p in engine._net.parameters() if p.grad is not None])
    assert float((other - unweighted).norm()) > 1e-3 * float(other.norm())


def test_state_makes_the_next_step_the_same(noise: Images, device: str, with_: With) -> None:
    settings = with_("train.ema=0.9")
    labels = [[1, 2], [3], [4, 4], [5], [6, 7, 8]]
    pairs = [(0, i) for i in range(5)]
    warps = augment.draw(settings.augment, 24, noise.widths, 0, pairs, centred=True)
    plain = batch_of(noise, [0, 1, 2, 3, 4], labels)
    batch = Batch(plain.images, plain.widths, plain.labels, warps, plain.index)
    one = engine_of(settings)
    for _ in range(3):
        one.train_step(batch, 1e-3, 0.1)
    weights, state = one.weights(), one.state()
    on = [float(one.train_step(batch, 1e-3, 0.1)) for _ in range(3)]
    other = engine_of(settings)
    other.load(weights)
    other.load_state(state)
    assert_same([float(other.train_step(batch, 1e-3, 0.1)) for _ in range(3)], on, device)
    for name, array in one.weights().items():
        assert_same(other.weights()[name], array, device)


def test_bf16_is_near_fp32(noise: Images, with_: With) -> None:
    engine = engine_of(with_())
    batch = batch_of(noise, [0, 1, 2, 3, 4])
    exact = engine.logits(batch)
    engine.precision = "bf16"
    rough = engine.logits(batch)
    inside = np.abs(exact) < 1e3
    assert 0 < np.abs(rough - exact)[inside].max() < 0.15


def test_all_warps_of_a_batch_agree_with_the_reference(rng: np.random.Generator, device: str) -> None:
    """With smooth images: at the image border, rounding decides between a pixel and white."""
    y, x = np.mgrid[:40, :200]
    smooth = [128 + 100 * np.sin(x / rng.uniform(5, 20) + i) * np.sin(y / rng.uniform(5, 20)) for i in range(12)]
    framed = [np.pad(line[5:-5, : 100 + 8 * i], 5, constant_values=255) for i, line in enumerate(smooth)]
    images = Images.of([line.astype(np.uint8) for line in framed])
    settings = config.load(None, ["model.arch=crnn", *(f"augment.{k}" for k in ALL_WARPS)])
    index = np.arange(12)
    warps = augment.draw(settings.augment, 40, images.widths, 0, [(0, i) for i in index], centred=True)
    pixels = images.batch(index)
    reference = augment.apply(pixels, warps)
    images = torch.from_numpy(pixels).float().to(device)[:, None] / 255
    ours = torch_augment.apply(images, warps, reference.shape[2])[:, 0].cpu().numpy()
    off = np.abs(ours - reference)
    assert off.mean() < 1e-4
    assert (off > 0.01).mean() < 1e-3


ALL_WARPS = (
    "scale=0.3",
    "shear=0.5",
    "rotate=0.05",
    "translate=0.1",
    "elastic=0.05",
    "thickness=1",
    "contrast=0.5",
    "brightness=0.2",
    "mask=0.5",
    "gamma=[0.5, 2]",
)


def test_losses_begin_after_a_part_of_the_run(settings: Config, tmp_path: Path) -> None:
    """The consistency of a second view after six tenths, and the center loss after three."""
    views: list[bool] = []
    weights: list[float] = []
    real = TorchTrainer.train_step

    def seen(self: TorchTrainer, batch: Batch, lr: float, center_loss: float) -> torch.Tensor:
        views.append(batch.second is not None)
        weights.append(center_loss)
        return real(self, batch, lr, center_loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchTrainer, "train_step", seen)
        keys = ["train.epochs=2", "train.consistency=0.2", "train.consistency_from=0.6"]
        keys += ["train.center_loss=0.1", "train.center_from=0.3"]
        train(config.override(config.to_dict(settings), keys), tmp_path / "run", say=lambda line: None)
    steps = len(views)
    assert steps > 4
    for values, value, tenths in ((views, True, 6), (weights, 0.1, 3)):
        first = -(-tenths * steps // 10)
        assert values == [0] * first + [value] * (steps - first)


def test_an_interrupted_run_resumes_exactly(settings: Config, device: str, tmp_path: Path) -> None:
    """With an average of the weights, a schedule, the center loss and a late second view, stopped after every fourth batch."""
    import os
    import signal

    more = [
        "train.ema=0.9",
        "train.schedule=cosine",
        "train.warmup=0.2",
        "train.center_loss=0.1",
        "train.center_from=0",
        "train.consistency=0.2",
        "train.consistency_from=0.5",
    ]
    settings = config.override(config.to_dict(settings), [*more, "train.epochs=3", "train.clip=10"])

    def say(line: str) -> None:
        pass

    train(settings, tmp_path / "unbroken", say=say)
    real, steps = TorchTrainer.train_step, 0

    def counted(self: TorchTrainer, *arguments: object) -> float:
        nonlocal steps
        steps += 1
        if steps % 4 == 0:  # also after the very last batch
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchTrainer, "train_step", counted)
        tries = 1
        while not train(settings, tmp_path / "broken", resume=tries > 1, say=say):
            tries += 1
    assert tries == 3
    for name in ("best", "last"):
        one, two = (checkpoint.load(tmp_path / run / f"{name}.safetensors") for run in ("unbroken", "broken"))
        for key, array in one.weights.items():
            assert_same(two.weights[key], array, device)


@pytest.mark.once
def test_memory_does_not_grow_with_the_widths_seen() -> None:
    """Batch widths are rounded up, so that the memory that a library keeps per shape is bounded."""
    code = """
import numpy as np
from hwr import Error, config, engines, networks
from hwr.images import batches
from tests.conftest import TINY_CRNN
settings = config.load(None, TINY_CRNN)
engine = engines.trainer(settings, 81)
images = batches.Images.of([np.full((24, w), 200, np.uint8) for w in range(40, 480)])
held = []
for start in range(4):
    shuffled = batches.Images.of([images[i] for i in np.random.default_rng(start).permutation(len(images))[: 400]])
    for batch in batches.reading(shuffled, None, 8, networks.geometry(settings).multiple):
        engine.logits(batch)
    held.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6)
print(held[1], held[-1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    early, late = map(float, done.stdout.split())
    assert late < early + 10  # MB


def test_batch_norm_is_fused_for_reading_only() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 5, 3, stride=(2, 1), padding=1, bias=False), torch.nn.BatchNorm2d(5)
    for values in (norm.weight.data, norm.running_var):
        values.uniform_(0.5, 2)
    for values in (norm.bias.data, norm.running_mean):
        values.normal_()
    x = torch.randn(2, 3, 8, 9)
    norm.eval()
    assert torch.allclose(normed(conv, norm, x), norm(conv(x)), atol=1e-5)
    norm.train()
    before = norm.running_mean.clone()
    out = normed(conv, norm, x)
    assert torch.allclose(out.mean((0, 2, 3)), norm.bias, atol=1e-5)  # of this batch, not of the running statistics
    assert not torch.equal(norm.running_mean, before)


def test_a_rehearsed_batch_leaves_no_trace(settings: Config, noise: Images, device: str) -> None:
    engine, other = engine_of(settings), engine_of(settings)
    batch = batch_of(noise, [0, 1, 2], [[1], [2, 3], [4]])
    torch.manual_seed(0)
    engine.train_step(batch, 1e-3)
    before = torch.get_rng_state()
    engine.rehearse(batch_of(noise, [3, 4], [[1], [2]]))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(0)
    other.train_step(batch, 1e-3)
    for one, two in ((engine.weights(), other.weights()), (engine.state(), other.state())):
        assert one.keys() == two.keys()
        for name in one:
            if not name.startswith("rng"):
                assert_same(one[name], two[name], device)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_running_out_of_memory_names_the_setting_to_lower(
    settings: Config, noise: Images, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine = engine_of(settings)

    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(engine, "_forward", full)
    batch = batch_of(noise, [0, 1], [[1], [2]])
    with pytest.raises(Error, match=r"out of memory: lower evaluate\.batch_size \(now 2\)"):
        engine.logits(batch)
    for step in (lambda: engine.train_step(batch, 1e-3), lambda: engine.rehearse(batch)):
        with pytest.raises(Error, match=r"out of memory: lower train\.batch_size \(now \d+\)"):
            step()


def test_a_run_rehearses_its_widest_batch_first(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, int]] = []
    for name in ("rehearse", "train_step"):
        real = getattr(TorchTrainer, name)

        def noted(self: TorchTrainer, batch: Batch, *rest: object, name: str = name, real: object = real) -> object:
            order.append((name, int(batch.widths.max())))
            return real(self, batch, *rest)  # type: ignore[operator]

        monkeypatch.setattr(TorchTrainer, name, noted)
    train(settings, tmp_path / "run", say=lambda line: None)
    assert [name for name, _ in order[:2]] == ["rehearse", "train_step"]
    assert order[0][1] == max(width for _, width in order)
