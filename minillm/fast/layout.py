"""How a model's matrices lie in memory for the one call: in panels, in the order of reading.

Dimensions: N outputs, K inputs, F MLP width.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad

from minillm.fast.block import FusedBlock, FusedNorm
from minillm.fast.int8_linear import Int8DynamicLinear
from minillm.fast.kernels.panels import PANEL
from minillm.transformer import Transformer

__all__ = ["LaidOut", "is_int8", "lay_out"]


class LaidOut(NamedTuple):
    """All matrices behind one another: of each layer qkv, out, gate and up, down; then the head.

    Attributes:
        matrices: flat.
        sizes: bytes of each.
        scales: one for each row of int8, padded as the rows are; else none.
    """

    matrices: Tensor
    sizes: list[int]
    scales: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest format that holds all weights exactly."""
        return self.matrices.dtype


def lay_out(model: Transformer, *, by_neurons: bool) -> LaidOut:
    """Lay out the matrices of a model of which `minillm.fast.layers.Layers.fits`.

    Args:
        by_neurons: up as rows and down as columns, of which single ones can be read.
    """
    linears, scales = list(_in_reading_order(model)), torch.zeros(0)
    if is_int8(model):
        weights, dtype = [linear.integers for linear in linears], torch.int8
        rows = [_arranged(x.scales[:, None], i) for i, x in enumerate(linears)]
        scales = torch.cat([x.flatten() for x in rows])
    else:
        weights = [linear.weight.detach() for linear in linears]
        dtype = _narrowest(weights)
    arranged = _by_neurons if by_neurons else _by_panels
    counts = []
    for index, weight in enumerate(weights):
        # Not on "meta", whose `torch.stack` imports a compiler of 2 core-seconds.
        counts.append(arranged(weight.new_zeros(()).expand(weight.shape), index).numel())
    matrices = torch.empty(sum(counts), dtype=dtype, device="cpu")  # the only copy of them all
    places = matrices.split(counts)
    for index, (weight, place) in enumerate(zip(weights, places, strict=True)):
        place.copy_(arranged(weight.to(dtype), index))
    return LaidOut(matrices, [place.nbytes for place in places], scales)


def _blocks(model: Transformer) -> Iterator[Any]:
    return iter(model.blocks)


def _in_reading_order(model: Transformer) -> Iterator[Any]:
    """The linear layers, and the head."""
    for block in _blocks(model):
        yield from (block.attention.qkv, block.attention.out, block.mlp.gate_up, block.mlp.down)
    yield model.head


def is_int8(model: Transformer) -> bool:
    """Whether it is the library's own with all matrices in int8, multiplied with rows of int8."""
    if not all(FusedBlock.fits(block) for block in _blocks(model)):
        return False
    linears = list(_in_reading_order(model))
    return (
        all(type(x) is Int8DynamicLinear and x.bias is None for x in linears)
        and all(x.integers.is_cpu for x in linears)
        and model.config.hidden_size % 2 == 0  # inputs are read in pairs
        and FusedNorm.fits(model.norm)
    )


def _arranged(rows: Tensor, index: int) -> Tensor:
    """Whole panels of rows; of gate and up, a layer's third matrix, a panel each in turn."""
    if index % 4 == 2:
        both = [_padded(half) for half in rows.chunk(2)]
        return rearrange(both, "two (n p) k -> (n two p) k", p=PANEL)
    return _padded(rows)


def _by_panels(weight: Tensor, index: int) -> Tensor:
    return _in_panels(_arranged(_whole_panels_wide(weight, index), index))


def _whole_panels_wide(weight: Tensor, index: int) -> Tensor:
    """Down, a layer's fourth matrix, reads what whole panels of gates let through."""
    missing = -weight.shape[1] % PANEL if index % 4 == 3 else 0
    return pad(weight, (0, missing)) if missing else weight


def _by_neurons(weight: Tensor, index: int) -> Tensor:
    """As `_by_panels`, with up as rows and down as columns, of which single ones can be read."""
    weight = _whole_panels_wide(weight, index)
    if index % 4 == 2:
        gate, up = (_padded(half) for half in weight.chunk(2))
        return torch.cat((_in_panels(gate), up.flatten()))
    return weight.T.flatten() if index % 4 == 3 else _in_panels(_padded(weight))


def _in_panels(rows: Tensor) -> Tensor:
    """A matrix (N, K) as panels of 32 outputs, each (K, 32), one behind the other.

    Of int8 two inputs stand together, (K / 2, 32, 2).
    """
    if rows.dtype == torch.int8:
        return rearrange(rows, "(n p) (k two) -> (n k p two)", p=PANEL, two=2)
    return rearrange(rows, "(n p) k -> (n k p)", p=PANEL)


def _padded(rows: Tensor) -> Tensor:
    """Rows of zeros behind, up to whole panels."""
    return pad(rows, (0, 0, 0, -len(rows) % PANEL))


def _narrowest(weights: list[Tensor]) -> torch.dtype:
    """The format of the fewest bits that holds all weights exactly."""
    for dtype in (torch.float16, torch.bfloat16):
        if all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in weights):
            return dtype
    return torch.float32
