"""Run the server until it is told to stop."""

import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from hwr import Error
from hwr.serve.api.app import build
from hwr.serve.api.security import LOCAL, Rules
from hwr.serve.project import adding
from hwr.serve.training.models import BASE
from hwr.serve.workbench import Workbench

LEAST_TOKEN = 16  # characters


def run(
    folder: Path,
    checkpoint: str | None,
    reading: Sequence[str],
    training: Sequence[str],
    host: str,
    port: int,
    token: str | None,
    most_bytes: int,
    say: Callable[[str], None],
) -> None:
    """Serve a folder until Ctrl-C or SIGTERM.

    Args:
        reading: Settings for reading, as of `--set`; `training`: for training.
        port: 0 chooses a free one.
        token: What clients must show; None: nothing on this computer's own addresses, elsewhere a new token.

    Raises:
        Error: The folder, the model, the address or the token can't be used.
    """
    if token is not None and len(token) < LEAST_TOKEN:
        raise Error(f"--token: needs at least {LEAST_TOKEN} characters")
    if token is None and host not in LOCAL:
        token = secrets.token_urlsafe(24)
    listener = _listen(host, port)
    try:
        workbench = Workbench(folder, checkpoint, reading, training)
        for stored in adding.add_pdfs(workbench.project):
            say(f"hwr: {stored.error}" if stored.error else f"{stored.name}: added {stored.stored}")
        pages = len(workbench.project.pages())
        for reason in workbench.project.unlisted.values():
            say(f"hwr: {reason}")
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        listener.listen(2048)  # whoever connects from now on waits for the server
        models = workbench.models
        name = Path(models.base).stem if models.current == BASE else models.current
        say(f"{pages} pages in {folder}, model {name}")
        say(f"open {address}{'#token=' + token if token else ''}  (Ctrl-C stops)")
        app = build(workbench, Rules(token or "", most_bytes))
        # What a client sends before its request is complete must not fill the memory.
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=500,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=64_000,
        )
        uvicorn.Server(settings).run(sockets=[listener])
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        Error: The address is unknown, or taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise Error(f"--host {host} --port {port}: {error.strerror or error}; choose another") from error
    return found
