"""From logits to a token: temperature, top-k and top-p shape a distribution, a number picks.

The randomness is an argument: a float64 uniform u in [0, 1) picks the token at which the
cumulative distribution first exceeds u. The same u gives the same token, whatever the batch, the
cache or the decoder around it. Temperature 0 is the limit: all probability on the largest logit.

Dimensions: V vocabulary, "..." any leading axes.

Sources: top-k (arXiv 1805.04833), top-p or nucleus (arXiv 1904.09751); order of the three as in
Hugging Face transformers.
"""

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["GREEDY", "Sampler", "pick"]

_ALMOST = 1 - 1e-6  # probabilities made from float32 logits are exact to a millionth


@dataclass(frozen=True)
class Sampler:
    """How logits become a distribution.

    Args:
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most probable tokens only, of equal ones the first; None keeps all.
        top_p: keep the fewest tokens whose probabilities reach top_p together, but for rounding.

    Raises:
        ValueError: a negative temperature, top_k below 1, top_p outside (0, 1], or no number.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.temperature, Real) and 0 <= self.temperature < float("inf")):
            raise ValueError(f"temperature must be 0 or above, got {self.temperature!r}")
        if self.top_k is not None and not isinstance(self.top_k, Integral):
            raise ValueError(f"top_k must be a whole number or None, got {self.top_k!r}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if not (isinstance(self.top_p, Real) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")

    def probabilities(self, logits: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
        """The distribution that tokens are drawn from, in float64 on the host; -inf bans a token.

        Raises:
            ValueError: a logit is NaN or infinity, or all of a row are -inf.
        """
        logits = logits.cpu()  # not every device has float64
        _require_finite(logits.amax(-1))
        if self.temperature == 0:
            return torch.zeros_like(logits, dtype=torch.float64).scatter_(
                -1, logits.argmax(-1, keepdim=True), 1.0
            )
        scaled = logits.double()
        scaled = (scaled - scaled.amax(-1, keepdim=True)) / self.temperature  # no overflow
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            scaled = scaled.where(_in_topk(logits, self.top_k), float("-inf"))
        p = scaled.softmax(-1)
        if self.top_p < 1:
            p, order = p.sort(dim=-1, descending=True, stable=True)
            before = p.cumsum(-1) - p  # what the more probable tokens hold
            p = p.where(before < self.top_p * _ALMOST, 0.0)
            p = torch.zeros_like(p).scatter_(-1, order, p / p.sum(-1, keepdim=True))
        return p

    def choose(self, logits: Float[Tensor, "*B V"], u: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """The token that u picks from `probabilities`; a greedy choice needs neither.

        Raises:
            ValueError: as `probabilities`.
        """
        if self.temperature > 0:
            return pick(self.probabilities(logits), u)
        largest, tokens = logits.max(-1)
        _require_finite(largest)
        return tokens

    def draw(
        self, logits: Float[Tensor, "*B V"], u: Float[Tensor, "*B"]
    ) -> tuple[Float[Tensor, "*B V"], Int[Tensor, "*B"]]:
        """`probabilities`, and the token that u picks from them.

        Raises:
            ValueError: as `probabilities`.
        """
        p = self.probabilities(logits)
        return p, pick(p, u) if self.temperature > 0 else logits.argmax(-1)


GREEDY = Sampler(temperature=0)


def pick(p: Float[Tensor, "*B V"], u: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """The token at which the cumulative distribution of p first exceeds u.

    >>> p = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    >>> pick(p, torch.tensor(0.3, dtype=torch.float64)).item()
    1
    """
    cumulative = p.cumsum(-1)
    total = cumulative[..., -1]
    threshold = torch.minimum(u * total, total.nextafter(torch.zeros_like(total)))
    return (cumulative <= threshold.unsqueeze(-1)).sum(-1)


def _in_topk(logits: Float[Tensor, "*B V"], k: int) -> Bool[Tensor, "*B V"]:
    """Which are the k largest of each row; of equal ones the first, as greedy takes them."""
    least = logits.topk(k, dim=-1).values[..., -1:]
    above, equal = logits > least, logits == least
    return above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))


def _require_finite(largest: Tensor) -> None:
    """The largest logit of each row: rows with NaN or infinity, or of -inf alone, have none."""
    if not all(map(isfinite, largest.flatten().tolist())):
        raise ValueError("logits must be finite, or -inf for some tokens of a row")
