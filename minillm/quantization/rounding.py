"""Weights as codes and scales: round to nearest, the twin of all that rounds more cleverly.

A weight becomes the nearest of a format's values times a scale, which it shares with the whole
matrix, with its row, or with its group of n neighbours in the row. The largest of them sets the
scale: one outlier makes the steps coarse for all that share it, and small groups contain the
damage at the price of more scales to store.

    >>> weight = torch.tensor([[0.375, -0.875, 0.25, 7.0]])
    >>> dequantize(quantize(weight, Spec("int4", group="channel"))).tolist()
    [[0.0, -1.0, 0.0, 7.0]]
    >>> dequantize(quantize(weight, Spec("int4", group=2))).tolist()
    [[0.375, -0.875, 0.0, 7.0]]

Dimensions: N outputs (channels), K inputs, G groups of a row.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from minillm.quantization.formats import E8M0, FORMATS
from minillm.quantization.spec import Spec

__all__ = [
    "Grid",
    "Quantized",
    "dequantize",
    "fit_grid",
    "fit_groups",
    "quantize",
]


@dataclass(frozen=True)
class Grid:
    """Where the values of a matrix may lie: a format's table, stretched for each group.

    Attributes:
        spec: of the matrix.
        scales: (rows, G) in float32, or codes of the format that scales are stored in; of a
            tensor there is one row and one group.
        zero_points: (rows, G) codes that stand for zero; None where that is code 0.
        global_scale: the scale of the scales, in a format that has one.
    """

    spec: Spec
    scales: Tensor
    zero_points: UInt8[Tensor, "rows G"] | None = None
    global_scale: Float[Tensor, ""] | None = None

    @property
    def steps(self) -> Float[Tensor, "rows G"]:
        """What the table's values are multiplied with."""
        if self.spec.table.scales == "e8m0":
            return E8M0.decode(self.scales)
        if self.global_scale is not None:
            return FORMATS["fp8_e4m3"].decode(self.scales) * self.global_scale
        return self.scales

    @property
    def offsets(self) -> Float[Tensor, "rows G"]:
        """What is taken from the table's values before."""
        if self.zero_points is None:
            return torch.zeros_like(self.scales, dtype=torch.float32)
        return self.spec.table.decode(self.zero_points)

    def encode(self, weight: Float[Tensor, "N K"]) -> UInt8[Tensor, "N K"]:
        """The codes of the nearest values; beyond the ends of the grid, those of its ends."""
        steps = torch.where(self.steps > 0, self.steps, 1)  # a block far below others rounds to 0
        K = weight.shape[1]
        return self.spec.table.encode(weight / _spread(steps, K) + _spread(self.offsets, K))

    def decode(self, codes: UInt8[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """The weights that codes stand for."""
        K = codes.shape[1]
        values = self.spec.table.decode(codes)
        return (values - _spread(self.offsets, K)) * _spread(self.steps, K)


@dataclass(frozen=True)
class Quantized:
    """A matrix in few bits; `codes` has one to a byte (see `minillm.quantization.packing`)."""

    codes: UInt8[Tensor, "N K"]
    grid: Grid

    @property
    def nbytes(self) -> int:
        """As stored."""
        return self.grid.spec.nbytes(*self.codes.shape)

    @property
    def bits(self) -> float:
        """Of a weight, with its share of scales and zero points."""
        return 8 * self.nbytes / self.codes.numel()


def quantize(weight: Float[Tensor, "N K"], spec: Spec) -> Quantized:
    """Round each weight to the nearest value of the grid that fits the matrix.

    Raises:
        ValueError: a weight that is not finite; a group that does not divide the rows.
    """
    grid = fit_grid(weight, spec)
    return Quantized(grid.encode(weight), grid)


def dequantize(quantized: Quantized) -> Float[Tensor, "N K"]:
    """The weights, in float32, that a matrix in few bits stands for."""
    return quantized.grid.decode(quantized.codes)


def fit_grid(weight: Float[Tensor, "N K"], spec: Spec) -> Grid:
    """The grid that reaches just as far as the largest weight of each group.

    Raises:
        ValueError: a weight that is not finite, in float32 or once rounded; a group that does not
            divide the rows.
    """
    weight = weight.float()
    if not weight.isfinite().all():
        raise ValueError(f"{int((~weight.isfinite()).sum())} weights are NaN or infinite")
    rows, G = spec.scale_shape(*weight.shape)
    groups = weight.reshape(rows, G, -1)
    grid = fit_groups(groups, spec)
    ends = torch.stack((groups.amin(-1), groups.amax(-1)), -1).flatten(1)  # (rows, 2G)
    if not grid.decode(grid.encode(ends)).isfinite().all():
        raise ValueError(f"weights from {ends.min():.2g} to {ends.max():.2g} overflow as {spec}")
    return grid


def fit_groups(groups: Float[Tensor, "rows G n"], spec: Spec) -> Grid:
    """The grid of groups whose weights are known to be fit for it; see `fit_grid`."""
    if not spec.symmetric:
        return _with_zero_points(groups, spec)
    largest = groups.abs().amax(-1)  # (rows, G)
    if spec.table.scales == "e8m0":  # both largest in one binade: what is above 6 becomes 6
        reach = _binade(largest.new_tensor(spec.table.largest))
        return Grid(spec, E8M0.encode(_binade(largest) / reach))
    needed = largest / spec.table.largest
    if spec.table.scales == "e4m3":
        coder = FORMATS["fp8_e4m3"]
        whole = _or_one(needed.max() / coder.largest)
        return Grid(spec, coder.encode(needed / whole), global_scale=whole)
    return Grid(spec, _or_one(needed))


def _with_zero_points(groups: Tensor, spec: Spec) -> Grid:
    """Integers from the smallest weight to the largest; zero is always among them."""
    low, high = groups.amin(-1).clamp_max(0), groups.amax(-1).clamp_min(0)
    levels = spec.table.levels
    steps = _or_one((high / 2 - low / 2) / ((levels[-1] - levels[0]) / 2))  # no sum overflows
    return Grid(spec, steps, zero_points=spec.table.encode(levels[0] - low / steps))


def _or_one(steps: Tensor) -> Tensor:
    """Of zeros any step will do, but none of zero."""
    return torch.where(steps > 0, steps, 1)


def _binade(x: Tensor) -> Tensor:
    """The power of two at which the binade of x begins; of 0 it is 1."""
    return torch.where(x > 0, torch.ldexp(torch.ones_like(x), x.frexp().exponent - 1), 1)


def _spread(values: Tensor, K: int) -> Tensor:
    """From one of each group to one of each weight: (rows, G) to (rows, K), or (rows, 1)."""
    if values.shape[1] in (1, K):
        return values
    return values.repeat_interleave(K // values.shape[1], dim=1)
