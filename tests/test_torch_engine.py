"""The torch engine against the frozen numbers of the original network (tests/golden) and against first principles."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from hwr import Error, config, engines, gluon_params
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.config import Config
from hwr.decoding import greedy
from hwr.engines.torch import ctc_loss
from hwr.engines.torch_trainer import TorchTrainer
from hwr.images import augment, batches, prepare
from hwr.images.batches import Batch
from hwr.networks.original import spec

from .conftest import assert_same, encoded, predictions, prepared_images, whole
from .golden import recipe

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = json.loads((GOLDEN / "networks.json").read_text())
IMAGES = np.load(GOLDEN / "images.npz")


def golden(name: str, device: str, **model: float) -> tuple[TorchTrainer, Batch, Any]:
    """An engine with the golden weights, the batch that the golden numbers were made of, and those numbers."""
    about = NETWORKS[name]
    height, width = about["size"]
    sizes = {key: about[key] for key in ("steps", "hidden", "layers", "downsamples", "channels")}
    settings = config.from_dict(
        {"image": {"height": height, "width": width}, "model": {**sizes, **model}, "engine": {"device": device}}
    )
    engine = TorchTrainer(settings, 81, fresh=False)
    shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
    assert spec.shapes(settings.model, settings.image, 81) == shapes
    engine.load(recipe.weights(shapes))
    frozen = np.load(GOLDEN / f"{name}.npz")
    pixels = [prepare.fit(recipe.line_image(*IMAGES["lines"][i].tolist()), height, width) for i in about["lines"]]
    return engine, whole(np.stack(pixels), frozen["labels"]), frozen


@pytest.fixture
def tiny(tiny: Config, device: str) -> Config:
    return config.override(config.to_dict(tiny), [f"engine.device={device}"])


# Tolerance for logits; a GPU sums in another order.
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-4}


@pytest.mark.parametrize("name", ["small", "full"])
def test_logits_losses_and_text_are_the_originals(name: str, device: str) -> None:
    engine, batch, frozen = golden(name, device)
    logits = engine.logits(batch)
    steps, classes = (slice(None, None, 8), slice(None, None, 4)) if name == "full" else (slice(None), slice(None))
    assert np.abs(logits[:, steps, classes] - frozen["logits"]).max() < TOLERANCE[device]
    loss = engine.loss(logits, batch.labels)
    np.testing.assert_allclose(loss, frozen["loss"], rtol=1e-5)
    np.testing.assert_allclose(0.2 * loss, frozen["loss_weighted"], rtol=1e-5)
    assert greedy.greedy(logits, Alphabet(ORIGINAL))[0] == frozen["decoded"].tolist()


@pytest.mark.parametrize("name", ["small", "full"])
def test_the_first_training_steps_loss_is_the_originals(name: str, device: str) -> None:
    engine, batch, frozen = golden(name, device, dropout=0.0)
    assert 0.2 * float(engine.train_step(batch, 1e-4)) == pytest.approx(frozen["train_loss_weighted"].mean(), rel=1e-5)


def test_gradients_running_statistics_and_adams_step_are_the_originals(device: str) -> None:
    engine, batch, frozen = golden("small", device, dropout=0.0)
    engine.train_step(batch, 1e-4)
    gradients = {engine._net.saved_name(n): p.grad for n, p in engine._net.named_parameters()}
    for name, norm in zip(frozen["gradient_names"], frozen["gradient_norms"], strict=True):
        gradient = gradients[str(name)]
        assert gradient is not None
        # The golden gradient is the sum over the two lines, here it is the mean. Biases before batch norm have only noise.
        assert float(gradient.norm()) * 2 == pytest.approx(norm, rel=1e-4, abs=1e-5), name
    weights = engine.weights()
    np.testing.assert_allclose(weights["body.1.running_mean"], frozen["running_mean_after_step"], rtol=1e-5, atol=1e-6)
    # torch's is unbiased: n / (n - 1) of n = 2 x 15 x 70 values, on the tenth that is new.
    np.testing.assert_allclose(weights["body.1.running_var"], frozen["running_var_after_step"], rtol=2e-4)
    engine._net.train()
    with torch.no_grad():
        after = ctc_loss(engine._forward(engine._net, *engine._pixels(batch)).logits, batch.labels).mean()
    assert 0.2 * float(after) == pytest.approx(frozen["train_loss_weighted_after_step"].mean(), rel=1e-4)


def test_pixels_are_the_originals() -> None:
    for height, width in ((60, 800), (30, 140)):
        size = f"{height}x{width}"
        for i, line in enumerate(IMAGES["lines"]):
            pixels = prepare.fit(recipe.line_image(*line.tolist()), height, width)
            assert recipe.sha256(pixels) == str(IMAGES[f"sha256_{size}"][i])
            normalised = spec.normalise(pixels / 255)
            np.testing.assert_allclose(normalised[::10, ::40], IMAGES[f"normalised_{size}"][i], rtol=1e-6)


def test_warps_are_scikit_images(device: str) -> None:
    """Both ways to apply a warp, against scikit-image's result for the same maps."""
    frozen = np.load(GOLDEN / "warps.npz")
    for i, (gamma, tx, ty, sx, sy, shear) in enumerate(frozen["parameters"]):
        line = IMAGES["lines"][int(np.ravel(frozen["line"])[0 if frozen["line"].ndim == 0 else i])]
        pixels = prepare.fit(recipe.line_image(*line.tolist()), 60, 800)[None]
        matrix = [[sx, -sy * np.sin(shear), tx * 800], [0, sy * np.cos(shear), ty * 60]]
        warps = augment.Warps(np.array([gamma], np.float32), np.array([matrix], np.float32), np.array([800]))
        reference = augment.apply(pixels, warps)[0]
        on_device = _applied(pixels, warps, device)[0]
        # float32 places are off by some 1e-5 of a pixel, and a pixel may differ from its neighbour by all of black to white.
        for out in (reference, on_device):
            assert np.abs(out[::5, ::16] - frozen["values"][i]).max() < 2e-3
            assert out.mean() == pytest.approx(frozen["mean"][i], abs=1e-5)
            assert out.std() == pytest.approx(frozen["deviation"][i], abs=1e-4)


