"""A matrix that GPTQ rounded, with all that it showed: what the explorer of GPTQ draws.

Dimensions: N outputs, K inputs (columns).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.gptq.columns import Column, gptq
from minillm.gptq.hessian import damped
from minillm.quantization.rounding import Quantized, dequantize, quantize
from minillm.quantization.spec import Spec

__all__ = ["Rounding", "relative_error"]


def relative_error(
    weight: Float[Tensor, "N K"], other: Float[Tensor, "N K"], hessian: Float[Tensor, "K K"]
) -> float:
    """||(W - W') X|| / ||W X||; of the weights themselves with the identity for H."""
    D = weight - other
    return float((((D @ hessian) * D).sum() / ((weight @ hessian) * weight).sum()).sqrt())


@dataclass(frozen=True)
class Rounding:
    """A matrix that GPTQ rounded, and all that it showed.

    Attributes:
        weight, hessian: as given, in float64; no input is always zero.
        inputs: (K,), their numbers in the layer.
        damping: as given.
        result: of GPTQ.
        columns: in the order in which they were rounded.
    """

    weight: Float[Tensor, "N K"]
    hessian: Float[Tensor, "K K"]
    inputs: tuple[int, ...]
    damping: float
    result: Quantized
    columns: tuple[Column, ...]

    @classmethod
    def run(
        cls,
        weight: Float[Tensor, "N K"],
        hessian: Float[Tensor, "K K"],
        inputs: Sequence[int],
        spec: Spec,
        *,
        damping: float = 0.01,
        act_order: bool = False,
    ) -> "Rounding":
        """Round as `gptq` does."""
        seen: list[Column] = []
        weight, hessian = weight.double(), hessian.double()
        result = gptq(
            weight, hessian, spec, damping=damping, act_order=act_order, watch=seen.append
        )
        return cls(weight, hessian, tuple(inputs), damping, result, tuple(seen))

    @property
    def order(self) -> list[int]:
        """Of the columns, as they were rounded."""
        return [column.index for column in self.columns]

    @cached_property
    def states(self) -> list[Float[Tensor, "N K"]]:
        """The matrix before the first column, and after each: rounded so far, or moved."""
        states = [self.weight]
        for column in self.columns:
            now = states[-1].clone()
            now[:, column.index] = column.rounded
            now[:, column.rest] -= column.update
            states.append(now)
        return states

    @cached_property
    def nearest(self) -> list[Float[Tensor, "N K"]]:
        """The same of round to nearest, which moves nothing."""
        rounded = dequantize(quantize(self.weight, self.result.grid.spec)).double()
        states = [self.weight]
        for i in self.order:
            states.append(states[-1].clone())
            states[-1][:, i] = rounded[:, i]
        return states

    @cached_property
    def squares(self) -> list[float]:
        """Sum of e^2 over the columns rounded so far."""
        sums = [0.0]
        for column in self.columns:
            sums.append(sums[-1] + float(column.error.square().sum()))
        return sums

    @cached_property
    def traces(self) -> list[float]:
        """tr((W - Q) H (W - Q)^T) with the damped H, Q being the matrix as it is by then."""
        H = damped(self.hessian, self.damping)
        return [float((((W - self.weight) @ H) * (W - self.weight)).sum()) for W in self.states]

    def output_errors(self, states: Sequence[Tensor]) -> list[float]:
        """In percent, on the text itself: without damping."""
        return [100 * relative_error(self.weight, W, self.hessian) for W in states]

    def weight_errors(self, states: Sequence[Tensor]) -> list[float]:
        """In percent."""
        same = torch.eye(len(self.hessian), dtype=torch.float64)
        return [100 * relative_error(self.weight, W, same) for W in states]

    @cached_property
    def correlations(self) -> Float[Tensor, "K K"]:
        """How inputs go together: H with ones on its diagonal."""
        scale = self.hessian.diagonal().rsqrt()
        return self.hessian * scale * scale[:, None]

    def moved(self, state: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """How far weights are from the given ones, in steps of their row's grid."""
        return (state - self.weight) / self.result.grid.steps.double()
