"""Long work in the background: pages that are read, and trainings."""

import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from hwr import Error
from hwr.serve.project.database import Job, Store
from hwr.serve.project.page_state import Conflict, Missing
from hwr.system import terminal

# Jobs of a kind that may wait.
MOST_WAITING = 100


class Stopped(Exception):
    """The job was asked to stop, and did."""


class Work:
    """What a running job sees of its surroundings.

    Attributes:
        job: The job.
    """

    def __init__(self, job: Job, store: Store) -> None:
        self.job = job
        self._store = store
        self._asked = threading.Event()

    def ask_to_stop(self) -> None:
        """Ask the job to stop soon."""
        self._asked.set()

    @property
    def stop(self) -> bool:
        """Whether it is asked to stop."""
        return self._asked.is_set()

    def progress(self, found: Mapping[str, Any]) -> None:
        """Say how far it is.

        Raises:
            Stopped: It is asked to stop.
        """
        self._store.set_job(self.job.id, progress=found)
        if self.stop:
            raise Stopped


Run = Callable[[Work], dict[str, Any]]


class Jobs:
    """Runs jobs, those of a kind one after the other.

    Args:
        kinds: For each kind, what runs a job of it and returns the result. It raises `Stopped` if it was asked to stop.
    """

    def __init__(self, store: Store, kinds: Mapping[str, Run]) -> None:
        self._store = store
        self._queues: dict[str, queue.Queue[Work | None]] = {kind: queue.Queue() for kind in kinds}
        self._open: dict[int, Work] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, run), name=f"hwr {kind}", daemon=True)
            for kind, run in kinds.items()
        ]
        for thread in self._threads:
            thread.start()

    def start(self, kind: str, about: Mapping[str, Any]) -> Job:
        """Queue a job.

        Raises:
            Error: Too many are waiting.
        """
        if self._queues[kind].qsize() >= MOST_WAITING:
            raise Error(f"{MOST_WAITING} jobs are waiting; try again later")
        job = self._store.add_job(kind, about)
        with self._lock:
            self._put(job)
        return job

    def resume(self, id: int) -> Job:
        """Queue a job again that was stopped or failed.

        Raises:
            Missing: There is no such job.
            Error: It is not stopped.
        """
        with self._lock:  # two may ask at once
            job = self.get(id)
            if job.state not in ("stopped", "failed") or id in self._open:
                raise Error(f"job {id} is {job.state}; only a job that was stopped or failed can be resumed")
            self._store.set_job(id, "waiting", error="")
            self._put(job)
        return self.get(id)

    def get(self, id: int) -> Job:
        """A job.

        Raises:
            Missing: There is no such job.
        """
        job = self._store.job(id)
        if job is None:
            raise Missing(f"there is no job {id}")
        return job

    def stop(self, id: int) -> Job:
        """Ask a job to stop.

        Raises:
            Missing: There is no such job.
            Error: It neither waits nor runs.
        """
        job = self.get(id)
        with self._lock:
            work = self._open.get(id)
        if work is None:
            raise Error(f"job {id} is {job.state}; only a job that waits or runs can be stopped")
        work.ask_to_stop()
        return job

    def active(self, kind: str) -> bool:
        """Whether a job of the kind waits or runs."""
        with self._lock:
            return any(work.job.kind == kind for work in self._open.values())

    def close(self) -> None:
        """Stop all jobs and wait for them."""
        with self._lock:
            for work in self._open.values():
                work.ask_to_stop()
        for waiting in self._queues.values():
            waiting.put(None)
        for thread in self._threads:
            thread.join(timeout=60)

    def _put(self, job: Job) -> None:
        """Add a job to the open ones; the caller holds the lock."""
        work = Work(job, self._store)
        self._open[job.id] = work
        self._queues[job.kind].put(work)

    def _run(self, kind: str, run: Run) -> None:
        while (work := self._queues[kind].get()) is not None:
            id = work.job.id
            try:
                if work.stop:
                    raise Stopped
                self._store.set_job(id, "running")
                result = run(work)
                end = ("done", result, "")
            except Stopped:
                end = ("stopped", None, "")  # type: ignore[assignment]
            except (Error, Missing, Conflict) as error:
                end = ("failed", None, str(error))  # type: ignore[assignment]
            except Exception as error:  # one job must not end all others
                terminal.echo(traceback.format_exc().rstrip(), err=True)
                end = ("failed", None, f"{type(error).__name__}: {error}")  # type: ignore[assignment]
            with self._lock:
                del self._open[id]
            try:
                self._store.set_job(id, *end)
            except Error as error:  # the disk may be full; the next job must not wait for ever
                terminal.echo(f"job {id} is {end[0]}, but after a restart it counts as stopped: {error}", err=True)
