"""The MXNet engine against the frozen numbers of the original network, against the torch engine, and against Gluon."""

import csv
import ctypes
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hwr import Error, checkpoint, config, data, engines, gluon_params
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.cli import main
from hwr.config import Config
from hwr.decoding import greedy
from hwr.engines import mxnet_library
from hwr.images import augment, batches, prepare
from hwr.images.batches import Batch
from hwr.loading import load_checkpoint
from hwr.networks.original import spec
from hwr.recognizer import Recognizer
from hwr.training.loop import train

from .conftest import REPOSITORY, TINY, encoded, events, predictions, prepared_images, whole
from .golden import recipe

try:
    mx = mxnet_library.load()
except Error as reason:
    pytest.skip(str(reason), allow_module_level=True)
from hwr.engines.mxnet import MXNetEngine
from hwr.networks.original import mxnet as mxnet_network

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = json.loads((GOLDEN / "networks.json").read_text())
IMAGES = np.load(GOLDEN / "images.npz")
ENGINES = ["torch", "mxnet"]


def golden(name: str, engine: str = "mxnet", **model: float) -> tuple[Any, Batch, Any]:
    """An engine with the golden weights, the batch that the golden numbers were made of, and those numbers."""
    about = NETWORKS[name]
    height, width = about["size"]
    sizes = {key: about[key] for key in ("steps", "hidden", "layers", "downsamples", "channels")}
    settings = config.from_dict(
        {
            "image": {"height": height, "width": width},
            "model": {**sizes, **model},
            "engine": {"name": engine, "device": "cpu", "threads": 1},
        }
    )
    built = engines.trainer(settings, 81, fresh=False)
    built.load(recipe.weights({name: tuple(shape) for name, shape in about["shapes"].items()}))
    frozen = np.load(GOLDEN / f"{name}.npz")
    pixels = [prepare.fit(recipe.line_image(*IMAGES["lines"][i].tolist()), height, width) for i in about["lines"]]
    return built, whole(np.stack(pixels), frozen["labels"]), frozen


def with_(settings: Config, *overrides: str) -> Config:
    return config.override(config.to_dict(settings), overrides)


@pytest.fixture
def tiny(tiny: Config) -> Config:
    return with_(tiny, "engine.name=mxnet")


@pytest.fixture
def batch(tiny: Config, rng: np.random.Generator) -> Batch:
    """Four lines of noise, warped, with labels of different lengths."""
    labels = rng.integers(0, 80, (4, 9), np.int32)
    labels[1, 4:] = labels[3, :] = -1
    warps = augment.draw(tiny.augment, 32, np.full(4, 320), 0, [(0, i) for i in range(4)])
    return whole(rng.integers(0, 256, (4, 32, 320), np.uint8), labels, warps)


# ---------------------------------------------------------------- the original's numbers


@pytest.mark.parametrize("name", ["small", "full"])
def test_logits_losses_and_text_are_the_originals(name: str) -> None:
    engine, batch, frozen = golden(name)
    logits = engine.logits(batch)
    steps, classes = (slice(None, None, 8), slice(None, None, 4)) if name == "full" else (slice(None), slice(None))
    assert np.abs(logits[:, steps, classes] - frozen["logits"]).max() < 1e-5
    np.testing.assert_allclose(engine.loss(logits, batch.labels), frozen["loss"], rtol=1e-5)
    assert greedy.greedy(logits, Alphabet(ORIGINAL))[0] == frozen["decoded"].tolist()


@pytest.mark.parametrize("name", ["small", "full"])
def test_the_first_training_steps_loss_is_the_originals(name: str) -> None:
    engine, batch, frozen = golden(name, dropout=0.0)
    assert 0.2 * float(engine.train_step(batch, 1e-4)) == pytest.approx(frozen["train_loss_weighted"].mean(), rel=1e-5)


def test_gradients_running_statistics_and_adams_step_are_the_originals() -> None:
    engine, batch, frozen = golden("small", dropout=0.0)
    engine.train_step(batch, 1e-4)
    assert {str(name) for name in frozen["gradient_names"]} <= set(engine._trained)
    for name, norm in zip(frozen["gradient_names"], frozen["gradient_norms"], strict=True):
        gradient = engine._parameters[str(name)].grad().asnumpy().astype(np.float64)
        assert np.sqrt((gradient**2).sum()) == pytest.approx(norm, rel=1e-4, abs=1e-5), name
    weights = engine.weights()
    for part in ("mean", "var"):
        frozen_part = frozen[f"running_{part}_after_step"]
        np.testing.assert_allclose(weights[f"body.1.running_{part}"], frozen_part, rtol=1e-6, atol=1e-6)
    # A step with learning rate 0 gives the loss after the first one.
    after = frozen["train_loss_weighted_after_step"].mean()
    assert 0.2 * float(engine.train_step(batch, 0.0)) == pytest.approx(after, rel=1e-4)


