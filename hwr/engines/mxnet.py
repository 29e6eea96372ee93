"""The engine on Apache MXNet Gluon, what the system was born on: CPU, or a GPU of the CUDA 11 age."""

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

from mxnet import autograd, gluon, nd  # noqa: E402 (only once its libraries are found)


class MXNetEngine:
    """See `hwr.engines.Engine`.

    With several GPUs each takes an equal part of a training batch and the gradients are added up. Batch norm then has
    the statistics of each part, and the running ones are the first GPU's; reading is done on the first GPU alone.

    Args:
        contexts: MXNet's devices, instead of those that `engine.device` names.

    Attributes:
        threads: With how many it computes on the CPU; one number for all engines of a process.
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
        # Gluon refuses to update what got no gradient.
        self._trained = [
            name for name, parameter in self._parameters.items() if parameter.grad_req != "null" and net.is_used(name)
        ]
        parameters = [self._parameters[name] for name in self._trained]
        self._trainer = gluon.Trainer(parameters, "adam", update_on_kvstore=False)

    def train_step(self, batch: Batch, lr: float, center_loss: float = 0.0) -> float:
        assert not center_loss  # the config's check
        # MXNet can't tell the state of its generators: seeded for each update anew, they have none to go on from.
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

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        out: np.ndarray = _ctc(nd.array(logits), labels, 1.0).asnumpy()
        # MXNet calls the loss of what can't be written in so many steps 0.
        repeats = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)).sum(1)
        out[(labels >= 0).sum(1) + repeats > logits.shape[1]] = np.inf
        return out

    def rehearse(self, batch: Batch) -> None:
        """Nothing: every batch has the same size, so the first step needs as much memory as any other."""

    def _pixels(self, batch: Batch) -> np.ndarray:
        """(N, 1, H, W) float32: warped if the batch says so, normalised."""
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


# Of Adam: the means of gradients and of their squares, as torch calls them.
MOMENTS = ("exp_avg", "exp_avg_sq")


def _ctc(logits: Any, labels: np.ndarray, weight: float) -> Any:
    """CTC loss, (N,) nats per line times the weight, the blank last.

    Args:
        logits: (N, T, C) NDArray.
        labels: (N, L) int32, -1 where a label has ended.
    """
    longest = int((labels >= 0).sum(1).max())
    if not longest:
        # MXNet's is garbage where all labels are empty; then the only path is of blanks alone.
        return -weight * logits.log_softmax(axis=2)[:, :, -1].sum(axis=1)
    # MXNet refuses labels wider than T, padding or not.
    narrow = nd.array(labels[:, : min(longest, logits.shape[1])], logits.context)
    return gluon.loss.CTCLoss(layout="NTC", label_layout="NT", weight=weight)(logits, narrow)


def _threads(wanted: int | None) -> int:
    """Let MXNet compute with so many CPU threads, or leave it its own choice: OMP_NUM_THREADS, or half of the CPUs.

    OpenMP keeps a number for each thread of a program, and MXNet computes in one that it starts at the first operation. So
    that thread has to set the number, and to tell it.

    Returns:
        With how many it computes.
    """
    openmp = ctypes.CDLL("libgomp.so.1")
    found = []

    def run(_: None) -> None:
        if wanted:
            openmp.omp_set_num_threads(wanted)
        found.append(openmp.omp_get_max_threads())

    callback, done = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run), nd.zeros(1)
    # Type 1 and number 0 are mx.cpu(0); `done` is given as written by the callback, so as to wait for it.
    context, writes = (ctypes.c_int * 2)(1, 0), (ctypes.c_void_p * 1)(done.handle)
    push = mx.base._LIB.MXEnginePushSyncND
    mx.base.check_call(push(callback, None, None, context, None, 0, writes, 1, None, 0, b"omp_set_num_threads"))
    done.wait_to_read()
    if wanted:
        # The limit of MXNet's own loops, beside oneDNN's and OpenBLAS's.
        mx.base.check_call(mx.base._LIB.MXSetNumOMPThreads(wanted))
    return found[0]
