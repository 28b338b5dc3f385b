"""Layers whose matrix is stored in few bits: packed codes, scales, and what they stand for.

They are the readable twins of every kernel: the matrix is unpacked to float32 each time it is
used, and multiplied by `F.linear`. That saves memory, not time; speed takes a kernel that reads
the packed bytes itself (`minillm.fast.int8_model`).

Dimensions: R rows (tokens), N outputs, K inputs, V vocabulary, C width.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minillm.quantization.packing import pack, unpack
from minillm.quantization.rounding import Grid, Quantized, dequantize

__all__ = ["QuantEmbedding", "QuantLinear"]


class _Packed(nn.Module):
    """A matrix in few bits; its buffers are what is stored."""

    packed: Tensor  # (N, bytes)
    scales: Tensor
    zero_points: Tensor | None  # (rows, bytes)
    global_scale: Tensor | None

    def __init__(self, quantized: Quantized):
        super().__init__()
        grid = quantized.grid
        self.spec, self.inputs = grid.spec, quantized.codes.shape[1]
        bits = self.spec.table.bits
        zeros = None if grid.zero_points is None else pack(grid.zero_points, bits)
        self.register_buffer("packed", pack(quantized.codes, bits))
        self.register_buffer("scales", grid.scales)
        self.register_buffer("zero_points", zeros)
        self.register_buffer("global_scale", grid.global_scale)

    @property
    def quantized(self) -> Quantized:
        """The matrix, its codes one to a byte."""
        return self._rows(slice(None))

    def _rows(self, rows: Tensor | slice) -> Quantized:
        bits = self.spec.table.bits
        shared = slice(None) if self.spec.group == "tensor" else rows
        scales = self.scales[shared]
        zeros = (
            None
            if self.zero_points is None
            else unpack(self.zero_points[shared], bits, scales.shape[1])
        )
        codes = unpack(self.packed[rows], bits, self.inputs)
        return Quantized(codes, Grid(self.spec, scales, zeros, self.global_scale))

    @property
    def nbytes(self) -> int:
        """Of all buffers."""
        return sum(buffer.nbytes for buffer in self.buffers())


class QuantLinear(_Packed):
    """y = x W^T + bias with W in few bits; its naive twin is `torch.nn.Linear`."""

    bias: Tensor | None

    def __init__(self, quantized: Quantized, bias: Float[Tensor, " N"] | None = None):
        super().__init__(quantized)
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        return F.linear(x, dequantize(self.quantized).to(x.dtype), self.bias)


class QuantEmbedding(_Packed):
    """The rows of a matrix in few bits; its naive twin is `torch.nn.Embedding`."""

    def forward(self, tokens: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape C"]:
        if tokens.numel() and int(tokens.min()) < 0:
            raise IndexError(f"a token is at least 0, got {int(tokens.min())}")
        return dequantize(self._rows(tokens.flatten())).view(*tokens.shape, self.inputs)
