"""Fine-tuning the text detector: `scripts/tune_detector.py`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from .conftest import REPOSITORY

for module in ("torch", "onnx", "onnxruntime", "rapidocr"):
    pytest.importorskip(module)
pytestmark = pytest.mark.once
sys.path.insert(0, str(REPOSITORY / "scripts"))

import onnxruntime  # noqa: E402
import torch  # noqa: E402
import tune_detector  # noqa: E402

from hwr import bundled  # noqa: E402


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with two lines, the second of which is one of two side by side, and text that is not marked."""
    for name, value in {"SIDE": 64, "BATCH": 2, "EVERY": 1, "WARMUP": 1}.items():
        monkeypatch.setattr(tune_detector, name, value)
    folder = tmp_path / "pages/mine"
    folder.mkdir(parents=True)
    page = Image.new("L", (640, 480), 230)
    for x, y in ((50, 60), (50, 160), (400, 160), (50, 300)):
        ImageDraw.Draw(page).text((x, y), "handwriting" * 2, 0, font_size=24)
    page.save(folder / "a.png")
    lines = [
        {"baseline": [[x, y], [x + w, y]], "polygon": [[x, y - 30], [x + w, y - 30], [x + w, y + 10], [x, y + 10]]}
        for x, y, w in ((50, 80, 280), (50, 180, 280), (400, 180, 200))
    ]
    said = {"line_height": 40, "foot_offset": None, "partial": False, "unmarked": [[40, 290, 350, 340]], "lines": lines}
    (folder / "a.json").write_text(json.dumps(said))
    return tmp_path / "pages"


def tune(pages: Path, out: Path, *more: object) -> str:
    done = CliRunner().invoke(
        tune_detector.main, [str(pages), "--out", str(out), *map(str, more)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def written() -> np.ndarray:
    """What the network sees of two words: (1, 3, H, W)."""
    page = Image.new("L", (320, 96), 255)
    ImageDraw.Draw(page).text((20, 30), "some handwriting", 0, font_size=24)
    return np.broadcast_to(np.array(page, np.float32) / 127.5 - 1, (1, 3, 96, 320)).copy()


def map_of(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_torch_computes_what_onnxruntime_does() -> None:
    network = tune_detector.Network(tune_detector.source_model())
    x = written()
    with torch.no_grad():
        found = torch.sigmoid(network(torch.tensor(x))).numpy()
    assert found.max() > 0.9
    assert np.allclose(found, map_of(tune_detector.source_model(), x), atol=1e-4)


def test_what_is_learned(pages: Path) -> None:
    (pages / "mine/a.png").rename(pages / "mine/a.PNG")
    page = tune_detector.read_page(pages / "mine/a.json")
    assert page.grey.shape == (960, 1280)  # twice as large as the image
    rows = np.flatnonzero(page.target[:, 300])
    assert np.allclose([rows[0], rows[-1]], [2 * (80 - 10) - 16, 2 * (180 - 10) + 16], atol=2)
    assert int(page.target[340, 2 * 50 : 2 * 330].sum()) == pytest.approx(
        2 * (280 - 2 * 6), abs=3
    )  # the ends are cut off
    assert page.weight[340, 2 * 335] == tune_detector.APART  # between the lines side by side
    assert page.weight[2 * 310, 2 * 100] == 0  # text that is not marked
    assert page.weight[2 * 250, 2 * 100] == 1


def test_a_part_of_the_weights(pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_detector, "EVERY", 5)
    out = tmp_path / "lines.onnx"
    tune(pages, out, "--steps", 2, "--share", 0)
    monkeypatch.setattr(tune_detector, "loss_of", None)  # another part needs no training
    former = map_of(tune_detector.source_model(), written())
    assert np.allclose(map_of(out, written()), former, atol=0.02)  # fp16
    assert out.stat().st_size < 5.3e6
    tune(pages, out, "--steps", 2, "--share", 1)
    assert not np.allclose(map_of(out, written()), former, atol=0.05)


def test_an_interrupted_training_continues(pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(pages, tmp_path / "whole.onnx", "--steps", 3)
    real, calls = tune_detector.loss_of, []

    def torn(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    out = tmp_path / "torn.onnx"
    monkeypatch.setattr(tune_detector, "loss_of", torn)
    assert CliRunner().invoke(tune_detector.main, [str(pages), "--out", str(out), "--steps", "3"]).exit_code == 1
    assert not out.exists()
    tune(pages, out, "--steps", 3)
    assert len(calls) == 4
    assert out.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    done = CliRunner().invoke(tune_detector.main, [str(pages), "--out", str(out), "--steps", "4"])
    assert done.exit_code == 1
    assert "torn.pt is of a training with {'steps': 3" in done.output


def test_the_bundled_network_has_this_form() -> None:
    bundled_, source = (
        onnxruntime.InferenceSession(str(path)) for path in (bundled.line_detector(), tune_detector.source_model())
    )
    assert [each.shape for each in bundled_.get_inputs()] == [each.shape for each in source.get_inputs()]
    assert bundled.line_detector().stat().st_size < 5.3e6
