"""What guessing gains: the formulas against enumeration, the tables of the papers, bad costs."""

import math
from fractions import Fraction
from itertools import product

import pytest

from minillm.speedup.formulas import AdaptiveGamma, best_gamma, break_even, expected_tokens, speedup


@pytest.mark.parametrize("gamma", range(6))
def test_expected_tokens_by_enumeration(gamma: int) -> None:
    """Every way in which the guesses of a round can fare; chances differ by position."""
    chances = [Fraction(n, 7) for n in (3, 6, 2, 7, 0)[:gamma]]
    mean = Fraction(0)
    for kept in product((True, False), repeat=gamma):
        weight = math.prod(a if k else 1 - a for a, k in zip(chances, kept, strict=True))
        mean += weight * (1 + next((i for i, k in enumerate(kept) if not k), gamma))
    assert expected_tokens([float(a) for a in chances]) == pytest.approx(float(mean))


@pytest.mark.parametrize("a", [0.0, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("gamma", [1, 4, 9])
def test_expected_tokens_of_equal_chances(a: float, gamma: int) -> None:
    """Equation 1 of arXiv 2211.17192."""
    assert expected_tokens([a] * gamma) == pytest.approx((1 - a ** (gamma + 1)) / (1 - a))
    assert expected_tokens([1.0] * gamma) == gamma + 1


@pytest.mark.parametrize(
    ("a", "gamma", "c", "factor"),
    [(0.75, 7, 0.02, 3.16), (0.8, 5, 0.05, 2.95), (0.8, 5, 0.2, 1.84), (0.5, 3, 0.05, 1.63),
     (0.3, 5, 0.2, 0.71)],
)  # fmt: skip
def test_speedup_of_the_papers_model(a: float, gamma: int, c: float, factor: float) -> None:
    """Theorem 3.8 of arXiv 2211.17192: the pass over the guesses costs one step."""
    assert speedup([a] * gamma, c, 1.0) == pytest.approx(factor, abs=0.005)
    assert speedup([a] * gamma, c, 1.0) == pytest.approx(
        (1 - a ** (gamma + 1)) / ((1 - a) * (gamma * c + 1)), rel=1e-12
    )
    assert speedup([a] * gamma, c, 2.0) < speedup([a] * gamma, c, 1.0)


def test_a_round_without_guesses_is_a_step() -> None:
    assert speedup([], 0.3, 1.0) == 1.0
    assert speedup([1.0] * 3, 0.0, 1.0) == 4.0


@pytest.mark.parametrize("a", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("c", [0.0, 0.05, 0.3])
def test_the_best_gamma_gains_most(a: float, c: float) -> None:
    costs = [1 + 0.03 * gamma for gamma in range(13)]
    best = best_gamma([a] * 12, c, costs)
    gains = [speedup([a] * gamma, c, costs[gamma]) for gamma in range(1, 13)]
    assert gains[best - 1] == max(gains)


def test_the_best_gamma_stops_before_a_guess_that_is_never_kept() -> None:
    assert best_gamma([0.9, 0.9, 0.0, 0.9], c=0.1, verification=[1.0] * 5) == 2
    assert best_gamma([0.0], c=1.0, verification=[1.0, 9.0]) == 1  # at least one


@pytest.mark.parametrize(
    ("gamma", "c", "V"), [(1, 0.1, 1), (4, 0.25, 1), (4, 0.1, 1.3), (8, 0.1, 2)]
)
def test_at_break_even_nothing_is_gained(gamma: int, c: float, V: float) -> None:
    a = break_even(gamma, c, V)
    assert a is not None
    assert speedup([a] * gamma, c, V) == pytest.approx(1.0)
    assert speedup([a - 0.01] * gamma, c, V) < 1 < speedup([a + 0.01] * gamma, c, V)


def test_break_even_at_both_ends() -> None:
    assert break_even(4, c=1.0, verification=1.1) is None  # 5 tokens for the price of 5.1
    assert break_even(4, c=1.0, verification=1.0) == pytest.approx(1.0)
    assert break_even(1, c=0.2, verification=0.5) == pytest.approx(0.0, abs=1e-9)  # gains always


def test_adaptive_gamma_guesses_more_as_more_is_accepted() -> None:
    rule = AdaptiveGamma(0.1, (1.0, *[1 + 0.02 * gamma for gamma in range(1, 9)]))
    assert rule.largest == 8
    chosen = [rule.choose(accepted, 100) for accepted in range(0, 101, 10)]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (1, 8)
    assert rule.choose(0, 0) == best_gamma([0.5] * 8, rule.c, rule.verification)
    assert rule.choose(3, 4) == best_gamma([4 / 6] * 8, rule.c, rule.verification)


@pytest.mark.parametrize(
    ("c", "verification", "named"),
    [
        (-0.1, (1.0, 1.0), "c must be at least 0 and V above 0, got c = -0.1"),
        (math.nan, (1.0, 1.0), "got c = nan"),
        (0.1, (1.0, 0.0), "got c = 0.1 and V = 0.0"),
        (0.1, (0.0, 1.0), "V = 0.0"),
        (0.1, (1.0, -1.0), "V = -1.0"),
        (0.1, (1.0, math.nan), "V = nan"),
        (0.1, (1.0,), "a cost V of 0, 1, ... guesses"),
        (0.1, (), "got 0 costs"),
    ],
)
def test_bad_costs_are_refused(c: float, verification: tuple[float, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AdaptiveGamma(c, verification)


def test_more_costs_than_chances_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 2, got 4 costs"):
        best_gamma([0.5, 0.5], 0.1, [1.0] * 4)
