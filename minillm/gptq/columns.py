"""GPTQ: rounding that knows the data, one column at a time.

Round to nearest asks of each weight alone what is near. But a layer's output sums over its inputs,
and where inputs go together, the error of one weight can be made good by its neighbours. GPTQ
rounds a column, and moves the columns still to come so that the output changes least; when they
are rounded in their turn, they start from there. What "least" means is in the Hessian of the inputs
(`minillm.gptq.hessian`): with U the upper Cholesky root of its inverse, column i leaves

    error = (w_i - rounded_i) / U_ii        and all j > i become        w_j - error U_ij.

The squares of all errors sum to tr((W - Q) H (W - Q)^T), the error of the output. Without
correlations H is diagonal, nothing moves, and GPTQ is round to nearest.

Columns may come in the order of H's diagonal, the strongest input first, while many others are
left to make good its error (act-order). Groups then need scales that were fixed in advance
(static); otherwise a group's are those of its weights as they are when its turn comes (dynamic).
Updates beyond a block of columns wait, and are made at once: the same numbers with less traffic.

An input that was zero in all of the text tells nothing: its weights are rounded to nearest. The
authors zero them, but a sparse model has neurons that stay silent in one text and fire in another.

    >>> H = torch.tensor([[2.0, 1.9], [1.9, 2.0]])
    >>> weight = torch.tensor([[0.4, 0.4], [7.0, 7.0]])
    >>> dequantize(gptq(weight, H, Spec("int4", "tensor"))).tolist()  # 0 + 1 is nearer than 0 + 0
    [[0.0, 1.0], [7.0, 7.0]]

Dimensions: N outputs, K inputs (columns), M of them still to come.

Source: GPTQ (arXiv 2210.17323), with the authors' code (IST-DASLab/gptq).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from minillm.gptq.hessian import inverse_root
from minillm.quantization.rounding import Grid, Quantized, dequantize, fit_grid
from minillm.quantization.spec import Spec

__all__ = ["Column", "gptq", "round_trip_error"]


@dataclass(frozen=True)
class Column:
    """What one step of GPTQ did.

    Attributes:
        index: which column of the matrix was rounded.
        weight: (N,), as the steps before left it.
        codes: (N,), of the nearest values.
        rounded: (N,), these values.
        error: (N,), what is left, over U_ii.
        rest: (M,), which columns are still to come, in their order.
        reach: (M,), the row of U that says how far each of them is moved.
    """

    index: int
    weight: Float[Tensor, " N"]
    codes: UInt8[Tensor, " N"]
    rounded: Float[Tensor, " N"]
    error: Float[Tensor, " N"]
    rest: Int[Tensor, " M"]
    reach: Float[Tensor, " M"]

    @property
    def update(self) -> Float[Tensor, "N M"]:
        """What is taken from the columns still to come."""
        return torch.outer(self.error, self.reach)


@torch.no_grad()
def gptq(
    weight: Float[Tensor, "N K"],
    hessian: Float[Tensor, "K K"],
    spec: Spec,
    *,
    damping: float = 0.01,
    act_order: bool = False,
    static_groups: bool = False,
    block: int = 128,
    watch: Callable[[Column], None] | None = None,
) -> Quantized:
    """Round a matrix so that its outputs change least; the naive twin is `quantize`.

    Args:
        weight: stays as it is.
        hessian: of the layer's inputs, on the weight's device; the work is done in its dtype.
        spec: of the result.
        damping: added to the diagonal, in units of its mean.
        act_order: columns in falling order of the diagonal, not from left to right.
        static_groups: scales of the given weights, not of those at the turn of their group.
        block: columns whose updates of all others are made at once; changes nothing but speed.
        watch: is shown each column, in the order in which they are rounded.

    Raises:
        ValueError: shapes or groups that do not fit; numbers that are not finite; a Hessian in
            half precision, not symmetric, of zeros, or far from positive definite; act-order
            with dynamic groups, or a format that cannot have them; a block below 1.
    """
    _check(weight, hessian, block)
    K, size = weight.shape[1], _group_size(weight, spec, act_order, static_groups)
    strongest = hessian.diagonal().argsort(descending=True, stable=True)
    order = strongest if act_order else strongest.sort().values
    grid, codes = fit_grid(weight, spec), torch.zeros_like(weight, dtype=torch.uint8).contiguous()
    W, U = weight.to(hessian)[:, order], inverse_root(hessian[order][:, order], damping)
    for start, end in pairwise(sorted({*range(0, K, block), *range(0, K, size), K})):
        if not static_groups and start % size == 0:
            _refit(grid, start // size, W[:, start : start + size])
        errors = torch.empty_like(W[:, start:end])
        for i in range(start, end):
            column, w = int(order[i]), W[:, i]
            group = _group(grid, column // size)
            code = codes[:, column] = group.encode(w[:, None].float())[:, 0]
            rounded = group.decode(code[:, None])[:, 0].to(w)
            error = errors[:, i - start] = (w - rounded) / U[i, i]
            if watch is not None:
                watch(Column(column, w, code, rounded, error, order[i + 1 :], U[i, i + 1 :]))
            W[:, i + 1 : end] -= torch.outer(error, U[i, i + 1 : end])
        W[:, end:] -= errors @ U[start:end, end:]
    return Quantized(codes, grid)


def round_trip_error(
    weight: Float[Tensor, "N K"], quantized: Quantized, hessian: Float[Tensor, "K K"]
) -> float:
    """tr((W - Q) H (W - Q)^T): twice the squared error of the outputs, the mean over tokens."""
    D = weight.to(hessian) - dequantize(quantized).to(hessian)
    return float(((D @ hessian) * D).sum())


def _check(weight: Tensor, hessian: Tensor, block: int) -> None:
    K = weight.shape[1]
    if hessian.shape != (K, K):
        raise ValueError(
            f"rows of {K} weights need a Hessian of {K} x {K}, got {tuple(hessian.shape)}"
        )
    if hessian.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"a Hessian is in float32 or float64, got {hessian.dtype}")
    if not hessian.isfinite().all():
        raise ValueError("the Hessian has numbers that are NaN or infinite")
    if not torch.allclose(hessian, hessian.T, rtol=1e-4, atol=1e-4 * float(hessian.abs().max())):
        raise ValueError("the Hessian is not symmetric")
    if block < 1:
        raise ValueError(f"a block has at least one column, got {block}")


def _group_size(weight: Tensor, spec: Spec, act_order: bool, static_groups: bool) -> int:
    """How many columns share a scale."""
    N, K = weight.shape
    size = K // spec.scale_shape(N, K)[1]
    if size == K or static_groups:
        return size
    if act_order:
        raise ValueError(
            "act-order takes the columns of a group at different times, so that dynamic groups "
            "would mix: choose static_groups=True"
        )
    if spec.table.scales == "e4m3":
        raise ValueError(f"{spec.format} has a scale for all its scales: choose static_groups=True")
    return size


def _group(grid: Grid, g: int) -> Grid:
    """The grid of one group's columns."""
    zeros = None if grid.zero_points is None else grid.zero_points[:, g : g + 1]
    return Grid(grid.spec, grid.scales[:, g : g + 1], zeros, grid.global_scale)


def _refit(grid: Grid, g: int, weight: Tensor) -> None:
    """Fit the scales of one group to its weights as they are now."""
    fresh = fit_grid(weight, grid.spec)
    grid.scales[:, g : g + 1] = fresh.scales
    if grid.zero_points is not None and fresh.zero_points is not None:
        grid.zero_points[:, g : g + 1] = fresh.zero_points
