"""What guessing gains, before it is tried: tokens of a round over the time of a round.

A round of gamma guesses yields one token, and one more for each guess that is kept. It costs gamma
steps of the drafter and one pass of the target over gamma + 1 tokens. In units of a plain step of
the target, c is the cost of a step of the drafter and V(gamma + 1) that of the pass.

Sources: arXiv 2211.17192, equation 1 and theorem 3.8, which take V to be 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

__all__ = ["AdaptiveGamma", "best_gamma", "break_even", "expected_tokens", "speedup"]


def expected_tokens(acceptance: Sequence[float]) -> float:
    """Mean tokens of a round.

    Args:
        acceptance: of each guess, the chance that it is kept where all before it were.

    >>> expected_tokens([0.5, 0.5, 0.5])
    1.875
    >>> a, gamma = 0.5, 3  # with the same chance a everywhere:
    >>> (1 - a ** (gamma + 1)) / (1 - a)
    1.875
    """
    return 1 + sum(accumulate(acceptance, mul))


def speedup(acceptance: Sequence[float], c: float, verification: float) -> float:
    """How many times faster a round is than as many plain steps.

    Args:
        acceptance: as for `expected_tokens`; its length is gamma.
        c: time of a step of the drafter, in steps of the target.
        verification: V(gamma + 1), time of the pass over gamma + 1 tokens, in target steps.

    Raises:
        ValueError: a cost below 0, or no cost of the target's pass.

    >>> speedup([0.8] * 5, c=0.05, verification=1.0)  # doctest: +ELLIPSIS
    2.951...
    """
    if not (c >= 0 and verification > 0):
        raise ValueError(f"c must be at least 0 and V above 0, got c = {c} and V = {verification}")
    return expected_tokens(acceptance) / (len(acceptance) * c + verification)


def best_gamma(acceptance: Sequence[float], c: float, verification: Sequence[float]) -> int:
    """The number of guesses, at least one, that gains most.

    Args:
        acceptance: of guess 1, 2, ...
        c: as for `speedup`.
        verification: V(1) = 1, V(2), ...: of 0, 1, ... guesses, as many as may be made.

    >>> best_gamma([0.8] * 8, c=0.05, verification=[1.0] * 9)
    8
    >>> best_gamma([0.3] * 8, c=0.2, verification=[1.0] * 9)
    1
    """
    if not 1 <= len(verification) - 1 <= len(acceptance):
        raise ValueError(
            f"there must be a cost V of 0, 1, ... guesses, at most {len(acceptance)}, "
            f"got {len(verification)} costs"
        )
    gains = [speedup(acceptance[:gamma], c, cost) for gamma, cost in enumerate(verification)]
    return max(range(1, len(gains)), key=gains.__getitem__)


def break_even(gamma: int, c: float, verification: float) -> float | None:
    """The acceptance, the same for every guess, at which a round gains nothing; None above 1.

    >>> round(break_even(4, c=0.25, verification=1.0), 3)
    0.519
    """
    if speedup([1.0] * gamma, c, verification) < 1:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if speedup([middle] * gamma, c, verification) < 1 else (low, middle)
        )
    return high


@dataclass(frozen=True)
class AdaptiveGamma:
    """As many guesses as pay at the acceptance that a row has shown so far.

    The costs are arguments, measured beforehand, so that a seed gives the same text again.

    Attributes:
        c: time of a step of the drafter, in steps of the target.
        verification: V(1) = 1, V(2), ...: of 0, 1, ... guesses, up to the most that are made.

    Raises:
        ValueError: costs that are not above 0, or of no guess.
    """

    c: float
    verification: tuple[float, ...]

    def __post_init__(self) -> None:
        self.choose(0, 0)  # refuses bad costs

    @property
    def largest(self) -> int:
        return len(self.verification) - 1

    def choose(self, accepted: int, tried: int) -> int:
        """Guesses of the next round, after `accepted` of `tried` (rule of succession)."""
        rate = (accepted + 1) / (tried + 2)
        return best_gamma([rate] * self.largest, self.c, self.verification)
