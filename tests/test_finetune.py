from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import Error, checkpoint, config, decoding, engines, networks
from hwr.alphabet import Alphabet
from hwr.checkpoint import Checkpoint, Part
from hwr.cli import main
from hwr.config import Config, Decode
from hwr.decoding import language_model, ngram
from hwr.images import cache
from hwr.training import finetune, loop, run_folder
from hwr.training.loop import train

from .conftest import TINY, TINY_CRNN


def trained(folder: Path, base: list[str], characters: str, *overrides: str) -> Path:
    """A checkpoint with weights that no initialisation gives."""
    settings = config.load(None, [*base, *overrides])
    letters, rng = Alphabet(characters), np.random.default_rng(1)
    shapes = networks.shapes(settings, letters.classes)
    weights = {name: rng.uniform(1, 2, shape).astype(np.float32) for name, shape in shapes.items()}
    path = folder / "trained.safetensors"
    checkpoint.save(path, Checkpoint(weights, settings, letters, {}))
    return path


def begun(path: Path, base: list[str], *overrides: str) -> tuple[Alphabet, dict[str, np.ndarray], Checkpoint]:
    settings = config.load(None, [*base, f"train.init={path}", *overrides])
    letters, loaded = finetune.start(settings, ["bcx", "a é"])
    assert loaded is not None
    engine = engines.trainer(settings, letters.classes)
    finetune.load(engine, loaded, letters)
    return letters, engine.weights(), loaded


def test_charset_keep_union_and_new(tmp_path: Path) -> None:
    path = trained(tmp_path, TINY_CRNN, "zab c")
    assert begun(path, TINY_CRNN, "train.charset=keep")[0].characters == "zab c"
    assert begun(path, TINY_CRNN)[0].characters == "zab cxé"
    new = begun(path, TINY_CRNN, "train.charset=new")[0].characters
    assert len(new) == 81
    assert new.endswith("zé")


@pytest.mark.parametrize(
    ("base", "head"), [(TINY_CRNN, "head"), ([*TINY_CRNN, "model.frames=2"], "head"), (TINY, "decoder")]
)
@pytest.mark.parametrize("charset", ["keep", "union", "new"])
def test_shared_characters_keep_their_weights(tmp_path: Path, base: list[str], head: str, charset: str) -> None:
    path = trained(tmp_path, base, "zab c")
    letters, weights, loaded = begun(path, base, f"train.charset={charset}")
    names = {head} | ({"shortcut"} if head == "head" else set())
    for name, array in loaded.weights.items():
        if name.split(".")[0] not in names:
            assert np.array_equal(weights[name], array), name
            continue
        frames = len(array) // 6
        old, now = array.reshape(frames, 6, -1), weights[name].reshape(frames, letters.classes, -1)
        for i, character in enumerate([*letters.characters, "blank"]):
            if character in "zab c":
                assert np.array_equal(now[:, i], old[:, "zab c".index(character)])
            elif character == "blank":
                assert np.array_equal(now[:, i], old[:, 5])
            else:
                assert np.abs(now[:, i]).max() < 1  # as initialised


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = trained(tmp_path, TINY_CRNN, "zab c", "model.hidden=7")
    with pytest.raises(Error, match=r"train\.init: the network differs from the checkpoint's: "):
        begun(path, TINY_CRNN)
    with pytest.raises(Error, match="differs from the checkpoint's"):
        begun(path, TINY)


def test_a_config_object_fine_tunes_the_network_of_its_checkpoint(tmp_path: Path) -> None:
    path = trained(tmp_path, TINY_CRNN, "zab c", "model.hidden=7", "image.height=24", "data.normalise=NFD")
    given = config.given("finetune", [f"train.init={path}"])
    loaded = config.load("finetune", [f"train.init={path}"])
    found, said = finetune.with_initial_network(loaded), finetune.fine_tuning_config(given)
    assert (found.model, found.image, found.data.normalise) == (said.model, said.image, "NFD")
    assert found.model.hidden == 7
    for key in ("model.hidden=9", "image.height=32"):
        own = config.load("finetune", [f"train.init={path}", key])
        assert finetune.with_initial_network(own) is own
    original = config.load(None, ["model.arch=original", f"train.init={path}"])
    assert finetune.with_initial_network(original) is original


def test_the_shortcut_may_be_removed_or_added(tmp_path: Path) -> None:
    path = trained(tmp_path, TINY_CRNN, "zab c", "model.shortcut=0")
    assert "shortcut.weight" in begun(path, TINY_CRNN)[1]
    path = trained(tmp_path, TINY_CRNN, "zab c")
    assert "shortcut.weight" not in begun(path, TINY_CRNN, "model.shortcut=0")[1]


