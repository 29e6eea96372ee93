import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hwr import Error, checkpoint, config, data, networks
from hwr.alphabet import Alphabet
from hwr.cli import main
from hwr.decoding import decode, ngram
from hwr.decoding.lexicon import split as words_of
from hwr.evaluation import metrics, tune


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


def test_the_weights_are_those_that_read_best_and_are_stored(
    model: Path, language: Path, drawn: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.safetensors"
    lines = ["--set", f"data.root={drawn}"]
    said = hwr("lm", "tune", "--checkpoint", model, "--lm", language, "--beam", 8, "--out", tuned).output
    tried = [line.split() for line in said.splitlines() if line.startswith("lm-weight")]
    assert len(tried) > 40
    before, after = checkpoint.load(model), checkpoint.load(tuned)
    found = after.config.decode
    assert (found.name, found.beam, found.lm) == ("beam", 8, str(language))
    brought = after.scores["decode"]
    assert brought["val_cer"] == pytest.approx(min(float(row[7]) for row in tried) / 100, abs=1e-4)
    assert brought["val_cer"] < brought["greedy_val_cer"] < 1
    assert all(np.array_equal(array, after.weights[name]) for name, array in before.weights.items())
    # Whoever uses the checkpoint has the decoder with it.
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
    assert "train.lr: 0.0001 -> 0.006" in said


def test_options_of_the_decoder(model: Path, language: Path, drawn: Path, tmp_path: Path) -> None:
    image = data.read(config.Data(root=str(drawn))).val[0].image
    plain = hwr("predict", "--checkpoint", model, image).output
    helped = ["--lm", language, "--lm-weight", "5"]  # it overrules the network
    assert hwr("predict", "--checkpoint", model, image, *helped).output != plain
    words = tmp_path / "words.txt"
    words.write_text("nothing\n")
    listed = hwr("predict", "--checkpoint", model, image, "--words", words, "--unknown", "30").output
    assert {*words_of(listed)} <= {"nothing"} != {*words_of(plain)}
    said = hwr("lm", "tune", "--checkpoint", model, "--words", words, "--out", model.parent / "w.safetensors").output
    assert "unknown 0.5" in said
    assert "needs words" in hwr("predict", "--checkpoint", model, image, "--unknown", "1", code=2).output
    assert "needs lm" in hwr("predict", "--checkpoint", model, image, "--lm-weight", "1", code=2).output
    missing = hwr("predict", "--checkpoint", model, image, "--lm", "no.arpa", code=2).output
    assert "decode.lm: no.arpa: no such file. --lm says where it is now, --decoder greedy reads without it" in missing


def test_n_best_leaves_the_pairs_as_they_are(model: Path, language: Path, tmp_path: Path) -> None:
    decoder = ["--lm", language, "--lm-weight", "0.5", "--insertion", "0.5"]
    hwr("export-typo", "--checkpoint", model, *decoder, "--out", tmp_path / "one")
    hwr("export-typo", "--checkpoint", model, *decoder, "--n-best", 5, "--out", tmp_path / "two")
    pairs = (tmp_path / "two/validating.json").read_bytes()
    assert pairs == (tmp_path / "one/validating.json").read_bytes()
    readings = json.loads((tmp_path / "two/validating_nbest.json").read_text())
    assert not (tmp_path / "one/validating_nbest.json").exists()
    assert [entry["reference"] for entry in readings] == [reference for reference, _ in json.loads(pairs)]
    for entry, (_, best) in zip(readings, json.loads(pairs), strict=True):
        texts, scores = zip(*entry["readings"], strict=True)
        assert texts[0] == best
        assert len(texts) == len(set(texts)) <= 5
        assert list(scores) == sorted(scores, reverse=True)
        assert all(text == text.strip() for text in texts)
    assert max(len(entry["readings"]) for entry in readings) == 5
    too_many = ["--beam", 4, "--n-best", 5, "--out", tmp_path / "three"]
    assert "the beam (4)" in hwr("export-typo", "--checkpoint", model, *too_many, code=2).output


def test_a_temperature_makes_confidences_tell_accuracies(rng: np.random.Generator) -> None:
    """Characters that are right as often as the network says, but for all logits being three times too large."""
    lines, steps, classes = 4000, 12, 5
    logits = rng.normal(0, 1.5, (lines, steps, classes))
    logits[:, 1::2, :] = [-30, -30, -30, -30, 30]  # a blank between any two
    logits[:, ::2, -1] = -30
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    truth = [[rng.choice(classes, p=line[t]) for t in range(0, steps, 2)] for line in p]
    alphabet = Alphabet("abcd")
    references = ["".join("abcd"[c] for c in line) for line in truth]
    texts, overconfident = decode.greedy(3 * logits, alphabet)
    accuracies = metrics.score(references, texts).accuracies
    assert metrics.calibration_error(overconfident, accuracies) > 0.15
    errors = {
        t: metrics.calibration_error(decode.greedy(3 * logits, alphabet, t)[1], accuracies) for t in (1, 2, 3, 4, 6)
    }
    # A geometric mean is a little below the mean that accuracy is, so a little less than 3 may serve too.
    assert min(errors, key=lambda t: errors[t]) in (2, 3)
    assert errors[3] < 0.06


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
    with pytest.raises(Error, match=r"b\.txt: could not be read as UTF-8"):
        tune.texts_of([tmp_path / "a.txt", tmp_path / "b.txt"])
    (tmp_path / "c.txt").write_text("\n")
    with pytest.raises(Error, match="no text in it"):
        tune.texts_of([tmp_path / "c.txt"])
    assert ngram.build(["ab"], 2).order == 2
