import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr.evaluation import report
from hwr.system import json_text

RED = np.array([0xCC, 0, 0])


def reddish(pixels: np.ndarray) -> int:
    """Pixels closer to the colour of errors than to grey."""
    return int((pixels[..., 0].astype(int) - pixels[..., 1] > 60).sum())


def test_json_is_standard_and_keeps_letters(tmp_path: Path) -> None:
    json_text.write_json(tmp_path / "r.json", {"cer": math.nan, "worst": [{"text": "é\n"}], "n": 1})
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert "é" in text
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "cer": None,
        "worst": [{"text": "é\n"}],
        "n": 1,
    }


def test_errors_are_red() -> None:
    line = np.full((40, 300), 255, np.uint8)
    line[10:30, 20:280] = 0
    right = report.picture([line], ["abc def"], ["abc def"])
    assert reddish(right) == 0
    wrong = report.picture([line], ["abc def"], ["abc dxf"])
    assert reddish(wrong) > 5
    added_blank = report.picture([line], ["abcdef"], ["abc def"])
    assert reddish(added_blank) > 5
    assert reddish(report.picture([line], ["abc def"], ["abc df"])) > 5  # missed
    assert reddish(report.picture([line] * 3, ["abc"] * 3, ["xyz"] * 3)) > 3 * 15


@pytest.mark.parametrize(
    ("reference", "hypothesis"), [("", ""), ("", "x"), ("x", ""), ("word " * 60, "w" * 400), ("été 漢字", "\U0001f600")]
)
def test_any_text_and_any_image_can_be_drawn(reference: str, hypothesis: str) -> None:
    for image in (np.zeros((1, 1), np.uint8), np.full((5, 3), 255, np.uint8), np.zeros((3000, 10), np.uint8)):
        sheet = report.picture([image], [reference], [hypothesis])
        assert sheet.ndim == 3
        assert Image.fromarray(sheet).size[0] <= 900


def test_no_lines() -> None:
    assert report.picture([], [], []).shape[2] == 3