def test_warps_of_a_whole_batch_agree_with_the_reference(rng: np.random.Generator, device: str) -> None:
    pixels = rng.integers(0, 256, (16, 60, 800), np.uint8)  # noise is the hardest case for interpolation
    warps = augment.draw(config.Augment(), 60, np.full(16, 800), 0, [(0, i) for i in range(16)])
    assert np.abs(_applied(pixels, warps, device) - augment.apply(pixels, warps)).max() < 2e-3


def _applied(pixels: np.ndarray, warps: augment.Warps, device: str) -> np.ndarray:
    tiny = Config(model={"hidden": 4, "layers": 1, "pretrained": "none"}, engine={"device": device})  # type: ignore[arg-type]
    engine = TorchTrainer(tiny, 3, fresh=False)
    normalised, _ = engine._pixels(whole(pixels, np.full((len(pixels), 1), -1, np.int32), warps))
    out: np.ndarray = (normalised[:, 0] * spec.STD + spec.MEAN).cpu().numpy()
    return out


def test_ctc_against_brute_force(rng: np.random.Generator, device: str) -> None:
    """All paths of tiny cases, the blank last; labels of different lengths in one batch."""
    logits = rng.normal(size=(6, 5, 4)).astype(np.float32) * 2
    labels = np.array([[0, 1, 2], [0, 0, -1], [1, -1, -1], [2, 1, 2], [-1, -1, -1], [1, 1, 1]], np.int32)
    losses = ctc_loss(torch.from_numpy(logits).to(device), labels).cpu().numpy()
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    for n, label in enumerate(labels):
        wanted = [c for c in label if c >= 0]
        total = sum(
            np.prod(p[n, range(5), list(path)])
            for path in itertools.product(range(4), repeat=5)
            if [c for c, _ in itertools.groupby(path) if c != 3] == wanted
        )
        assert losses[n] == pytest.approx(-np.log(total), rel=1e-5)


def test_the_original_has_its_number_of_parameters() -> None:
    shapes = spec.shapes(Config().model, Config().image, 81)
    trained = sum(int(np.prod(shape)) for name, shape in shapes.items() if "running_" not in name)
    assert trained == NETWORKS["full"]["parameters"] == 23_337_361
    assert spec.step_sizes(Config().model, Config().image) == [1200, 280]


