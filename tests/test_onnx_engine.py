"""Checkpoints on onnxruntime: the same logits as on torch, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwr import Error, config, engines, networks, recognizer
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Config
from hwr.engines.export import export
from hwr.images.batches import Batch
from hwr.training.loop import train

from .conftest import REPOSITORY, TINY, TINY_CRNN

pytest.importorskip("onnxruntime")


def lines(settings: Config, rng: np.random.Generator) -> Batch:
    """Four lines of noise, of different widths if the network allows it."""
    widths = np.full(4, settings.image.width, np.int32)
    if networks.geometry(settings).any_width:
        widths = np.array([320, 201, 37, 1], np.int32)
    pixels = rng.integers(0, 256, (4, settings.image.height, widths.max()), dtype=np.uint8)
    return Batch(pixels, widths, np.full((4, 1), -1, np.int32), None, np.arange(4))


def weights(settings: Config, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights, with the running statistics of a trained network."""
    return {
        name: rng.uniform(0.5, 2, shape) if "var" in name else rng.normal(0, 0.3, shape)
        for name, shape in networks.shapes(settings, 30).items()
    }


@pytest.mark.parametrize(
    "sets",
    [
        TINY,
        [*TINY, "model.downsamples=3", "model.layers=2", "image.width=640"],
        TINY_CRNN,
        [*TINY_CRNN, "model.frames=2", "model.layers=3", "model.shortcut=0"],
        [*TINY_CRNN, "model.layers=0", "model.stride=[4, 2]"],
        [*TINY_CRNN, "model.blocks=[[2, 8], [1, 8], [1, 12]]", "model.pools=[[2, 2], [2, 1]]"],
    ],
    ids=["original", "original, three scales", "crnn", "two frames", "no LSTM", "two pools"],
)
def test_the_logits_are_those_of_torch(sets: list[str], rng: np.random.Generator) -> None:
    pytest.importorskip("torch")
    settings = config.load(None, [*sets, "engine.precision=fp32"])
    arrays, batch = {name: a.astype(np.float32) for name, a in weights(settings, rng).items()}, lines(settings, rng)
    found, expected = (
        engines.reader(config.override(config.to_dict(settings), [f"engine.name={name}"]), 30, arrays).logits(batch)
        for name in ("onnx", "torch")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected[np.abs(expected) < 1e3]).max())


def test_the_model_is_valid_onnx(rng: np.random.Generator) -> None:
    onnx = pytest.importorskip("onnx")
    for sets in (TINY, TINY_CRNN):
        settings = config.load(None, sets)
        arrays = {name: a.astype(np.float32) for name, a in weights(settings, rng).items()}
        model = onnx.load_from_string(networks.onnx_model(settings, 30, arrays, {"hwr": "é" * 200}))
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.key, entry.value) for entry in model.metadata_props] == [("hwr", "é" * 200)]


def test_what_onnxruntime_can_not_do_is_refused() -> None:
    with pytest.raises(Error, match="onnx engine supports fp32 only"):
        config.load(None, [*TINY, "engine.name=onnx", "engine.precision=bf16"])
    settings = config.load(None, [*TINY, "engine.name=onnx", "engine.device=cuda"])
    arrays = {name: np.zeros(shape, np.float32) for name, shape in networks.shapes(settings, 30).items()}
    with pytest.raises(Error, match="onnxruntime runs on the CPU only"):
        engines.reader(settings, 30, arrays)
    with pytest.raises(Error, match="onnx only reads"):
        engines.trainer(settings, 30)


def installed(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(engines, "_installed", lambda module: module in modules)


def test_auto_is_onnxruntime_for_few_lines_and_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.load(None, TINY)

    def chosen(lines: int | None, *sets: str) -> str:
        return engines.chosen(config.override(config.to_dict(settings), sets), lines)

    installed(monkeypatch, "torch", "onnxruntime")
    assert chosen(1) == chosen(engines.FEW_LINES) == "onnx"
    assert chosen(engines.FEW_LINES + 1) == chosen(None) == "torch"
    assert chosen(1, "engine.name=torch") == "torch"
    assert chosen(None, "engine.name=onnx") == "onnx"
    # onnxruntime has no GPU, no bf16 and one process here.
    assert chosen(1, "engine.device=cuda") == chosen(1, "engine.precision=bf16") == "torch"
    with monkeypatch.context() as torchrun:
        for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")):
            torchrun.setenv(name, value)
        assert chosen(1) == "torch"
    installed(monkeypatch, "onnxruntime")
    assert chosen(None) == chosen(10**6) == "onnx"
    installed(monkeypatch, "torch")
    assert chosen(1) == "torch"
    installed(monkeypatch, "mxnet")
    assert chosen(1) == "mxnet"
    installed(monkeypatch)
    with pytest.raises(Error, match=r"no engine is installed: pip install '\.\[read\]'"):
        chosen(1)


WITHOUT_TORCH = """
import sys
sys.modules.update(torch=None, mxnet=None, numba=None, onnx=None)
from hwr.cli import main
for arguments in {commands!r}:
    main(arguments, standalone_mode=False)
slow = ("scipy", "skimage", "matplotlib", "tensorboardX", "requests")
print([module for module in slow if module in sys.modules])
"""


def test_a_line_is_read_without_torch_and_numba(model: Path, drawn: Path) -> None:
    """In a process that can't import them; it imports nothing else that is slow either."""
    pytest.importorskip("torch")
    image = sorted((drawn / "lines").rglob("*.png"))[0]
    bundled = str(REPOSITORY / "docs/line.png")
    commands = [["predict", bundled], ["predict", str(image), "--checkpoint", str(model)]]
    script = WITHOUT_TORCH.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    expected = [
        recognizer.load(name, ["engine.name=torch", "engine.precision=fp32"]).read(file).text
        for name, file in (("hwr-latin", bundled), (model, image))
    ]
    assert done.stdout.splitlines() == [*expected, "[]"]


def test_what_needs_torch_says_so(monkeypatch: pytest.MonkeyPatch, drawn: Path, tmp_path: Path) -> None:
    settings = config.load(None, [*TINY, "engine.name=torch", f"data.root={drawn}"])
    arrays = {name: np.zeros(shape, np.float32) for name, shape in networks.shapes(settings, 30).items()}
    installed(monkeypatch, "onnxruntime")
    for work in (
        lambda: engines.trainer(settings, 30),
        lambda: engines.reader(settings, 30, arrays),
        lambda: train(settings, tmp_path / "run"),
        lambda: export(Checkpoint(arrays, settings, Alphabet("ab"), {}), settings, tmp_path / "m.onnx", "onnx"),
    ):
        with pytest.raises(Error, match=r"needs PyTorch: pip install '\.\[torch\]'"):
            work()
