"""What every request passes first: whose it is, where it comes from, how large and how slow it may be."""

import asyncio
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from hwr.serve.project.database import Store

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "hwr_session"
SESSION_SECONDS = 30 * 24 * 3600.0

# A request's body may pause for this many seconds, and must arrive at this rate once it has taken as long.
PAUSE_SECONDS = 20.0
BYTES_PER_SECOND = 1_000.0

# Scripts, styles and pictures come from this server only; nothing is inline, and nothing may embed the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Rules:
    """The rules of a server.

    Attributes:
        token: What clients must show, or "" if only this computer can connect.
        most_bytes: Of a request's body.
    """

    token: str = ""
    most_bytes: int = 200_000_000


class Refused(Exception):
    """A request is refused with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """Wraps an application: refuses what breaks the rules, and adds the headers that browsers enforce."""

    def __init__(self, app: App, rules: Rules, store: Store) -> None:
        self._app, self._rules, self._store = app, rules, store
        store.forget_sessions(SESSION_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in given)]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, self._limited(receive, headers), guarded)
        except Refused as error:
            if not started:
                await _refuse(guarded, error)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._rules.token and _name(host) not in LOCAL:
            # Another site's name that leads here (DNS rebinding).
            raise Refused(421, "this server answers to 127.0.0.1 and localhost only")
        path, unsafe = scope["path"], scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if path.startswith("/api/") and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "requests from other sites are refused")
        origin = headers.get("origin")
        if unsafe and origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "requests from other sites are refused")
        if path.startswith("/api/") and path not in ("/api/session", "/api/health") and not self.known(headers):
            raise Refused(401, "show the token: Authorization: Bearer TOKEN")

    def known(self, headers: dict[str, str]) -> bool:
        """Whether a client has shown the token."""
        if not self._rules.token:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(token.strip()):
            return True
        cookie = SimpleCookie()
        try:
            cookie.load(headers.get("cookie", ""))
        except Exception:  # of any kind, for any malformed header
            return False
        name = cookie_of(headers.get("host", ""))
        return name in cookie and self._store.has_session(self._hash(cookie[name].value), SESSION_SECONDS)

    def is_token(self, token: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(token.encode(), self._rules.token.encode())

    def new_session(self) -> str:
        """The key of a new session."""
        key = secrets.token_urlsafe(32)
        self._store.add_session(self._hash(key))
        return key

    def _hash(self, key: str) -> str:
        """What is kept of a session's key. A new token ends all sessions."""
        return hmac.new(self._rules.token.encode(), key.encode(), "sha256").hexdigest()

    def _limited(self, receive: Receive, headers: dict[str, str]) -> Receive:
        """`receive` with limits on size and time."""
        most = self._rules.most_bytes
        length = headers.get("content-length", "0")
        too_large = f"a request may have {most:,} bytes: send fewer files at once, or raise --max-upload"
        if not length.isdigit() or int(length) > most:
            raise Refused(413, too_large)
        received, began = 0, time.monotonic()
        complete = False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # waits until the client goes away
            try:
                message = await asyncio.wait_for(receive(), PAUSE_SECONDS)
            except asyncio.TimeoutError:
                raise Refused(408, "the request stopped arriving") from None
            received += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if received > most:
                raise Refused(413, too_large)
            spent = time.monotonic() - began
            if not complete and spent > PAUSE_SECONDS and received / spent < BYTES_PER_SECOND:
                raise Refused(408, "the request arrives too slowly")
            return message

        return limited


def cookie_of(host: str) -> str:
    """The name of the cookie for a Host header. Browsers send cookies to all ports, where other servers may run."""
    port = re.search(r":([0-9]+)$", host)
    return f"{COOKIE}_{port[1]}" if port else COOKIE


async def _refuse(send: Send, error: Refused) -> None:
    body = json.dumps({"error": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _name(host: str) -> str:
    """The host of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
