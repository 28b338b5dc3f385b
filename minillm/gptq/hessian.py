"""What a layer's output depends on: the Hessian of its squared error, from calibration text.

Rounding changes a matrix by D, and its outputs by D x. Squared and averaged over the inputs x of
some text, the error is tr(D H D^T) / 2 with H the mean of 2 x x^T: every row of the matrix has the
same H, and H is all of the text that matters. GPTQ (`minillm.gptq.columns`) needs a triangular root
of its inverse. A text may leave H singular, with fewer tokens than inputs, or with inputs that
depend on each other; a little added to the diagonal, the damping, helps.

The sum over batches is in float64, the products of a batch in float32 at least. In float16 they
would be lost: beyond 2048 it has no odd numbers.

Dimensions: R rows (tokens), K inputs.

Source: GPTQ (arXiv 2210.17323), with the authors' code (IST-DASLab/gptq).
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minillm.modules import hooked
from minillm.transformer import Transformer

__all__ = ["Hessian", "damped", "hessians", "inverse_root"]

_MOST = 1.0  # damping, in means of the diagonal: beyond, H would say less than the damping


class Hessian:
    """The running mean of 2 x x^T.

    Args:
        K: how many inputs the layer has.
        device: of the sum.

    >>> hessian = Hessian(2)
    >>> hessian.add(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    >>> hessian.matrix.tolist()
    [[2.0, 2.0], [2.0, 4.0]]
    """

    def __init__(self, K: int, device: torch.device | str = "cpu"):
        self.samples = 0
        self._sum = torch.zeros(K, K, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, x: Float[Tensor, "*R K"]) -> None:
        """Count the inputs of some more tokens; their products are made in float32 at least.

        Raises:
            ValueError: inputs of another width.
        """
        if x.shape[-1] != len(self._sum):
            raise ValueError(f"inputs of {len(self._sum)} numbers are needed, got {x.shape[-1]}")
        x = x.reshape(-1, len(self._sum)).to(torch.promote_types(x.dtype, torch.float32))
        self._sum += x.T @ x
        self.samples += len(x)

    @property
    def matrix(self) -> Float[Tensor, "K K"]:
        """The mean, in float64.

        Raises:
            ValueError: no inputs were counted.
        """
        if not self.samples:
            raise ValueError("the calibration text is empty: no inputs were counted")
        return (self._sum + self._sum.T) / self.samples  # rounding alone makes the sum lopsided


@torch.no_grad()
def hessians(
    model: Transformer, tokens: Int[Tensor, "B T"], names: Sequence[str]
) -> dict[str, Float[Tensor, "K K"]]:
    """The Hessian, in float64, of the inputs that a text gives each of the linear layers."""
    layers: dict[Any, str] = {model.get_submodule(name): name for name in names}
    found = {name: Hessian(layer.in_features, model.device) for layer, name in layers.items()}
    with hooked(layers, lambda layer, given, made: found[layers[layer]].add(given[0])):
        model.hidden(tokens.to(model.device))
    return {name: hessian.matrix for name, hessian in found.items()}


def damped(hessian: Float[Tensor, "K K"], damping: float) -> Float[Tensor, "K K"]:
    """H with `damping` times the mean of its diagonal added there.

    Inputs that were always zero do not count in that mean, and are given it instead of their zero
    (the authors give them 1, which makes the damping depend on H's units).

    Raises:
        ValueError: all inputs were zero; a damping that is negative or not finite.
    """
    if not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"damping must be at least 0, got {damping}")
    diagonal = hessian.diagonal()
    alive = diagonal != 0
    if not alive.any():
        raise ValueError("the calibration text leaves all inputs zero")
    mean = diagonal[alive].mean()
    return hessian + torch.diag(torch.where(alive, 0, mean) + damping * mean)


def inverse_root(hessian: Float[Tensor, "K K"], damping: float) -> Float[Tensor, "K K"]:
    """The upper triangular U with U^T U the inverse of the damped H.

    Where that is not positive definite, the damping is raised tenfold until it is, with a warning.

    Raises:
        ValueError: still not so with a damping of 1.
    """
    enough = damping
    while (U := _inverse_root(damped(hessian, enough))) is None:
        if enough >= _MOST:
            raise ValueError(f"the Hessian is not positive definite with a damping up to {_MOST}")
        enough = min(max(10 * enough, 1e-6), _MOST)
    if enough != damping:
        warnings.warn(
            f"the Hessian is not positive definite: damping raised from {damping} to {enough:g}",
            stacklevel=3,
        )
    return U


def _inverse_root(hessian: Tensor) -> Tensor | None:
    """None where H, or its inverse as computed, is not positive definite."""
    L, failed = torch.linalg.cholesky_ex(hessian)
    if failed:
        return None
    U, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(L), upper=True)
    return None if failed else U
