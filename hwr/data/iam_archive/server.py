"""Requests to the server of the IAM database, and its login: a form with the fields `email` and `password`.

The credentials are stored nowhere, and no message contains them.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from hwr import Error

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 16  # bytes
_TIMEOUT = (30, 60)  # seconds to connect, seconds of silence


class TryAgain(Exception):
    """The connection was cut or the server is overloaded; the message says which."""


def send(session: "requests.Session", method: str, url: str, **more: object) -> "requests.Response":
    """Send a request and follow redirects, but only within the same scheme, host and port.

    A redirect to another page after POST is not followed: the answer's cookie is all that counts.

    Raises:
        Error: An insecure connection, a malformed address, a redirect to another place.
        TryAgain: No answer.
    """
    import requests

    for _ in range(5):
        try:
            response = session.request(method, url, allow_redirects=False, timeout=_TIMEOUT, stream=True, **more)  # type: ignore[arg-type]
        except requests.exceptions.SSLError as error:
            raise Error(f"{url}: no secure connection: {error}") from None
        except ValueError as error:  # requests parses the target of a redirect even if it does not follow it
            raise Error(f"{url}: the address, or the server's answer, is malformed ({type(error).__name__})") from None
        except requests.RequestException as error:
            # Not chained, because the exception holds the request and so the password.
            raise TryAgain(f"{url}: no answer ({type(error).__name__})") from None
        if not response.is_redirect or (method == "POST" and response.status_code not in (307, 308)):
            return response
        response.close()
        target = urljoin(url, response.headers["location"])
        if origin(target) != origin(url):
            raise Error(f"{url}: redirects to {target}, another place: refused")
        url = target
    raise Error(f"{url}: redirects without end")


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        raise Error(f"{url}: malformed address") from None


def log_in(session: "requests.Session", base: str, login: dict[str, str]) -> None:
    """Send the login form. The server answers 200 in any case: after a failure, a page comes instead of an archive."""
    with send(session, "GET", f"{base}/login") as page:
        # A login page is small: 1 MiB is enough.
        content = b"".join(islice(chunks_of(page, decode=True), 16)) if page.ok else b""
    with send(session, "POST", f"{base}/login", data={**_hidden_fields(content), **login}) as answer:
        if answer.status_code in (401, 403):
            raise refused(base, f"{base}/login")
        if answer.status_code >= 400:
            failure = f"{base}/login: status {answer.status_code}"
            raise TryAgain(failure) if is_passing(answer.status_code) else Error(failure)


def is_passing(status: int) -> bool:
    """Whether a failure may pass: time-outs, too many requests, the server's own errors."""
    return status in (408, 425, 429) or status >= 500


def _hidden_fields(page: bytes) -> dict[str, str]:
    """The hidden fields of a login form, such as a token against forged requests."""
    from lxml import etree

    root = etree.HTML(page, etree.HTMLParser(no_network=True)) if page.strip() else None
    inputs = [] if root is None else root.iter("input")
    return {str(i.get("name")): str(i.get("value", "")) for i in inputs if i.get("type") == "hidden"}


def refused(base: str, url: str) -> Error:
    """The error for a login that failed."""
    return Error(
        f"wrong e-mail or password: {url} was refused, or answered with a web page. Try them in a browser at "
        f"{base}/login"
    )


def chunks_of(response: "requests.Response", *, decode: bool = False) -> Iterator[bytes]:
    """An answer's content in pieces of 64 KiB; `decode` undoes its Content-Encoding."""
    from urllib3.exceptions import HTTPError

    while True:
        try:
            chunk = response.raw.read(_CHUNK, decode_content=decode)
        except (HTTPError, OSError) as error:
            raise TryAgain(f"{response.url}: the connection was cut ({type(error).__name__})") from None
        if not chunk:
            return
        yield chunk
