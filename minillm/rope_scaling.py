"""Contexts longer than those of training: the slow rotations are slowed down, the fast ones stay.

A pair of dimensions that turns many times within the original context tells neighbours apart, and
keeps its frequency. One that never came around would meet angles it was not trained on, and is
divided by the factor. The kinds differ in what happens between: `linear` divides all, `llama3`
mixes by the number of turns, `yarn` by the number of the pair.

Dimensions: D head dim, P = D/2 pairs.

Sources: linear (arXiv 2306.15595); yarn (arXiv 2309.00071); llama3, as transformers computes it in
`modeling_rope_utils.py`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["RopeScaling"]


@dataclass(frozen=True)
class RopeScaling:
    """How the frequencies of a model change.

    Attributes:
        factor: by which slow rotations are divided.
        context: the original one, in tokens.
        slow, fast: turns within it up to which a rotation is slow, and from which it is fast.
        attention: by which cosines and sines are multiplied.
        whole_pairs: the borders of yarn's ramp are whole numbers.
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    context: int
    slow: float = 1.0
    fast: float = 32.0
    attention: float = 1.0
    whole_pairs: bool = True

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.attention > 0 and self.context > 0):
            raise ValueError(f"rope type {self.kind!r} needs factors and a context above 0: {self}")
        if not 0 < self.slow < self.fast:
            raise ValueError(f"rope type {self.kind!r} needs turns of 0 < slow < fast: {self}")

    def scaled(self, frequency: Float[Tensor, " P"], theta: float) -> Float[Tensor, " P"]:
        """The frequencies, of which each keeps its share and is divided for the rest.

        Raises:
            ValueError: yarn, and a theta of at most 1.
        """
        if self.kind == "yarn" and theta <= 1:
            raise ValueError(f"rope type 'yarn' needs a rope_theta above 1, got {theta}")
        kept = self._kept(frequency, theta)
        return frequency * (kept + (1 - kept) / self.factor)

    def _kept(self, frequency: Tensor, theta: float) -> Tensor:
        if self.kind == "linear":
            return torch.zeros_like(frequency)
        if self.kind == "llama3":
            turns = self.context * frequency / (2 * math.pi)
            return ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        D = 2 * len(frequency)
        first, last = (self._pair(turns, D, theta) for turns in (self.fast, self.slow))
        if self.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, D - 1)
        pair = torch.arange(len(frequency), dtype=torch.float32, device=frequency.device)
        return 1 - ((pair - first) / (last - first or 0.001)).clamp(0, 1)

    def _pair(self, turns: float, D: int, theta: float) -> float:
        """The pair that turns so often within the original context."""
        return D * math.log(self.context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    def to_dict(self) -> dict[str, Any]:
        """Hugging Face's `rope_scaling`."""
        fields: dict[str, Any] = {"rope_type": self.kind, "factor": self.factor}
        if self.kind == "linear":
            return fields
        fields["original_max_position_embeddings"] = self.context
        if self.kind == "llama3":
            return fields | {"low_freq_factor": self.slow, "high_freq_factor": self.fast}
        borders = {"beta_slow": self.slow, "beta_fast": self.fast, "truncate": self.whole_pairs}
        return fields | borders | {"attention_factor": self.attention}
