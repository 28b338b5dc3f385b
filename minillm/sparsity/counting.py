"""How many zeros are there? Attention and MLPs of one pass, counted with a stated threshold.

The softmax of finite scores is never zero: a weight only gets small, and how many "zeros" there are
is a matter of the threshold. A causal query sees the keys up to its own place, and only these
count; the masked ones, half of the square, would pass for zeros otherwise. What attention puts out
is a mean of values, and is not sparse. A relu does leave exact zeros (`minillm.sparsity.neurons`).

Dimensions: L layers, B batch, T queries, S keys, H query heads, D head dim, F MLP width.

Sources: "Transformer inference tricks" (Finbarr Timbers, 2023); a hundredth of a row's maximum as
the threshold, H2O (arXiv 2306.14048); sinks, StreamingLLM (arXiv 2309.17453).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minillm.attention import Attend, attention_weights, causal_mask
from minillm.modules import gate_outputs, hooked
from minillm.transformer import Transformer
from minillm.whole import whole

__all__ = ["Observed", "keys_for", "mass_of_top", "observe", "share_below"]

_SORTED = 4096  # rows at once: a sort takes several times their memory


@dataclass(frozen=True)
class Observed:
    """What one forward pass computed, layer by layer.

    Attributes:
        weights: (L, B, H, T, S), of attention; 0 where a key is hidden.
        outputs: (L, B, H, T, D), what each head mixed of the values.
        gates: (L, B, T, F), of the MLPs, behind the activation.
        visible: (T, S), which keys each query sees.
    """

    weights: Float[Tensor, "L B H T S"]
    outputs: Float[Tensor, "L B H T D"]
    gates: Float[Tensor, "L B T F"]
    visible: Bool[Tensor, "T S"]


@torch.no_grad()
def observe(
    model: Transformer, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "T T"] | None = None
) -> Observed:
    """Read texts, without a cache, and keep what there is to count.

    Args:
        model: the readable one, or a twin.
        tokens: of the texts.
        mask: who sees whom; causal by default.
    """
    weights, outputs = list[Tensor](), list[Tensor]()

    def see(module: Attend, given: Any, mixed: Tensor) -> None:
        q, k, _, mask = given
        weights.append(attention_weights(q, k, mask))
        outputs.append(mixed)

    attends = [module for module in model.modules() if isinstance(module, Attend)]
    with hooked(attends, see), gate_outputs(model) as gates:
        model.hidden(tokens, mask=mask)
    T = tokens.shape[1]
    visible = causal_mask(T, T, tokens.device) if mask is None else mask
    return Observed(_stacked(weights), _stacked(outputs), _stacked(gates), visible)


def _stacked(layers: list[Tensor]) -> Tensor:
    """All layers as one tensor; the list is emptied, so that no number is held twice for long."""
    stacked = torch.stack(layers)
    layers.clear()
    return stacked


def share_below(
    x: Float[Tensor, "*rows S"],
    threshold: float,
    counted: Bool[Tensor, "*some S"] | None = None,
    *,
    of_maximum: bool = False,
) -> Float[Tensor, "*rows"]:
    """Of each row's entries, the share whose magnitude is at most the threshold.

    Args:
        x: rows of attention weights, or of whatever else.
        threshold: 0 counts exact zeros.
        counted: which entries count, such as visible keys; by default all do.
        of_maximum: the threshold is in units of the row's largest magnitude.

    Raises:
        ValueError: a threshold outside [0, 1], or a row of which nothing counts.

    >>> share_below(torch.tensor([0.9, 0.1, 0.0, 0.0]), 0.1, torch.tensor([True] * 3 + [False]))
    tensor(0.6667)
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold must be from 0 to 1, got {threshold}")
    size = x.abs()
    counts = torch.ones_like(x, dtype=torch.bool) if counted is None else counted.expand(x.shape)
    if not counts.any(-1).all():
        raise ValueError("of each row at least one entry must count")
    limit = size.masked_fill(~counts, 0).amax(-1, keepdim=True) if of_maximum else 1.0
    return ((size <= threshold * limit) & counts).sum(-1) / counts.sum(-1)


def keys_for(weights: Float[Tensor, "*rows S"], mass: float = 0.9) -> Int[Tensor, "*rows"]:
    """How many of each query's largest weights it takes to hold so much of its attention.

    Args:
        weights: of attention; each row sums to 1.

    Raises:
        ValueError: a mass outside (0, 1).

    >>> keys_for(torch.tensor([[0.5, 0.125, 0.25, 0.125]]), 0.7)
    tensor([2])
    """
    if not 0 < mass < 1:
        raise ValueError(f"mass must lie between 0 and 1, got {mass}")
    largest = weights.sort(dim=-1, descending=True).values
    return (largest.cumsum(-1) < mass).sum(-1) + 1


def mass_of_top(weights: Float[Tensor, "*rows S"], k: int) -> Float[Tensor, "*rows"]:
    """The attention that each query's k largest weights have together.

    Raises:
        ValueError: k below 1, or beyond the keys.

    >>> mass_of_top(torch.tensor([[0.5, 0.125, 0.25, 0.125]]), 2)
    tensor([0.7500])
    """
    k = whole("k", k, least=1, most=weights.shape[-1])
    parts = weights.reshape(-1, weights.shape[-1]).split(_SORTED)
    masses = [part.sort(dim=-1, descending=True).values[:, :k].sum(-1) for part in parts]
    return torch.cat(masses).view(weights.shape[:-1])
