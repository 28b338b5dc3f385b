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
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minillm.compiled import compiled, pointer
from minillm.fused import FusedBlock, plain_numbers
from minillm.linear import FastLinear
from minillm.optimized import optimized
from minillm.pruning import ThresholdedGate
from minillm.swapped import swapped
from minillm.transformer import MLP, Transformer

__all__ = ["Reading", "SkippingBlock", "SkippingMLP", "mlp_bytes", "open_neurons", "skipping"]


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


@compiled
@no_type_check
def open_neurons(x: int, gate: int, neurons: int, out: int, R: int, C: int, F: int) -> int:
    """Add to out what the neurons with an open gate say of x; how many any row has opened.

    Arguments are addresses and sizes, as in `minillm.loops`: x and out are (R, C), gate is (R, F),
    neurons are (F, 2, C). Each neuron is read once, for all rows.
    """
    xs = numba.carray(pointer(x), (R, C))
    gates = numba.carray(pointer(gate), (R, F))
    weights = numba.carray(pointer(neurons), (F, 2, C))
    outs = numba.carray(pointer(out), (R, C))
    read = 0
    for f in range(F):
        wanted = 0
        for r in range(R):
            if gates[r, f] != np.float32(0):
                wanted = 1
                said = np.float32(0)
                for c in range(C):
                    said += weights[f, 0, c] * xs[r, c]
                said *= gates[r, f]
                for c in range(C):
                    outs[r, c] += said * weights[f, 1, c]
        read += wanted
    return read


class SkippingBlock(FusedBlock):
    """A fused block whose MLP reads open neurons only, in a loop that gathers nothing."""

    @staticmethod
    def _fits_mlp(mlp: nn.Module) -> bool:
        return (
            type(mlp) is SkippingMLP and type(mlp.gate) is FastLinear and plain_numbers(mlp.neurons)
        )

    def _take_mlp(self, mlp: Any) -> None:
        self._gate, self._act = mlp.gate.kernel, mlp.act.forward
        self._neurons, self._reading = mlp.neurons.detach(), mlp.reading

    def _feed_forward(self, normed: Tensor, y: Tensor) -> Tensor:
        R, C = normed.shape
        gate = self._act(self._gate(normed)).contiguous()
        addresses = (tensor.data_ptr() for tensor in (normed, gate, self._neurons, y))
        self._reading.count(open_neurons(*addresses, R, C, gate.shape[1]))
        return y


def skipping(model: Transformer, kernel: str | None = None) -> Transformer:
    """`minillm.optimized.optimized(model)`, its naive twin, without what shut gates multiply.

    It lays the MLPs out anew. On a CPU in float32 a compiled loop reads them, elsewhere rows are
    gathered.

    Args:
        model: one whose gates leave exact zeros; it stays as it is.
        kernel: as for `optimized`.

    Raises:
        ValueError: gates without exact zeros, MLPs of one's own, or an unknown kernel.
    """
    mlps = [module for name, module in model.named_modules() if name.endswith(".mlp")]
    for mlp in mlps:
        if not (type(mlp) is MLP and type(mlp.gate_up) is type(mlp.down) is nn.Linear):
            got = type(mlp).__name__
            raise ValueError(f"only the library's own MLP, of plain matrices, can skip, got {got}")
        if not isinstance(mlp.act, nn.ReLU | ThresholdedGate):
            raise ValueError(
                f"{type(mlp.act).__name__} shuts no gate entirely, so that nothing can be skipped "
                "exactly. Set small gates to zero first, at some loss (minillm.pruning.cats; CATS, "
                "arXiv 2404.08763), or train the model on with a relu "
                "(relufication, arXiv 2310.04564)"
            )
    twin = optimized(swapped(model, {mlp: SkippingMLP(mlp) for mlp in mlps}), kernel)
    for index, block in enumerate(twin.blocks):
        if SkippingBlock.fits(block):
            twin.blocks[index] = SkippingBlock(block)
    return twin


def mlp_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of weights that a model's MLPs have read since it was made, and dense ones would have.

    0 and 0 of a model that skips nothing.
    """
    mlps = [module for module in model.modules() if isinstance(module, SkippingMLP)]
    return sum(mlp.reading.nbytes for mlp in mlps), sum(mlp.reading.dense_nbytes for mlp in mlps)