@pytest.mark.once
def test_eight_lines_are_learnt_by_heart(tiny: Config, drawn: Path) -> None:
    from hwr import data

    lines = data.read(tiny.data).train[:8]
    tiny = config.override(config.to_dict(tiny), ["model.dropout=0", "model.hidden=48"])
    images = prepared_images(lines, tiny)
    alphabet = Alphabet(ORIGINAL)
    engine = engines.trainer(tiny, alphabet.classes)
    labels = encoded(lines, alphabet, tiny, images.widths)
    batch = whole(images.batch(np.arange(8)), batches.pad(labels))
    for _ in range(300):
        engine.train_step(batch, 5e-3)
    assert predictions(engine, images, lines, alphabet, tiny).texts == [line.text for line in lines]


def test_state_makes_the_next_step_the_same(tiny: Config, device: str, rng: np.random.Generator) -> None:
    warps = augment.draw(tiny.augment, 32, np.full(4, 320), 0, [(0, i) for i in range(4)])
    batch = whole(rng.integers(0, 256, (4, 32, 320), np.uint8), rng.integers(0, 80, (4, 9), np.int32), warps)
    one = engines.trainer(tiny, 81)
    for _ in range(3):
        one.train_step(batch, 1e-3)
    weights, state = one.weights(), one.state()
    on = [float(one.train_step(batch, 1e-3)) for _ in range(3)]
    other = engines.trainer(tiny, 81)
    other.load(weights)
    other.load_state(state)
    assert_same([float(other.train_step(batch, 1e-3)) for _ in range(3)], on, device)  # dropout included
    # Not the weights on a GPU: a bias before batch norm has no gradient but rounding, which Adam scales up.
    assert_same(other.logits(batch), one.logits(batch), device)
    if device == "cpu":
        for name, array in one.weights().items():
            assert_same(other.weights()[name], array, device)


def test_the_same_seed_is_the_same_network_and_another_is_not(tiny: Config) -> None:
    one, two = engines.trainer(tiny, 81).weights(), engines.trainer(tiny, 81).weights()
    assert all(np.array_equal(a, two[name]) for name, a in one.items())
    seeded = tiny.model_copy(update={"train": tiny.train.model_copy(update={"seed": 1})})
    assert not np.array_equal(one["decoder.weight"], engines.trainer(seeded, 81).weights()["decoder.weight"])


def test_a_line_reads_the_same_alone_and_in_a_batch(device: str) -> None:
    engine, batch, _ = golden("small", device)
    together = engine.logits(batch)
    for i in range(len(batch.index)):
        alone = engine.logits(whole(batch.images[i : i + 1], batch.labels[i : i + 1]))
        assert np.abs(alone[0] - together[i]).max() < TOLERANCE[device]


