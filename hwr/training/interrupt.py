"""Turn Ctrl-C and similar signals into a request to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Treat the first Ctrl-C, SIGTERM or SIGHUP as a request to stop; the second one kills as usual.

    Signals that are ignored stay ignored: SIGHUP under nohup, Ctrl-C in a script's background job.

    Yields:
        A function that says whether a stop was requested.
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for signal_, handler in before.items():
            if handler is not None:  # None: not installed from Python, and so not to be restored from it
                signal.signal(signal_, handler)

    # Python allows signal handlers in the main thread only, and Windows has no SIGHUP.
    main = threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if main and hasattr(signal, name)]
    heard = [s for s in known if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, ask) for s in heard}
    try:
        yield lambda: asked
    finally:
        restore()
