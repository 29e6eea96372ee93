"""Requests about the server: its health, its models, and the jobs in the background."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hwr import Error, __version__
from hwr.serve.api import answers
from hwr.serve.api.requests import job_of, json_of, names_of, only, workbench
from hwr.serve.api.security import SESSION_SECONDS, Guard, Refused, cookie_of


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
        cookie_of(request.headers.get("host", "")),
        guard.new_session(),
        int(SESSION_SECONDS),
        httponly=True,
        samesite="strict",
        secure=secure,
    )
    return response


async def model(request: Request) -> Response:
    """The model that reads, and the others of the project."""
    bench = workbench(request)
    recognizer = bench.reader.recognizer
    about = {
        **answers.models(bench.models),
        "alphabet": recognizer.alphabet.characters,
        "engine": recognizer.engine.name,
        "device": recognizer.engine.device,
        "decoder": recognizer.decoder.settings.name,
        "uncertain_below": answers.UNCERTAIN,
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
    only(asked, "name", "reread")
    name, reread = asked.get("name"), asked.get("reread", True)
    if not isinstance(name, str) or not isinstance(reread, bool):
        raise Error('send {"name": "model-1", "reread": true}')
    bench = workbench(request)
    job = await run_in_threadpool(bench.use_model, name, reread)
    return JSONResponse({**answers.models(bench.models), "job": answers.job(job) if job else None})


def jobs(request: Request) -> Response:
    """The newest jobs."""
    return JSONResponse({"jobs": [answers.job(job) for job in workbench(request).store.jobs()]})


def job(request: Request) -> Response:
    """A job."""
    return JSONResponse(answers.job(workbench(request).jobs.get(job_of(request))))


async def start_job(request: Request) -> Response:
    """Start a job: reading, or training."""
    bench, asked = workbench(request), await json_of(request)
    match asked:
        case {"kind": "read", **more}:
            only(more, "pages", "given")
            chosen, given = more.get("pages"), more.get("given", False)
            if not isinstance(given, bool):
                raise Error("given is true or false")
            ids = None if chosen is None else names_of(chosen)
            job = await run_in_threadpool(bench.start_reading, ids, given)
        case {"kind": "train", **more}:
            only(more, "minutes")
            minutes = more.get("minutes")
            number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
            if minutes is not None and not (number and 0 < minutes <= 24 * 60):
                raise Error("minutes is a number above 0 and at most 1440, or null")
            job = await run_in_threadpool(bench.start_training, minutes)
        case _:
            raise Error('send {"kind": "read", "pages": ["…"]} or {"kind": "train", "minutes": 3}')
    return JSONResponse(answers.job(job), 202)


def stop_job(request: Request) -> Response:
    """Stop a job."""
    return JSONResponse(answers.job(workbench(request).jobs.stop(job_of(request))), 202)


def resume_job(request: Request) -> Response:
    """Resume a job that was stopped."""
    return JSONResponse(answers.job(workbench(request).jobs.resume(job_of(request))), 202)
