import hashlib
import inspect
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwr import Error, config, data, networks
from hwr.config import Config
from hwr.data import Line
from hwr.images import cache, load, prepare

from .conftest import REPOSITORY, TINY, prepared_images


def lines_in(folder: Path, number: int = 5) -> list[Line]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(rng.integers(0, 255, (30 + i, 90), np.uint8)).save(folder / f"{i}.png")
    return [Line(str(i), folder / f"{i}.png", "x", "w", f"list.txt:{i + 1}") for i in range(number)]


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*"))


def test_the_cache_is_built_once(tmp_path: Path) -> None:
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


def test_the_cache_is_rebuilt_when_an_input_changes(tmp_path: Path) -> None:
    lines, settings = lines_in(tmp_path / "l"), Config()
    prepared_images(lines, settings)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(lines[2].image)
    assert (prepared_images(lines, settings)[2] == 7).any()
    prepared_images(lines[:3], settings)
    prepared_images(lines, config.load(None, ["image.width=640"]))
    assert len(files(tmp_path)) == 4
    # Whatever else the pixels depend on: the time of an image of the same size, the place and direction of a line.
    os.utime(lines[4].image, ns=(1, 1))
    prepared_images(lines, Config())
    region, baseline = ((0, 0), (80, 0), (80, 20), (0, 20)), ((0, 15), (80, 15))
    for changes in (
        {"region": region},
        {"region": region, "baseline": baseline},
        {"region": region, "baseline": baseline[::-1]},
        {"region": region, "upright": True},
    ):
        prepared_images([replace(lines[0], **changes), *lines[1:]], Config())  # type: ignore[arg-type]
    any_width = networks.geometry(config.load(None, ["model.arch=crnn"]))
    changed: tuple[dict[str, Any], ...] = ({}, {"whole": True}, {"margin": 9}, {"straighten": not any_width.straighten})
    for changes in changed:
        cache.prepared(lines, replace(any_width, **changes))
    assert len(files(tmp_path)) == 4 + 1 + 4 + 4


def test_all_broken_images_are_named_and_no_file_is_left(tmp_path: Path) -> None:
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


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    old, new = tmp_path / "cache/.lines-a.npy.1.tmp", tmp_path / "cache/.lines-b.npy.2.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    prepared_images(lines_in(tmp_path / "l"), Config())
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, content: bytes | None) -> None:
    lines, settings = lines_in(tmp_path / "l"), Config()
    before = np.array(prepared_images(lines, settings).pixels)
    (built,) = files(tmp_path)
    built.write_bytes(built.read_bytes()[:5000] if content is None else content)
    assert np.array_equal(prepared_images(lines, settings).pixels, before)


def pages(folder: Path, number: int, lines: int) -> list[Line]:
    """Pages with lines of 10 pixels, one below the other."""
    folder.mkdir()
    out = []
    for page in range(number):
        path = folder / f"{page}.png"
        Image.fromarray(np.random.default_rng(page).integers(0, 255, (10 * lines, 90), dtype=np.uint8)).save(path)
        for i in range(lines):
            region = ((0, 10 * i), (89, 10 * i), (89, 10 * i + 9), (0, 10 * i + 9))
            out.append(Line(f"{page}/{i}", path, "x", "", f"{path}:1", region))
    return out


def test_a_page_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = load.read

    def read(path: Path, upright: bool = True) -> np.ndarray:
        decoded.append(str(path))
        return real(path, upright)

    monkeypatch.setattr(load, "read", read)
    monkeypatch.setattr(cache, "usable_cores", lambda: 16)
    lines = pages(tmp_path / "pages", 60, 9)
    assert len(prepared_images(lines, Config())) == 540
    assert sorted(decoded) == sorted({str(line.image) for line in lines})


def test_the_cache_stores_the_hash_of_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_in(tmp_path / "l")
    first = prepared_images(lines, Config())
    digest = hashlib.sha256(np.ascontiguousarray(first.pixels)).hexdigest()
    key = files(tmp_path)[0].stem.removeprefix("lines-")
    monkeypatch.setattr(cache, "_key", lambda *arguments: key)
    monkeypatch.setattr(cache.hashlib, "sha256", None)  # the pixels are not hashed again
    assert prepared_images(lines, Config()).digest == digest


def test_changed_preprocessing_code_gives_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_in(tmp_path / "l")
    prepared_images(lines, Config())
    real = cache.inspect.getsource
    monkeypatch.setattr(cache.inspect, "getsource", lambda module: real(module) + "# changed\n")
    prepared_images(lines, Config())
    assert len(files(tmp_path)) == 2


def test_all_modules_that_decide_the_pixels_are_in_the_key() -> None:
    used = {value for module in cache.CODE for value in vars(module).values() if inspect.ismodule(value)}
    assert {module for module in used if module.__name__.startswith("hwr.images.")} <= {*cache.CODE}


def test_pages_of_a_tiff_are_prepared(tmp_path: Path, tiny: Config) -> None:
    pages = [Image.fromarray(np.full((40, width), 230, np.uint8)) for width in (90, 120)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    lines = [Line(f"a/{n}", tmp_path / "a.tif" / str(n), "", "", "here") for n in (1, 2)]
    images = cache.prepared(lines, networks.geometry(tiny), None, progress=False)
    assert len(images) == 2
    with pytest.raises(Error, match=r"gone\.tif/1: .*\(line g"):
        cache.prepared([Line("g", tmp_path / "gone.tif" / "1", "", "", "here")], networks.geometry(tiny), None)