def test_bf16_is_near_fp32(device: str) -> None:
    engine, batch, _ = golden("small", device)
    exact = engine.logits(batch)
    engine.precision = "bf16"
    rough = engine.logits(batch)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.15


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("bf16", True)])
def test_global_cuda_state_is_restored(precision: str, rounds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN rounds to TF32 with bf16 alone, and the caller's choice and device return, an error or not."""
    entered: list[object] = []

    @contextmanager
    def current(device: object) -> Iterator[None]:
        entered.append(device)
        try:
            yield
        finally:
            entered.pop()

    engine, *_ = golden("small", "cpu")
    engine._device, engine.precision = torch.device("cuda", 1), precision
    monkeypatch.setattr(torch.cuda, "device", current)
    for chosen in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", chosen)
        with engine._computing():
            assert torch.backends.cudnn.allow_tf32 == rounds
            assert entered == [torch.device("cuda", 1)]
        assert not entered
        assert torch.backends.cudnn.allow_tf32 == chosen
        with pytest.raises(ZeroDivisionError), engine._computing():
            1 / 0  # noqa: B018
        assert torch.backends.cudnn.allow_tf32 == chosen


def test_unsuitable_steps_are_refused_with_suggestions() -> None:
    with pytest.raises(Error, match=r"model\.steps 170: .*possible are .* 160"):
        engines.trainer(config.load(None, ["model.steps=170", "model.pretrained=none"]), 81)
    with pytest.raises(Error, match=r"image\.height 4 is too small for model\.downsamples 2"):
        spec.step_sizes(Config().model, config.load(None, ["image.height=4"]).image)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta"])
def test_a_missing_device_is_refused(tiny: Config, name: str) -> None:
    settings = tiny.model_copy(update={"engine": tiny.engine.model_copy(update={"device": name})})
    with pytest.raises(Error, match=r"engine\.device"):
        engines.trainer(settings, 81)


@pytest.fixture
def resnet(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Torchvision's names of ResNet-34's first layers (and one more, which must be ignored)."""
    norm = {"weight": (64,), "bias": (64,), "running_mean": (64,), "running_var": (64,)}
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (10, 512)}
    shapes |= {f"bn1.{k}": v for k, v in norm.items()}
    for block, i in itertools.product(range(3), (1, 2)):
        shapes[f"layer1.{block}.conv{i}.weight"] = (64, 64, 3, 3)
        shapes |= {f"layer1.{block}.bn{i}.{k}": v for k, v in norm.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def as_gluon(resnet: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same layers with the names of Gluon's model zoo."""
    out = {"features.0.weight": resnet["conv1.weight"], "output.weight": resnet["fc.weight"]}
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    out |= {f"features.1.{g}": resnet[f"bn1.{t}"] for t, g in parts.items()}
    for block, i in itertools.product(range(3), (1, 2)):
        at = f"features.4.{block}.body.{3 * (i - 1)}"
        out[f"{at}.weight"] = resnet[f"layer1.{block}.conv{i}.weight"]
        norm = f"features.4.{block}.body.{3 * (i - 1) + 1}"
        out |= {f"{norm}.{g}": resnet[f"layer1.{block}.bn{i}.{t}"] for t, g in parts.items()}
    return out


def test_the_imagenet_trunk_from_every_kind_of_file(tmp_path: Path, resnet: dict[str, np.ndarray]) -> None:
    torch.save({name: torch.from_numpy(a) for name, a in resnet.items()}, tmp_path / "resnet34-x.pth")
    save_file(resnet, tmp_path / "resnet34.safetensors")
    gluon_params.write(tmp_path / "resnet34_v1-x.params", as_gluon(resnet))
    for path in sorted(tmp_path.iterdir()):
        settings = config.load(None, [f"model.pretrained={path}", "model.hidden=4", "engine.device=cpu"])
        engine = engines.trainer(settings, 81)
        weights = engine.weights()
        assert engine.notes == [f"trunk: ImageNet weights from {path}"]
        np.testing.assert_allclose(weights["body.0.weight"], resnet["conv1.weight"].mean(1, keepdims=True), rtol=1e-6)
        assert np.array_equal(weights["body.1.gamma"], resnet["bn1.weight"])
        assert np.array_equal(weights["body.4.2.body.3.weight"], resnet["layer1.2.conv2.weight"])
        assert np.array_equal(weights["body.4.1.body.4.running_var"], resnet["layer1.1.bn2.running_var"])


def test_the_trunk_is_looked_for_in_the_usual_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet: dict[str, np.ndarray]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TORCH_HOME", "MXNET_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    auto = config.load(None, ["model.hidden=4", "engine.device=cpu"])
    (note,) = engines.trainer(auto, 81).notes
    assert "no ImageNet file was found" in note
    folder = tmp_path / ".mxnet/models"
    folder.mkdir(parents=True)
    gluon_params.write(folder / "resnet34_v1-48216ba9.params", as_gluon(resnet))
    assert engines.trainer(auto, 81).notes == [f"trunk: ImageNet weights from {folder / 'resnet34_v1-48216ba9.params'}"]
    none = config.load(None, ["model.hidden=4", "engine.device=cpu", "model.pretrained=none"])
    assert "random initial weights" in engines.trainer(none, 81).notes[0]


def test_files_without_a_trunk_are_refused(tmp_path: Path) -> None:
    cases = {
        "gone.pth": "nor an existing file",
        "text.pth": "not a file of torch weights",
        "other.params": "not a ResNet-34",
    }
    (tmp_path / "text.pth").write_text("no weights")
    gluon_params.write(tmp_path / "other.params", {"x": np.zeros(3, np.float32)})
    for name, message in cases.items():
        with pytest.raises(Error, match=message):
            engines.trainer(config.load(None, [f"model.pretrained={tmp_path / name}", "model.hidden=4"]), 81)
