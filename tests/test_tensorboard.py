"""The event files that each engine's package writes, as TensorBoard reads them."""

import io
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr import Error
from hwr.engines import mxnet_library
from hwr.training.tensorboard import Board

from .conftest import events


@pytest.fixture(params=["torch", "mxnet"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "mxnet":
        try:
            mxnet_library.load()
        except Error as reason:
            pytest.skip(str(reason))
    return str(request.param)


def test_scalars_and_pictures_are_read_back(engine: str, tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (40, 300, 3), np.uint8)
    board = Board(tmp_path, 1, engine)
    for step in (1, 2, 3):
        board.scalar("val_cer", 1 / step, step)
        board.picture("validation_lines", pixels, step)
    board.close()
    read = events(tmp_path)
    assert read["scalars"] == {"val_cer": [[step, pytest.approx(1 / step)] for step in (1, 2, 3)]}
    assert [picture[:3] for picture in read["images"]["validation_lines"]] == [[step, 300, 40] for step in (1, 2, 3)]
    for *_, png in read["images"]["validation_lines"]:
        assert np.array_equal(np.array(Image.open(io.BytesIO(bytes.fromhex(png)))), pixels)


def test_a_resumed_run_replaces_the_steps_that_it_repeats(engine: str, tmp_path: Path) -> None:
    for first_step, steps, value in ((1, (1, 2, 3), 0.5), (3, (3, 4), 0.25)):
        board = Board(tmp_path, first_step, engine)
        for step in steps:
            board.scalar("val_cer", value, step)
        board.close()
        time.sleep(1.1)  # file names sort by their time in seconds
    assert events(tmp_path)["scalars"] == {"val_cer": [[1, 0.5], [2, 0.5], [3, 0.25], [4, 0.25]]}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_reported_once(engine: str, tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (200, 300, 3), np.uint8)  # 180 kB
    board = Board(tmp_path, 1, engine)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Error, match="TensorBoard events could not be written: File too large"):
            board.picture("validation_lines", pixels, 1)
        board.close()
        del board
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_missing_folder_is_refused(engine: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match="nowhere: TensorBoard events could not be written: No such file or directory"):
        Board(tmp_path / "nowhere", 1, engine)


def test_mxboard_beside_tensorboard_is_refused(tmp_path: Path) -> None:
    try:
        mxnet_library.load()
    except Error as reason:
        pytest.skip(str(reason))
    pytest.importorskip("tensorboard")
    code = f"""
import pathlib, tensorboard.compat.proto.event_pb2
from hwr import Error
from hwr.training.tensorboard import Board
try:
    Board(pathlib.Path({str(tmp_path)!r}), 1, "mxnet")
except Error as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "can't be imported after TensorBoard" in done.stdout
