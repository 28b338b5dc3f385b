"""Exact skipping: what a shut gate would multiply by zero is neither read nor multiplied.

A gated MLP is a sum over its neurons, sum_f gate_f(x) (up_f . x) down_f. Where the gate is zero, so
is the summand: row f of W_up and column f of W_down need not be read. Only W_gate always is, since
it says which. The sum keeps its other terms, so that nothing is approximated. Row and column of a
neuron lie together in memory, as one reading.

Several tokens in one pass read what any of them opens: the union, which grows with every token.

Dimensions: R rows (tokens), C width, F MLP width.

Sources: W_down stored by neurons, Deja Vu (arXiv 2310.17157); relu in language models (arXiv
2310.04564); relu gates (arXiv 2402.13516).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minillm.transformer import MLP

__all__ = ["Reading", "SkippingMLP", "mlp_bytes"]


@dataclass
class Reading:
    """What an MLP has read so far.

    Attributes:
        width: neurons of the MLP.
        gate_bytes: of W_gate, read in every pass.
        neuron_bytes: of a neuron's row of W_up and column of W_down.
        passes: forward passes.
        neurons: neurons read in all passes together; one that several tokens open counts once.
    """

    width: int
    gate_bytes: int
    neuron_bytes: int
    passes: int = 0
    neurons: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of weights."""
        return self.passes * self.gate_bytes + self.neurons * self.neuron_bytes

    @property
    def dense_nbytes(self) -> int:
        """What its naive twin would have read."""
        return self.passes * (self.gate_bytes + self.width * self.neuron_bytes)

    def count(self, neurons: int) -> None:
        """One pass more."""
        self.passes += 1
        self.neurons += neurons


class SkippingMLP(nn.Module):
    """`minillm.transformer.MLP`, its naive twin, without the neurons that no token opens.

    Attributes:
        neurons: (F, 2, C), of each its row of W_up, then its column of W_down.
        reading: what was read.
    """

    def __init__(self, plain: MLP):
        super().__init__()
        gate, up = plain.gate_up.weight.detach().chunk(2)
        F, C = gate.shape
        linear = nn.Linear(C, F, bias=False, device="meta")
        linear.weight = nn.Parameter(gate, requires_grad=False)
        self.gate: nn.Module = linear
        self.act = plain.act
        neurons = torch.stack((up, plain.down.weight.detach().T), dim=1)
        self.neurons = nn.Parameter(neurons, requires_grad=False)
        self.reading = Reading(F, gate.nbytes, neurons[0].nbytes)

    def forward(self, x: Float[Tensor, "*R C"]) -> Float[Tensor, "*R C"]:
        gate = self.act(self.gate(x))  # (*R, F)
        opened = gate.flatten(0, -2).any(0).nonzero()[:, 0]
        up, down = self.neurons[opened].unbind(1)  # copies, which a loop could do without
        self.reading.count(len(opened))
        return (gate[..., opened] * (x @ up.T)) @ down


def mlp_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of weights that a model's MLPs have read since it was made, and dense ones would have.

    0 and 0 of a model that skips nothing.
    """
    mlps = [module for module in model.modules() if isinstance(module, SkippingMLP)]
    return sum(mlp.reading.nbytes for mlp in mlps), sum(mlp.reading.dense_nbytes for mlp in mlps)
