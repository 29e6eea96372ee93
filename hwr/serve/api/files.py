"""The part of the REST API that takes and gives files: reading without the project, export, results of jobs."""

import asyncio
import io
import shutil
import time
from typing import Any, get_args
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from hwr import Error
from hwr.images import load
from hwr.recognizer import Prepared, Recognizer
from hwr.serve.api import answers
from hwr.serve.api.requests import MOST_FILES, disposition, job_of, workbench
from hwr.serve.project import export
from hwr.serve.project.page_state import Missing
from hwr.serve.project.uploads import Upload
from hwr.serve.reading import sent_files
from hwr.serve.reading.sent_files import Lines

# The most broken pages that the answer to an export names.
MOST_NAMED = 20

# Media types of single files in a request, and a name for each.
_RAW = {
    "application/pdf": "request.pdf",
    "application/xml": "request.xml",
    "text/xml": "request.xml",
    "image/png": "request.png",
    "image/jpeg": "request.jpg",
    "image/tiff": "request.tif",
    "image/webp": "request.webp",
    "image/bmp": "request.bmp",
    "image/gif": "request.gif",
    "image/jp2": "request.jp2",
}


async def read(request: Request) -> Response:
    """Read files, without adding them to the project."""
    bench, query = workbench(request), request.query_params
    kind, lines = _choice(query, "format", sent_files.KINDS), _lines(query)
    characters, wait = _flag(query, "characters", False), _flag(query, "wait", True)
    type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    single = type_.startswith("image/") and type_ != "image/tiff"  # which may hold several pages
    if single and lines == "line" and kind == sent_files.JSON and wait:
        return await _read_line(request, characters)
    async with (
        request.form(max_files=MOST_FILES, max_fields=10)
        if type_ == "multipart/form-data"
        else _Raw(request, type_) as form
    ):
        uploads = [Upload(v.filename or "", v.file) for _, v in form.multi_items() if isinstance(v, UploadFile)]
        if not uploads:
            raise Error("send a file as the body, or files as multipart/form-data in fields named file")
        if not wait:
            about = {"format": kind, "lines": lines, "characters": characters}
            job = await run_in_threadpool(bench.start_files, uploads, about)
            return JSONResponse(answers.job(job), 202)

        def work() -> bytes:
            with sent_files.stored(uploads, bench.incoming) as paths:
                located = sent_files.located(kind, characters)
                pages = sent_files.read(bench.reader.shared(), paths, lines, bench.decoders, located)
                return sent_files.write(pages, kind, characters)

        content = await run_in_threadpool(work)
    return Response(content, media_type=sent_files.media_type(kind))


async def _read_line(request: Request, characters: bool) -> Response:
    """Read one line image. No thread waits, so many clients share a batch."""
    bench, content = workbench(request), await request.body()
    size: list[int] = []

    def prepare(recognizer: Recognizer) -> Prepared:
        pixels = load.read(content)
        size.extend(pixels.shape)
        return recognizer.prepare(pixels)

    (reading,) = await asyncio.wrap_future(bench.reader.prepare_and_read(prepare, characters))
    line: dict[str, Any] = {"id": "", "text": reading.text, "confidence": reading.confidence}
    line |= {"polygon": [], "baseline": [], **({"characters": reading.characters} if characters else {})}
    page = {"name": "request", "width": size[1], "height": size[0], "text": reading.text, "lines": [line]}
    return JSONResponse({"pages": [page]})


class _Raw:
    """A request whose body is one file, as if it were a form."""

    def __init__(self, request: Request, type_: str) -> None:
        if type_ not in _RAW:
            raise Error(f"Content-Type {type_ or 'is missing'}: send one of {', '.join(sorted(_RAW))}")
        self._request, self._name = request, _RAW[type_]

    async def __aenter__(self) -> "_Raw":
        self._file = io.BytesIO(await self._request.body())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._file.close()

    def multi_items(self) -> list[tuple[str, UploadFile]]:
        """The file, as the only field."""
        return [("file", UploadFile(self._file, filename=self._name))]


def result(request: Request) -> Response:
    """What a job that read files has made."""
    bench = workbench(request)
    job = bench.jobs.get(job_of(request))
    path = bench.result(job.id)
    if job.kind != "files" or job.state != "done" or not path.is_file():
        raise Missing(f"job {job.id} is {job.state} and has no result")
    return FileResponse(path, media_type=sent_files.media_type(job.about["format"]))


def export_pages(request: Request) -> Response:
    """The pages of the project as a file."""
    bench, query = workbench(request), request.query_params
    kind = _choice(query, "format", export.KINDS)
    ids = query.getlist("page") or None
    folder = bench.new_folder()
    try:
        path = folder / "export"
        broken = export.write(bench.project, bench.store, ids, kind, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    name = f"{bench.project.root.name or 'pages'}-{kind}-{time.strftime('%Y-%m-%d')}{export.suffix(kind)}"
    remove = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    headers = {"content-disposition": disposition(name)}
    if broken:
        headers |= {"x-broken-count": str(len(broken)), "x-broken-pages": ",".join(map(quote, broken[:MOST_NAMED]))}
    return FileResponse(path, media_type="application/octet-stream", headers=headers, background=remove)


def _choice(query: Any, name: str, allowed: tuple[str, ...]) -> str:
    value = str(query.get(name, allowed[0]))
    if value not in allowed:
        raise Error(f"{name} is one of {', '.join(allowed)}, not {value[:40]!r}")
    return value


def _lines(query: Any) -> Lines:
    value: Lines = _choice(query, "lines", get_args(Lines))  # type: ignore[assignment]
    return value


def _flag(query: Any, name: str, default: bool) -> bool:
    return _choice(query, name, ("true", "false") if default else ("false", "true")) == "true"