def test_fine_tuning_from_the_command_line(tmp_path: Path, drawn: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    sets = [a for text in TINY_CRNN for a in ("--set", text)]
    first, second = tmp_path / "first", tmp_path / "second"
    nothing = tmp_path / "empty.yaml"
    nothing.write_text("model: {arch: crnn}\n")
    run("train", "--config", str(nothing), *sets, "--set", f"data.root={drawn}", "--out", str(first))
    tune = ["--set", f"data.root={drawn}", "train.epochs=1", "train.batch_size=8", "engine.threads=1"]
    best = str(first / "best.safetensors")
    said = run("train", "--config", str(nothing), "--init", best, "--charset", "keep", *tune, "--out", str(second))
    assert f"initialised from {best}" in said
    model = checkpoint.load(second / "best.safetensors")
    assert model.config.model == config.load(None, TINY_CRNN).model
    assert (model.config.image, model.config.train.charset) == (config.load(None, TINY_CRNN).image, "keep")
    assert not (second / "init.safetensors").exists()
    # A started run resumes without its initial checkpoint.
    (first / "best.safetensors").rename(first / "kept.safetensors")
    assert "resuming after 1 epoch and 0 batches" in run(
        "train", "--resume", "--out", str(second), "--set", "train.epochs=2"
    )
    (first / "kept.safetensors").rename(first / "best.safetensors")
    # The config may name the checkpoint, and change the network as far as the weights allow.
    named = tmp_path / "named.yaml"
    named.write_text(f"train: {{init: {best}}}\nmodel: {{arch: crnn}}\n")
    run("train", "--config", str(named), *tune, "--set", "model.dropout=0.4", "--out", str(tmp_path / "third"))
    model = checkpoint.load(tmp_path / "third/best.safetensors")
    assert model.config.model == config.load(None, [*TINY_CRNN, "model.dropout=0.4"]).model
    assert config.load(tmp_path / "third/config.yaml").train.init == best
    assert model.config.train.init is None  # a path of this machine
    more = ["--set", "model.hidden=3", "--out", str(tmp_path / "fourth")]
    result = CliRunner().invoke(main, ["train", "--config", str(named), *tune, *more])
    assert result.exit_code == 2
    assert "the network differs from the checkpoint's" in result.output
    assert not (tmp_path / "fourth").exists()


def test_a_run_killed_in_its_first_epoch_resumes_without_its_initial_checkpoint(
    tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    start = trained(tmp_path, TINY_CRNN, "zab c")
    overrides = [*TINY_CRNN, "train.epochs=1", f"data.root={drawn}", f"train.init={start}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(config.load(None, overrides), whole, say=lambda line: None)

    def kill(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epoch", kill)
        with pytest.raises(MemoryError):
            train(config.load(None, overrides), killed, say=lambda line: None)
    assert not (killed / "state.safetensors").exists()
    early = tmp_path / "early"
    early.mkdir()
    (early / "init.safetensors").touch()  # killed even before its config was written
    run_folder.check(early, config.load(None, overrides), resume=False)
    start.unlink()
    result = CliRunner().invoke(main, ["train", "--resume", "--out", str(killed)])
    assert result.exit_code == 0, result.output
    found, expected = (checkpoint.load(folder / "last.safetensors") for folder in (killed, whole))
    assert all(np.array_equal(found.weights[name], array) for name, array in expected.weights.items())
    assert found.config.decode == expected.config.decode
    assert not (killed / "init.safetensors").exists()


def test_options_without_effect_are_refused(tmp_path: Path, tiny: Config) -> None:
    letters = tmp_path / "letters.txt"
    letters.write_text("abc ")
    path = trained(tmp_path, TINY_CRNN, "zab c")
    with pytest.raises(Error, match=r"data\.alphabet: .* differs from the alphabet that --charset union determines"):
        begun(path, TINY_CRNN, f"data.alphabet={letters}")
    letters.write_text("abcxz é")
    assert begun(path, TINY_CRNN, f"data.alphabet={letters}")[0].characters == "zab cxé"
    nothing = tmp_path / "empty.yaml"
    nothing.write_text("")
    result = CliRunner().invoke(main, ["train", "--config", str(nothing), "--charset", "keep"])
    assert result.exit_code == 2
    assert "--charset applies to fine-tuning only" in result.output


def test_without_init_there_is_no_checkpoint(tiny: Config) -> None:
    letters, loaded = finetune.start(tiny, ["é"])
    assert loaded is None
    assert letters.characters.endswith("zé")


def test_the_training_texts_are_added_to_the_language_model(tmp_path: Path) -> None:
    arrays, about = language_model.to_arrays(ngram.build(["abc acb", "cab bca", "bac"] * 5, 3))
    known = Alphabet(" abc")
    calibrated = config.load(None, TINY_CRNN).model_copy(update={"decode": Decode(lm="stored", temperature=1.3)})
    start = Checkpoint({}, calibrated, known, {}, language_model=Part(arrays, about))
    texts, said = ["bbbb ébbb", "bbb"], list[str]()

    def log10(language: run_folder.Language) -> float:
        assert language.model is not None
        return language_model.from_arrays(language.model.arrays, language.model.about).log10("bbbb")

    kept = finetune._kept_language(start, known, texts, 0.0, said.append)
    mixed = finetune._kept_language(start, Alphabet(" abcé"), texts, 0.3, said.append)
    assert log10(mixed) > log10(kept) + 0.5
    assert mixed.model is not None
    assert "é" in language_model.from_arrays(mixed.model.arrays, mixed.model.about).characters
    # Without its texts, a new character can't be expected by the model.
    without = finetune._kept_language(start, Alphabet(" abcé"), texts, 0.0, said.append)
    assert (without.model, without.decode) == (None, Decode(temperature=1.3))
    assert ["share of 0.3" in line for line in said] == [False, True, False]


def test_a_run_that_is_resumed_adds_the_texts_no_second_time(tmp_path: Path) -> None:
    path = trained(tmp_path, TINY_CRNN, "zab c")
    arrays, about = language_model.to_arrays(ngram.build(["abc acb", "cab bca", "bac"] * 5, 3))
    last = replace(checkpoint.load(path), language_model=Part(arrays, about))
    checkpoint.save(tmp_path / "last.safetensors", last)
    settings = config.load(None, [*TINY_CRNN, f"train.init={path}", "train.add_texts=0.3"])
    decoder = decoding.build(settings.decode, last.alphabet, settings.model.edge_spaces)
    found = finetune.language(settings, tmp_path, decoder, None, ["bbbb"], lambda line: None)
    assert found.model is not None
    assert all(np.array_equal(found.model.arrays[name], array) for name, array in arrays.items())


def test_settings_of_the_decoder_change_the_checkpoints(tmp_path: Path) -> None:
    arrays, about = language_model.to_arrays(ngram.build(["abc acb", "cab bca"] * 5, 3))
    decode = Decode(lm="stored", lm_weight=0.6, length_bonus=1.5, calibration=(1.0, 0.8, 1.0))
    kept = run_folder.Language(decode, Part(arrays, about))
    assert finetune._with_decoder(kept, {}) is kept
    wider = finetune._with_decoder(kept, {"beam": 16})
    assert wider.decode == decode.model_copy(update={"beam": 16})
    assert wider.model is kept.model
    greedy = finetune._with_decoder(kept, {"name": "greedy"})
    assert (greedy.decode.lm, greedy.model) == (None, None)


@pytest.mark.parametrize("key", ["anchor=10", "freeze_norm=true", "add_texts=0.1"])
def test_settings_of_fine_tuning_need_a_checkpoint(key: str, tiny: Config) -> None:
    settings = config.load(None, [*TINY, f"data.root={tiny.data.root}", f"train.{key}"])
    with pytest.raises(Error, match=f"train.{key.split('=')[0]}: applies to fine-tuning only"):
        finetune.start(settings, ["a"])


def test_commands_that_look_at_lines_use_the_checkpoint_network(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained(tmp_path, TINY_CRNN, "ab c", "image.height=24")
    (tmp_path / "fine.yaml").write_text(f"train: {{init: '{path}'}}\n")
    seen = []
    monkeypatch.setattr("hwr.images.check.faults", lambda line, pixels, geometry: seen.append(geometry) or ())
    prepared = cache.prepared
    monkeypatch.setattr(
        "hwr.images.cache.prepared", lambda lines, geometry, *a, **k: seen.append(geometry) or prepared(lines, geometry)
    )
    config_option, out = ["--config", str(tmp_path / "fine.yaml")], str(tmp_path / "sheet.png")
    for arguments in (
        ["data", "summary", str(drawn), *config_option],
        ["augment", *config_option, "--out", out, "--set", f"data.root={drawn}", "--lines", "1"],
    ):
        seen.clear()
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert {geometry.height for geometry in seen} == {24}
        assert seen[0] == networks.geometry(checkpoint.load(path).config)
