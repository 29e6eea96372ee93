import os
import stat
import threading
from pathlib import Path

import pytest

from hwr import Error
from hwr.system import files
from hwr.system.atomic import replacing


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    write(tmp_path / "a", "one")

    def fail() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("tw")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "one"


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"nowhere/a: could not be written: No such file or directory"):
        write(tmp_path / "nowhere/a", "x")
    with pytest.raises(Error, match=f"{tmp_path}: is a folder; name a file"):
        write(tmp_path, "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_device_is_named() -> None:
    with pytest.raises(Error, match="/dev/full: could not be written: No space left on device"):
        write(Path("/dev/full"), "x")


def test_links_and_pipes_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "target", "old")
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"

    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(tmp_path / "pipe", "through")
    reader.join()
    assert got == ["through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "a", "old")
    (tmp_path / "a").chmod(mode)
    write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_the_umask_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def umask(mask: int) -> int:
        raise AssertionError("another thread would make files with this umask")

    monkeypatch.setattr(os, "umask", umask)
    write(tmp_path / "a", "x")


def test_files_are_sorted_as_people_do() -> None:
    wanted = [
        "Page 1.png",
        "page 2.png",
        "page 02b.png",
        "page 10.png",
        "page 10/1.png",
        "page 10/2.png",
        "page 10/x/0.png",
    ]
    wanted += ["page 10 b/1.png", "page 11/9.png", "page 11/0012.png", f"page 11/{'9' * 200}.png"]
    assert files.in_order(reversed(wanted)) == wanted
