"""Muon: move each matrix along the orthogonal matrix nearest to its momentum.

The momentum of a weight matrix is dominated by a few directions, so a step along it moves little
else. Muon replaces it by the nearest matrix whose singular values are all one, which moves every
direction by the same amount. An SVD would give that matrix; five steps of a polynomial (Newton-
Schulz) come close enough and are matrix products only: for m x n with m <= n about
5 (4 m^2 n + 2 m^3) operations, once a step however many tokens the batch has.

`torch.optim.Muon` does the same products in bfloat16, which is 20 times slower on processors
without bfloat16 units; here they stay in float32. Fused matrices are orthogonalised part by part,
as the matrices they are made of.

Source: Keller Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024),
https://kellerjordan.github.io/posts/muon/.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Muon", "orthogonalise"]


def orthogonalise(matrix: Float[Tensor, "m n"], steps: int = 5) -> Float[Tensor, "m n"]:
    """A matrix with `matrix`'s singular vectors and singular values near one.

    Each step maps a singular value s to 3.4445 s - 4.775 s^3 + 2.0315 s^5, which lifts small ones
    fast and then keeps them between about 0.7 and 1.2.

    >>> near = orthogonalise(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    >>> bool((near.diagonal() > 0.6).all() and (near.diagonal() < 1.3).all())
    True
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix  # the smaller side first: smaller products
    x = x / (x.norm() + 1e-7)  # no singular value above one
    for _ in range(steps):
        gram = x @ x.mT  # (m, m)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    Args:
        groups: dicts of `params`, float32 matrices, and `rows`, the rows of each of the parts that
            these matrices consist of, or None where they are one.
        lr: length of a step; a part with more rows than columns moves sqrt(rows / columns) of it.
        momentum: share of the running mean that a step keeps.
        weight_decay: share of each weight, times lr, that a step removes.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)

    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, beta = self.state[matrix], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        mean = state["momentum"].lerp_(gradient, 1 - beta)
        update = gradient.lerp(mean, beta)  # Nesterov: look one step ahead
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        rows = group["rows"] or [len(matrix)]
        parts, directions = matrix.split_with_sizes(rows), update.split_with_sizes(rows)
        for part, direction in zip(parts, directions, strict=True):
            length = group["lr"] * max(1, part.shape[0] / part.shape[1]) ** 0.5
            part.sub_(orthogonalise(direction), alpha=length)
