"""Requests about the pages of the project and their lines."""

from collections.abc import Callable
from typing import Any, get_args

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hwr import Error
from hwr.data.text import folded
from hwr.serve.api import answers, pictures
from hwr.serve.api.requests import (
    MOST_FILES,
    json_of,
    line_or_none,
    names_of,
    number_of,
    only,
    points_of,
    workbench,
)
from hwr.serve.api.security import Refused
from hwr.serve.project import edits, uploads
from hwr.serve.project.page_state import PageState, State, hash_of
from hwr.serve.reading import project_pages
from hwr.serve.training import lines


def pages(request: Request) -> Response:
    """The pages, or those whose name or text contains `search`."""
    bench, search = workbench(request), folded(request.query_params.get("search", "")).strip()
    found = []
    for page in bench.project.pages():
        summary = answers.summary(page)
        if search:
            hits = [line for line in page.lines if search in folded(line.text)]
            if not hits and search not in folded(page.name):
                continue
            summary["hits"] = [{"id": line.id, "text": line.text} for line in hits[:20]]
        found.append(summary)
    return JSONResponse({"pages": found, "corrected": len(lines.corrected(bench.project))})


async def upload(request: Request) -> Response:
    """Add files to the project."""
    async with request.form(max_files=MOST_FILES, max_fields=10) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Error("send files as multipart/form-data, in fields named file")
        chosen = [uploads.Upload(file.filename or "", file.file) for file in files]
        project = workbench(request).project
        stored = await run_in_threadpool(uploads.store, project, chosen)
    told = [{**one.__dict__, "error": one.error.replace(f"{project.root}/", "")} for one in stored]
    found: dict[str, Any] = {"files": told}
    errors = [one["error"] for one in told if one["error"]]
    if not errors or len(errors) < len(stored):
        return JSONResponse(found)
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return JSONResponse({**found, "error": "; ".join(errors[:3]) + more}, 400)


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
    return _picture(request, pictures.page_picture(page, int(width), project.hidden / "pictures"))


def line_picture(request: Request) -> Response:
    """The part of a page around a line."""
    page = workbench(request).project.page(_id(request))
    found, box = pictures.line_picture(page, page.line(request.path_params["line"]))
    return _picture(request, found, {"x-box": ",".join(map(str, box))})


def _picture(request: Request, content: bytes, more: dict[str, str] | None = None) -> Response:
    """A picture that the browser may keep but asks for: it may change, and a page of another project has its address."""
    tag = f'"{hash_of(content)[:16]}"'
    headers = {"cache-control": "private, no-cache", "etag": tag, **(more or {})}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)


def alternatives(request: Request) -> Response:
    """What the beam search has for each word of a line."""
    bench = workbench(request)
    page = bench.project.page(_id(request))
    line = page.line(request.path_params["line"])
    return JSONResponse(
        {"words": line.text.split(), "alternatives": project_pages.alternatives(page, line, bench.reader)}
    )


async def set_line(request: Request) -> Response:
    """Correct a line's text, accept it, or change its outline."""
    bench, id, line, revision = workbench(request), _id(request), request.path_params["line"], _revision(request)
    asked = await json_of(request)
    project = bench.project
    match asked:
        case {"text": str(text), "checked": bool(checked)}:
            only(asked, "text", "checked")
            done = await run_in_threadpool(edits.set_text, project, id, line, text, checked, revision)
        case {"polygon": polygon}:
            only(asked, "polygon", "baseline")
            shapes = points_of(polygon), points_of(asked.get("baseline") or [])
            done = await run_in_threadpool(edits.set_shape, project, id, line, *shapes, revision)
            bench.store.set_characters(id, {line: ("", [])})  # they were in the former outline
        case {"restore": {"text": str(text), "state": str(state), "confidence": float() | int() | None as sure}}:
            only(asked, "restore")
            only(asked["restore"], "text", "state", "confidence")
            if state not in get_args(State):
                raise Error(f"state is one of {', '.join(get_args(State))}")
            done = await run_in_threadpool(edits.put_back, project, id, line, text, state, sure, revision)
        case _:
            raise Error('send {"text": "…", "checked": true} or {"polygon": [[x, y], …], "baseline": [[x, y], …]}')
    return _page(request, done)


async def edit(request: Request) -> Response:
    """Change the lines of a page: add, delete, move, split, merge, accept all, read again."""
    bench, id, revision = workbench(request), _id(request), _revision(request)
    project, asked = bench.project, await json_of(request)
    call: Callable[[], PageState]
    match asked:
        case _ if len(asked) > 1:
            raise Error(f"send one change, not {len(asked)}")
        case {"add": {"polygon": polygon, **more}}:
            only(more, "baseline", "after")
            shape, baseline, after = points_of(polygon), points_of(more.get("baseline") or []), line_or_none(more)
            call = lambda: edits.add(project, id, shape, baseline, after, revision)  # noqa: E731
        case {"delete": list(lines)}:
            call = lambda: edits.delete(project, id, names_of(lines), revision)  # noqa: E731
        case {"move": {"line": str(line), **more}}:
            only(more, "after")
            call = lambda: edits.move(project, id, line, line_or_none(more), revision)  # noqa: E731
        case {"split": {"line": str(line), "at": at, **more}}:
            only(more, "x")
            x, at = number_of(more["x"], "x") if "x" in more else None, number_of(at, "at", whole=True)
            kept = bench.store.characters(id).get(line)
            call = lambda: edits.split(project, id, line, x, at, revision, kept)  # noqa: E731
        case {"merge": list(lines)}:
            call = lambda: edits.merge(project, id, names_of(lines), revision)  # noqa: E731
        case {"check_all": True}:
            call = lambda: edits.check_all(project, id, revision)  # noqa: E731
        case {"read": list(lines)}:
            names, store, reader = names_of(lines), bench.store, bench.reader
            call = lambda: project_pages.read_lines(project, store, reader, id, names, revision)  # noqa: E731
        case {"restore": int(version)}:
            call = lambda: project.restore(id, version, revision)  # noqa: E731
        case _:
            raise Error("send one of add, delete, move, split, merge, check_all, read, restore; see /api/openapi.json")
    return _page(request, await run_in_threadpool(call))


def versions(request: Request) -> Response:
    """The earlier versions of a page."""
    return JSONResponse({"versions": workbench(request).project.versions(_id(request))})


# --- What the functions share ---


def _id(request: Request) -> str:
    return str(request.path_params["page"])


def _page(request: Request, page: PageState) -> Response:
    found = answers.page(page, workbench(request).store.characters(page.id))
    return JSONResponse(found, headers={"etag": f'"{page.revision}"'})


def _revision(request: Request) -> str:
    """The revision that the client saw, of the page or line that it changes."""
    given = request.headers.get("if-match", "").removeprefix("W/").strip('" ')
    if not given:
        raise Refused(428, "say in If-Match which revision of the page or line you change")
    return given
