"""scripts/compare without the other toolkits: timing, choice of the checkpoint, the table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hwr import config
from hwr.data import read as read_dataset

from .conftest import REPOSITORY


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")


def task(folder: Path, data: Path, minutes: float) -> Any:
    from compare_peers.task import Task

    keys = [f"data.root={data}"]
    (folder / "one").mkdir()
    made = Task(
        folder / "one",
        folder,
        Path(sys.executable),
        read_dataset(config.load(None, keys).data),
        keys,
        minutes,
        1,
        {},
        [],
    )
    made.log.touch()
    return made


def test_an_entrant_is_stopped_at_the_time_limit_and_scored(drawn: Path, tmp_path: Path) -> None:
    from compare_peers.entrants import entered
    from compare_peers.task import Entrant, Reading

    made = task(tmp_path, drawn, 0.05)
    told = made.folder / "points"
    code = f"import time; time.sleep(1); open({str(told)!r}, 'w').write('x'); time.sleep(60)"
    right = [line.text for line in made.dataset.test]
    weights = made.folder / "weights"
    weights.write_bytes(bytes(1000))
    entrant = Entrant(
        "sleeps",
        lambda task: [sys.executable, "-c", code],
        lambda task: [(2.0, 0.5)] if told.exists() else [],
        lambda task: Reading([*right[:-1], ""], 7.0, 5, weights),
    )
    result = entered("sleeper", entrant, made)
    assert 3 <= result["seconds"] < 60  # it would have slept longer
    ((second, epochs, rate),) = result["points"]
    assert 0 < second <= result["seconds"]
    assert (epochs, rate) == (2.0, 0.5)
    assert result["cer"] == pytest.approx(len(right[-1]) / sum(map(len, right)))
    assert result["training_lines_per_second"] == pytest.approx(2 * len(made.dataset.train) / second)
    assert 0 <= result["other_cpus"] < 1000


def test_an_entrant_that_stops_early_has_failed(drawn: Path, tmp_path: Path) -> None:
    from compare_peers.entrants import entered
    from compare_peers.task import Entrant, Failed

    def read(task: Any) -> Any:
        raise AssertionError("is not asked to read")

    entrant = Entrant("ends", lambda task: [sys.executable, "-c", "print('why')"], lambda task: [], read)
    with pytest.raises(Failed, match=r"(?s)ended by itself.*why"):
        entered("ender", entrant, task(tmp_path, drawn, 1))


def test_krakens_log_and_checkpoints(drawn: Path, tmp_path: Path) -> None:
    from compare_peers import kraken

    made = task(tmp_path, drawn, 1)
    row = "[11/23/26 00:37:11] INFO     validation run: total chars 8161.0 errors {}.0 accuracy {}       \r\n"
    made.log.write_text(row.format(8161, "0.0") + "other\n" + row.format(6912, "0.15304499864578247"))
    assert kraken.points(0.25)(made) == [(0.25, 1.0), (0.5, pytest.approx(0.846955))]
    names = ["checkpoint_abort", "checkpoint_00-0.1530", "checkpoint_01-0.2435", "checkpoint_02-0.2435-v1"]
    paths = [tmp_path / f"{name}.ckpt" for name in names]
    for path in paths:
        path.touch()
    assert kraken.best_of(paths[:3]) == (paths[2], True)
    assert kraken.best_of(paths[:1]) == (paths[0], False)


def test_results_of_several_calls_become_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import click
    from compare_peers import report

    monkeypatch.setattr(report, "REPOSITORY", tmp_path)
    (tmp_path / "docs").mkdir()

    def brought(out: str, name: str, **more: object) -> Path:
        folder = tmp_path / out / name
        folder.mkdir(parents=True)
        about = {"minutes": 30.0, "data": "d", "lines": {"train": 9, "val": 2, "test": 3}, "threads": 2, "smoke": False}
        about |= {"entrant": name, "about": f"{name}'s own", "date": "2026-11-22", "commit": "abc", "cpu": "c"}
        about |= {
            "cer": 0.1,
            "cer_ci95": [0.05, 0.2],
            "over": "writers",
            "wer": 0.3,
            "note": "",
            "commands": ["run it"],
        }
        about |= {"training_lines_per_second": 9.0, "reading_lines_per_second": 8.0, "epochs": 3.0, "seconds": 1800.0}
        about |= {"parameters": 7_000_000, "megabytes": 28.0, "points": [[60.0, 1.0, 0.9]], "other_cpus": 0.01}
        (folder / "result.json").write_text(json.dumps(about | more))
        return tmp_path / out

    report.write(brought("first", "hwr", cer=0.125), ["hwr", "kraken", "pylaia"])
    second = brought("second", "kraken", failure="no checkpoint")
    report.write(brought("second", "pylaia", cer=0.25, cpu="another"), ["hwr", "kraken", "pylaia"])
    page = (tmp_path / "docs/comparison.md").read_text()
    for words in ("| hwr: hwr's own | 12.5 | 5.0 to 20.0 |", "| pylaia: pylaia's own | 25.0 |", "none: no checkpoint"):
        assert words in page
    assert "Not all ran on the same kind of processor" in page
    assert "- pylaia: 2026-11-22, commit abc, on another; trained for 1800 s" in page
    assert (tmp_path / "docs/comparison.png").stat().st_size > 5000
    # Published results stay when something else is measured.
    report.write(brought("short", "hwr", minutes=5.0), ["hwr", "kraken", "pylaia"])
    assert (tmp_path / "docs/comparison.md").read_text() == page
    assert "after 5 minutes" in (tmp_path / "short/comparison.md").read_text()
    brought("third", "hwr", minutes=5.0)
    brought("third", "pylaia")
    with pytest.raises(click.ClickException, match="other conditions than hwr's"):
        report.write(tmp_path / "third", ["hwr", "kraken", "pylaia"])
    assert second.is_dir()
