"""Exported networks give the engine's predictions, in onnxruntime and TorchScript."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import bundled, checkpoint, config, engines
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.cli import main
from hwr.loading import load_checkpoint

from .conftest import REPOSITORY, TINY, whole

torch = pytest.importorskip("torch")


def hwr(*arguments: object, status: int = 0) -> Any:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the original network, with random weights."""
    settings, alphabet = config.load(None, TINY), Alphabet(ORIGINAL)
    path = tmp_path_factory.mktemp("original") / "o.safetensors"
    checkpoint.save(path, Checkpoint(engines.trainer(settings, alphabet.classes).weights(), settings, alphabet))
    return path


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_onnx_reads_the_same(
    model: Path, drawn: Path, tmp_path: Path, quantize: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    if quantize:
        pytest.importorskip("onnx")
    out = tmp_path / "m.onnx"
    done = hwr("export", model, "--format", "onnx", "--out", out, *(["--quantize", quantize] if quantize else []))
    assert "MB" in done.output
    # Batch sizes and widths other than in the export: batches of 5, with the lines' own widths.
    arguments = ["--split", "train", "--set", f"data.root={drawn}", "evaluate.batch_size=5", "--json", "-"]
    reports = [json.loads(hwr("evaluate", "--checkpoint", path, *arguments).stdout) for path in (model, out)]
    if quantize:
        assert reports[1]["cer"] == pytest.approx(reports[0]["cer"], abs=0.05)
    else:
        assert reports[1]["cer"] == reports[0]["cer"]
    assert (reports[1]["engine"], reports[1]["ctc_loss"]) == ("onnx", None)
    shown = hwr("evaluate", "--checkpoint", out, *arguments[:-2]).output
    assert "CTC loss            not computed: exported networks" in shown
    images = sorted(drawn.rglob("*.png"))[:4]
    texts = [hwr("predict", *images, "--checkpoint", path).stdout for path in (model, out)]
    assert quantize or texts[0] == texts[1]
    for arguments in (
        ["export", out, "--format", "onnx", "--out", tmp_path / "x.onnx"],
        ["lm", "tune", "--checkpoint", out, "--set", f"data.root={drawn}"],
        [
            "train",
            "--config",
            REPOSITORY / "configs/finetune.yaml",
            "--init",
            out,
            "--set",
            f"data.root={drawn}",
            "--out",
            tmp_path / "x",
        ],
    ):
        assert "exported network" in hwr(*arguments, status=2).output
    on_gpu = ["--set", "engine.device=cuda"]
    with monkeypatch.context() as torchrun:
        for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")):
            torchrun.setenv(name, value)
        said = hwr("evaluate", "--checkpoint", out, "--set", f"data.root={drawn}", status=2).output
        assert "can't share its lines with other processes" in said
    assert "runs on the CPU only" in hwr("predict", images[0], "--checkpoint", out, *on_gpu, status=2).output
    assert "onnx" in hwr("info", out).output
    parameters = [json.loads(hwr("info", path, "--json").stdout)["parameters"] for path in (model, out)]
    assert parameters[0] == parameters[1] > 0


def test_the_original_network_exports(original: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    loaded = checkpoint.load(original)
    engine = engines.trainer(loaded.config, loaded.alphabet.classes)
    engine.load(loaded.weights)
    lines = whole(rng.integers(0, 256, (3, 32, 320), dtype=np.uint8), np.full((3, 1), -1, np.int32))
    for kind, suffix in (("onnx", "onnx"), ("torchscript", "pt"), ("params", "params")):
        out = tmp_path / f"o.{suffix}"
        hwr("export", original, "--format", kind, "--out", out)
        if kind == "onnx":
            found = onnxruntime.InferenceSession(str(out)).run(None, {"pixels": lines.images})[0]
        elif kind == "torchscript":
            # Like another program, with torch only.
            code = "import sys, numpy as np, torch; m = torch.jit.load(sys.argv[1]); x = np.load(sys.argv[2]); "
            code += "np.save(sys.argv[3], m(torch.from_numpy(x)).detach().numpy()); assert 'hwr' not in sys.modules"
            np.save(tmp_path / "x.npy", lines.images)
            files = [str(out), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
            subprocess.run([sys.executable, "-W", "ignore", "-c", code, *files], check=True, cwd=tmp_path)
            found = np.load(tmp_path / "y.npy")
        else:
            weights = load_checkpoint(out, loaded.config).weights
            assert all(np.array_equal(weights[name], loaded.weights[name]) for name in weights)
            continue
        assert np.allclose(found, engine.logits(lines), atol=1e-4)


def test_sixteen_bits(model: Path, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.safetensors"
    hwr("export", model, "--format", "safetensors", "--quantize", "fp16", "--out", out)
    assert out.stat().st_size < 0.62 * model.stat().st_size
    images = sorted(drawn.rglob("*.png"))[:8]
    assert hwr("predict", *images, "--checkpoint", out).stdout == hwr("predict", *images, "--checkpoint", model).stdout


def test_unsupported_exports_are_refused(model: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["--format", "params"], "are for the original network only"),
        (["--format", "params", "--quantize", "int8"], "int8 needs --format onnx"),
        (["--format", "safetensors", "--out", model], "is the checkpoint itself"),
        (["--format", "safetensors"], "a file name that ends in .safetensors"),
        (["--format", "onnx"], "a file name that ends in .onnx"),
        (["--format", "torchscript"], "a file name that ends in .pt"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "x.params"]
        assert words in hwr("export", model, *arguments, *out, status=2).output
        assert not (tmp_path / "x.params").exists()
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    assert "broken.onnx" in hwr("predict", "x.png", "--checkpoint", tmp_path / "broken.onnx", status=2).output


def test_the_bundled_model_is_not_overwritten_by_its_export(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own folder."""
    shutil.copy(model, tmp_path / "hwr-latin.safetensors")
    monkeypatch.setattr(bundled, "_folder", lambda name: tmp_path)
    monkeypatch.chdir(tmp_path)
    done = hwr("export", "hwr-latin", "--format", "safetensors", "--quantize", "fp16", status=2)
    assert "hwr-latin.safetensors is the checkpoint itself" in done.output
    assert (tmp_path / "hwr-latin.safetensors").read_bytes() == model.read_bytes()


def test_a_checkpoint_is_not_overwritten_by_the_export_of_its_weights(model: Path, tmp_path: Path) -> None:
    """It may store a language model, which a .params lacks."""
    trained = tmp_path / "best.safetensors"
    shutil.copy(model, trained)
    done = hwr("export", tmp_path / "best.params", "--format", "safetensors", status=2)
    assert f"{trained} exists already, and may store more" in done.output
    assert trained.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("arguments", [["onnx"], ["safetensors"], ["onnx", "--out", "x.onnx"]])
def test_an_exported_network_is_not_exported_again(tmp_path: Path, arguments: list[str]) -> None:
    said = hwr("export", tmp_path / "a.onnx", "--format", *arguments, status=2).output
    assert said == f"hwr: {tmp_path / 'a.onnx'} is an exported network; export its .safetensors\n"


def test_info_shows_the_stored_dtypes(model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    hwr("export", model, "--format", "safetensors", "--quantize", "fp16", "--out", small)
    for path, kind in ((model, "float32"), (small, "float16")):
        assert json.loads(hwr("info", path, "--json").stdout)["types"] == [kind]


def test_onnx_without_onnxruntime_names_what_to_install(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "m.onnx"
    done = hwr("export", original, "--format", "onnx", "--out", out, status=2)
    assert "the exported network needs onnxruntime: pip install" in done.output
    assert not list(tmp_path.glob("*.onnx*"))
