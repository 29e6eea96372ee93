"""Everything that a server holds: the project, the models, what reads, and the jobs."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hwr import Error
from hwr.serve.jobs import Jobs, Stopped, Work
from hwr.serve.project.database import Job, Store
from hwr.serve.project.folder import Project
from hwr.serve.project.page_state import Conflict, Missing
from hwr.serve.project.uploads import Upload
from hwr.serve.reading import project_pages, sent_files
from hwr.serve.reading.project_pages import Finder
from hwr.serve.reading.reader import LATER, Reader
from hwr.serve.training import lines, train
from hwr.serve.training.models import Models
from hwr.system.atomic import replacing
from hwr.system.processes import lock, usable_cores

# Results of jobs of files that are kept; older ones are deleted.
MOST_RESULTS = 50


class Workbench:
    """Opens a project folder for one server; close it afterwards.

    Args:
        folder: An existing folder.
        checkpoint: See `Models`; `overrides` and `training` too.
        find: Finds the lines of a page.

    Raises:
        Error: The folder can't be used, or another server uses it; the model can't be loaded.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: str | None = None,
        overrides: Sequence[str] = (),
        training: Sequence[str] = (),
        find: Finder = project_pages.find_lines,
    ) -> None:
        self.project = Project(folder)
        self.models = Models(self.project.hidden / "models", checkpoint, overrides, training)
        recognizer = self.models.load(self.models.current)
        self._lock = open(self.project.hidden / "lock", "w")  # noqa: SIM115 (held until the server ends)
        if not lock(self._lock):
            self._lock.close()
            raise Error(f"{folder}: another hwr serve has opened this folder; stop it first")
        self.models.remember()
        self.store = Store(self.project.hidden / "state.sqlite")
        self.reader = Reader(recognizer, self.models.current)
        self.find = find
        # What clients send to be read, and what was made of it; of no use once the server has ended.
        self.incoming = self.project.hidden / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(exist_ok=True)
        # For the images of files.
        self.decoders = ThreadPoolExecutor(usable_cores(), "hwr decoder")
        self.jobs = Jobs(self.store, {"read": self._read, "train": self._train, "files": self._read_files})

    def close(self) -> None:
        """Stop the jobs, saving what a training has reached, and free the folder."""
        self.jobs.close()
        self.decoders.shutdown()
        self.reader.close()
        self.store.close()
        self._lock.close()

    def start_reading(self, pages: Sequence[str] | None = None, given: bool = False) -> Job:
        """Read pages in the background.

        Args:
            pages: Their ids; None: all that are not done.
            given: Whether predictions also replace texts from elsewhere.

        Raises:
            Missing: There is no such page.
        """
        chosen = [self.project.page(id).id for id in pages] if pages is not None else self._open_pages()
        return self.jobs.start("read", {"pages": chosen, "given": given})

    def start_training(self, minutes: float | None) -> Job:
        """Train on the corrected lines in the background.

        Raises:
            Error: There are too few, or a training runs already.
        """
        count = len(lines.corrected(self.project))
        if count < lines.LEAST_LINES:
            raise Error(f"training needs at least {lines.LEAST_LINES} corrected lines; there are {count}")
        if self.jobs.active("train"):
            raise Error("a training runs already; stop it first, or wait for it")
        return self.jobs.start("train", {"minutes": minutes, "lines": count})

    def use_model(self, name: str, reread: bool) -> Job | None:
        """Read with another model from now on, and read what is not checked again if `reread`.

        Raises:
            Missing: There is no such model.
        """
        train.use(self.models, self.reader, name)
        return self.start_reading() if reread else None

    def start_files(self, uploads: Sequence[Upload], about: dict[str, Any]) -> Job:
        """Read files in the background, without adding them to the project.

        Args:
            about: What is wanted: format, lines, characters.

        Raises:
            Error: A file is of a kind that is not read.
        """
        folder = self.new_folder("job-")
        try:
            (inner := folder / "files").mkdir()
            paths = sent_files.place(uploads, inner)
            self._forget_results()
            return self.jobs.start("files", {**about, "folder": folder.name, "files": [Path(p).name for p in paths]})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def new_folder(self, prefix: str = "") -> Path:
        """A folder for what is of no use once the server has ended; the caller removes it."""
        self.incoming.mkdir(parents=True, exist_ok=True)  # .hwr may be deleted at any time
        return Path(tempfile.mkdtemp(dir=self.incoming, prefix=prefix))

    def result(self, id: int) -> Path:
        """Where the result of a job of files is, or will be."""
        return self.incoming / f"result-{id}"

    def _forget_results(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # another request forgets them at this moment
            kept = sorted(self.incoming.glob("result-*"), key=lambda path: path.stat().st_mtime)
            for path in kept[: max(0, len(kept) - MOST_RESULTS + 1)]:
                path.unlink(missing_ok=True)

    def _read_files(self, work: Work) -> dict[str, Any]:
        about = work.job.about
        inner = self.incoming / about["folder"] / "files"
        paths = [str(inner / name) for name in about["files"]]
        if not all(Path(path).is_file() for path in paths):
            raise Error("its files are gone; send them again")
        total, kind, characters = len(paths), about["format"], bool(about["characters"])

        def tell(done: int) -> None:
            work.progress({"done": done, "total": total})

        try:
            tell(0)
            shared = self.reader.shared(LATER)
            pages = sent_files.read(
                shared, paths, about["lines"], self.decoders, sent_files.located(kind, characters), tell
            )
            with replacing(self.result(work.job.id)) as temporary:
                temporary.write_bytes(sent_files.write(pages, kind, characters))
        except Stopped:  # it may be resumed
            raise
        except BaseException:  # files that can't be read must not fill the disk of a server that runs for months
            shutil.rmtree(inner.parent, ignore_errors=True)
            raise
        shutil.rmtree(inner.parent, ignore_errors=True)
        return {"done": total, "total": total}

    def _open_pages(self) -> list[str]:
        return [page.id for page in self.project.pages() if page.state not in ("done", "broken")]

    def _read(self, work: Work) -> dict[str, Any]:
        # Of a job that is resumed, what it has done and found wrong so far.
        begin, faults = work.job.progress.get("done", 0), list(work.job.progress.get("faults", []))
        pages = work.job.about["pages"]
        for number, id in enumerate(pages[begin:], begin):
            work.progress({"done": number, "total": len(pages), "page": id, "faults": faults})
            try:
                found = project_pages.read_page(
                    self.project, self.store, self.reader, id, self.find, bool(work.job.about.get("given"))
                )
                faults += found.faults
            except (Error, Missing, Conflict) as error:  # one page never stops the others
                faults.append(str(error).replace(f"{self.project.root}/", ""))
        return {"done": len(pages), "total": len(pages), "faults": faults}

    def _train(self, work: Work) -> dict[str, Any]:
        result = train.train(self.project, self.models, self.reader, work)
        if result["model"]["accepted"]:
            result["reading"] = self.start_reading().id
        return result
