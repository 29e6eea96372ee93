"""How the threads of numerical libraries wait for each other: briefly awake, then asleep, so that other programs can work.

By default OpenMP's threads (PyTorch's, MXNet's) spin for milliseconds after each of the hundreds of small steps of a network. If
another program holds a core, the spinning threads hold the others, and everything takes turns of the scheduler: a hundred
times as long as the work itself. Threads that sleep at once halve the speed of a small network on an idle machine. So a few
thousand turns are the default, and none while a machine is very busy. Only training needs this: batches are read side by
side, by threads that need not wait (`hwr.engines.side_by_side`). docs/performance.md has the figures.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwr.system.processes import usable_cores

# Each of these decides how OpenMP's threads wait: the standard's, GNU's, and Intel's and LLVM's two.
_OF_OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

# Turns that GNU's OpenMP, which PyTorch's and MXNet's wheels use, spins before it sleeps; its own default is 300,000. Measured
# with `scripts/bench busy`: with 4,000, training loses a fifth on an idle machine; with 16,000, more on a busy one.
SPINS = 8000

# Of the time in which a thread could run, the part in which it waits for a core: 0.1 on an idle machine, 0.5 beside 2 programs
# on two cores, 0.8 beside 8. From DISPLACED on, sleeping at once is faster (11 instead of 3 lines/s); beside 2 programs it is
# slower. Measured every PAUSE seconds.
DISPLACED, SETTLED, PAUSE = 0.7, 0.6, 1.0


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment, then sleep. To be called before PyTorch or MXNet is imported; later it has no effect.

    The user's own settings in the environment win.
    """
    if not any(library in sys.modules for library in ("torch", "mxnet")) and not any(map(os.environ.get, _OF_OPENMP)):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def sleep_on_a_busy_machine(parallel: Callable[[], object]) -> None:
    """Let the calling thread's OpenMP threads sleep at once for as long as other programs keep it from its core.

    GNU's OpenMP hardly spins (100 turns) in a process with more of its threads than there are cores: see gomp_managed_threads
    in libgomp's wait.h. So a second team of threads, which does nothing, changes how the first one waits, and nothing
    that it computes. Without effect on other systems than Linux, with one core, and if the user set how threads wait.

    Args:
        parallel: Computes something in all threads of the library.
    """
    waits = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    ours = {name: os.environ.get(name) for name in _OF_OPENMP if os.environ.get(name)} == {"GOMP_SPINCOUNT": str(SPINS)}
    name = f"hwr {waits.parent.name} waits"
    if ours and usable_cores() > 1 and waits.exists() and name not in (each.name for each in threading.enumerate()):
        threading.Thread(target=_watch, args=(waits, parallel), name=name, daemon=True).start()


def _watch(waits: Path, parallel: Callable[[], object]) -> None:
    """Start the second team when the thread is displaced, and end it when the machine is less busy or the thread has ended."""
    settled: threading.Event | None = None
    ran, waited = _seconds(waits)
    while ran >= 0:
        time.sleep(PAUSE)
        before, (ran, waited) = (ran, waited), _seconds(waits)
        wanted = ran + waited - sum(before)
        if wanted < PAUSE / 10:
            continue  # it had too little to do to tell
        share = (waited - before[1]) / wanted
        if share > DISPLACED and settled is None:
            settled = threading.Event()
            threading.Thread(target=_hold, args=(parallel, settled), name="hwr second team", daemon=True).start()
        elif share < SETTLED and settled is not None:
            settled.set()
            settled = None
    if settled is not None:
        settled.set()


def _hold(parallel: Callable[[], object], settled: threading.Event) -> None:
    """Have a team of threads until the machine is less busy."""
    parallel()
    settled.wait()


def _seconds(waits: Path) -> tuple[float, float]:
    """Seconds that a thread has run, and that it has waited for a core; -1 if it has ended. See Linux's sched-stats.rst."""
    try:
        ran, waited, _ = waits.read_text().split()
    except OSError:
        return -1.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9


def onnx_options(threads: int | None = None) -> Any:
    """onnxruntime's `SessionOptions`: its threads sleep while they wait, unless OMP_WAIT_POLICY is active; no core is theirs.

    Args:
        threads: Number of threads; None: one per usable core.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "active":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
