"""Muon: matrices move by the orthogonal matrix nearest to their momentum, all of whose directions have the same length.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). Adam scales each weight for itself, so that a few
directions of a matrix dominate its updates; here rare directions are learned as fast as frequent ones.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Of the momentum, which is Nesterov's.
MOMENTUM = 0.95

# Root mean square of an update's weights, in units of the learning rate: about that of Adam's updates, so that both share a
# rate (Liu et al., "Muon is scalable for LLM training", 2025).
SIZE = 0.3

# Coefficients (a, b, c) of the successive polynomials a x + b x^3 + c x^5 that bring singular values in 0.001..1 closest to 1
# (Amsel et al., "The Polar Express: optimal matrix sign methods and their application to the Muon algorithm", 2025). After
# these, almost all are in 0.4..1.6, which serves as well as exactly 1.
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)
# The authors' margin for the rounding of bf16: the singular values are taken to be larger by this factor.
MARGIN = 1.01


class Muon:
    """Muon for some parameters of a network.

    Args:
        blocks: How many matrices are stacked in each parameter: the four gates of an LSTM, 1 for a convolution, whose matrix is
            (outputs, inputs x height x width).
        state: Where the momentum of each parameter is kept, as "momentum", of the parameter's shape.
        decay: Weight decay, decoupled from the gradients as AdamW's.
        precision: Of the products of matrices.
    """

    def __init__(
        self,
        blocks: Mapping[nn.Parameter, int],
        state: MutableMapping[Any, Any],
        decay: float,
        precision: torch.dtype,
    ) -> None:
        self._blocks, self._state, self._decay, self._precision = blocks, state, decay, precision
        self._alike: dict[tuple[int, ...], list[nn.Parameter]] = {}  # matrices of one shape are computed together
        for parameter, number in blocks.items():
            shape = _stacked(parameter, number).shape[1:]
            self._alike.setdefault((number, *sorted(shape)), []).append(parameter)

    def parts(self, number: int) -> list[list[nn.Parameter]]:
        """Divide the parameters for as many cores, so that each has about the same work."""
        parts: list[list[nn.Parameter]] = [[] for _ in range(number)]
        work = [0] * number
        for (blocks, short, long), alike in sorted(self._alike.items(), reverse=True):
            for parameter in alike:
                least = work.index(min(work))
                parts[least].append(parameter)
                work[least] += blocks * short * short * (2 * long + short)
        return parts

    @torch.no_grad()
    def step(self, lr: float, parameters: Sequence[nn.Parameter]) -> None:
        """Change some of the parameters by their gradients."""
        chosen = set(parameters)
        for alike in self._alike.values():
            some = [parameter for parameter in alike if parameter in chosen]
            if not some:
                continue
            directions = [self._direction(parameter) for parameter in some]
            lying = [each.mT if each.shape[1] > each.shape[2] else each for each in directions]
            moves = orthogonal(torch.cat(lying).to(self._precision)).float().split([len(each) for each in lying])
            for parameter, move, direction in zip(some, moves, directions, strict=True):
                move = move if move.shape == direction.shape else move.mT
                parameter.mul_(1 - lr * self._decay)
                _stacked(parameter, self._blocks[parameter]).sub_(move, alpha=lr * SIZE * max(move.shape[1:]) ** 0.5)

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        """Update the momentum; returns the direction before it is made orthogonal, (blocks, rows, columns)."""
        gradient = parameter.grad
        assert gradient is not None
        kept = self._state.setdefault(parameter, {})
        if not kept:
            kept["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = kept["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return _stacked(momentum.lerp(gradient, 1 - MOMENTUM), self._blocks[parameter])


def _stacked(x: Tensor, blocks: int) -> Tensor:
    """A view (blocks, rows, columns) of an LSTM's weights (rows, columns), or of a convolution's (outputs, inputs, h, w)."""
    if x.ndim == 4:
        x = x.permute(0, 2, 3, 1)  # as they lie in memory (channels last)
    return x.view(blocks, x.shape[0] // blocks, -1)


def orthogonal(x: Tensor) -> Tensor:
    """Roughly the nearest matrices whose rows are orthogonal and of length 1: (N, m, n) -> (N, m, n), m <= n.

    Singular values below a thousandth of the matrix's norm become smaller than 1.
    """
    norm = torch.linalg.matrix_norm(x.float(), keepdim=True)
    x = x / (norm * MARGIN).clamp(min=1e-30).to(x.dtype)
    for a, b, c in POLYNOMIALS:
        squares = x @ x.mT
        polynomial = torch.baddbmm(squares, squares, squares, beta=b / MARGIN**3, alpha=c / MARGIN**5)
        x = torch.baddbmm(x, polynomial, x, beta=a / MARGIN)
    return x
