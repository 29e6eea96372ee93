"""Load test of the workbench's REST API: lines per second and latency with several clients, beside `hwr predict`'s code."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

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
@click.option(
    "--seconds", default=8.0, show_default=True, help="Of a round for each number of clients, and for predict."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="How often all are measured.")
@click.option("--decoder", default="greedy", show_default=True, type=click.Choice(["greedy", "beam"]))
@json_option
def load_test(
    checkpoint: str,
    lines: int,
    clients: tuple[int, ...],
    seconds: float,
    rounds: int,
    decoder: str,
    json_path: Path | None,
) -> None:
    """Requests with one line image each to `POST /api/read`, compared with what `hwr predict` runs on the same files.

    Each round measures everything, so that a change of the machine's load spoils none of the comparisons. The clients run on
    the same cores as the server, so they cost some of its speed. CPU time per line tells more than lines per second while other
    programs run.
    """
    keys = ["engine.device=cpu", f"decode.name={decoder}"]
    with tempfile.TemporaryDirectory() as folder:
        synth.write(Path(folder) / "drawn", lines, max(4, lines // 8), 0)
        settings = settings_for(checkpoint, None, [*keys, f"data.root={folder}/drawn"])[1]
        dataset = read_dataset(settings.data)
        paths = [str(line.image) for line in dataset.lines]
        contents = [Path(path).read_bytes() for path in paths]
        recognizer = Recognizer(*settings_for(checkpoint, None, keys))
        click.echo(f"{len(paths)} line images, {rounds} rounds of {seconds:g} s for each row")
        (Path(folder) / "pages").mkdir()
        server, port = start_server(Path(folder) / "pages", checkpoint, keys)
        found: dict[int, list[Run]] = {number: [] for number in (0, *clients)}
        try:
            _clients(server, port, contents, 2, 3.0)  # warm-up
            list(predict(recognizer, jobs(paths[:32])))
            for _ in range(rounds):
                found[0].append(_predict(recognizer, paths, seconds))
                for number in clients:
                    found[number].append(_clients(server, port, contents, number, seconds))
        finally:
            server.terminate()
            server.wait()
    _show(found)
    rows = {str(number): [run._asdict() for run in runs] for number, runs in found.items()}
    write(json_path, {"conditions": conditions(), "clients": rows})


class Run(NamedTuple):
    """What one measurement found.

    Attributes:
        rate: Lines per second.
        took: Seconds of each request; empty for predict.
        cpu: CPU milliseconds per line: of the server, or of predict.
        own: CPU milliseconds per line of the clients.
    """

    rate: float
    took: list[float]
    cpu: float
    own: float = 0.0


def _show(found: dict[int, list[Run]]) -> None:
    """The table. Shares are those of each round, so that both sides saw the same load."""
    click.echo(
        f"{'':<12}{'lines/s':>8}{'p50':>6}{'p95':>6}{'p99':>6} ms   {'share of predict (each round)':<44}CPU ms/line"
    )
    for number, runs in found.items():
        rate, cpu, own = (float(np.mean([getattr(run, key) for run in runs])) for key in ("rate", "cpu", "own"))
        if not number:
            click.echo(f"{'hwr predict':<12}{rate:>8.1f}{'':>18}      {'':<44}{cpu:.1f}")
            continue
        p50, p95, p99 = np.percentile([t for run in runs for t in run.took], [50, 95, 99]) * 1000
        shares = [run.rate / reference.rate for run, reference in zip(runs, found[0], strict=True)]
        share = f"{np.mean(shares):.2f} ({', '.join(f'{one:.2f}' for one in shares)})"
        click.echo(
            f"{number:>3} clients {rate:>8.1f}{p50:>6.0f}{p95:>6.0f}{p99:>6.0f}      {share:<44}{cpu:.1f} + clients {own:.1f}"
        )


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


def _clients(server: "subprocess.Popen[str]", port: int, contents: Sequence[bytes], number: int, seconds: float) -> Run:
    """Run `number` clients for some seconds."""
    took: list[float] = []
    head = "POST /api/read?lines=line HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: "
    requests = [f"{head}{len(content)}\r\n\r\n".encode() + content for content in contents]
    before, mine, begin = _cpu(server.pid), time.process_time(), time.perf_counter()

    def run(first: int) -> None:
        # Plain sockets: what the clients compute, the server lacks.
        with socket.create_connection(("127.0.0.1", port), 120) as connection:
            i = first
            while time.perf_counter() - begin < seconds:
                start = time.perf_counter()
                connection.sendall(requests[i % len(requests)])
                _answer(connection)
                took.append(time.perf_counter() - start)
                i += number

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(run, range(number)))
    count, spent = len(took), time.perf_counter() - begin
    cpu, own = _cpu(server.pid) - before, time.process_time() - mine
    return Run(count / spent, took, cpu / count * 1000, own / count * 1000)


def _answer(connection: socket.socket) -> None:
    """Wait for an answer, which must be one text.

    Raises:
        Error: It is none.
    """
    got = b""
    while b"\r\n\r\n" not in got:
        got += (part := connection.recv(65536))
        if not part:
            raise Error("the server closed the connection")
    head, _, body = got.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields[b"content-length"])
    while len(body) < length:
        body += connection.recv(65536)
    if not head.startswith(b"HTTP/1.1 200") or b'"text":' not in body:
        raise Error(body.decode())


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far, with its children; NaN where there is no /proc."""
    total = float("nan")
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        total = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(_cpu, map(int, children)))
    return total


def _predict(recognizer: Recognizer, paths: Sequence[str], seconds: float) -> Run:
    """What `hwr predict` runs, once it is warm."""
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        count += len(list(predict(recognizer, jobs(paths))))
    return Run(count / (time.perf_counter() - begin), [], (time.process_time() - cpu) / count * 1000)
