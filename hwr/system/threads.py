"""How the threads of numerical libraries wait for each other: briefly awake, then asleep, so that other programs can work.

By default OpenMP's threads (PyTorch's, MXNet's) spin for milliseconds after each of the hundreds of small steps of a network. If
another program holds a core, the spinning threads hold the others, and everything takes turns of the scheduler: a hundred
times as long as the work itself. Threads that sleep at once halve the speed of a small network on an idle machine. So a few
thousand turns are the default. Only training whole batches needs this: batches that are read, and shares of a batch that is
trained on (`train.shards`), have a thread each, which need not wait for the others. docs/performance.md has the figures.
"""

import os
import sys
from typing import Any

from hwr.system.processes import usable_cores

# Each of these decides how OpenMP's threads wait: the standard's, GNU's, and Intel's and LLVM's two.
_OF_OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

# Turns that GNU's OpenMP, which PyTorch's and MXNet's wheels use, spins before it sleeps; its own default is 300,000. Measured
# with `scripts/bench busy`: with 4,000, training loses a fifth on an idle machine; with 16,000, more on a busy one.
SPINS = 8000


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment, then sleep. To be called before PyTorch or MXNet is imported; later it has no effect.

    The user's own settings in the environment win.
    """
    if not any(library in sys.modules for library in ("torch", "mxnet")) and not any(map(os.environ.get, _OF_OPENMP)):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


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
