"""What a request says, checked."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from hwr import Error
from hwr.serve.api.security import Refused
from hwr.serve.project.page_state import Missing
from hwr.serve.workbench import Workbench

MOST_JSON = 4_000_000  # bytes
MOST_FILES = 200  # in one request
MOST_NUMBER = 1_000_000  # pixels or characters


def workbench(request: Request) -> Workbench:
    """The server's workbench."""
    found: Workbench = request.app.state.workbench
    return found


async def json_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        Refused: It is of another type, or too large.
        Error: It is not a JSON object, or holds half of a surrogate pair.
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
        json.dumps(found, ensure_ascii=False).encode()  # "\ud800" is no text
    except (ValueError, RecursionError) as error:
        raise Error(f"the request is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Error("send a JSON object")
    return found


def only(found: Mapping[Any, Any], *known: str) -> None:
    """Refuse keys that have no meaning.

    Raises:
        Error: There is one.
    """
    for name in found:
        if name not in known:
            raise Error(f"unknown key {name[:40]!r}; known here: {', '.join(known)}")


def number_of(found: Any, name: str, whole: bool = False) -> Any:
    """A number of pixels or characters from JSON.

    Raises:
        Error: It is none.
    """
    if (
        isinstance(found, bool)
        or not isinstance(found, int if whole else (int, float))
        or not 0 <= found <= MOST_NUMBER
    ):
        raise Error(f"{name} is a {'whole ' if whole else ''}number from 0 to {MOST_NUMBER:,}")
    return found


def job_of(request: Request) -> int:
    """The job that the address names.

    Raises:
        Missing: It can't be one.
    """
    id = str(request.path_params["job"])
    if not re.fullmatch("[0-9]{1,18}", id):  # SQLite holds no larger ones
        raise Missing(f"there is no job {id[:20]}")
    return int(id)


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
    if len(points) > 2000 or any(abs(value) > MOST_NUMBER for point in points for value in point):
        raise Error("an outline has at most 2000 points, at most a million pixels away")
    return points


def disposition(name: str) -> str:
    """The header that makes a browser save a file under this name."""
    return f"attachment; filename*=UTF-8''{quote(name)}"
