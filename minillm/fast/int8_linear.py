"""Linear layers over weights of eight bits: a quarter of the bytes to read.

The weights are given as integers and one scale per output, w = integer x scale.
`Int8WeightOnlyLinear` leaves the activations as numbers; `Int8DynamicLinear` rounds them to
integers too, with a scale for each row, so that a row's result does not depend on the rows beside
it. A scale for the whole block, as in torch's own dynamic quantization, would let token 7 change
the result of token 0. Sums of integers are exact in any order: a row alone and the row in a block
give the same, bit for bit.

The kernels are torch's int8 operators on the CPU. Their names are private and may go, and on
processors without dot products of bytes they may saturate, so that each is tried before it is
taken. Without them, and on other devices, the same numbers are multiplied by `F.linear`.

Dimensions: R rows (tokens), N outputs, K inputs.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from minillm.fast.kernels import int8
from minillm.fast.linear import Kernel, KernelLinear

__all__ = ["INT_MM", "Int8DynamicLinear", "Int8WeightOnlyLinear"]

INT_MM = "_int_mm int8"  # the kernel whose sums are exact

_LANES = 16  # the weight-only kernel reads so many inputs at once, and does not check
_LEVELS = 127
_FEWER = 63  # FBGEMM: pairs of products must fit 16 bits on processors without VNNI


def _weight_only(integers: Tensor, scales: Tensor) -> tuple[str, Kernel]:
    """The name of the kernel, and (R, K) to (R, N) through it."""
    halves = scales.to(torch.bfloat16)
    try:
        if integers.is_cpu and integers.shape[1] % _LANES == 0:
            multiply = torch._weight_int8pack_mm
            multiply(integers[:1].bfloat16(), integers[:1], halves[:1])
            return "_weight_int8pack_mm (bfloat16)", lambda rows: multiply(
                rows.bfloat16().contiguous(), integers, halves
            ).float()
    except (AttributeError, RuntimeError):
        pass
    weight = integers.float() * halves.float()[:, None]
    return _DEQUANTIZED, lambda rows: F.linear(rows.bfloat16().float(), weight)


def _both(integers: Tensor, scales: Tensor) -> tuple[str, Kernel]:
    """The name of the kernel, and (R, K) to (R, N) through it."""
    if integers.is_cpu and integers.shape[1] > 1 and _exact_products():  # of 1, _int_mm is wrong
        return INT_MM, _integer_products(integers, scales)
    try:
        if integers.is_cpu:
            return "FBGEMM int8", _rows_to_one(_fbgemm(integers, scales))
    except (AttributeError, RuntimeError):
        pass
    weight = integers.float() * scales[:, None]
    return _DEQUANTIZED, _rows_to_one(lambda x: F.linear((x * _LEVELS).round() / _LEVELS, weight))


_DEQUANTIZED = "F.linear over dequantized weights"


@cache
def _exact_products() -> bool:
    """Whether torch multiplies bytes here, at their largest too."""
    left = torch.full((2, 64), _LEVELS, dtype=torch.int8, device="cpu")
    left[1].neg_()
    try:
        sums = torch._int_mm(left, left[:1].expand(16, 64).contiguous().T)
    except (AttributeError, RuntimeError):
        return False
    return bool((sums.abs() == 64 * _LEVELS**2).all())


def _integer_products(integers: Tensor, scales: Tensor) -> Kernel:
    N, K = integers.shape
    columns, product = integers.T, torch._int_mm
    codes, steps = integers.new_empty(1, K), scales.new_empty(1)  # kept for as many rows again

    def multiply(rows: Tensor) -> Tensor:
        nonlocal codes, steps
        rows = rows.contiguous()
        R = rows.shape[0]
        if R != codes.shape[0]:
            codes, steps = integers.new_empty(R, K), scales.new_empty(R)
        step = steps.data_ptr()
        int8.round_rows(rows.data_ptr(), K, codes.data_ptr(), step, R, K)
        sums, out = product(codes, columns), rows.new_empty(R, N)
        int8.rescale(sums.data_ptr(), step, scales.data_ptr(), out.data_ptr(), R, N)
        return out

    return multiply


def _fbgemm(integers: Tensor, scales: Tensor) -> Kernel:
    """Of rows within +-1."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quantized tensors are deprecated
        make = torch._make_per_channel_quantized_tensor
        weight = make(integers, scales.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack(weight, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    return lambda rows: multiply(rows, 1 / _FEWER, _FEWER + 1, packed)


def _rows_to_one(multiply: Kernel) -> Kernel:
    """A kernel for any rows from one for rows within +-1."""

    def scaled(rows: Tensor) -> Tensor:
        largest = rows.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        return multiply(rows / largest) * largest

    return scaled


class _Int8(KernelLinear):
    """Integers and their scales behind one of torch's operators, or `F.linear`.

    Attributes:
        integers: (N, K).
        scales: (N,) in float32.
        bias: (N,) or None.
    """

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
        self.integers, self.scales = integers.contiguous(), scales.float().contiguous()
        self.name, multiply = self.prepare(self.integers, self.scales)
        self.bias = bias
        self.kernel = multiply if bias is None else lambda rows: multiply(rows) + bias

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        if x.shape[-1:] != self.integers.shape[1:] or x.device != self.integers.device:
            raise ValueError(
                f"rows of {self.integers.shape[1]} numbers on {self.integers.device} are needed, "
                f"got {tuple(x.shape)} on {x.device}"
            )
        return self.kernel(x.flatten(0, -2).float()).to(x.dtype).unflatten(0, x.shape[:-1])


class Int8WeightOnlyLinear(_Int8):
    """y = x (integers x scales)^T + bias, with x rounded to bfloat16, which the kernel reads."""

    prepare = staticmethod(_weight_only)


class Int8DynamicLinear(_Int8):
    """As `Int8WeightOnlyLinear`, with each row of x rounded to 127 levels up to its largest.

    FBGEMM, the kernel of processors without exact products of bytes, has 63 levels.
    """

    prepare = staticmethod(_both)
