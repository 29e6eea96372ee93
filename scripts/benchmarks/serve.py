"""Load test of the workbench's REST API: lines per second and latency with several clients, beside `hwr predict`'s code."""

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import REPOSITORY, conditions, json_option, write
from hwr import Error
from hwr.data import read as read_dataset
from hwr.data import synth
from hwr.loading import settings_for
from hwr.pages.predict import predict
from hwr.pages.sources import jobs
from hwr.recognizer import Recognizer


@click.command("serve")
@click.option("--checkpoint", default="hwr-latin", show_default=True, metavar="FILE")
@click.option("--lines", default=256, show_default=True, type=click.IntRange(min=16), help="Synthetic lines to read.")
@click.option("--clients", multiple=True, default=(1, 4, 16), show_default=True, type=click.IntRange(min=1))
@click.option("--seconds", default=20.0, show_default=True, help="For each number of clients, and for the reference.")
@click.option("--decoder", default="greedy", show_default=True, type=click.Choice(["greedy", "beam"]))
@json_option
def load_test(
    checkpoint: str, lines: int, clients: tuple[int, ...], seconds: float, decoder: str, json_path: Path | None
) -> None:
    """Requests with one line image each to `POST /api/read`, compared with `hwr predict` on the same files.

    The clients run on the same cores as the server, so they cost some of its speed.
    """
    found: dict[str, Any] = {"conditions": conditions(), "rows": []}
    keys = ["engine.device=cpu", f"decode.name={decoder}"]
    with tempfile.TemporaryDirectory() as folder:
        synth.write(Path(folder) / "drawn", lines, max(4, lines // 8), 0)
        settings = settings_for(checkpoint, None, [*keys, f"data.root={folder}/drawn"])[1]
        dataset = read_dataset(settings.data)
        paths = [str(line.image) for part in (dataset.train, dataset.val, dataset.test) for line in part]
        (Path(folder) / "pages").mkdir()
        click.echo(f"{len(paths)} line images\n{'':<16}{'lines/s':>10}{'p50, ms':>10}{'p95, ms':>10}{'p99, ms':>10}")
        server, port = start_server(Path(folder) / "pages", checkpoint, keys)
        try:
            contents = [Path(path).read_bytes() for path in paths]
            _clients(port, contents, 2, 3.0)  # warm-up
            # The reference runs before and after, because the load of the machine may change.
            rates = [_reference(checkpoint, keys, paths, seconds / 2)]
            for number in clients:
                took, spent = _clients(port, contents, number, seconds)
                p50, p95, p99 = np.percentile(took, [50, 95, 99]) * 1000
                row = {"clients": number, "lines_per_second": len(took) / spent, "p50": p50, "p95": p95, "p99": p99}
                found["rows"].append(row)
                click.echo(f"{f'{number} clients':<16}{len(took) / spent:>10.1f}{p50:>10.0f}{p95:>10.0f}{p99:>10.0f}")
            rates.append(_reference(checkpoint, keys, paths, seconds / 2))
        finally:
            server.terminate()
            server.wait()
    rate = float(np.mean(rates))
    click.echo(f"{'hwr predict':<16}{rate:>10.1f}   ({rates[0]:.1f} before, {rates[1]:.1f} after)")
    for row in found["rows"]:
        click.echo(f"{row['clients']:>3} clients: {row['lines_per_second'] / rate:.2f} of hwr predict")
    write(json_path, {**found, "hwr_predict": rates})


def start_server(folder: Path, checkpoint: str, keys: Sequence[str]) -> tuple["subprocess.Popen[str]", int]:
    """Start a server, and return it with its port."""
    command = [sys.executable, "-m", "hwr", "serve", str(folder), "--port", "0", "--checkpoint", checkpoint]
    command += [part for key in keys for part in ("--set", key)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "open http://" in line:
            return process, int(line.split("open http://", 1)[1].split("/")[0].rpartition(":")[2])
    raise Error("hwr serve did not start")


def _clients(port: int, contents: Sequence[bytes], number: int, seconds: float) -> tuple[list[float], float]:
    """The seconds of each request of `number` clients, and those that all took."""
    took: list[float] = []
    begin = time.perf_counter()

    def run(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        i = first
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            connection.request(
                "POST", "/api/read?lines=line", contents[i % len(contents)], {"Content-Type": "image/png"}
            )
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise Error(body.decode())
            json.loads(body)
            took.append(time.perf_counter() - start)
            i += number
        connection.close()

    threads = [threading.Thread(target=run, args=(first,)) for first in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took, time.perf_counter() - begin


def _reference(checkpoint: str, keys: Sequence[str], paths: Sequence[str], seconds: float) -> float:
    """Lines per second of what `hwr predict` runs, once it is warm."""
    loaded, settings = settings_for(checkpoint, None, keys)
    recognizer = Recognizer(loaded, settings)
    list(predict(recognizer, jobs(paths[:32])))
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        count += len(list(predict(recognizer, jobs(paths))))
    return count / (time.perf_counter() - begin)
