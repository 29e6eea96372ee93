"""The threads that run the workbench's jobs."""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwr import Error
from hwr.serve.jobs import Jobs, Work
from hwr.serve.project import database
from hwr.serve.project.database import Store


def wait(until: Callable[[], bool]) -> None:
    for _ in range(600):
        if until():
            return
        time.sleep(0.05)
    raise AssertionError


def test_a_job_is_resumed_once(tmp_path: Path) -> None:
    store, go = Store(tmp_path / "jobs.sqlite"), threading.Event()
    runs: list[int] = []

    def run(work: Work) -> dict[str, Any]:
        runs.append(work.job.id)
        assert go.wait(60)
        if len(runs) == 1:
            raise Error("broken")
        return {}

    jobs = Jobs(store, {"read": run})
    try:
        go.set()
        job = jobs.start("read", {})
        wait(lambda: jobs.get(job.id).state == "failed")
        go.clear()
        jobs.resume(job.id)
        with pytest.raises(Error, match="only a job that was stopped or failed can be resumed"):
            jobs.resume(job.id)
        go.set()
        wait(lambda: jobs.get(job.id).state == "done")
        assert runs == [job.id] * 2
    finally:
        jobs.close()
        store.close()


def test_waiting_jobs_are_stopped_before_they_begin_and_few_may_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwr.serve.jobs.MOST_WAITING", 2)
    store, go = Store(tmp_path / "jobs.sqlite"), threading.Event()
    runs: list[int] = []

    def run(work: Work) -> dict[str, Any]:
        runs.append(work.job.id)
        assert go.wait(60)
        return {}

    jobs = Jobs(store, {"read": run})
    try:
        first = jobs.start("read", {})
        wait(lambda: bool(runs))
        second, third = jobs.start("read", {}), jobs.start("read", {})
        with pytest.raises(Error, match="2 jobs are waiting"):
            jobs.start("read", {})
        jobs.stop(second.id)
        go.set()
        wait(lambda: not jobs.active("read"))
        wait(lambda: jobs.get(third.id).state == "done")
        assert [jobs.get(job.id).state for job in (first, second, third)] == ["done", "stopped", "done"]
        assert runs == [first.id, third.id]
    finally:
        jobs.close()
        store.close()


def test_jobs_of_a_server_that_ended_are_stopped(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    states = ("waiting", "running", "done", "failed")
    ids = [store.add_job("read", {}).id for _ in states]
    for id, state in zip(ids, states, strict=True):
        store.set_job(id, state)
    store.close()
    store = Store(tmp_path / "jobs.sqlite")
    assert [job.state for job in reversed(store.jobs())] == ["stopped", "stopped", "done", "failed"]
    store.close()


def test_sessions_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Store(tmp_path / "jobs.sqlite"), [1000.0]
    monkeypatch.setattr("hwr.serve.project.database.time.time", lambda: now[0])
    store.add_session("a")
    now[0] = 1059.0
    assert (store.has_session("a", 60), store.has_session("b", 60)) == (True, False)
    now[0] = 1061.0
    assert not store.has_session("a", 60)
    store.close()


def test_only_a_damaged_database_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, aside = tmp_path / "jobs.sqlite", tmp_path / "jobs.sqlite.damaged"
    store = Store(path)
    job = store.add_job("read", {})
    store.close()
    (blocked := tmp_path / "jobs.sqlite-wal").mkdir()  # as on a full disk, SQLite can't begin to write
    with pytest.raises(Error, match=r"jobs\.sqlite: can't be used: "):
        Store(path)
    assert not aside.exists()
    blocked.rmdir()

    def full(path: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(database, "_opened", full)
        with pytest.raises(Error, match=r"jobs\.sqlite: can't be used: database or disk is full"):
            Store(path)
    assert not aside.exists()
    store = Store(path)
    assert [one.id for one in store.jobs()] == [job.id]
    store.close()
    path.write_bytes(b"no database" * 1000)
    store = Store(path)
    assert store.jobs() == []
    store.close()
    assert aside.read_bytes() == b"no database" * 1000


def test_a_full_disk_does_not_end_the_jobs_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, go, full = Store(tmp_path / "jobs.sqlite"), threading.Event(), threading.Event()
    save = store.set_job

    def set_job(*args: Any, **named: Any) -> None:
        if full.is_set():
            raise Error("database or disk is full")
        save(*args, **named)

    def run(work: Work) -> dict[str, Any]:
        assert go.wait(60)
        return {}

    monkeypatch.setattr(store, "set_job", set_job)
    jobs = Jobs(store, {"read": run})
    try:
        first = jobs.start("read", {})
        wait(lambda: jobs.get(first.id).state == "running")
        full.set()
        go.set()
        wait(lambda: "disk is full" in capsys.readouterr().err)
        full.clear()
        second = jobs.start("read", {})
        wait(lambda: jobs.get(second.id).state == "done")
        assert not jobs.active("read")
    finally:
        jobs.close()
        store.close()


def test_characters_that_can_not_be_kept_are_an_error(tmp_path: Path) -> None:
    """As on a full disk."""
    store = Store(tmp_path / "state.sqlite")
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(Error, match="the database of jobs can't be used: "):
        store.set_characters("a.png", {"l1": ("a", [["a", 0.0, 1.0, 0.5]])})
