import contextlib
import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hwr import Error, checkpoint, gluon_params
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint, Part
from hwr.config import Config, Data, Decode
from hwr.loading import load_checkpoint
from hwr.networks.original import spec


def sample(tiny: Config, characters: str = ORIGINAL) -> Checkpoint:
    alphabet = Alphabet(characters)
    shapes = spec.shapes(tiny.model, tiny.image, alphabet.classes)
    return Checkpoint(spec.initial(shapes, 0), tiny, alphabet, {"val_cer": 0.25})


def test_a_checkpoint_is_restored_completely(tmp_path: Path, tiny: Config) -> None:
    saved = sample(tiny, "abc é✓")
    checkpoint.save(tmp_path / "c.safetensors", saved)
    loaded = checkpoint.load(tmp_path / "c.safetensors")
    without_paths = saved.config.model_copy(update={"data": Data()})
    assert (loaded.config, loaded.alphabet, loaded.scores) == (without_paths, saved.alphabet, saved.scores)
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(np.array_equal(loaded.weights[n], a) for n, a in saved.weights.items())


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (Data(root="/a", lists="/a/lists", split="mine", train=("a",), val=("b",), test=("c",)), Data()),
        (Data(images="/a", cache="/a/cache", alphabet="/a/letters.txt"), Data()),
        (Data(train=("lists/a",), val=("C:\\lists\\b", "b"), test=("c",)), Data(test=("c",))),
        (Data(alphabet="original", normalise="NFD", split="official"), None),
    ],
)
def test_a_checkpoint_names_no_files(tmp_path: Path, tiny: Config, named: Data, kept: Data | None) -> None:
    network = tiny.model.model_copy(update={"pretrained": "/a/resnet.params"})
    tuned = tiny.train.model_copy(update={"init": "/a/best.safetensors"})
    decode = Decode(lm="/a/lm.bin", temperature=1.2)
    changed = tiny.model_copy(update={"data": named, "model": network, "train": tuned, "decode": decode})
    checkpoint.save(tmp_path / "c.safetensors", replace(sample(tiny), config=changed))
    found = checkpoint.load(tmp_path / "c.safetensors").config
    assert (found.data, found.model, found.train) == (kept or named, tiny.model, tiny.train)
    assert found.decode == Decode(temperature=1.2)


def test_arrays_of_any_memory_layout_are_written_correctly(tmp_path: Path, tiny: Config) -> None:
    saved = sample(tiny)
    saved.weights["decoder.weight"] = np.asfortranarray(saved.weights["decoder.weight"])
    checkpoint.save(tmp_path / "c.safetensors", saved)
    assert np.array_equal(
        checkpoint.load(tmp_path / "c.safetensors").weights["decoder.weight"], saved.weights["decoder.weight"]
    )
    counts = np.asfortranarray(np.arange(6).reshape(2, 3))
    about = checkpoint.about(replace(saved, language_model=Part({"counts": counts}, {})))
    found = checkpoint.from_metadata("c.onnx", {}, json.loads(about)).language_model
    assert found is not None
    assert np.array_equal(found.arrays["counts"], counts)


def test_sizes_of_a_bare_params_come_from_its_shapes(tmp_path: Path, tiny: Config) -> None:
    saved = sample(tiny)
    gluon_params.write(tmp_path / "c.params", saved.weights)
    loaded = load_checkpoint(tmp_path / "c.params", Config(image=tiny.image))
    for size in ("channels", "downsamples", "steps", "hidden", "layers"):
        assert getattr(loaded.config.model, size) == getattr(tiny.model, size)
    assert loaded.alphabet.characters == ORIGINAL
    with pytest.raises(Error, match=r"c\.params: .*features per step.*another image size than 30 x 148.*--config"):
        load_checkpoint(tmp_path / "c.params", Config(image={"height": 30, "width": 148}))  # type: ignore[arg-type]


def test_a_params_of_another_alphabet_is_refused(tmp_path: Path, tiny: Config) -> None:
    gluon_params.write(tmp_path / "c.params", sample(tiny, "abc").weights)
    with pytest.raises(Error, match=r"has 4 outputs.*needs 81 with the blank"):
        load_checkpoint(tmp_path / "c.params", Config(image=tiny.image))


def test_faults_are_named(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, sample(tiny))
    whole = path.read_bytes()
    for part in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(Error, match=r"c\.safetensors: not a complete \.safetensors file"):
            checkpoint.load(path)
    with pytest.raises(Error, match="no such file"):
        checkpoint.load(tmp_path / "gone.safetensors")
    (tmp_path / "c.pt").write_bytes(whole[:100])
    with pytest.raises(Error, match=r"c\.pt: not a complete .* \(checkpoints are .*\.onnx files, and named so\)"):
        load_checkpoint(tmp_path / "c.pt")
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(Error, match="was not written by hwr"):
        checkpoint.load(path)
    checkpoint.write_arrays(path, {"a": np.zeros(3, np.float32)}, {"format": 1})
    with pytest.raises(Error, match="metadata lacks 'config'"):
        checkpoint.load(path)
    checkpoint.write_arrays(path, {"a": np.zeros(3, np.float32)}, {"format": 99})
    with pytest.raises(Error, match="newer hwr"):
        checkpoint.load(path)


def test_wrong_weights_are_named(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "c.safetensors"

    def refused(message: str, **changes: np.ndarray) -> None:
        saved = sample(tiny)
        saved.weights.update(changes)
        checkpoint.save(path, saved)
        with pytest.raises(Error, match=message):
            load_checkpoint(path)

    refused(r"has extra, which the network lacks", extra=np.zeros(3, np.float32))
    refused(
        r"decoder\.bias has the shape \(3,\), but the network needs \(81,\)",
        **{"decoder.bias": np.zeros(3, np.float32)},
    )
    refused(r"decoder\.bias contains values that are not finite", **{"decoder.bias": np.full(81, np.nan, np.float32)})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_header_is_an_error_or_harmless(tmp_path: Path, tiny: Config, place: int, byte: int) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, sample(tiny, "ab"))
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    with contextlib.suppress(Error):  # and nothing else
        load_checkpoint(path)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path, tiny: Config) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, sample(tiny, "ab"))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for target, write in (
        (path, lambda: checkpoint.save(path, sample(tiny, "abc"))),
        (tmp_path / "c.params", lambda: gluon_params.write(tmp_path / "c.params", sample(tiny).weights)),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            with pytest.raises(Error, match=rf"{target.name}: could not be written"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    assert path.read_bytes() == before
