"""Linear layers over weights of eight bits: a quarter of the bytes to read.

The weights are given as integers and one scale per output, w = integer x scale. `Int8Weights`
leaves the activations as numbers; `Int8Rows` rounds them to integers too, with a scale for each
row, so that a row's result does not depend on the rows beside it. A scale for the whole block, as
in torch's own dynamic quantization, would let token 7 change the result of token 0.

The kernels are torch's int8 operators on the CPU. Their names are private and may go; without
them, and on other devices, the same numbers are multiplied by `F.linear`.

Dimensions: R rows (tokens), N outputs, K inputs.
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minillm.linear import Kernel

__all__ = ["Int8Rows", "Int8Weights"]

_LANES = 16  # the kernel reads so many inputs at once, and does not check
_LEVELS = 63  # of an activation: pairs of products must fit 16 bits on processors without VNNI


def _weight_only(integers: Tensor, scales: Tensor) -> tuple[str, Kernel]:
    """The name of the kernel, and (R, K) bfloat16 to (R, N) through it."""
    halves = scales.to(torch.bfloat16)
    try:
        if integers.is_cpu and scales.is_cpu and integers.shape[1] % _LANES == 0:
            torch._weight_int8pack_mm(integers[:1].bfloat16(), integers[:1], halves[:1])
            return "_weight_int8pack_mm (bfloat16)", lambda rows: torch._weight_int8pack_mm(
                rows, integers, halves
            )
    except (AttributeError, RuntimeError):
        pass
    weight = integers.float() * halves.float()[:, None]
    return "F.linear over dequantized weights", lambda rows: F.linear(rows.float(), weight)


def _both(integers: Tensor, scales: Tensor) -> tuple[str, Kernel]:
    """The name of the kernel, and rows within +-1 to (..., N) through it."""
    try:
        if integers.device.type == "cpu":
            zeros = torch.zeros(len(scales), dtype=torch.int64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # quantized tensors are deprecated
                make = torch._make_per_channel_quantized_tensor
                packed = torch.ops.quantized.linear_prepack(
                    make(integers, scales.double(), zeros, 0), None
                )
            multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
            return "FBGEMM int8", lambda rows: multiply(rows, 1 / _LEVELS, _LEVELS + 1, packed)
    except (AttributeError, RuntimeError):
        pass
    weight = integers.float() * scales[:, None]
    return "F.linear over dequantized weights", lambda rows: F.linear(
        (rows * _LEVELS).round() / _LEVELS, weight
    )


class _Int8(nn.Module):
    """Integers and their scales behind one of torch's operators, or `F.linear`."""

    prepare: Callable[[Tensor, Tensor], tuple[str, Kernel]]

    def __init__(
        self,
        integers: Tensor,  # (N, K)
        scales: Tensor,  # (N,)
        bias: Tensor | None = None,  # (N,)
    ):
        super().__init__()
        if integers.dtype != torch.int8 or scales.shape != integers.shape[:1]:
            raise ValueError(
                f"integers and a scale per output are needed, got a matrix of {integers.dtype}, "
                f"{tuple(integers.shape)}, and scales of {tuple(scales.shape)}"
            )
        self.outputs, self.bias = len(integers), bias
        self.kernel, self._multiply = self.prepare(integers.contiguous(), scales)

    def _biased(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias


class Int8Weights(_Int8):
    """y = x (integers x scales)^T + bias, with x rounded to bfloat16, which the kernel reads."""

    prepare = staticmethod(_weight_only)

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        y = self._multiply(rows.contiguous()).to(x.dtype)
        return self._biased(y.view(*x.shape[:-1], self.outputs))


class Int8Rows(_Int8):
    """As `Int8Weights`, with each row of x rounded to 127 levels between +-its largest number."""

    prepare = staticmethod(_both)

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        largest = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        return self._biased(self._multiply(x / largest) * largest)
