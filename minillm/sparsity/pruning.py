"""Zeros that are made: small values set to zero, at some loss.

A relu leaves zeros of its own accord. Where there are none, small values can be taken for zeros:
gates below a threshold (CATS), whatever enters a matrix below one (TEAL), all keys but those with
the largest weights (top-k attention). The share of zeros is chosen; what it costs in loss has to be
measured (`minillm.measure.evaluation.evaluate`).

Dimensions: T tokens, S keys, H query heads.

Sources: CATS (arXiv 2404.08763); TEAL (arXiv 2408.14690); the mask of sinks and a window,
StreamingLLM (arXiv 2309.17453).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from minillm.attention import Attend, attention_weights, causal_mask
from minillm.modules import hooked, swapped
from minillm.transformer import MLP, Transformer
from minillm.whole import whole

__all__ = ["ThresholdedGate", "TopKAttend", "cats", "sinks_and_window", "teal", "top_k_attention"]


class Threshold(nn.Module):
    """Sets to zero what is at most `tau` in magnitude."""

    def __init__(self, tau: float):
        super().__init__()
        self.tau = tau

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(x.abs() <= self.tau, 0)


class ThresholdedGate(nn.Sequential):
    """An activation, and behind it the threshold below which a gate counts as shut."""

    def __init__(self, act: nn.Module, tau: float):
        super().__init__(act, Threshold(tau))


class TopKAttend(Attend):
    """Attention over the k visible keys with the largest weights, as if the others were not there.

    It has to know all weights to choose: what an ideal selection would lose, not a faster one.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            mask = causal_mask(q.shape[2], k.shape[2], q.device)
        weights = attention_weights(q, k, mask)  # (B, H, T, S)
        if self.k >= weights.shape[-1]:
            return super().forward(q, k, v, mask)
        chosen = torch.zeros_like(weights, dtype=torch.bool)
        chosen.scatter_(-1, weights.argsort(dim=-1, descending=True)[..., : self.k], True)
        heads = q.shape[1] // k.shape[1]  # each chooses keys of its own
        k, v = k.repeat_interleave(heads, 1), v.repeat_interleave(heads, 1)
        return super().forward(q, k, v, chosen & mask)


def top_k_attention(model: Transformer, k: int) -> Transformer:
    """A twin of `model` in which every query reads its k best keys.

    Raises:
        ValueError: k below 1, or beyond the context.
    """
    k = whole("k", k, least=1, most=model.config.max_position_embeddings)
    attends = [module for module in model.modules() if isinstance(module, Attend)]
    return swapped(model, {attend: TopKAttend(k) for attend in attends})


def cats(model: Transformer, tokens: Int[Tensor, "B T"], share: float) -> Transformer:
    """A twin of `model` that shuts the smallest gates: on `tokens`, this share of each layer's.

    `minillm.fast.skipping_model.skipping` skips what they multiply. Gates that a relu has shut
    count too.

    Raises:
        ValueError: a share outside [0, 1].
    """
    acts = [module.act for module in model.modules() if isinstance(module, MLP)]
    limits = _smallest(model, tokens, acts, share, given=False)
    return swapped(model, {act: ThresholdedGate(act, limit) for act, limit in limits.items()})


def teal(model: Transformer, tokens: Int[Tensor, "B T"], share: float) -> Transformer:
    """A twin of `model` whose blocks set to zero this share of what enters each of their matrices.

    A zero that enters a matrix makes one of its columns idle.

    Raises:
        ValueError: a share outside [0, 1].
    """
    matrices = [x for block in model.blocks for x in block.modules() if isinstance(x, nn.Linear)]
    limits = _smallest(model, tokens, matrices, share, given=True)
    return swapped(model, {x: nn.Sequential(Threshold(limit), x) for x, limit in limits.items()})


def sinks_and_window(T: int, sinks: int, window: int) -> Bool[Tensor, "T T"]:
    """Who sees whom if only the first `sinks` tokens and the last `window` ones are kept.

    Raises:
        ValueError: sinks below 0, or a window below 1.
    """
    sinks, window = whole("sinks", sinks), whole("window", window, least=1)
    causal = causal_mask(T, T, torch.device("cpu"))
    return causal & (~causal.tril(-window) | (torch.arange(T) < sinks))


def _smallest(
    model: Transformer, tokens: Tensor, modules: Sequence[nn.Module], share: float, *, given: bool
) -> dict[nn.Module, float]:
    """What this share of the values given to each module, or made by it, does not exceed."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share of zeros must be from 0 to 1, got {share}")
    seen: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen[module] = (inputs[0] if given else output).abs().flatten()

    with hooked(modules, see), torch.no_grad():
        model.hidden(tokens.to(model.device))
    return {module: _quantile(values, share) for module, values in seen.items()}


def _quantile(values: Tensor, share: float) -> float:
    """What this share of the values does not exceed; below 0 where that is none of them."""
    count = round(share * len(values))
    return values.kthvalue(count).values.item() if count else -1.0
