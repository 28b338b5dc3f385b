"""One matrix, several kernels: y = W x + b is one formula, and its speed is a matter of layout.

For one token a matrix product is bound by reading W; for a block of tokens the same reading can
serve all of them, if the kernel is made for it. Which kernel is, depends on the processor and on
the library behind torch, so `race` measures: one token and a block of eight, on this machine, on
the shapes at hand. Every kernel treats each row alone: a row's result is the same, to rounding,
by itself and in any block.

oneDNN's packed format is what torch.compile's freezing uses on CPUs. Its operators are private to
torch and may go; without them the others remain.

Dimensions: R rows (tokens), N outputs, K inputs.
"""

import re
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "BLOCK",
    "FastLinear",
    "Kernel",
    "KernelLinear",
    "available",
    "prepare",
    "race",
    "stock_kernel",
]

BLOCK = 8  # rows that a kernel for blocks is chosen and packed for
_ROUNDS = 31

Kernel = Callable[[Tensor], Tensor]


def _stock(weight: Tensor, bias: Tensor | None) -> Kernel:
    return lambda x: F.linear(x, weight, bias)


def _transposed(weight: Tensor, bias: Tensor | None) -> Kernel:
    columns = weight.T.contiguous()
    return (lambda x: x @ columns) if bias is None else (lambda x: x @ columns + bias)


def _packed(weight: Tensor, bias: Tensor | None) -> Kernel:
    multiply = torch.ops.mkldnn._linear_pointwise
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, BLOCK)
    bias = None if bias is None else bias.contiguous()
    return lambda x: multiply(x, packed, bias, "none", [], "")


_PREPARE: dict[str, Callable[[Tensor, Tensor | None], Kernel]] = {
    "F.linear": _stock,
    "x @ W.T": _transposed,
    "oneDNN packed": _packed,
}


def available() -> list[str]:
    """Names of the float32 kernels that this torch has."""
    try:
        one = torch.ones(1, 1, dtype=torch.float32, device="cpu")
        _packed(one, None)(one)
    except (AttributeError, RuntimeError):  # an operator that is gone, or not for this processor
        return [name for name in _PREPARE if name != "oneDNN packed"]
    return list(_PREPARE)


def prepare(name: str, linear: nn.Linear) -> Kernel:
    """The kernel `name` for a matrix; all but "F.linear" keep a copy of the weights."""
    return _PREPARE[name](linear.weight, linear.bias)


class KernelLinear(nn.Module):
    """A linear layer that is one call, which fused blocks make themselves.

    Attributes:
        name: of the kernel.
        kernel: (R, K) in float32 to (R, N), the bias included.
    """

    name: str
    kernel: Kernel


class FastLinear(KernelLinear):
    """A linear layer with one of the kernels; its naive twin is `torch.nn.Linear`."""

    def __init__(self, plain: nn.Linear, name: str):
        super().__init__()
        self.name, self.kernel = name, prepare(name, plain)

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        return self.kernel(x)


@torch.inference_mode()
def race(linears: Sequence[nn.Linear]) -> list[str]:
    """The kernel of each of some matrices that is fastest for one row and a block, taken together.

    The matrices run in turn, as in a model, so that each finds the caches as the others left them.
    One kernel serves both: a second copy of the weights for single rows would push the first one
    out of the caches whenever single tokens and blocks alternate, as they do in speculation.
    """
    seconds = {name: _seconds([prepare(name, x) for x in linears], linears) for name in available()}
    return [min(seconds, key=lambda name: seconds[name][i]) for i in range(len(linears))]


def _seconds(kernels: Sequence[Kernel], linears: Sequence[nn.Linear]) -> list[float]:
    """Median time of each kernel for one row, plus that for a block."""
    totals = [0.0] * len(kernels)
    for rows in (1, BLOCK):
        inputs = [linear.weight.new_ones(1, rows, linear.in_features) for linear in linears]
        times: list[list[float]] = [[] for _ in kernels]
        for _ in range(_ROUNDS):
            for kernel, x, spent in zip(kernels, inputs, times, strict=True):
                start = time.perf_counter()
                kernel(x)
                spent.append(time.perf_counter() - start)
        totals = [total + median(spent) for total, spent in zip(totals, times, strict=True)]
    return totals


def stock_kernel() -> str:
    """What `F.linear` calls in float32 on this CPU: the BLAS that torch was built with."""
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    name = blas.group(1) if blas else "unknown"
    return f"F.linear float32 (BLAS {name}, {torch.backends.cpu.get_cpu_capability()})"
