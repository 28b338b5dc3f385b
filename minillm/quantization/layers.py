"""Layers whose matrix is stored in few bits: packed codes, scales, and what they stand for.

They are the readable twins of every kernel: the matrix is unpacked to float32 each time it is
used, and multiplied by `F.linear`. That saves memory, not time; speed takes a kernel that reads
the packed bytes itself (`minillm.fast.int8_model`).

Dimensions: R rows (tokens), N outputs, K inputs, V vocabulary, C width.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minillm.quantization.packing import pack, unpack
from minillm.quantization.rounding import Grid, Quantized, dequantize
from minillm.quantization.spec import Spec

__all__ = ["QuantEmbedding", "QuantLinear", "unpacked"]


def unpacked(
    spec: Spec, K: int, stored: Mapping[str, Tensor], rows: Tensor | slice = slice(None)
) -> Quantized:
    """A matrix of K inputs, or some of its rows, its codes one to a byte.

    Args:
        stored: by the names of `Spec.buffers`.
    """
    bits, shared = spec.table.bits, slice(None) if spec.group == "tensor" else rows
    scales, zeros = stored["scales"][shared], stored.get("zero_points")
    if zeros is not None:
        zeros = unpack(zeros[shared], bits, scales.shape[1])
    codes = unpack(stored["packed"][rows], bits, K)
    return Quantized(codes, Grid(spec, scales, zeros, stored.get("global_scale")))


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
        return unpacked(self.spec, self.inputs, dict(self.named_buffers()), rows)

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
