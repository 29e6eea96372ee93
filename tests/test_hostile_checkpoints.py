"""Checkpoints made to do harm: whatever their metadata and arrays say, there is an answer or an Error, and quickly."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import Error, checkpoint, config, describe, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.cli import main
from hwr.config import Config
from hwr.decoding import beam, language_model, ngram
from hwr.loading import load_checkpoint
from hwr.training import run_folder

from .conftest import TINY, TINY_CRNN

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights."""
    settings, rng, letters = config.load(None, TINY_CRNN), np.random.default_rng(0), Alphabet(ORIGINAL)
    shapes = networks.shapes(settings, letters.classes)
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {name: np.ones(shape, np.float32) for name, shape in shapes.items() if name.endswith("running_var")}
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    scores = {"trained_on": ["mine"], "split_name": "mine", "val_cer": 0.5, "notes": [], "decode": {"val_cer": 0.5}}
    checkpoint.save(path, Checkpoint(weights, settings, letters, scores))
    return path


def set_(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change of one value in the metadata."""

    def change(about: dict[str, Any]) -> None:
        *branch, last = key.split(".")
        for part in branch:
            about = about[part]
        about[last] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda about: about.pop(key)


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    f"{key}={str(value)[:20]}": set_(key, value)
    for key, value in [
        ("config.model.layers", 10**9),
        ("config.model.blocks", [[10**9, 8], [1, 16]]),
        ("config.model.blocks", [[1, 8]] * 10**5),
        ("config.model.hidden", 10**12),
        ("config.model.frames", 10**9),
        ("config.model.stride", [10**9, 10**9]),
        ("config.model.arch", "../../x"),
        ("config.model.arch", ["crnn"]),
        ("config.model", None),
        ("config.model", {"arch": "original", "steps": 7, "channels": 10**5}),
        ("config.image.height", 10**9),
        ("config.image.width", 10**18),
        ("config.image", []),
        ("config.evaluate.bootstrap", 10**10),
        ("config.evaluate.batch_size", 10**10),
        ("config.decode.beam", 10**10),
        ("config.decode.temperature", 1e-300),
        ("config.decode.temperature", "hot"),
        ("config.decode", 3),
        ("config.data.val_share", 1e400),
        ("config.engine.device", "\ud800"),
        ("config", None),
        ("config", []),
        ("config", {"data": 1}),
        ("format", "1"),
        ("format", None),
        ("format", checkpoint.FORMAT + 1),
        ("alphabet", None),
        ("alphabet", ["a"]),
        ("alphabet", ""),
        ("alphabet", "aa"),
        ("alphabet", "a\ud800"),
        ("alphabet", "a\x1b"),
        ("scores", None),
        ("scores", []),
        ("scores", "abc"),
        ("scores.trained_on", 5),
        ("scores.trained_on", [1]),
        ("scores.decode", 5),
        ("scores.decode", {"a": "b"}),
        ("scores.split_name", [1]),
        ("scores.notes", 1),
        ("lm", {}),
        ("lm", None),
        ("lexicon", 1),
    ]
}
CHANGES |= {f"no {key}": drop(key) for key in ("format", "config", "alphabet", "scores")}


def hwr(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_metadata_are_refused(model: Path, tmp_path: Path, name: str) -> None:
    arrays, about = checkpoint.read_arrays(model)
    changed = copy.deepcopy(about)
    CHANGES[name](changed)
    path = tmp_path / "evil.safetensors"
    save(path, arrays, json.dumps(changed))
    with pytest.raises(Error, match=r"evil\.safetensors|language model|word list"):
        describe.describe(path)
    assert hwr("info", path)


def save(path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path, {"hwr": text})


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": ' * 20_000, "9" * 5000, "nul", "[]", '"x"', ""])
def test_metadata_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evil.safetensors"
    save(path, {"a": np.zeros(1)}, text)
    with pytest.raises(Error, match=r"evil\.safetensors: "):
        checkpoint.load(path)


def test_scores_of_any_kind_are_described(model: Path, tmp_path: Path) -> None:
    arrays, about = checkpoint.read_arrays(model)
    about["scores"] |= {"mine": {"a": [1]}, "val_cer": "good", "\ud800": 1, "epoch": 1.5}
    path = tmp_path / "odd.safetensors"
    save(path, arrays, json.dumps(about))
    assert r"\ud800" in hwr("info", path)
    assert json.loads(hwr("info", path, "--json"))["scores"]["mine"] == {"a": [1]}


def test_types_that_numpy_lacks(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    for kind, size in (("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F4", 1)):
        header = json.dumps(
            {"__metadata__": {"hwr": "{}"}, "a": {"dtype": kind, "shape": [2 // size], "data_offsets": [0, 2]}}
        ).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
        with pytest.raises(Error, match=r"evil\.safetensors: "):
            checkpoint.load(path)


# --- the state of a run


STATES = [
    ({}, "its engine is None"),
    ({"engine": ["torch"]}, "its engine is"),
    ({"fingerprint": 1}, "the lines have changed"),
    ({"progress": None}, "damaged"),
    ({"progress": {}}, "damaged"),
    ({"progress.epoch": "2"}, "damaged"),
    ({"progress.epoch": True}, "damaged"),
    ({"progress.history": [{"epoch": 1}]}, "damaged"),
    ({"progress.history": 3}, "damaged"),
    ({"progress.notes": "x"}, "damaged"),
    ({"progress.more": 1}, "damaged"),
]


@pytest.fixture(scope="module")
def state(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    """A run of one epoch."""
    pytest.importorskip("torch")
    from hwr.training.loop import train

    settings = config.load(None, [*TINY, "train.epochs=1", f"data.root={drawn}"])
    out = tmp_path_factory.mktemp("state") / "run"
    assert train(settings, out, say=lambda line: None)
    return out, settings


@pytest.mark.parametrize(("changes", "says"), STATES, ids=str)
def test_a_damaged_state_is_refused(
    state: tuple[Path, Config], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    from hwr import engines

    out, settings = state
    arrays, about = checkpoint.read_arrays(out / "state.safetensors")
    classes = len(about["alphabet"]) + 1
    changed = copy.deepcopy(about) if changes else {}
    for key, value in changes.items():
        set_(key, value)(changed)
    checkpoint.write_arrays(tmp_path / "state.safetensors", arrays, changed)
    with pytest.raises(Error, match=says):
        run_folder.load_state(tmp_path, engines.trainer(settings, classes, fresh=False), about["fingerprint"])


@pytest.mark.parametrize("damage", ["missing", "shape", "type", "rng", "moments"])
def test_damaged_arrays_of_a_state_are_refused(state: tuple[Path, Config], tmp_path: Path, damage: str) -> None:
    from hwr import engines

    out, settings = state
    arrays, about = checkpoint.read_arrays(out / "state.safetensors")
    classes = len(about["alphabet"]) + 1
    moment = next(name for name in arrays if name.endswith("exp_avg"))
    match damage:
        case "missing":
            del arrays["engine/updates"]
        case "shape":
            arrays["engine/updates"] = np.zeros((2, 2))
        case "type":
            arrays["engine/rng.0.cpu"] = arrays["engine/rng.0.cpu"].astype(np.float32)
        case "rng":
            arrays["engine/rng.0.cpu"] = arrays["engine/rng.0.cpu"][:5]
        case "moments":
            arrays[moment] = np.zeros((3, 3, 3), np.float32)
    checkpoint.write_arrays(tmp_path / "state.safetensors", arrays, about)
    with pytest.raises(Error, match="damaged"):
        run_folder.load_state(tmp_path, engines.trainer(settings, classes, fresh=False), about["fingerprint"])


@pytest.mark.parametrize("value", [None, 5, "", "aa", "a\x1b"])
def test_a_damaged_alphabet_of_a_state(tmp_path: Path, value: object) -> None:
    checkpoint.write_arrays(tmp_path / "state.safetensors", {}, {"alphabet": value})
    with pytest.raises(Error, match="damaged"):
        run_folder.alphabet(tmp_path)


# --- ONNX


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for library in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(library)
    out = tmp_path_factory.mktemp("onnx") / "a.onnx"
    hwr("export", model, "--format", "onnx", "--out", out)
    return out


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", "null", '{"format": 1}', '{"format": 1, "config": {}, "alphabet": 3}']
)
def test_bad_metadata_of_onnx(exported: Path, tmp_path: Path, text: str) -> None:
    import onnx

    found = onnx.load(str(exported))
    found.metadata_props[0].value = text
    path = tmp_path / "evil.onnx"
    onnx.save(found, str(path))
    with pytest.raises(Error, match=r"evil\.onnx: "):
        load_checkpoint(path)


def test_an_onnx_file_names_no_other_file(exported: Path, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "evil.onnx"
    onnx.save(onnx.load(str(exported)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(Error, match="its weights are in another file"):
        load_checkpoint(path)


def test_an_onnx_file_has_no_loops(exported: Path, tmp_path: Path) -> None:
    import onnx

    found = onnx.load(str(exported))
    found.graph.node[0].op_type = "Loop"
    path = tmp_path / "evil.onnx"
    onnx.save(found, str(path))
    with pytest.raises(Error, match="it has the operation Loop"):
        load_checkpoint(path)


def test_an_onnx_file_with_other_outputs(exported: Path, tmp_path: Path, drawn: Path) -> None:
    """More classes than characters would be read beyond the alphabet's end."""
    import onnx

    found = onnx.load(str(exported))
    about = json.loads(found.metadata_props[0].value)
    found.metadata_props[0].value = json.dumps({**about, "alphabet": about["alphabet"][:-1]})
    path = tmp_path / "evil.onnx"
    onnx.save(found, str(path))
    image = sorted((drawn / "lines").rglob("*.png"))[0]
    assert "its logits should be (1, T, 80) float32" in hwr("predict", "--checkpoint", path, image)


# --- language models: the compiled search follows their arrays


def test_damaged_language_models_are_refused_or_read_in_bounds(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    texts = ["the cat sat on the mat", "a dog ate the hat", "that is that"]
    arrays, about = language_model.to_arrays(ngram.build(texts, 4))
    rng = np.random.default_rng(0)
    alphabet = Alphabet(" abcdeghimnost")
    logits = rng.normal(size=(1, 12, alphabet.classes)).astype(np.float32)
    refused = 0
    for _ in range(300):
        changed = {name: array.copy() for name, array in arrays.items()}
        name = rng.choice(list(changed))
        array = changed[name].reshape(-1)
        match rng.integers(5):
            case 0:
                array[rng.integers(len(array))] = rng.choice([0, 1, 200, 255])
            case 1:
                array.view(np.uint8)[rng.integers(array.nbytes)] ^= np.uint8(1 << rng.integers(8))
            case 2:
                changed[name] = array[: rng.integers(len(array))]
            case 3:
                changed[name] = array.astype(rng.choice(["f4", "i8", "u8", "i1", "?"]))
            case 4:
                changed[name] = rng.permutation(array)
        try:
            lm = language_model.from_arrays(changed, about)
        except Error:
            refused += 1
            continue
        beam.search(logits, alphabet, 4, lm, 0.5)
    assert refused > 150


COUNTS = [[], [0], [16, -1], [16, 2**40], [16] * 65, ["16"], [16.0], None, {}, [True]]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_counts_of_a_language_model(counts: object) -> None:
    arrays, about = language_model.to_arrays(ngram.build(["abc"], 2))
    with pytest.raises(Error, match="damaged"):
        language_model.from_arrays(arrays, {**about, "counts": counts})
