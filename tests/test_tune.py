import dataclasses
import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import Error, bundled, checkpoint, config, data, decoding, networks
from hwr.alphabet import Alphabet
from hwr.cli import main
from hwr.decoding import arpa, greedy, language_model, ngram
from hwr.decoding.lexicon import split as words_of
from hwr.evaluation import metrics, tune
from hwr.images.batches import Batch
from hwr.training.loop import train

from .conftest import TINY


def hwr(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def language(model: Path) -> Path:
    hwr("export-typo", "--checkpoint", model, "--out", model.parent)
    path = model.parent / "lm.arpa"
    said = hwr("lm", "build", "--text", model.parent / "text_train.txt", "--order", 4, "--out", path).output
    assert "23 lines" in said
    return path


def test_the_best_weights_are_stored(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.safetensors"
    lines = ["--set", f"data.root={drawn}"]
    said = hwr("lm", "tune", "--checkpoint", model, "--lm", language, "--beam", 8, "--out", tuned).output
    tried = [line.split() for line in said.splitlines() if line.startswith("lm-weight")]
    assert len(tried) > 40
    before, after = checkpoint.load(model), checkpoint.load(tuned)
    found = after.config.decode
    assert (found.name, found.beam, found.lm) == ("beam", 8, "stored")
    brought = after.scores["decode"]
    assert brought["val_cer"] == pytest.approx(min(float(row[7]) for row in tried) / 100, abs=1e-4)
    assert brought["val_cer"] < brought["greedy_val_cer"] < 1
    assert all(np.array_equal(array, after.weights[name]) for name, array in before.weights.items())
    # The checkpoint includes the decoder.
    report = json.loads(hwr("evaluate", "--checkpoint", tuned, *lines, "--split", "val", "--json", "-").output)
    assert report["cer"] == pytest.approx(brought["val_cer"])
    assert report["calibration_error"] == pytest.approx(brought["calibration_error"])
    assert report["decoder"]["lm_weight"] == found.lm_weight
    greedy = ["evaluate", "--checkpoint", tuned, *lines, "--split", "val", "--decoder", "greedy", "--json", "-"]
    assert json.loads(hwr(*greedy).output)["cer"] == pytest.approx(brought["greedy_val_cer"])
    assert "beam search, 8 texts" in hwr("evaluate", "--checkpoint", tuned, *lines).output
    # Calibrated again, it reads as before.
    again = tmp_path / "again.safetensors"
    hwr("lm", "tune", "--checkpoint", tuned, *lines, "--out", again)
    assert checkpoint.load(again).config.decode == found
    about = json.loads(hwr("info", tuned, "--json").output)
    assert about["decode"]["lm_weight"] == found.lm_weight
    assert about["scores"]["decode"]["val_cer"] == brought["val_cer"]
    shapes = networks.shapes(after.config, after.alphabet.classes)
    assert about["parameters"] == sum(int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name)
    said = hwr("info", tuned).output
    assert "arch crnn" in said
    assert "train.lr: 0.0001 -> 0.01" in said


def test_options_of_the_decoder(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    image = data.read(config.Data(root=str(drawn))).val[0].image
    plain = hwr("predict", "--checkpoint", model, image).output
    helped = ["--lm", language, "--lm-weight", "5"]  # it overrules the network
    assert hwr("predict", "--checkpoint", model, image, *helped).output != plain
    words = tmp_path / "words.txt"
    words.write_text("nothing\n")
    listed = hwr("predict", "--checkpoint", model, image, "--words", words, "--unknown-penalty", "30").output
    assert {*words_of(listed)} <= {"nothing"} != {*words_of(plain)}
    said = hwr("lm", "tune", "--checkpoint", model, "--words", words, "--out", model.parent / "w.safetensors").output
    assert "unknown-penalty 0.5" in said
    assert "needs words" in hwr("predict", "--checkpoint", model, image, "--unknown-penalty", "1", code=2).output
    assert "needs lm" in hwr("predict", "--checkpoint", model, image, "--lm-weight", "1", code=2).output
    missing = hwr("predict", "--checkpoint", model, image, "--lm", "no.arpa", code=2).output
    assert "decode.lm: no.arpa: No such file or directory. --lm names the file" in missing


def test_n_best_does_not_change_the_pairs(model: Path, language: Path, tmp_path: Path) -> None:
    decoder = ["--lm", language, "--lm-weight", "0.5", "--length-bonus", "0.5"]
    hwr("export-typo", "--checkpoint", model, *decoder, "--out", tmp_path / "one")
    hwr("export-typo", "--checkpoint", model, *decoder, "--n-best", 5, "--out", tmp_path / "two")
    pairs = (tmp_path / "two/validating.json").read_bytes()
    assert pairs == (tmp_path / "one/validating.json").read_bytes()
    readings = json.loads((tmp_path / "two/validating_nbest.json").read_text())
    assert not (tmp_path / "one/validating_nbest.json").exists()
    again = hwr("export-typo", "--checkpoint", model, "--out", tmp_path / "two")
    assert f"note: {tmp_path / 'two/validating_nbest.json'} is of an earlier export" in again.stderr
    assert json.loads((tmp_path / "two/validating_nbest.json").read_text()) == readings
    assert [entry["reference"] for entry in readings] == [reference for reference, _ in json.loads(pairs)]
    for entry, (_, best) in zip(readings, json.loads(pairs), strict=True):
        texts, scores = zip(*entry["readings"], strict=True)
        assert texts[0] == best
        assert len(texts) == len(set(texts)) <= 5
        assert list(scores) == sorted(scores, reverse=True)
        assert all(text == text.strip() for text in texts)
    assert max(len(entry["readings"]) for entry in readings) == 5
    too_many = ["--beam", 4, "--n-best", 5, "--out", tmp_path / "three"]
    assert "a beam of 4 gives" in hwr("export-typo", "--checkpoint", model, *too_many, code=2).output


def test_the_temperature_calibrates_confidences(rng: np.random.Generator) -> None:
    """Characters are right as often as the network predicts, except that all logits are three times too large."""
    lines, steps, classes = 4000, 12, 5
    logits = rng.normal(0, 1.5, (lines, steps, classes))
    logits[:, 1::2, :] = [-30, -30, -30, -30, 30]  # a blank between any two
    logits[:, ::2, -1] = -30
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    truth = [[rng.choice(classes, p=line[t]) for t in range(0, steps, 2)] for line in p]
    alphabet = Alphabet("abcd")
    references = ["".join("abcd"[c] for c in line) for line in truth]
    texts, overconfident = greedy.greedy(3 * logits, alphabet)
    accuracies = metrics.score(references, texts).accuracies
    assert metrics.calibration_error(overconfident, accuracies) > 0.15
    errors = {
        t: metrics.calibration_error(greedy.greedy(3 * logits, alphabet, t)[1], accuracies) for t in (1, 2, 3, 4, 6)
    }
    # The geometric mean is slightly below the arithmetic mean, so a little less than 3 is fine too.
    assert min(errors, key=lambda t: errors[t]) in (2, 3)
    assert errors[3] < 0.06


def test_the_calibration_is_found(rng: np.random.Generator) -> None:
    """From accuracies drawn with a known slope and offset at a known temperature."""
    odds = rng.normal(1, 2, 3000)

    def sure(temperature: float) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-odds / temperature)))

    right = rng.random(3000) < 1 / (1 + np.exp(-(0.5 * odds + 1.5)))
    found = tune.calibrated(sure, right.astype(float))
    assert found.slope / found.temperature == pytest.approx(0.5, abs=0.08)
    assert found.offset == pytest.approx(1.5, abs=0.2)
    confidences = found.apply(sure(found.temperature))
    assert metrics.calibration_error(confidences, right) < 0.03 < metrics.calibration_error(sure(1), right)
    # The order of the lines does not change.
    assert np.array_equal(np.argsort(confidences), np.argsort(sure(1)))
    # Few or extreme lines do not lead astray.
    assert tune.calibrated(sure, np.ones(3000)).slope > 0
    assert np.isfinite(tune.calibrated(lambda temperature: np.array([1.0]), np.zeros(1))).all()


