"""The process that trains: `python -m hwr.serve.training.train_process RUN RESUME OVERRIDE…`.

It prints each message as a line. When its standard input ends, because the server asks it to stop or is gone, it saves its
state and stops.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from hwr import Error

RECIPE = "finetune"

# The exit status of a training that was stopped and saved.
STOPPED = 130


def main(arguments: Sequence[str]) -> int:
    """Train, and return the exit status."""
    from hwr.training.loop import train

    out, resume, *overrides = arguments
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        done = train(RECIPE, Path(out), resume == "resume", lambda line: print(line, flush=True), overrides)
    except Error as error:
        print(f"error: {error}", flush=True)
        return 2
    return 0 if done else STOPPED


def _stop_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would disturb the end of the process
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
