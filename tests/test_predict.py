import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hwr import Error, checkpoint, config, data
from hwr.pages import predict
from hwr.pages.segment import stand
from hwr.pages.sources import Job, Target
from hwr.recognizer import Recognizer, load
from hwr.system import processes


def test_predictions_depend_on_neither_batches_nor_workers(model: Path, drawn: Path) -> None:
    loaded = checkpoint.load(model)
    recognizer = Recognizer(loaded, loaded.config)
    dataset = data.read(config.Data(root=str(drawn)))
    targets = [Target(line.image) for line in dataset.lines]
    jobs = [Job(target.image, target.image, [target]) for target in targets]
    readings = []
    # One thread, several, two processes.
    for size, number, files in ((1, 1, 0), (3, 4, 0), (16, 2, processes.MANY), (64, None, 0)):
        settings = config.override(config.to_dict(loaded.config), [f"evaluate.batch_size={size}"])
        with processes.pool(number, files) as pool:
            assert isinstance(pool, ProcessPoolExecutor) == bool(files)
            readings.append(
                [
                    prediction
                    for _, predictions in predict.predict(recognizer.with_config(settings), jobs, pool)
                    for prediction in predictions
                ]
            )
    assert [reading.target for reading in readings[0]] == targets
    assert len({reading.text for reading in readings[0]}) > 30
    for others in readings[1:]:
        assert [reading.text for reading in others] == [reading.text for reading in readings[0]]
        assert [x.confidence for x in others] == pytest.approx([x.confidence for x in readings[0]], abs=1e-4)


def test_a_page_is_not_lost_if_its_longest_lines_are_too_long_for_the_network(model: Path) -> None:
    loaded = checkpoint.load(model)
    assert stand(Recognizer(loaded, loaded.config), [np.full((2, 5000), 255, np.uint8)])


def test_images_are_loaded_lazily(model: Path, drawn: Path) -> None:
    """The first of endlessly many images are read."""
    loaded = checkpoint.load(model)
    image = data.read(config.Data(root=str(drawn))).test[0].image
    taken = 0

    def endless() -> Iterator[Job]:
        nonlocal taken
        while True:
            taken += 1
            yield Job(image, image, [Target(image)])

    settings = config.override(config.to_dict(loaded.config), ["evaluate.batch_size=2"])
    reading = predict.predict(Recognizer(loaded, settings), endless())
    assert len({next(reading)[1][0].text for _ in range(40)}) == 1
    assert taken <= 40 + 2 * predict.CHUNK * 2


def test_a_worker_that_is_killed_is_an_error() -> None:
    with (
        pytest.raises(Error, match="a process that decodes images was killed"),
        processes.pool(2, processes.MANY) as pool,
    ):
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()


def test_workers_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time\n"
        "from hwr.system import processes\n"
        "if __name__ == '__main__':\n"
        "    with processes.pool(2, processes.MANY) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert running(worker)
        process.kill()
    deadline = time.monotonic() + 30
    while running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(worker)


def running(process: int) -> bool:
    """Whether a process is running; a zombie (Z) has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_memory_does_not_grow_with_the_number_of_lines(model: Path, drawn: Path) -> None:
    """A stream of lines is read as it comes, and nothing is kept of those that were read."""
    image = sorted((drawn / "lines").rglob("*.png"))[0]
    reader = load(model, ["evaluate.batch_size=4", "engine.device=cpu"])
    started = 0

    def stream() -> Iterator[Job]:
        nonlocal started
        while True:
            started += 1
            yield Job(image, image, [Target(image)])

    read = predict.predict(reader, stream())
    tracemalloc.start()
    try:
        used = []
        for lines in (200, 200, 400):
            assert len({found[0].text for _, found in itertools.islice(read, lines)}) == 1
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        read.close()
    assert started < 900  # only a chunk or two ahead
    assert used[2] - used[1] < 50_000
