"""`hwr synth --ink`: new lines made of the ink of real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import Error, data
from hwr.cli import main
from hwr.config import Data
from hwr.data import synth
from hwr.data.synth import relaid


@pytest.fixture(scope="module")
def made(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ink") / "out"
    synth.write(out, 12, 4, 1, ink=[drawn])
    return out


def test_lines_are_texts_of_one_training_writer_side_by_side(made: Path, drawn: Path) -> None:
    own: dict[str, set[str]] = {}
    for line in data.read(Data(root=str(drawn))).train:
        own.setdefault(line.writer, set()).add(line.text)
    found = data.read(Data(root=str(made)))
    lines = found.lines
    assert len(lines) == 12
    joined = 0
    for line in lines:
        pieces = [_split(line.text, texts) for texts in own.values()]
        assert any(pieces), line.text
        joined += max(map(len, pieces)) > 1
    assert joined >= 2


def _split(text: str, texts: set[str]) -> list[str]:
    """A text as texts of this set with spaces between; [] if it is not made of them."""
    if text in texts:
        return [text]
    for first in texts:
        if text.startswith(f"{first} ") and (rest := _split(text[len(first) + 1 :], texts)):
            return [first, *rest]
    return []


def test_every_line_shows_its_ink(made: Path) -> None:
    paths = list(made.rglob("*.webp"))
    assert len(paths) == 12
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert 20 <= grey.shape[0] <= 64
        dark = grey < np.median(grey) - 20
        assert dark.any(0).mean() > 0.2, path


def test_the_same_seed_gives_the_same_bytes_in_several_processes(made: Path, drawn: Path, tmp_path: Path) -> None:
    synth.write(tmp_path / "again", 12, 4, 1, ink=[drawn], processes=2)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) > 12
    assert all((made / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_small_letters_lie_in_the_band() -> None:
    cover = np.zeros((60, 200), np.float32)
    cover[20:40, ::4] = 1  # small letters
    cover[0:60, 50:54] = 1  # one letter that stands up and hangs down
    top, bottom = relaid._band(cover)
    assert 19 <= top < bottom <= 41
    assert bottom - top >= 12


def test_fonts_and_ink_are_refused_together(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match="--ink can't be combined with --fonts"):
        synth.write(tmp_path / "out", 4, 4, 0, ink=[drawn], fonts=tmp_path)
    assert not (tmp_path / "out").exists()


def test_lines_without_ink_are_named_and_not_used(tmp_path: Path) -> None:
    """Nor are lines that can't be read; the other lines and hands are used."""
    ink = np.full((40, 120), 235, np.uint8)
    ink[15:25, 10:100:6] = 30
    rows = ["image\ttext\twriter\tsplit"]
    for writer in "abcde":
        for number in range(3):
            blank = writer == "b" or (writer, number) == ("a", 0)
            Image.fromarray(np.full_like(ink, 235) if blank else ink).save(tmp_path / f"{writer}{number}.png")
            rows.append(f"{writer}{number}.png\tlines\t{writer}\ttrain")
    (tmp_path / "lines.tsv").write_text("\n".join([*rows, "gone.png\tx\ta\ttrain", ""]))
    out = tmp_path.with_name("out-of-ink")
    arguments = ["synth", "--out", str(out), "--lines", "12", "--writers", "6", "--ink", str(tmp_path)]
    done = CliRunner().invoke(main, [*arguments, "--processes", "1"])
    assert done.exit_code == 1, done.output
    assert "5 lines of --ink could not be used" in done.stderr
    for name in ("a0", "b0", "b1", "b2"):
        assert f"line {name}: its image has no ink" in done.stderr
    assert "no such image" in done.stderr
    found = data.read(Data(root=str(out)))
    assert len(found.lines) == 12
    for path in tmp_path.glob("*.png"):
        Image.fromarray(np.full_like(ink, 235)).save(path)
    relaid._usable.cache_clear()
    with pytest.raises(Error, match="no line whose ink can be used"):
        synth.write(tmp_path.with_name("none"), 12, 6, 1, ink=[tmp_path])
