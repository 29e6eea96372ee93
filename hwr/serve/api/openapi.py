"""The OpenAPI document of the REST API."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hwr import __version__

Schema = dict[str, Any]

_POINTS: Schema = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2}}
_STRING: Schema = {"type": "string"}
_STRINGS: Schema = {"type": "array", "items": _STRING}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


_LINE = _object(
    id=_STRING,
    text=_STRING,
    state={"enum": ["empty", "read", "given", "checked"]},
    confidence=_NUMBER_OR_NULL,
    polygon=_POINTS,
    baseline=_POINTS,
    revision={**_STRING, "description": "Send it in If-Match to change the line."},
    fault=_STRING,
    characters={
        "type": "array",
        "description": "[character, left, right, confidence] of a prediction, in pixels from the left of the line",
    },
)
_SUMMARY = _object(
    id=_STRING,
    name=_STRING,
    state={"enum": ["new", "read", "in progress", "done", "broken"]},
    revision={**_STRING, "description": "Send it in If-Match to change the page."},
    error=_STRING,
    count={"type": "integer", "description": "Lines."},
    left={"type": "integer", "description": "Lines that no person has checked."},
    uncertain={"type": "integer"},
    confidence=_NUMBER_OR_NULL,
    expected_errors={"type": "number", "description": "Characters that are probably wrong."},
)
_PAGE = _object(
    **_SUMMARY["properties"],
    width={},
    height={},
    lines={"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
)
_JOB = _object(
    id={"type": "integer"},
    kind={"enum": ["read", "train", "files"]},
    state={"enum": ["waiting", "running", "done", "stopped", "failed"]},
    about={"type": "object"},
    progress={"type": "object"},
    error=_STRING,
    created={"type": "number"},
    updated={"type": "number"},
)
_SCHEMAS = {"Line": _LINE, "Summary": _SUMMARY, "Page": _PAGE, "Job": _JOB, "Error": _object(error=_STRING)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


_FILES = _object(file={"type": "array", "items": {"type": "string", "format": "binary"}})
_CORRECTION = {
    "oneOf": [
        _object(text=_STRING, checked={"type": "boolean"}),
        _object(polygon=_POINTS, baseline=_POINTS),
        _object(restore=_object(text=_STRING, state=_STRING, confidence=_NUMBER_OR_NULL)),
    ]
}
_COLUMN = {"type": "number", "description": "Without it, the line is split where the character is."}
_EDIT = {
    "oneOf": [
        _object(add=_object(polygon=_POINTS, baseline=_POINTS, after={"type": ["string", "null"]})),
        _object(delete=_STRINGS),
        _object(move=_object(line=_STRING, after={"type": ["string", "null"]})),
        _object(split=_object(line=_STRING, at={"type": "integer"}, x=_COLUMN)),
        _object(merge=_STRINGS),
        _object(check_all={"const": True}),
        _object(read=_STRINGS),
        _object(restore={"type": "integer", "description": "One of the page's versions."}),
    ]
}
_START = {
    "oneOf": [
        _object(kind={"const": "read"}, pages={"type": ["array", "null"], "items": _STRING}, given={"type": "boolean"}),
        _object(kind={"const": "train"}, minutes=_NUMBER_OR_NULL),
    ]
}

# Path -> method -> summary, the request's JSON schema or None, the answer, the successful status.
_PATHS: dict[str, dict[str, tuple[str, Schema | None, Schema, int]]] = {
    "/api/health": {"get": ("Whether the server answers. Needs no token.", None, _json(_object(status=_STRING)), 200)},
    "/api/session": {"post": ("Exchange the token for a cookie.", _object(token=_STRING), _json({}), 200)},
    "/api/model": {
        "get": ("The model that reads, and the others of the project.", None, _json({"type": "object"}), 200),
        "post": (
            "Read with another model of the project.",
            _object(name=_STRING, reread={"type": "boolean"}),
            _json({"type": "object"}),
            200,
        ),
    },
    "/api/read": {
        "post": (
            "Read an image, a PDF, or a PAGE or ALTO file with its image. The query may say `format` (json, txt, tsv, page, "
            "alto, hocr, pdf, html), `lines` (auto, page, line: what an image is), `characters` (false, true) and `wait` "
            "(true, false: answer with a job).",
            {"multipart": _FILES},
            _json(_object(pages={"type": "array", "items": {"type": "object"}})),
            200,
        )
    },
    "/api/export": {
        "get": (
            "Pages of the project as a file; the query says `format` (txt, tsv, json, page, alto, hocr, pdf, html, table) and "
            "may name each `page`. If it names none, broken pages are missing: the header X-Broken-Count says how many, and "
            "X-Broken-Pages names the first 20, percent-encoded, with commas between them.",
            None,
            {"content": {"application/octet-stream": {}}},
            200,
        )
    },
    "/api/pages": {
        "get": (
            "The pages, or those that contain the query `search`.",
            None,
            _json(_object(pages={"type": "array", "items": _ref("Summary")}, corrected={"type": "integer"})),
            200,
        ),
        "post": (
            "Add images, PDFs, PAGE and ALTO files, and .zip archives of these.",
            {"multipart": _FILES},
            _json(_object(files={"type": "array", "items": _object(name=_STRING, stored=_STRING, error=_STRING)})),
            200,
        ),
    },
    "/api/pages/{page}": {
        "get": ("A page with its lines.", None, _json(_ref("Page")), 200),
        "post": ("Change the lines of a page; needs If-Match: REVISION OF THE PAGE.", _EDIT, _json(_ref("Page")), 200),
    },
    "/api/pages/{page}/picture": {
        "get": ("The page as JPEG; the query `width` is 320, 1600 or 3200.", None, {"content": {"image/jpeg": {}}}, 200)
    },
    "/api/pages/{page}/versions": {
        "get": (
            "The times at which earlier versions were replaced, in ms since 1970.",
            None,
            _json(_object(versions={"type": "array", "items": {"type": "integer"}})),
            200,
        )
    },
    "/api/pages/{page}/lines/{line}": {
        "patch": (
            "Correct, accept or reshape a line; needs If-Match: REVISION OF THE LINE.",
            _CORRECTION,
            _json(_ref("Page")),
            200,
        )
    },
    "/api/pages/{page}/lines/{line}/picture": {
        "get": (
            "The part of the page around a line as JPEG; the header X-Box says where it is.",
            None,
            {"content": {"image/jpeg": {}}},
            200,
        )
    },
    "/api/pages/{page}/lines/{line}/alternatives": {
        "get": (
            "What the beam search has for each word.",
            None,
            _json(_object(words=_STRINGS, alternatives={"type": "array", "items": _STRINGS})),
            200,
        )
    },
    "/api/jobs": {
        "get": ("The newest jobs.", None, _json(_object(jobs={"type": "array", "items": _ref("Job")})), 200),
        "post": ("Read pages, or train on the corrected lines, in the background.", _START, _json(_ref("Job")), 202),
    },
    "/api/jobs/{job}": {"get": ("A job.", None, _json(_ref("Job")), 200)},
    "/api/jobs/{job}/result": {
        "get": ("The file that a job of /api/read has made.", None, {"content": {"application/octet-stream": {}}}, 200)
    },
    "/api/jobs/{job}/stop": {"post": ("Stop a job; what it has reached is saved.", None, _json(_ref("Job")), 202)},
    "/api/jobs/{job}/resume": {"post": ("Resume a job that was stopped.", None, _json(_ref("Job")), 202)},
    "/api/openapi.json": {"get": ("This document.", None, _json({"type": "object"}), 200)},
}


async def document(request: Request) -> Response:
    """The OpenAPI document."""
    paths = {
        path: {method: _operation(path, method, *rest) for method, rest in methods.items()}
        for path, methods in _PATHS.items()
    }
    return JSONResponse(
        {
            "openapi": "3.1.0",
            "info": {"title": "hwr", "version": __version__, "description": "Read handwriting, correct, retrain."},
            "paths": paths,
            "components": {
                "schemas": _SCHEMAS,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"token": []}, {}],
        }
    )


def _operation(path: str, method: str, summary: str, request: Schema | None, answer: Schema, status: int) -> Schema:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if name == "job" else "string"}}
        for name in names
    ]
    failure = {"description": "What is wrong, and the remedy.", **_json(_ref("Error"))}
    out: Schema = {
        "summary": summary,
        "operationId": f"{method}_{'_'.join(part.strip('{}') for part in path.split('/')[2:])}".replace(".", "_"),
        "parameters": parameters,
        "responses": {str(status): {"description": "Done.", **answer}, "default": failure},
    }
    if request is not None:
        multipart = request.get("multipart")
        content = (
            {"multipart/form-data": {"schema": multipart}} if multipart else {"application/json": {"schema": request}}
        )
        out["requestBody"] = {"required": True, "content": content}
    return out
