"""What a request says, checked."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from hwr import Error
from hwr.serve.api.security import Refused
from hwr.serve.workbench import Workbench

MOST_JSON = 4_000_000  # bytes
MOST_FILES = 200  # in one request


def workbench(request: Request) -> Workbench:
    """The server's workbench."""
    found: Workbench = request.app.state.workbench
    return found


async def json_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        Refused: It is of another type, or too large.
        Error: It is not a JSON object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        # A form of another site can't have this type.
        raise Refused(415, "send JSON, with Content-Type: application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise Refused(413, f"JSON may have {MOST_JSON:,} bytes at most")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Error(f"the request is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Error("send a JSON object")
    return found


def names_of(found: Any) -> list[str]:
    """A list of ids from JSON.

    Raises:
        Error: It is none.
    """
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise Error("send ids as a list of strings")
    return found


def line_or_none(found: Mapping[Any, Any]) -> str | None:
    """The line `after` which something goes; None: before all others.

    Raises:
        Error: It is no id.
    """
    after = found.get("after")
    if after is not None and not isinstance(after, str):
        raise Error("after is the id of a line, or null")
    return after


def points_of(found: Any) -> tuple[tuple[int, int], ...]:
    """Points from JSON, rounded.

    Raises:
        Error: They are none, too many, or far away.
    """
    try:
        points = tuple((round(x), round(y)) for x, y in found)
    except (TypeError, ValueError, OverflowError):
        raise Error("points are a list of [x, y]") from None
    if len(points) > 2000 or any(abs(value) > 1_000_000 for point in points for value in point):
        raise Error("an outline has at most 2000 points, at most a million pixels away")
    return points


def disposition(name: str) -> str:
    """The header that makes a browser save a file under this name."""
    return f"attachment; filename*=UTF-8''{quote(name)}"
