import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr import Error, config, data
from hwr.config import Config
from hwr.data import Line
from hwr.images import load, prepare

from .conftest import REPOSITORY, TINY, prepared_images


def lines_in(folder: Path, number: int = 5) -> list[Line]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(rng.integers(0, 255, (30 + i, 90), np.uint8)).save(folder / f"{i}.png")
    return [Line(str(i), folder / f"{i}.png", "x", "w", f"list.txt:{i + 1}") for i in range(number)]


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*"))


def test_holds_what_was_prepared_and_is_not_built_twice(tmp_path: Path) -> None:
    lines, settings = lines_in(tmp_path / "l"), Config()
    pixels = prepared_images(lines, settings)
    assert (len(pixels), pixels.height, pixels.widths.tolist()) == (5, 60, [800] * 5)
    assert isinstance(pixels.pixels, np.memmap)
    for i, line in enumerate(lines):
        assert np.array_equal(pixels[i], prepare.fit(load.read(line.image), 60, 800))
    (built,) = files(tmp_path)
    before = built.stat().st_mtime_ns
    prepared_images(lines, settings)
    assert [f.stat().st_mtime_ns for f in files(tmp_path)] == [before]


def test_is_rebuilt_when_what_went_in_changes(tmp_path: Path) -> None:
    lines, settings = lines_in(tmp_path / "l"), Config()
    prepared_images(lines, settings)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(lines[2].image)
    assert (prepared_images(lines, settings)[2] == 7).any()
    prepared_images(lines[:3], settings)
    prepared_images(lines, config.load(None, ["image.width=640"]))
    assert len(files(tmp_path)) == 4


def test_broken_images_are_all_named_and_nothing_is_left(tmp_path: Path) -> None:
    lines = lines_in(tmp_path / "l")
    lines[1].image.write_bytes(b"")
    lines[3].image.write_bytes(lines[3].image.read_bytes()[:200])
    with pytest.raises(Error, match=r"1\.png.*line 1, list\.txt:2(?s:.*)3\.png(?s:.*)2 of 5 images.*data\.exclude"):
        prepared_images(lines, Config())
    assert files(tmp_path) == []
    lines[4].image.unlink()
    with pytest.raises(Error, match=r"4\.png: No such file.*list\.txt:5"):
        prepared_images(lines, Config())


def test_two_processes_build_at_once(tmp_path: Path, drawn: Path) -> None:
    code = (
        "import sys; from hwr import config, data; from tests.conftest import prepared_images; c = config.load(None, sys.argv[1:]);"
        "print(int(prepared_images(data.read(c.data).train, c).pixels.astype(int).sum()))"
    )
    command = [sys.executable, "-c", code, *TINY, f"data.root={drawn}"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) for _ in range(2)]
    sums = {process.communicate()[0].strip() for process in both}
    settings = config.load(None, command[3:])
    assert sums == {str(int(prepared_images(data.read(settings.data).train, settings).pixels.astype(int).sum()))}
    assert len(files(tmp_path)) == 1


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    lines = lines_in(tmp_path / "l")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # five lines need 240 kB
    try:
        with pytest.raises(Error, match="could not be written: File too large"):
            prepared_images(lines, Config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    old, new = tmp_path / "cache/.lines-a.npy.1.tmp", tmp_path / "cache/.lines-b.npy.2.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    prepared_images(lines_in(tmp_path / "l"), Config())
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_cache_is_built_anew(tmp_path: Path, content: bytes | None) -> None:
    lines, settings = lines_in(tmp_path / "l"), Config()
    before = np.array(prepared_images(lines, settings).pixels)
    (built,) = files(tmp_path)
    built.write_bytes(built.read_bytes()[:5000] if content is None else content)
    assert np.array_equal(prepared_images(lines, settings).pixels, before)
