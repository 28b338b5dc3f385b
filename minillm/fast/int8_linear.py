"""Linear layers over weights of eight bits: a quarter of the bytes to read.

The weights are given as integers and one scale per output, w = integer x scale.
`Int8WeightOnlyLinear` leaves the activations as numbers; `Int8DynamicLinear` rounds them to
integers too, with a scale for each row, so that a row's result does not depend on the rows beside
it. A scale for the whole block, as in torch's own dynamic quantization, would let token 7 change
the result of token 0. Sums of integers are exact in any order: a row alone and the row in a block
give the same, bit for bit.

Numbers times bytes is an operator of torch on the CPU; its name is private and may go, so that it
is tried before it is taken. Without it, and on other devices, the same numbers are multiplied by
`F.linear`. Bytes times bytes is a loop of ours: torch's `_int_mm` is a slow one on some processors,
and saturates on others.

Dimensions: R rows (tokens), N outputs, K inputs.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from minillm.fast.kernels import int8
from minillm.fast.linear import Kernel, KernelLinear

__all__ = ["Int8DynamicLinear", "Int8WeightOnlyLinear", "integer_sums"]

_LANES = 16  # the weight-only kernel reads so many inputs at once, and does not check
_LEVELS = 127
_EXACT = 2**24 // (
    _LEVELS * (_LEVELS + 1)
)  # so many products of bytes have a sum that float32 holds exactly
_FEW = 16  # rows up to which our loop is faster than floats, by measurement


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
    return "F.linear over dequantized weights", lambda rows: F.linear(
        rows.bfloat16().float(), weight
    )


def integer_sums(codes: Tensor, integers: Tensor) -> Int32[Tensor, "R N"]:
    """The product (R, K) x (N, K)^T of int8, exact in every bit; the codes are within +-127.

    Of a few rows it is a loop that reads each byte once; of a block, a product of floats.

    Raises:
        ValueError: no int8, another K, or another device.
    """
    if not (codes.dtype == integers.dtype == torch.int8 and codes.device == integers.device):
        raise ValueError(f"int8 beside int8 is needed, got {codes.dtype} and {integers.dtype}")
    (R, K), (N, inputs) = codes.shape, integers.shape
    if inputs != K:
        raise ValueError(f"rows of {K} numbers do not meet rows of {inputs}")
    if R > _FEW or not codes.is_cpu:
        return _sums_of_floats(codes, integers)
    codes, integers = codes.contiguous(), integers.contiguous()
    out = codes.new_empty(R, N, dtype=torch.int32)
    int8.integer_sums(codes.data_ptr(), integers.data_ptr(), out.data_ptr(), R, N, K)
    return out


def _sums_of_floats(codes: Tensor, integers: Tensor) -> Tensor:
    """The same by `F.linear`, over no more inputs at a time than it counts exactly."""
    parts = zip(codes.split(_EXACT, 1), integers.split(_EXACT, 1), strict=True)
    sums = [F.linear(c.float(), i.float()).int() for c, i in parts]
    return torch.stack(sums).sum(0, dtype=torch.int32)


def _weights_and_rows(integers: Tensor, scales: Tensor) -> tuple[str, Kernel]:
    """The name of the kernel, and (R, K) to (R, N) through it."""
    if integers.is_cpu:
        return "products of bytes", _on_the_host(integers, scales)
    return "F.linear over integers", _on_a_device(integers, scales)


def _on_a_device(integers: Tensor, scales: Tensor) -> Kernel:
    def multiply(rows: Tensor) -> Tensor:
        largest = rows.abs().amax(-1, keepdim=True).clamp_min(2.0**-119)
        codes = (rows * (_LEVELS / largest)).round().to(torch.int8)
        return integer_sums(codes, integers) * (largest / _LEVELS) * scales

    return multiply


def _on_the_host(integers: Tensor, scales: Tensor) -> Kernel:
    N, K = integers.shape
    codes, steps = integers.new_empty(1, K), scales.new_empty(1)  # kept for as many rows again

    def multiply(rows: Tensor) -> Tensor:
        nonlocal codes, steps
        rows = rows.contiguous()
        R = rows.shape[0]
        if R != codes.shape[0]:
            codes, steps = integers.new_empty(R, K), scales.new_empty(R)
        step = steps.data_ptr()
        int8.round_rows(rows.data_ptr(), K, codes.data_ptr(), step, R, K)
        sums, out = integer_sums(codes, integers), rows.new_empty(R, N)
        int8.rescale(sums.data_ptr(), step, scales.data_ptr(), out.data_ptr(), R, N)
        return out

    return multiply


class _Int8(KernelLinear):
    """Integers and their scales behind a kernel of bytes, or `F.linear`.

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
    """As `Int8WeightOnlyLinear`, with each row of x rounded to 127 levels up to its largest."""

    prepare = staticmethod(_weights_and_rows)