def test_each_decoder_has_its_calibration() -> None:
    stored = ["decode.name=beam", "decode.calibration=[2, 1.5, 1]", "decode.greedy_calibration=[1.2, 1, 0]"]

    def used(*more: str) -> tuple[float, ...]:
        settings = config.override(config.to_dict(config.load(None, stored)), more).decode
        return tuple(decoding.build(settings, Alphabet("ab"), False).settings.calibration)

    assert used() == (2, 1.5, 1)
    assert used("decode.name=greedy") == (1.2, 1, 0)
    assert used("decode.temperature=3") == (3, 1, 0)  # a value that is set is obeyed
    with pytest.raises(Error, match="calibration"):
        used("decode.calibration=[2, 0, 1]")


def test_calibration_error_by_hand() -> None:
    confidences, right = np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, 0.0, 0.5, 0.5])
    # Two bins of two: |0.15 - 0.25| and |0.85 - 0.75|.
    assert metrics.calibration_error(confidences, right, 2) == pytest.approx(0.1)
    assert metrics.calibration_error(right, right) == 0
    assert np.isnan(metrics.calibration_error(np.zeros(0), np.zeros(0)))


def test_texts_to_build_from(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone\n\n  two \n", encoding="utf-8")
    assert tune.texts_of([tmp_path / "a.txt"]) == ["one", "two"]
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Error, match=r"b\.txt:1: not UTF-8"):
        tune.texts_of([tmp_path / "a.txt", tmp_path / "b.txt"])
    (tmp_path / "c.txt").write_text("\n")
    with pytest.raises(Error, match="no text found"):
        tune.texts_of([tmp_path / "c.txt"])
    assert ngram.build(["ab"], 2).order == 2


