"""The REST API: each function answers one kind of request. `openapi.py` describes them."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hwr import Error, __version__
from hwr.data.text import folded
from hwr.serve import edits, pictures, reading, training, uploads, views
from hwr.serve.records import PageState
from hwr.serve.requests import json_of, line_or_none, names_of, points_of, workbench
from hwr.serve.security import COOKIE, SESSION_SECONDS, Guard, Refused

MOST_FILES = 200


# --- The server ---


async def health(request: Request) -> Response:
    """Whether the server answers."""
    return JSONResponse({"status": "ok", "version": __version__})


async def session(request: Request) -> Response:
    """Exchange the token for a cookie, for browsers."""
    guard: Guard = request.app.state.guard
    token = (await json_of(request)).get("token")
    if not isinstance(token, str) or not guard.is_token(token):
        raise Refused(401, "this is not the token that the server printed when it started")
    response = JSONResponse({"status": "ok"})
    secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, guard.new_session(), int(SESSION_SECONDS), httponly=True, samesite="strict", secure=secure
    )
    return response


async def model(request: Request) -> Response:
    """The model that reads, and the others of the project."""
    bench = workbench(request)
    recognizer = bench.reader.recognizer
    about = {
        **views.models(bench.models),
        "alphabet": recognizer.alphabet.characters,
        "engine": recognizer.engine.name,
        "device": recognizer.engine.device,
        "decoder": recognizer.decoder.settings.name,
        "uncertain_below": views.UNCERTAIN,
        "read": {
            "lines": bench.reader.lines,
            "batches": bench.reader.batches,
            "requests": bench.reader.requests,
            "waiting": bench.reader.waiting,
        },
    }
    return JSONResponse(about)


async def use_model(request: Request) -> Response:
    """Read with another model of the project."""
    asked = await json_of(request)
    name, reread = asked.get("name"), asked.get("reread", True)
    if not isinstance(name, str) or not isinstance(reread, bool):
        raise Error('send {"name": "model-1", "reread": true}')
    bench = workbench(request)
    job = await run_in_threadpool(bench.use_model, name, reread)
    return JSONResponse({**views.models(bench.models), "job": views.job(job) if job else None})


# --- Pages ---


def pages(request: Request) -> Response:
    """The pages, or those whose name or text contains `search`."""
    bench, search = workbench(request), folded(request.query_params.get("search", "")).strip()
    found = []
    for page in bench.project.pages():
        summary = views.summary(page)
        if search:
            hits = [line for line in page.lines if search in folded(line.text)]
            if not hits and search not in folded(page.name):
                continue
            summary["hits"] = [{"id": line.id, "text": line.text} for line in hits[:20]]
        found.append(summary)
    return JSONResponse({"pages": found, "corrected": len(training.corrected(bench.project))})


async def upload(request: Request) -> Response:
    """Add files to the project."""
    async with request.form(max_files=MOST_FILES, max_fields=10) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Error("send files as multipart/form-data, in fields named file")
        chosen = [uploads.Upload(file.filename or "", file.file) for file in files]
        stored = await run_in_threadpool(uploads.store, workbench(request).project, chosen)
    failed = [one for one in stored if one.error]
    return JSONResponse(
        {"files": [dict(one.__dict__) for one in stored]}, 400 if failed and len(failed) == len(stored) else 200
    )


def page(request: Request) -> Response:
    """A page with its lines."""
    return _page(request, workbench(request).project.page(_id(request)))


def picture(request: Request) -> Response:
    """A page's picture."""
    project = workbench(request).project
    page = project.page(_id(request))
    width = request.query_params.get("width", str(pictures.WIDTHS[1]))
    if width not in map(str, pictures.WIDTHS):
        raise Error(f"width is one of {', '.join(map(str, pictures.WIDTHS))}")
    return Response(
        pictures.page_picture(page, int(width), project.hidden / "pictures"), media_type="image/jpeg", headers=_KEEP
    )


def line_picture(request: Request) -> Response:
    """The part of a page around a line."""
    page = workbench(request).project.page(_id(request))
    found, box = pictures.line_picture(page, page.line(request.path_params["line"]))
    return Response(found, media_type="image/jpeg", headers={**_KEEP, "x-box": ",".join(map(str, box))})


# A picture's address in the workbench holds a revision, so the browser may keep it.
_KEEP = {"cache-control": "private, max-age=86400"}


def alternatives(request: Request) -> Response:
    """What the beam search has for each word of a line."""
    bench = workbench(request)
    page = bench.project.page(_id(request))
    line = page.line(request.path_params["line"])
    return JSONResponse({"words": line.text.split(), "alternatives": reading.alternatives(page, line, bench.reader)})


