"""The web application: routes, errors, static files."""

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
from hwr.serve import api, file_api, openapi
from hwr.serve.reader import Busy
from hwr.serve.records import Conflict, Missing
from hwr.serve.security import Guard, Refused, Rules
from hwr.serve.workbench import Workbench
from hwr.system import terminal

STATIC = Path(__file__).parent / "static"

API = [
    Route("/api/health", api.health),
    Route("/api/session", api.session, methods=["POST"]),
    Route("/api/model", api.model),
    Route("/api/model", api.use_model, methods=["POST"]),
    Route("/api/read", file_api.read, methods=["POST"]),
    Route("/api/export", file_api.export_pages),
    Route("/api/pages", api.pages),
    Route("/api/pages", api.upload, methods=["POST"]),
    Route("/api/pages/{page}", api.page),
    Route("/api/pages/{page}", api.edit, methods=["POST"]),
    Route("/api/pages/{page}/picture", api.picture),
    Route("/api/pages/{page}/versions", api.versions),
    Route("/api/pages/{page}/lines/{line}", api.set_line, methods=["PATCH"]),
    Route("/api/pages/{page}/lines/{line}/picture", api.line_picture),
    Route("/api/pages/{page}/lines/{line}/alternatives", api.alternatives),
    Route("/api/jobs", api.jobs),
    Route("/api/jobs", api.start_job, methods=["POST"]),
    Route("/api/jobs/{job:int}", api.job),
    Route("/api/jobs/{job:int}/result", file_api.result),
    Route("/api/jobs/{job:int}/stop", api.stop_job, methods=["POST"]),
    Route("/api/jobs/{job:int}/resume", api.resume_job, methods=["POST"]),
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
            status = 400
    # Messages name files of the project, but not where it lies.
    root = str(request.app.state.workbench.project.root)
    return JSONResponse({"error": str(error).replace(f"{root}/", "")}, status, headers=headers)


async def _bug(request: Request, error: Exception) -> Response:
    terminal.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    return JSONResponse({"error": "the server made a mistake; its terminal shows where"}, 500)
