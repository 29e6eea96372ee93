"""The engine on Apache MXNet Gluon, the original system's library: CPU, or GPUs that CUDA 11 supports."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwr import Error, networks
from hwr.config import Config
from hwr.engines import mxnet_library
from hwr.engines.base import Group, Weights
from hwr.images import augment
from hwr.images.batches import Batch

mx = mxnet_library.load()

from mxnet import autograd, gluon, nd  # noqa: E402 (after its libraries are found)


class MXNetEngine:
    """See `hwr.engines.Engine`.

    Several GPUs split each training batch evenly, and their gradients are added. Batch norm then uses the statistics of each
    part, and keeps the running statistics of the first GPU. Only the first GPU reads.

    Args:
        contexts: MXNet's devices, instead of those in `engine.device`.

    Attributes:
        threads: Number of CPU threads; the same for all engines of a process.
    """

    name = "mxnet"
    precision = "fp32"

    def __init__(self, config: Config, classes: int, fresh: bool = True, contexts: list[Any] | None = None) -> None:
        if contexts is None:
            contexts = [mx.gpu(i) for i in mxnet_library.gpus(config.engine.device)] or [mx.cpu()]
        self._contexts = contexts
        self.device = ",".join(f"cuda:{c.device_id}" if c.device_type == "gpu" else "cpu" for c in contexts)
        if config.train.batch_size < len(contexts):
            raise Error(f"train.batch_size {config.train.batch_size} is too small for {len(contexts)} GPUs")
        self.threads = _threads(config.engine.threads)
        self.notes: list[str] = []
        self.group = Group()
        self._shapes = networks.shapes(config, classes)
        self._normalise = networks.normaliser(config)
        net = networks.mxnet_network(config, classes)
        self._parameters: dict[str, Any] = net._collect_params_with_prefix()
        for name, parameter in self._parameters.items():
            parameter.shape = self._shapes[name]
        net.initialize(mx.init.Zero(), ctx=contexts)
        net.hybridize(static_alloc=True)
        self._net = net
        if fresh:
            weights, self.notes = net.initial(config.train.seed)
            self.load(weights)
        self._weight = config.train.loss_weight
        self._seed = config.train.seed
        self._updates = 0
        # Gluon refuses to update parameters without a gradient.
        self._trained = [
            name for name, parameter in self._parameters.items() if parameter.grad_req != "null" and net.is_used(name)
        ]
        parameters = [self._parameters[name] for name in self._trained]
        self._trainer = gluon.Trainer(parameters, "adam", update_on_kvstore=False)

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> float:
        assert not center_loss  # the config refuses it
        # MXNet can't export the state of its generators. Seeding them for each update makes that unnecessary.
        seed = np.random.SeedSequence((self._seed, self._updates)).generate_state(1)[0]
        mx.random.seed(int(seed) & 0x7FFFFFFF)
        pixels = gluon.utils.split_and_load(self._pixels(batch), self._contexts, even_split=False)
        labels = np.array_split(batch.labels, len(pixels))
        with autograd.record():
            losses = [_ctc(self._net(x), y, self._weight) for x, y in zip(pixels, labels, strict=True)]
        autograd.backward(losses)
        self._trainer.set_learning_rate(lr)
        self._trainer.step(len(batch.images))
        self._updates += 1
        return float(np.concatenate([loss.asnumpy() for loss in losses]).mean()) / self._weight

    def logits(self, batch: Batch) -> np.ndarray:
        out: np.ndarray = self._net(nd.array(self._pixels(batch), self._contexts[0])).asnumpy()
        return out

    side_by_side = 1

    def limit_threads(self, number: int) -> None:
        pass

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        out: np.ndarray = _ctc(nd.array(logits), labels, 1.0).asnumpy()
        # MXNet reports a loss of 0 for labels that do not fit the time steps.
        repeats = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)).sum(1)
        out[(labels >= 0).sum(1) + repeats > logits.shape[1]] = np.inf
        return out

    def rehearse(self, batch: Batch) -> None:
        """Do nothing: all batches have one size, so the first step needs as much memory as any other."""

    def _pixels(self, batch: Batch) -> np.ndarray:
        """(N, 1, H, W) float32: augmented if the batch has warps, and normalised."""
        pixels = batch.images / 255 if batch.warps is None else augment.apply(batch.images, batch.warps)
        out: np.ndarray = self._normalise(pixels).astype(np.float32)[:, None]
        return out

    def weights(self) -> Weights:
        return {name: p.data(self._contexts[0]).asnumpy() for name, p in self._parameters.items()}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        networks.check(weights, self._shapes)
        for name, parameter in self._parameters.items():
            parameter.set_data(nd.array(weights[name]))

    def state(self) -> Weights:
        out = {"updates": np.array(self._updates)}
        for i, moments in self._trainer._updaters[0].states.items():
            for key, moment in zip(MOMENTS, moments, strict=True):
                out[f"adam.{self._trained[i]}.{key}"] = moment.asnumpy()
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._updates = int(state["updates"])
        optimizer, indices = self._trainer._optimizer, range(len(self._trained))
        optimizer.num_update = self._updates
        for context, updater in zip(self._contexts, self._trainer._updaters, strict=True):
            counts = dict.fromkeys(indices, self._updates) if self._updates else {}
            optimizer._all_index_update_counts[context.device_id] = counts
            updater.states = {
                i: tuple(nd.array(state[f"adam.{self._trained[i]}.{key}"], context) for key in MOMENTS) for i in counts
            }
            updater.states_synced = dict.fromkeys(counts, True)


# Adam's means of the gradients and of their squares, in torch's naming.
MOMENTS = ("exp_avg", "exp_avg_sq")


def _ctc(logits: Any, labels: np.ndarray, weight: float) -> Any:
    """CTC loss, (N,) nats per line times the weight, the blank last.

    Args:
        logits: (N, T, C) NDArray.
        labels: (N, L) int32, padded with -1.
    """
    longest = int((labels >= 0).sum(1).max())
    if not longest:
        # MXNet's loss is garbage if all labels are empty; the only path is then all blanks.
        return -weight * logits.log_softmax(axis=2)[:, :, -1].sum(axis=1)
    # MXNet refuses labels wider than T, even if the rest is padding.
    narrow = nd.array(labels[:, : min(longest, logits.shape[1])], logits.context)
    return gluon.loss.CTCLoss(layout="NTC", label_layout="NT", weight=weight)(logits, narrow)


def _threads(wanted: int | None) -> int:
    """Set MXNet's number of CPU threads; None keeps its default, OMP_NUM_THREADS or half of the CPUs.

    OpenMP has a setting per thread, and MXNet computes in a thread that it starts at the first operation. So that thread
    must set the number and report it.

    Returns:
        The number of threads in use.
    """
    openmp = ctypes.CDLL("libgomp.so.1")
    found = []

    def run(_: None) -> None:
        if wanted:
            openmp.omp_set_num_threads(wanted)
        found.append(openmp.omp_get_max_threads())

    callback, done = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run), nd.zeros(1)
    # Type 1 and number 0 are mx.cpu(0). Declaring that the callback writes `done` lets us wait for it.
    context, writes = (ctypes.c_int * 2)(1, 0), (ctypes.c_void_p * 1)(done.handle)
    push = mx.base._LIB.MXEnginePushSyncND
    mx.base.check_call(push(callback, None, None, context, None, 0, writes, 1, None, 0, b"omp_set_num_threads"))
    done.wait_to_read()
    if wanted:
        # MXNet's own loops have a limit separate from oneDNN's and OpenBLAS's.
        mx.base.check_call(mx.base._LIB.MXSetNumOMPThreads(wanted))
    return found[0]