@pytest.mark.parametrize("sizes", [{}, {"downsamples": 1}, {"channels": 8, "layers": 1, "downsamples": 3}])
def test_names_and_shapes_are_gluons_own(sizes: dict[str, Any], tmp_path: Path) -> None:
    small = {"hidden": 4, "steps": 100, "pretrained": "none", **sizes}
    settings = config.from_dict({"model": small, "engine": {"name": "mxnet", "device": "cpu"}})
    engine: Any = engines.trainer(settings, 7)
    engine._net.save_parameters(str(tmp_path / "own.params"))
    written = gluon_params.read(tmp_path / "own.params")
    assert {name: array.shape for name, array in written.items()} == spec.shapes(settings.model, settings.image, 7)
    assert all(np.array_equal(array, engine.weights()[name]) for name, array in written.items())


# ---------------------------------------------------------------- CTC


def test_ctc_against_brute_force(tiny: Config, rng: np.random.Generator) -> None:
    """All paths of tiny cases, the blank last; also an empty label, one that can't fit, and labels wider than T."""
    logits = rng.normal(size=(7, 5, 4)).astype(np.float32) * 2
    rows = [[0, 1, 2], [0, 0], [1], [2, 1, 2], [], [1, 1, 1], [0, 0, 0, 0]]
    labels = np.full((7, 9), -1, np.int32)
    for label, row in zip(labels, rows, strict=True):
        label[: len(row)] = row
    engine = engines.trainer(tiny, 4)
    losses = engine.loss(logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    for n, wanted in enumerate(rows):
        total = sum(
            np.prod(p[n, range(5), list(path)])
            for path in itertools.product(range(4), repeat=5)
            if [c for c, _ in itertools.groupby(path) if c != 3] == wanted
        )
        assert losses[n] == pytest.approx(-np.log(total) if total else np.inf, rel=1e-5), wanted
        assert engine.loss(logits[n : n + 1], labels[n : n + 1])[0] == pytest.approx(losses[n], rel=1e-6)


def test_a_batch_of_empty_labels_trains(tiny: Config, batch: Batch) -> None:
    empty = whole(batch.images, np.full((4, 1), -1, np.int32))
    same = with_(tiny, "model.dropout=0", "train.loss_weight=1")
    pytest.importorskip("torch", reason="compares with torch")
    one: Any = engines.trainer(same, 81)
    other: Any = engines.trainer(with_(same, "engine.name=torch"), 81)
    assert float(one.train_step(empty, 1e-3)) == pytest.approx(float(other.train_step(empty, 1e-3)), rel=1e-5)
    gradients = one._parameters["decoder.weight"].grad().asnumpy() / 4, other._net.decoder.weight.grad.numpy()
    assert np.abs(gradients[0] - gradients[1]).max() < 1e-4 * np.abs(gradients[1]).max()


# ---------------------------------------------------------------- compared with the torch engine


@pytest.mark.parametrize("name", ["small", "full"])
def test_both_engines_give_the_same(name: str) -> None:
    pytest.importorskip("torch", reason="compares with torch")
    pair = [golden(name, engine, dropout=0.0) for engine in ENGINES]
    logits = [engine.logits(batch) for engine, batch, _ in pair]
    assert np.abs(logits[0] - logits[1]).max() < 1e-5
    losses = [engine.loss(read, batch.labels) for (engine, batch, _), read in zip(pair, logits, strict=True)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    texts = [greedy.greedy(read, Alphabet(ORIGINAL))[0] for read in logits]
    assert texts[0] == texts[1] != ["", ""]
    steps = [float(engine.train_step(batch, 1e-4)) for engine, batch, _ in pair]
    assert steps[0] == pytest.approx(steps[1], rel=1e-5)


def test_the_first_steps_with_warps_are_the_same_on_both(tiny: Config, batch: Batch) -> None:
    """The same seed is the same network; warped by scikit-image here and on the device there, to interpolation error."""
    pytest.importorskip("torch", reason="compares with torch")
    pair = [engines.trainer(with_(tiny, f"engine.name={name}", "model.dropout=0"), 81) for name in ENGINES]
    one, two = (engine.weights() for engine in pair)
    assert list(one.keys() ^ two.keys()) == []
    assert all(np.array_equal(array, two[name]) for name, array in one.items())
    for _ in range(3):
        losses = [float(engine.train_step(batch, 1e-4)) for engine in pair]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("suffix", [".safetensors", ".params"])
@pytest.mark.parametrize(("writer", "reader"), [ENGINES, ENGINES[::-1]])
def test_a_checkpoint_of_one_engine_is_read_by_the_other(
    writer: str, reader: str, suffix: str, tiny: Config, batch: Batch, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="compares with torch")
    one = engines.trainer(with_(tiny, f"engine.name={writer}"), 81)
    one.train_step(batch, 1e-2)
    path = tmp_path / f"trained{suffix}"
    if suffix == ".params":
        gluon_params.write(path, one.weights())
    else:
        checkpoint.save(path, Checkpoint(one.weights(), tiny, Alphabet(ORIGINAL)))
    loaded = load_checkpoint(path, tiny)
    other = Recognizer(loaded, with_(loaded.config, f"engine.name={reader}")).engine
    unwarped = replace(batch, warps=None)
    assert np.abs(one.logits(unwarped) - other.logits(unwarped)).max() < 1e-5


# ---------------------------------------------------------------- compared with another Gluon network


@pytest.fixture(scope="module")
def independent() -> ModuleType:
    """scripts/make_golden.py, an independent implementation of the original network."""
    spec = importlib.util.spec_from_file_location("make_golden", REPOSITORY / "scripts" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_params_go_to_an_independent_gluon_network_and_back(independent: ModuleType, tmp_path: Path) -> None:
    engine, batch, _ = golden("small")
    engine.train_step(batch, 1e-2)
    settings = config.load(None, ["image.height=30", "image.width=140"])
    there, back = tmp_path / "there.params", tmp_path / "back.params"
    gluon_params.write(there, engine.weights())
    net = independent.build(NETWORKS["small"], 0.5)
    net.load_parameters(str(there))
    pixels = mx.nd.array(spec.normalise(batch.images / 255)[:, None])
    assert np.abs(net(pixels).asnumpy() - engine.logits(batch)).max() < 1e-5
    net.save_parameters(str(back))
    assert all(np.array_equal(a, engine.weights()[n]) for n, a in load_checkpoint(back, settings).weights.items())


# ---------------------------------------------------------------- training


def test_eight_lines_are_learnt_by_heart(tiny: Config) -> None:
    lines = data.read(tiny.data).train[:8]
    tiny = with_(tiny, "model.dropout=0", "model.hidden=48")
    images = prepared_images(lines, tiny)
    alphabet = Alphabet(ORIGINAL)
    engine = engines.trainer(tiny, alphabet.classes)
    labels = encoded(lines, alphabet, tiny, images.widths)
    batch = whole(images.batch(np.arange(8)), batches.pad(labels))
    for _ in range(300):
        engine.train_step(batch, 5e-3)
    assert predictions(engine, images, lines, alphabet, tiny).texts == [line.text for line in lines]


def test_state_makes_the_next_step_the_same(tiny: Config, batch: Batch) -> None:
    one = engines.trainer(tiny, 81)
    for _ in range(3):
        one.train_step(batch, 1e-3)
    weights, state = one.weights(), one.state()
    on = [float(one.train_step(batch, 1e-3)) for _ in range(3)]
    mx.nd.random.uniform(shape=100).asnumpy()  # other users of MXNet's generators have no effect
    other = engines.trainer(tiny, 81)
    other.load(weights)
    other.load_state(state)
    assert [float(other.train_step(batch, 1e-3)) for _ in range(3)] == on  # dropout included
    assert all(np.array_equal(a, other.weights()[name]) for name, a in one.weights().items())
    fresh = engines.trainer(tiny, 81)
    other.load_state(fresh.state())
    assert list(other.state()) == ["updates"]


def test_dropout_is_random_and_for_training_only(tiny: Config, batch: Batch) -> None:
    engine = engines.trainer(tiny, 81)
    assert len({float(engine.train_step(batch, 0.0)) for _ in range(3)}) == 3
    other = engines.trainer(with_(tiny, "train.seed=1"), 81)
    other.load(engine.weights())
    assert np.array_equal(engine.logits(batch), other.logits(batch))
    again = engines.trainer(tiny, 81)
    again.load(engine.weights())
    assert other.train_step(batch, 0.0) != again.train_step(batch, 0.0)


@pytest.fixture(scope="module")
def unbroken(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two uninterrupted epochs."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    settings = [part for text in (*TINY, f"data.root={drawn}") for part in ("--set", text)]
    assert (
        "mxnet on cpu" in hwr("train", "--config", REPOSITORY / "configs/iam_line.yaml", *settings, "--out", out).output
    )
    return out


def hwr(*arguments: object) -> Result:
    command, *rest = map(str, arguments)
    result = CliRunner().invoke(main, [command, "--engine", "mxnet", *rest], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_interrupted_runs_resume_exactly(
    unbroken: Path, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in every batch, until the run is done."""
    real = MXNetEngine.train_step

    def interrupted(self: MXNetEngine, *arguments: Any) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)

    monkeypatch.setattr(MXNetEngine, "train_step", interrupted)
    tries = 1
    while not train(tiny, tmp_path / "run", resume=tries > 1, say=lambda line: None):
        tries += 1
        assert tries < 10
    assert tries >= 4
    for name in ("best", "last"):
        one, two = (checkpoint.load(out / f"{name}.safetensors").weights for out in (unbroken, tmp_path / "run"))
        assert all(np.array_equal(array, two[key]) for key, array in one.items())


def test_tensorboard_reads_what_mxboard_wrote(unbroken: Path) -> None:
    """The original's scalars and images, with the names of the torch engine's runs."""
    read = events(unbroken)
    with (unbroken / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert read["scalars"].keys() == (rows[0].keys() - {"epoch"}) | {"val_loss_weighted"}
    for name, points in read["scalars"].items():
        assert [step for step, _ in points] == [1, 2]
        if name != "val_loss_weighted":
            assert [value for _, value in points] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)
    ((step, width, *_),) = read["images"]["validation_lines"]
    assert step == 2
    assert width > 300
    assert "mxboard" in sys.modules


def test_the_commands(unbroken: Path, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="compares with torch")
    model = unbroken / "best.safetensors"
    hwr("evaluate", "--checkpoint", model, "--json", tmp_path / "mxnet.json")
    hwr(
        "evaluate", "--checkpoint", model, "--json", tmp_path / "torch.json", "--engine", "torch"
    )  # the last one counts
    reports = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ENGINES}
    assert [reports[name]["engine"] for name in ENGINES] == ENGINES
    assert reports["mxnet"]["cer"] == reports["torch"]["cer"]
    assert reports["mxnet"]["ctc_loss"] == pytest.approx(reports["torch"]["ctc_loss"], rel=1e-5)
    hwr("export-typo", "--checkpoint", model, "--out", tmp_path / "typo")
    assert json.loads((tmp_path / "typo/validating.json").read_text())
    lines = data.read(config.Data(root=str(drawn))).test
    read = hwr("predict", *(line.image for line in lines), "--checkpoint", model, "--json").output.splitlines()
    worst = {entry["id"]: entry["hypothesis"] for entry in reports["mxnet"]["worst"]}
    assert [json.loads(line)["text"] for line in read] == [worst[line.id] for line in lines]


# ---------------------------------------------------------------- devices


def test_a_batch_over_several_devices(tiny: Config, batch: Batch) -> None:
    """Two equal halves have the statistics of the whole, so gradients, moments and loss must equal those of one device."""
    twice = whole(*(np.concatenate([a, a]) for a in (batch.images, batch.labels)))
    same = with_(tiny, "model.dropout=0")
    one, two = MXNetEngine(same, 81), MXNetEngine(same, 81, contexts=[mx.cpu(0), mx.cpu(1)])
    for _ in range(3):
        assert float(two.train_step(twice, 1e-4)) == pytest.approx(float(one.train_step(twice, 1e-4)), rel=1e-4)
    for name, moment in one.state().items():
        np.testing.assert_allclose(two.state()[name], moment, rtol=1e-2, atol=1e-4 * max(1, np.abs(moment).max()))
    assert np.abs(two.logits(twice) - one.logits(twice)).max() < 1e-3
    first, second = (
        [p.data(c).asnumpy() for n, p in two._parameters.items() if "running" not in n] for c in two._contexts
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_several_devices_resume_exactly(tiny: Config, batch: Batch) -> None:
    contexts = [mx.cpu(0), mx.cpu(1), mx.cpu(2)]  # four lines: two, one and one
    one = MXNetEngine(tiny, 81, contexts=contexts)
    one.train_step(batch, 1e-3)
    other = MXNetEngine(tiny, 81, contexts=contexts)
    other.load(one.weights())
    other.load_state(one.state())
    assert float(other.train_step(batch, 1e-3)) == float(one.train_step(batch, 1e-3))
    with pytest.raises(Error, match=r"train\.batch_size 2 is too small for 3 GPUs"):
        MXNetEngine(with_(tiny, "train.batch_size=2"), 81, contexts=contexts)


def test_the_number_of_threads(tiny: Config) -> None:
    """MXNet's computing thread reports it, and the number of other threads does not change."""
    ours = ctypes.CDLL("libgomp.so.1").omp_get_max_threads()
    for threads in (3, 2, 1):
        assert MXNetEngine(with_(tiny, f"engine.threads={threads}"), 81).threads == threads
        assert MXNetEngine(with_(tiny, "engine.threads=null"), 81).threads == threads  # left as it was
    assert ctypes.CDLL("libgomp.so.1").omp_get_max_threads() == ours


def test_damaged_images_stay_an_error_beside_gluoncv() -> None:
    """gluoncv switches Pillow's check off when it is imported, here in a fresh process."""
    code = "from hwr.networks.original import mxnet; mxnet._model_zoo(); from PIL import ImageFile; "
    code += "import sys; assert 'gluoncv.data.mhp' in sys.modules; assert not ImageFile.LOAD_TRUNCATED_IMAGES"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_missing_device_is_refused(tiny: Config, name: str) -> None:
    with pytest.raises(Error, match=r"engine\.device"):
        engines.trainer(with_(tiny, f"engine.device={name}"), 81)


# ---------------------------------------------------------------- the ImageNet trunk


@pytest.mark.parametrize("package", ["mxnet", "gluoncv"])
def test_the_model_zoos_resnet_34_as_trunk(package: str, tmp_path: Path) -> None:
    """A ResNet-34 file of either package, which use equal names."""
    if package == "mxnet":
        zoo = mx.gluon.model_zoo.vision.resnet34_v1(pretrained=False)
    else:
        zoo = sys.modules["gluoncv.model_zoo"].get_model("resnet34_v1", pretrained=False)
    zoo.initialize(mx.init.Xavier())
    zoo(mx.nd.zeros((1, 3, 64, 64)))
    path = tmp_path / "resnet34_v1-48216ba9.params"
    zoo.save_parameters(str(path))
    settings = config.load(
        None, [f"model.pretrained={path}", "model.hidden=4", "engine.device=cpu", "engine.name=mxnet"]
    )
    engine: Any = engines.trainer(settings, 81)
    assert engine.notes == [f"trunk: ImageNet weights from {path}"]
    # On a grey image the zoo's first stages give what ours do, once their sum over RGB is made ours' mean.
    x = mx.nd.random.uniform(shape=(2, 1, 32, 64))
    expected = x.broadcast_to((2, 3, 32, 64)) / 3
    for layer in zoo.features[:5]:
        expected = layer(expected)
    np.testing.assert_allclose(engine._net.body(x).asnumpy(), expected.asnumpy(), atol=1e-5)


@pytest.mark.parametrize("channels", [64, 8])
def test_the_trunk_is_gluoncvs(channels: int) -> None:
    torch = sys.modules.get("torch")
    body = mxnet_network.trunk(channels)
    assert len(body) == 5
    assert [type(block).__module__ for block in body[4]] == ["gluoncv.model_zoo.resnet"] * spec.BLOCKS
    assert sys.modules.get("torch") is torch  # gluoncv refuses torch 2, which is therefore hidden


def test_an_environment_without_gluoncv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    mxnet_network._model_zoo.cache_clear()
    monkeypatch.setitem(sys.modules, "gluoncv.model_zoo", None)
    with pytest.raises(Error, match=r"engine mxnet needs gluoncv.*pip install -e '\.\[mxnet\]'"):
        mxnet_network.trunk(64)


def test_torchs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resnet34.pth").write_text("only torch reads these")
    settings = config.load(
        None, [f"model.pretrained={tmp_path}/resnet34.pth", "engine.name=mxnet", "engine.device=cpu"]
    )
    with pytest.raises(Error, match=r"can't read torch's \.pth; set model\.pretrained to a Gluon \.params"):
        engines.trainer(settings, 81)
