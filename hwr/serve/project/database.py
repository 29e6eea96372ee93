"""Jobs, sessions and the recognizer's character positions, in SQLite. Deleting the file loses no correction."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr import Error

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, state TEXT NOT NULL, about TEXT NOT NULL,
    progress TEXT NOT NULL, error TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS characters (
    page TEXT NOT NULL, line TEXT NOT NULL, text TEXT NOT NULL, found TEXT NOT NULL, PRIMARY KEY (page, line));
CREATE TABLE IF NOT EXISTS sessions (key TEXT PRIMARY KEY, created REAL NOT NULL);
"""

# A character of a prediction: its text, left and right edge in pixels of the line's image, and confidence.
Characters = list[tuple[str, float, float, float]]


@dataclass(frozen=True)
class Job:
    """A job and how far it is.

    Attributes:
        kind: read, train, or files: reading what a client sent.
        state: waiting, running, done, stopped or failed.
        about: What was asked for.
        progress: How far it is; the result of a job that is done.
        error: Why it failed, or "".
        created: In seconds since 1970; `updated` too.
    """

    id: int
    kind: str
    state: str
    about: dict[str, Any]
    progress: dict[str, Any]
    error: str
    created: float
    updated: float


class Store:
    """The database of a project. A damaged file is set aside, and a new one begun.

    Args:
        path: Its file.

    Raises:
        Error: The file can't be used now, because the disk is full, for example; it stays as it is.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = _opened_or_new(path)
        except (sqlite3.Error, OSError) as error:
            raise Error(f"{path}: can't be used: {error}") from error
        # Nothing runs yet: what did when the last server ended was stopped by that.
        self._do("UPDATE jobs SET state = 'stopped' WHERE state IN ('waiting', 'running')")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _do(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._transaction():
            return self._db.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._lock, self._db:
                yield
        except sqlite3.Error as error:
            raise Error(f"the database of jobs can't be used: {error}") from error

    # --- Jobs ---

    def add_job(self, kind: str, about: Mapping[str, Any]) -> Job:
        """Add a waiting job."""
        now = time.time()
        ((id,),) = self._do(
            "INSERT INTO jobs (kind, state, about, progress, error, created, updated) "
            "VALUES (?, 'waiting', ?, '{}', '', ?, ?) RETURNING id",
            (kind, json.dumps(about), now, now),
        )
        return Job(id, kind, "waiting", dict(about), {}, "", now, now)

    def set_job(
        self, id: int, state: str | None = None, progress: Mapping[str, Any] | None = None, error: str | None = None
    ) -> None:
        """Change what is not None."""
        self._do(
            "UPDATE jobs SET state = coalesce(?, state), progress = coalesce(?, progress), error = coalesce(?, error), "
            "updated = ? WHERE id = ?",
            (state, None if progress is None else json.dumps(progress), error, time.time(), id),
        )

    def jobs(self, newest: int = 50) -> list[Job]:
        """The newest jobs, newest first."""
        return [_job(row) for row in self._do("SELECT * FROM jobs ORDER BY id DESC LIMIT ?", (newest,))]

    def job(self, id: int) -> Job | None:
        """A job, or None."""
        return next((_job(row) for row in self._do("SELECT * FROM jobs WHERE id = ?", (id,))), None)

    # --- Characters ---

    def set_characters(self, page: str, found: Mapping[str, tuple[str, Characters]]) -> None:
        """Keep the characters of lines, each with the text that they make up."""
        rows = [(page, line, text, json.dumps(own)) for line, (text, own) in found.items()]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO characters VALUES (?, ?, ?, ?)", rows)

    def characters(self, page: str) -> dict[str, tuple[str, Characters]]:
        """The characters of a page's lines, as last read."""
        rows = self._do("SELECT line, text, found FROM characters WHERE page = ?", (page,))
        return {line: (text, json.loads(found)) for line, text, found in rows}

    # --- Sessions ---

    def add_session(self, key: str) -> None:
        """Remember a browser's session by a hash of its key."""
        self._do("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (key, time.time()))

    def forget_sessions(self, seconds: float) -> None:
        """Delete the sessions that are older than this."""
        self._do("DELETE FROM sessions WHERE created <= ?", (time.time() - seconds,))

    def has_session(self, key: str, seconds: float) -> bool:
        """Whether a session is at most this old."""
        return bool(self._do("SELECT 1 FROM sessions WHERE key = ? AND created > ?", (key, time.time() - seconds)))


def _opened_or_new(path: Path) -> sqlite3.Connection:
    """Open a database; a damaged file is set aside first."""
    try:
        return _opened(path)
    except sqlite3.OperationalError:  # a full disk or the like, which says nothing about the file
        raise
    except sqlite3.DatabaseError:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(path.with_name(f"{path.name}.damaged"))
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLES)
        db.execute("SELECT count(*) FROM jobs").fetchall()
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _job(row: tuple[Any, ...]) -> Job:
    id, kind, state, about, progress, error, created, updated = row
    return Job(id, kind, state, json.loads(about), json.loads(progress), error, created, updated)