def test_the_language_model_is_stored_in_the_checkpoint(
    model: Path, language: Path, drawn: Path, tmp_path: Path
) -> None:
    """It works without the file, other files replace it, and --decoder greedy turns it off."""
    file, tuned = tmp_path / "lm.arpa", tmp_path / "tuned.safetensors"
    shutil.copy(language, file)
    words = tmp_path / "words.txt"
    words.write_text("the\nof Été\n", encoding="utf-8")
    hwr("lm", "tune", "--checkpoint", model, "--lm", file, "--words", words, "--beam", 4, "--out", tuned)
    file.unlink()
    words.unlink()
    assert str(tmp_path).encode() not in tuned.read_bytes()
    stored = checkpoint.load(tuned)
    assert (stored.config.decode.lm, stored.config.decode.words) == ("stored", "stored")
    assert stored.language_model is not None
    lm, original = (
        language_model.from_arrays(stored.language_model.arrays, stored.language_model.about),
        arpa.read(language),
    )
    assert np.array_equal(lm.log10_p, original.log10_p)
    assert np.array_equal(lm.suffix, original.suffix)
    arguments = ["evaluate", "--checkpoint", tuned, "--split", "val", "--set", f"data.root={drawn}", "--json", "-"]
    helped = json.loads(hwr(*arguments).stdout)
    assert helped["cer"] == pytest.approx(stored.scores["decode"]["val_cer"])
    assert json.loads(hwr(*arguments, "--decoder", "greedy").stdout)["decoder"]["lm"] is None
    assert json.loads(hwr(*arguments, "--set", "decode.lm=null").stdout)["decoder"]["lm_weight"] is None
    other = json.loads(hwr(*arguments, "--lm", language, "--lm-weight", "4").stdout)
    assert (other["decoder"]["lm"], other["decoder"]["lm_weight"]) == (str(language), 4)
    assert other["cer"] != helped["cer"]
    # JSON keeps the old names of the settings.
    assert helped["decoder"]["insertion"] == helped["decoder"]["length_bonus"]
    assert helped["decoder"]["unknown"] == helped["decoder"]["unknown_penalty"]
    about = json.loads(hwr("info", tuned, "--json").stdout)
    assert about["language_model"]["counts"] == list(original.counts)
    assert about["word_list"]["words"] == 2 + ("é" in stored.alphabet.characters)
    said = hwr("info", tuned).output
    assert "language model" in said
    assert f"n-grams of 1 to 4: {original.counts[0]:,}, " in said


