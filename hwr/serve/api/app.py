"""The web application: routes, errors, static files."""

import errno
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hwr import Error
from hwr.serve.api import files, openapi, pages, server
from hwr.serve.api.security import Guard, Refused, Rules
from hwr.serve.project.page_state import Conflict, Missing
from hwr.serve.reading.reader import Busy
from hwr.serve.workbench import Workbench
from hwr.system import terminal

STATIC = Path(__file__).parents[1] / "static"

API = [
    Route("/api/health", server.health),
    Route("/api/session", server.session, methods=["POST"]),
    Route("/api/model", server.model),
    Route("/api/model", server.use_model, methods=["POST"]),
    Route("/api/read", files.read, methods=["POST"]),
    Route("/api/export", files.export_pages),
    Route("/api/pages", pages.pages),
    Route("/api/pages", pages.upload, methods=["POST"]),
    Route("/api/pages/{page}", pages.page),
    Route("/api/pages/{page}", pages.edit, methods=["POST"]),
    Route("/api/pages/{page}/picture", pages.picture),
    Route("/api/pages/{page}/versions", pages.versions),
    # Other programs write ids with slashes, such as r1/l1.
    Route("/api/pages/{page}/lines/{line:path}/picture", pages.line_picture),
    Route("/api/pages/{page}/lines/{line:path}/alternatives", pages.alternatives),
    Route("/api/pages/{page}/lines/{line:path}", pages.set_line, methods=["PATCH"]),
    Route("/api/jobs", server.jobs),
    Route("/api/jobs", server.start_job, methods=["POST"]),
    Route("/api/jobs/{job}", server.job),
    Route("/api/jobs/{job}/result", files.result),
    Route("/api/jobs/{job}/stop", server.stop_job, methods=["POST"]),
    Route("/api/jobs/{job}/resume", server.resume_job, methods=["POST"]),
    Route("/api/openapi.json", openapi.document),
]


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def build(workbench: Workbench, rules: Rules | None = None) -> Guard:
    """The application for an open workbench, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        workbench.close()

    app = Starlette(
        routes=[Route("/", _index), *API, Mount("/static", StaticFiles(directory=STATIC))],
        exception_handlers={
            Error: _error,
            Missing: _error,
            Conflict: _error,
            Busy: _error,
            Refused: _error,
            HTTPException: _error,
            OSError: _os_error,
            Exception: _bug,
        },
        lifespan=lifespan,
    )
    guard = Guard(app, rules or Rules(), workbench.store)
    app.state.workbench, app.state.guard = workbench, guard
    return guard


async def _error(request: Request, error: Exception) -> Response:
    headers = {}
    match error:
        case Missing():
            status = 404
        case Conflict():
            status = 409
        case Busy():
            status, headers = 503, {"retry-after": "5"}
        case Refused():
            status = error.status
        case HTTPException():
            return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
        case _:
            status = 507 if _is_full(error.__cause__) else 400
    # Messages name files of the project, but not where it lies.
    root = str(request.app.state.workbench.project.root)
    return JSONResponse({"error": str(error).replace(f"{root}/", "")}, status, headers=headers)


async def _os_error(request: Request, error: Exception) -> Response:
    if not _is_full(error):
        raise error
    return JSONResponse({"error": "the disk of the server is full; make room, and try again"}, 507)


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


async def _bug(request: Request, error: Exception) -> Response:
    terminal.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    return JSONResponse({"error": "the server made a mistake; its terminal shows where"}, 500)