async def set_line(request: Request) -> Response:
    """Correct a line's text, accept it, or change its outline."""
    bench, id, line, revision = workbench(request), _id(request), request.path_params["line"], _revision(request)
    asked = await json_of(request)
    project = bench.project
    match asked:
        case {"text": str(text), "checked": bool(checked)}:
            done = await run_in_threadpool(edits.set_text, project, id, line, text, checked, revision)
        case {"polygon": polygon}:
            shapes = points_of(polygon), points_of(asked.get("baseline") or [])
            done = await run_in_threadpool(edits.set_shape, project, id, line, *shapes, revision)
        case {"restore": {"text": str(text), "state": str(state), "confidence": float() | int() | None as sure}}:
            old = edits.checked_text(text)
            done = await run_in_threadpool(edits.put_back, project, id, line, old, state, sure, revision)
        case _:
            raise Error('send {"text": "…", "checked": true} or {"polygon": [[x, y], …], "baseline": [[x, y], …]}')
    return _page(request, done)


async def edit(request: Request) -> Response:
    """Change the lines of a page: add, delete, move, split, merge, accept all, read again."""
    bench, id, revision = workbench(request), _id(request), _revision(request)
    project, asked = bench.project, await json_of(request)
    call: Callable[[], PageState]
    match asked:
        case {"add": {"polygon": polygon, **more}}:
            shape, baseline, after = points_of(polygon), points_of(more.get("baseline") or []), line_or_none(more)
            call = lambda: edits.add(project, id, shape, baseline, after, revision)  # noqa: E731
        case {"delete": list(lines)}:
            call = lambda: edits.delete(project, id, names_of(lines), revision)  # noqa: E731
        case {"move": {"line": str(line), **more}}:
            call = lambda: edits.move(project, id, line, line_or_none(more), revision)  # noqa: E731
        case {"split": {"line": str(line), "x": int() | float() as x, "at": int(at)}}:
            call = lambda: edits.split(project, id, line, x, at, revision)  # noqa: E731
        case {"merge": list(lines)}:
            call = lambda: edits.merge(project, id, names_of(lines), revision)  # noqa: E731
        case {"check_all": True}:
            call = lambda: edits.check_all(project, id, revision)  # noqa: E731
        case {"read": list(lines)}:
            call = lambda: reading.read_lines(project, bench.store, bench.reader, id, names_of(lines))  # noqa: E731
        case {"restore": int(version)}:
            call = lambda: project.restore(id, version, revision)  # noqa: E731
        case _:
            raise Error("send one of add, delete, move, split, merge, check_all, read, restore; see /api/openapi.json")
    return _page(request, await run_in_threadpool(call))


def versions(request: Request) -> Response:
    """The earlier versions of a page."""
    return JSONResponse({"versions": workbench(request).project.versions(_id(request))})


# --- Jobs ---


def jobs(request: Request) -> Response:
    """The newest jobs."""
    return JSONResponse({"jobs": [views.job(job) for job in workbench(request).store.jobs()]})


def job(request: Request) -> Response:
    """A job."""
    return JSONResponse(views.job(workbench(request).jobs.get(request.path_params["job"])))


async def start_job(request: Request) -> Response:
    """Start reading or training."""
    bench, asked = workbench(request), await json_of(request)
    match asked:
        case {"kind": "read", **more}:
            chosen = more.get("pages")
            ids = None if chosen is None else names_of(chosen)
            job = await run_in_threadpool(bench.start_reading, ids, more.get("given") is True)
        case {"kind": "train", **more}:
            minutes = more.get("minutes")
            if minutes is not None and (not isinstance(minutes, int | float) or not 0 < minutes <= 24 * 60):
                raise Error("minutes is a number above 0 and at most 1440, or null")
            job = await run_in_threadpool(bench.start_training, minutes)
        case _:
            raise Error('send {"kind": "read", "pages": ["…"]} or {"kind": "train", "minutes": 3}')
    return JSONResponse(views.job(job), 202)


def stop_job(request: Request) -> Response:
    """Stop a job."""
    return JSONResponse(views.job(workbench(request).jobs.stop(request.path_params["job"])), 202)


def resume_job(request: Request) -> Response:
    """Resume a job that was stopped."""
    return JSONResponse(views.job(workbench(request).jobs.resume(request.path_params["job"])), 202)


# --- What the functions share ---


def _id(request: Request) -> str:
    return str(request.path_params["page"])


def _page(request: Request, page: PageState) -> Response:
    found = views.page(page, workbench(request).store.characters(page.id))
    return JSONResponse(found, headers={"etag": f'"{page.revision}"'})


def _revision(request: Request) -> str:
    """The revision that the client saw, of the page or line that it changes."""
    given = request.headers.get("if-match", "").removeprefix("W/").strip('" ')
    if not given:
        raise Refused(428, "say in If-Match which revision of the page or line you change")
    return given