def test_the_language_model_of_another_checkpoint_is_used(model: Path, language: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    part = checkpoint.Part(*language_model.to_arrays(language_model.load(language)))
    checkpoint.save(other, dataclasses.replace(checkpoint.load(model), language_model=part))
    reading = ["evaluate", "--checkpoint", model, "--json", "-", "--lm-weight", 2, "--lm"]
    worst = [json.loads(hwr(*reading, lm).stdout)["worst"] for lm in (language, other)]
    assert worst[0] == worst[1]
    letters = checkpoint.load(model).alphabet
    for lm in ("hwr-latin", str(bundled.model())):
        found = decoding.build(config.Decode(lm=lm), letters, True).lm
        assert found is not None
        assert found.order == 7
    assert "stores no language model" in hwr(*reading, model, code=2).output


def test_a_better_language_model_is_not_replaced_without_a_word(
    model: Path, language: Path, drawn: Path, tmp_path: Path
) -> None:
    tuned, worse, text = tmp_path / "tuned.safetensors", tmp_path / "worse.bin", tmp_path / "text.txt"
    first = hwr("lm", "tune", "--checkpoint", model, "--lm", language, "--beam", 4, "--out", tuned)
    assert "stored until now" not in first.output
    text.write_text("zzzz\n" * 30)
    hwr("lm", "build", "--text", text, "--order", 2, "--out", worse)
    cer = f"{100 * checkpoint.load(tuned).scores['decode']['val_cer']:.2f} %"
    again = hwr("lm", "tune", "--checkpoint", tuned, "--lm", worse, "--beam", 4, "--set", f"data.root={drawn}")
    assert any("as stored until now, beam search" in row and row.endswith(cer) for row in again.stdout.splitlines())
    assert f"were read better with the language model or word list that {tuned} stored" in again.stderr


def test_without_a_language_model_nothing_is_stored(model: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(model)
    assert loaded.language_model is loaded.lexicon is None
    checkpoint.save(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == model.read_bytes()


def test_a_path_in_a_checkpoint_is_not_followed(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    """As older versions stored it, under the old names; the file even exists."""
    arrays, about = checkpoint.read_arrays(model)
    old = {"name": "beam", "beam": 4, "lm": str(language), "lm_weight": 0.5, "insertion": 0.5}
    about["config"]["decode"] = {**old, "words": None, "unknown": 0.0, "temperature": 1.0}
    path = tmp_path / "old.safetensors"
    checkpoint.write_arrays(path, arrays, about)
    arguments = ["evaluate", "--checkpoint", path, "--split", "val", "--set", f"data.root={drawn}", "--json", "-"]
    said = hwr(*arguments, code=2).output
    assert f"uses a language model that is not stored in the checkpoint, {language}. Name it with --lm FILE" in said
    report = json.loads(hwr(*arguments, "--lm", language).stdout)
    assert (report["decoder"]["beam"], report["decoder"]["lm_weight"], report["decoder"]["length_bonus"]) == (
        4,
        0.5,
        0.5,
    )
    assert json.loads(hwr(*arguments, "--decoder", "greedy").stdout)["decoder"]["name"] == "greedy"
    assert "beam search" in hwr("info", path).output
    hwr("export", path, "--format", "safetensors", "--out", tmp_path / "out.safetensors")  # it reads no text
    # Saving it again drops the path.
    checkpoint.save(tmp_path / "again.safetensors", checkpoint.load(path))
    assert str(language).encode() not in (tmp_path / "again.safetensors").read_bytes()


def test_a_damaged_language_model_in_a_checkpoint(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    loaded, path = checkpoint.load(model), tmp_path / "c.safetensors"
    arrays, about = language_model.to_arrays(language_model.load(language))
    arrays["token"] = np.full_like(arrays["token"], 255)
    decode = config.Decode(lm="stored")
    damaged = dataclasses.replace(
        loaded,
        config=loaded.config.model_copy(update={"decode": decode}),
        language_model=checkpoint.Part(arrays, about),
    )
    checkpoint.save(path, damaged)
    said = hwr("evaluate", "--checkpoint", path, "--split", "val", "--set", f"data.root={drawn}", code=2).output
    assert f"{path}: the language model is damaged" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "greedy", "--lm", "no.arpa"], "lm no.arpa needs the beam search, but the decoder is greedy"),
        (
            ["--decoder", "greedy", "--lm-weight", "0.5"],
            "lm_weight 0.5 needs the beam search, but the decoder is greedy",
        ),
        (["--decoder", "greedy", "--beam", "16"], "beam 16 needs the beam search"),
        (["--decoder", "greedy", "--length-bonus", "0"], "length_bonus 0 needs the beam search"),
        (["--decoder", "greedy", "--words", "w"], "words w needs the beam search"),
        (["--lm-weight", "0"], "lm_weight 0 needs lm"),
        (["--unknown-penalty", "0"], "unknown_penalty 0 needs words"),
        (["--decoder", "beam", "--lm-weight", "0.7"], "lm_weight 0.7 needs lm"),
        (["--set", "decode.name=greedy", "--beam", "8"], "beam 8 needs the beam search"),
        (["--set", "decode={name: greedy, beam: 8}"], "beam 8 needs the beam search"),
        (["--lm", "no.arpa"], "decode.lm: no.arpa: No such file"),
        (["--words", "none.txt"], "decode.words: none.txt: No such file"),
        (["--lm", "stored"], "stores no language model"),
        (["--beam", "0"], "0 is not in the range x>=1"),
        (["--lm-weight", "-1"], "-1.0 is not in the range x>=0"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "export-typo"])
def test_options_that_the_decoder_would_ignore_are_refused(
    command: str, options: list[str], message: str, model: Path, tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"] if command == "export-typo" else []
    assert message in " ".join(hwr(command, "--checkpoint", model, *options, *out, code=2).output.split())
    assert not (tmp_path / "out").exists()


def test_contradictions_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for keys, message in (
        ("{name: greedy, beam: 16}", "c.yaml:1: decode: beam 16 needs the beam search"),
        ("{name: greedy, lm: x}", "c.yaml:1: decode: lm x needs"),
        ("{lm_weight: 0.0}", "c.yaml:1: decode: lm_weight 0 needs lm"),
    ):
        path.write_text(f"decode: {keys}\n")
        with pytest.raises(Error, match=message):
            config.load(path)
    # The command line replaces the settings of the file that it rules out.
    path.write_text("decode: {lm: x, lm_weight: 0.5, beam: 4, temperature: 2.0}\n")
    assert config.load(path, ["decode.name=greedy"]).decode == config.Decode(name="greedy", temperature=2.0)
    assert config.load(path, ["decode.lm=null"]).decode == config.Decode(beam=4, temperature=2.0)
    path.write_text("decode: {name: greedy}\n")
    assert config.load(path, ["decode.lm=x"]).decode == config.Decode(lm="x")


def test_old_names_are_read_with_a_warning(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    # Every key, as the first version's example had it.
    whole = "name: greedy, beam: 16, lm: null, lm_weight: 0.0, insertion: 0.0, words: null, unknown: 0.0"
    path.write_text(f"decode: {{{whole}, temperature: 1.0}}\n")
    with pytest.warns(config.RenamedKey) as said:
        assert config.load(path).decode == config.Decode(name="greedy")
    assert [str(w.message) for w in said] == [
        f"{path}:1: decode.insertion is now called decode.length_bonus; the old name will be removed",
        f"{path}:1: decode.unknown is now called decode.unknown_penalty; the old name will be removed",
    ]
    path.write_text("decode: {insertion: 0.5, length_bonus: 0.5}\n")
    with pytest.raises(Error, match=r"decode\.insertion is the old name of decode\.length_bonus; set only one"):
        config.load(path)
    arguments = [
        "evaluate",
        "--checkpoint",
        model,
        "--split",
        "val",
        "--set",
        f"data.root={drawn}",
        "--json",
        "-",
        "--lm",
        language,
    ]
    with pytest.warns(config.RenamedKey, match=r"^--insertion is now called --length-bonus"):
        assert json.loads(hwr(*arguments, "--insertion", "0.25").stdout)["decoder"]["length_bonus"] == 0.25
    with pytest.warns(config.RenamedKey, match="decode.insertion is now called"):
        assert json.loads(hwr(*arguments, "--set", "decode.insertion=0.25").stdout)["decoder"]["length_bonus"] == 0.25
    both = ["--insertion", "1", "--length-bonus", "1"]
    assert "--insertion is the old name of --length-bonus" in hwr(*arguments, *both, code=2).output
    assert "--insertion" not in hwr("evaluate", "--help").output
    assert "--length-bonus" in hwr("evaluate", "--help").output


def test_n_best_of_the_greedy_decoder_is_refused_before_anything_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("hwr.data.read", read)
    out = ["--out", tmp_path / "out", "--n-best", "50"]
    said = hwr("export-typo", "--checkpoint", model, "--decoder", "greedy", *out, code=2).output
    assert "the greedy decoder gives only one reading per line" in said
    assert "a beam of 32 gives fewer than 50" in hwr("export-typo", "--checkpoint", model, *out, code=2).output
    assert not (tmp_path / "out").exists()


def test_a_language_model_of_another_normal_form(tmp_path: Path) -> None:
    text = tmp_path / "nfd.txt"
    text.write_text(unicodedata.normalize("NFD", "été à l'hôtel\n"), encoding="utf-8")
    hwr("lm", "build", "--text", text, "--order", 3, "--out", tmp_path / "c.bin")
    assert "é" in language_model.load(tmp_path / "c.bin").characters
    hwr("lm", "build", "--text", text, "--order", 3, "--normalise", "none", "--out", tmp_path / "d.bin")
    assert "é" not in language_model.load(tmp_path / "d.bin").characters


def test_an_exported_network_contains_its_language_model(
    model: Path, language: Path, drawn: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    loaded = checkpoint.load(model)
    part = checkpoint.Part(*language_model.to_arrays(language_model.load(language)))
    settings = loaded.config.model_copy(update={"decode": config.Decode(lm="stored", lm_weight=2.0, beam=16)})
    checkpoint.save(tmp_path / "c.safetensors", dataclasses.replace(loaded, config=settings, language_model=part))
    hwr("export", tmp_path / "c.safetensors", "--format", "onnx", "--out", tmp_path / "c.onnx")
    half = ["--format", "safetensors", "--quantize", "fp16", "--out", tmp_path / "half.safetensors"]
    hwr("export", tmp_path / "c.safetensors", *half)
    reports = [
        json.loads(
            hwr(
                "evaluate",
                "--checkpoint",
                tmp_path / name,
                "--split",
                "val",
                "--set",
                f"data.root={drawn}",
                "--json",
                "-",
            ).stdout
        )
        for name in ("c.safetensors", "c.onnx", "half.safetensors")
    ]
    assert len({report["cer"] for report in reports}) == 1
    assert {report["decoder"]["lm"] for report in reports} == {"stored"}


def test_a_run_stores_its_validation_language_model(language: Path, drawn: Path, tmp_path: Path) -> None:
    settings = config.load(
        None, [*TINY, "train.epochs=1", f"data.root={drawn}", f"decode.lm={language}", "decode.beam=2"]
    )
    assert train(settings, tmp_path / "run", say=lambda line: None)
    best = checkpoint.load(tmp_path / "run/best.safetensors")
    assert best.config.decode.lm == "stored"
    assert best.language_model is not None
    assert str(language).encode() not in (tmp_path / "run/best.safetensors").read_bytes()


def test_fine_tuning_keeps_the_language_model(language: Path, model: Path, drawn: Path, tmp_path: Path) -> None:
    """Also over a resume, unless it shall learn the texts; settings of the decoder change the checkpoint's."""
    loaded = checkpoint.load(model)
    settings = config.load(None, [f"decode.lm={language}", "decode.lm_weight=0.3", "decode.temperature=1.2"]).decode
    decoder = decoding.build(settings, loaded.alphabet, loaded.config.model.edge_spaces)
    changes, lm, words = decoding.stored(decoder, settings)
    own = loaded.config.model_copy(update={"decode": settings.model_copy(update=changes)})
    start = tmp_path / "start.safetensors"
    checkpoint.save(start, dataclasses.replace(loaded, config=own, language_model=lm, lexicon=words))
    keys = [f"train.init={start}", "train.epochs=1", "train.batch_size=8", f"data.root={drawn}", "engine.threads=1"]
    keys.append("train.add_texts=0")
    assert train("finetune", tmp_path / "run", say=lambda line: None, overrides=keys)
    resumed = config.load(tmp_path / "run/config.yaml", ["train.epochs=2"])
    assert train(resumed, tmp_path / "run", resume=True, say=lambda line: None)
    for name in ("best", "last"):
        found = checkpoint.load(tmp_path / f"run/{name}.safetensors")
        assert found.config.decode == own.decode
        assert found.language_model is not None
        assert all(np.array_equal(a, lm.arrays[key]) for key, a in found.language_model.arrays.items())
    assert train("finetune", tmp_path / "greedy", say=lambda line: None, overrides=[*keys, "decode.name=greedy"])
    assert checkpoint.load(tmp_path / "greedy/best.safetensors").language_model is None
    wider = config.load(tmp_path / "run/config.yaml", ["train.epochs=3", "decode.beam=8"])
    assert train(wider, tmp_path / "run", resume=True, say=lambda line: None)
    found = checkpoint.load(tmp_path / "run/last.safetensors")
    assert found.config.decode == own.decode.model_copy(update={"beam": 8})
    assert found.language_model is not None


def test_where_a_tuned_checkpoint_can_not_be_written(model: Path, tmp_path: Path) -> None:
    for out, message in (
        (tmp_path / "none/t.safetensors", "no such folder"),
        (tmp_path / "t.onnx", "ends in .safetensors"),
        ("tuned", "ends in .safetensors"),
    ):
        assert message in hwr("lm", "tune", "--checkpoint", model, "--out", out, code=2).output


def test_long_lines_are_read_in_pieces(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwr.engines.torch import TorchEngine

    pytest.importorskip("torch")
    rows = []
    for number, width in enumerate((60, 2000, 70)):
        Image.fromarray(np.full((24, width), 230, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "text": "a", "split": "val"}))
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    widths: list[int] = []
    run = TorchEngine.logits

    def logits(self: TorchEngine, batch: Batch) -> np.ndarray:
        widths.extend(batch.widths.tolist())
        return run(self, batch)

    monkeypatch.setattr(TorchEngine, "logits", logits)
    sets = ["--set", f"data.root={tmp_path}/x.jsonl", "engine.name=torch", "engine.device=cpu"]
    hwr("lm", "tune", "--checkpoint", model, *sets, "--out", tmp_path / "t.safetensors")
    whole = checkpoint.load(model).config.image.width
    assert max(widths) <= whole
    assert sum(widths) > 2000
