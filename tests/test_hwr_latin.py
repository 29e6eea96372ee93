"""The bundled model, models/hwr-latin.safetensors, and its model card."""

import re
from pathlib import Path

import pytest

from hwr import checkpoint, config, describe
from hwr.evaluation import evaluate
from hwr.recognizer import Recognizer

from .conftest import REPOSITORY

MODEL = REPOSITORY / "models/hwr-latin.safetensors"
LINES = REPOSITORY.parent / "shared/lines"

pytest.importorskip("torch")


def cer(root: Path, split: str) -> float:
    loaded = checkpoint.load(MODEL)
    keys = [f"data.root={root}", "engine.device=cpu", "engine.precision=fp32"]
    settings = config.override(config.to_dict(loaded.config), keys)
    report = evaluate.evaluate(Recognizer(loaded, settings), split=split).to_dict()
    return float(report["cer"])


def test_the_bundled_model_is_small_and_contains_no_paths() -> None:
    assert MODEL.stat().st_size < 16e6
    loaded = checkpoint.load(MODEL)
    settings = loaded.config
    assert settings.train.init is settings.data.cache is None
    assert settings.decode.lm == "stored"
    assert loaded.language_model is not None
    assert sum(array.nbytes for array in loaded.language_model.arrays.values()) < 8e6
    assert settings.data == config.Data()
    assert "copiste-fr" in loaded.scores["trained_on"]
    assert not any("/" in name for name in loaded.scores["trained_on"])


def test_its_description_is_a_table() -> None:
    rows = describe.table(describe.describe(MODEL)).splitlines()
    assert "  validation lines" in {row[:20].rstrip() for row in rows}
    assert all(row[19] == " " for row in rows)


def test_the_bundled_model_reads_synthetic_lines(drawn: Path) -> None:
    assert cer(drawn, "train") < 0.2


@pytest.mark.once
@pytest.mark.skipif(not LINES.is_dir(), reason="no ../shared/lines")
@pytest.mark.parametrize(
    ("source", "name"), [("copiste-fr", "Copiste d'un jour"), ("poilus-fr", "Testaments de Poilus")]
)
def test_the_model_card_has_scores_on_real_lines(source: str, name: str) -> None:
    card = MODEL.with_suffix(".md").read_text()
    said = re.search(rf"^\| \*{name}\*.*?\| ([\d.]+) \|", card, re.MULTILINE)
    assert said
    assert 100 * cer(LINES / source, "test") == pytest.approx(float(said[1]), abs=0.1)
