"""Which neurons of the MLPs speak, how often, and how many stay silent for a whole batch.

With a relu a neuron's gate is open or shut, token by token. Shut for one token, its weights need
not be read; for a batch they must be shut for every token of it. If all gates were shut with
probability X, whatever the token and the neuron, N tokens would leave X^N of them unused. Two
things make it more: neurons differ in how often they are open, so that mean(x^N) >= mean(x)^N; and
tokens that are read together are alike, so that they open the same ones.

Dimensions: L layers, N tokens that are read together, M such groups, F MLP width.

Sources: X^N, "Transformer inference tricks" (Finbarr Timbers, 2023); hot and cold neurons,
PowerInfer (arXiv 2312.12456); reuse over neighbouring tokens, "ReLU Strikes Back" (arXiv
2310.04564), where it is called aggregated sparsity.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minillm.whole import whole

__all__ = ["Unused", "firing_rates", "hot_neurons", "neighbours", "unused", "unused_by_law"]

_HOT = 0.8  # of all openings that the hot neurons make


def firing_rates(gates: Float[Tensor, "L *tokens F"]) -> Float[Tensor, "L F"]:
    """How often each neuron's gate is open: 0 is a dead neuron, on these tokens at least."""
    return torch.stack([(layer != 0).flatten(0, -2).cpu().double().mean(0) for layer in gates])


def hot_neurons(rates: Float[Tensor, "L F"]) -> Int[Tensor, " L"]:
    """By layer, the fewest neurons that make four fifths of all openings; the others are cold."""
    ordered = rates.sort(dim=-1, descending=True).values
    before = ordered.cumsum(-1) - ordered  # openings of the hotter ones
    return ((before < (_HOT - 1e-9) * ordered.sum(-1, keepdim=True)) & (ordered > 0)).sum(-1)


def unused_by_law(X: float, N: int) -> float:
    """The share of neurons that N tokens leave unused, were all gates independent.

    Args:
        X: the share that one token leaves unused.
        N: tokens that are read together.

    Raises:
        ValueError: X outside [0, 1], or N below 1.

    >>> round(unused_by_law(0.97, 32), 3)
    0.377
    """
    if not 0 <= X <= 1:
        raise ValueError(f"X is a share, from 0 to 1, got {X}")
    return X ** whole("N", N, least=1)


@dataclass(frozen=True)
class Unused:
    """The share of neurons that N tokens leave unused: as it is, and as it would be.

    Attributes:
        measured: by layer, mean over the groups.
        by_rates: by layer, if tokens were independent but neurons differ: mean(x^N).
        by_law: by layer, if neurons did not differ either: mean(x)^N.
    """

    measured: Float[Tensor, " L"]
    by_rates: Float[Tensor, " L"]
    by_law: Float[Tensor, " L"]

    @property
    def gap(self) -> Float[Tensor, " L"]:
        """How much more is unused than the law says."""
        return self.measured - self.by_law


def unused(opened: Bool[Tensor, "L M N F"]) -> Unused:
    """Of each layer, what groups of N tokens leave unused. N = 1 has no gap.

    Args:
        opened: which gates are open, by layer, group of tokens and token.
    """
    opened, (_, M, N, _) = opened.cpu(), opened.shape
    counts = torch.stack([layer.sum((0, 1)) for layer in opened])  # (L, F)
    shut = 1 - counts.double() / (M * N)  # how often
    return Unused(
        measured=torch.stack([(~layer.any(1)).double().mean() for layer in opened]),
        by_rates=(shut**N).mean(-1),
        by_law=shut.mean(-1) ** N,
    )


def neighbours(opened: Bool[Tensor, "L B T F"], N: int) -> Bool[Tensor, "L M N F"]:
    """Groups of N neighbouring tokens of a text, as verification reads them; a rest is left out.

    Raises:
        ValueError: N below 1, or beyond the texts.
    """
    T = opened.shape[2]
    N = whole("N", N, least=1, most=T)
    return torch.cat(opened[:, :, : T // N * N].split(N, dim=2), dim=1)
