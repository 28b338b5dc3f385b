"""The exercises of lesson 05: right answers, and what is said of typical mistakes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest

from minillm.speedup.formulas import AdaptiveGamma, speedup
from widgets.common.exercises import judge
from widgets.speedup import exercises
from widgets.speedup.exercises import ACCEPTANCE, VERIFY, C


def test_the_best_number_of_guesses() -> None:
    gains = [speedup(ACCEPTANCE[:gamma], C, VERIFY[gamma]) for gamma in range(1, 5)]
    right = (2, gains[1], 0.35)
    assert judge("05.1", right).grade == "right"
    assert judge("05.1", [2, round(gains[1], 2), 0.35]).grade == "right"
    assert "three numbers" in judge("05.1", 2).says
    assert judge("05.1", (3, gains[2], 0.35)).says == "3 guesses are not the best."
    assert "does not break even" in judge("05.1", (2, gains[1], 0.2)).says
    assert judge("05.1", (2, ..., 0.35)).grade == "open"


@pytest.mark.parametrize(
    ("gain", "look"),
    [
        ((1 + 0.8 + 0.7 + 0.6 + 0.5) / 2.1, "multiply their acceptances"),
        ((0.8 + 0.56 + 0.336) / 1.85, "adds a token of the target's own"),
        ((1 + 0.8 + 0.56 + 0.336) / 1.45, "verify[gamma], not 1"),
        ((1 + 0.8 + 0.56 + 0.336) / 1.4, "a step for each guess"),
        ((1 + 0.8 + 0.56 + 0.336) / 1.55, "gamma steps, not one"),
    ],
)
def test_mistakes_with_the_gain_are_named(gain: float, look: str) -> None:
    verdict = judge("05.1", (3, gain, 0.35))
    assert verdict.grade == "wrong"
    assert look in verdict.look


def guesses(accepted: int, tried: int, c: float, V: Sequence[float]) -> int:
    a = (accepted + 1) / (tried + 2)
    gains = [
        sum(a**i for i in range(gamma + 1)) / (gamma * c + V[gamma]) for gamma in range(len(V))
    ]
    return gains.index(max(gains))


def at_least_one(accepted: int, tried: int, c: float, V: tuple[float, ...]) -> int:
    return AdaptiveGamma(c, V).choose(accepted, tried)


def climbing(accepted: int, tried: int, c: float, V: Sequence[float]) -> int:
    a, gamma = (accepted + 1) / (tried + 2), 0
    while gamma + 1 < len(V) and speedup([a] * (gamma + 1), c, V[gamma + 1]) > speedup(
        [a] * gamma, c, V[gamma]
    ):
        gamma += 1
    return gamma


def counting(accepted: int, tried: int, c: float, V: Sequence[float]) -> int:
    a = accepted / tried if tried else 0.5
    return max(range(len(V)), key=lambda gamma: speedup([a] * gamma, c, V[gamma]))


def test_so_many_guesses() -> None:
    verdict = judge("05.2", guesses)
    assert verdict.grade == "right"
    assert "AdaptiveGamma makes at least one" in verdict.look


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (at_least_one, "Where no guess pays, make none"),
        (climbing, "The gain may fall first and rise later"),
        (counting, "One kept of one tells little"),
        (lambda accepted, tried, c, V: len(V) - 1, "More guesses yield more tokens, and cost more"),
        (
            lambda accepted, tried, c, V: guesses(accepted, tried, c, [1] * len(V)),
            "verify[gamma], not 1",
        ),
        (lambda accepted, tried, c, V: guesses(accepted, tried, 0, V), "The draft works too"),
        (
            lambda accepted, tried, c, V: guesses(
                accepted, tried, 0, [cost + c * (gamma > 0) for gamma, cost in enumerate(V)]
            ),
            "gamma steps, not one",
        ),
        (lambda accepted, tried, c, V: 0, "for each number of guesses"),
        (lambda accepted, tried, c, V: [].clear(), "Is there a return?"),
        (lambda accepted, tried, c, V: len(V), "no more can be made"),
        (lambda accepted, tried, c, V: -1, "no more can be made"),
        (lambda accepted, tried, c, V: guesses(accepted, tried, c, V) + 0.5, "TypeError"),
        (lambda accepted, tried, c, V: 1 if accepted / tried > 0.5 else 0, "ZeroDivisionError"),
        (2, "A function is asked for"),
    ],
)
def test_so_many_guesses_mistaken(answer: Any, told: str) -> None:
    verdict = judge("05.2", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_every_mistake_with_the_number_of_guesses_has_answers_of_its_own() -> None:
    rules = [exercises._rule(), *exercises._MISTAKEN.values()]
    assert len({tuple(exercises._tried(rule)) for rule in rules}) == len(rules)


def test_a_wrong_number_of_guesses_is_shown_beside_the_right_one() -> None:
    assert judge("05.2", lambda accepted, tried, c, V: 0).says == (
        "guesses(0, 0, 0.15, (1.0, 1.1, 1.2, 1.3, 1.4)), nothing tried yet: expected 1, got 0."
    )
    assert judge("05.2", lambda accepted, tried, c, V: ...).grade == "open"


def may_cost(acceptance: Sequence[float], verification: Sequence[float]) -> float:
    kept = list(accumulate(acceptance, lambda a, b: a * b))
    return max(
        (1 + sum(kept[:gamma]) - verification[gamma]) / gamma
        for gamma in range(1, len(verification))
    )


def test_what_a_draft_may_cost() -> None:
    assert judge("05.3", may_cost).grade == "right"
    assert "two kernels" in judge("05.3", may_cost).look


@pytest.mark.parametrize(
    ("answer", "look"),
    [
        (lambda a, v: 1 + a[0] - v[1], "That is the c of one guess"),
        (lambda a, v: max(may_cost(a, v), 0.0), "It may be below 0"),
        (lambda a, v: may_cost(a, [1.0] * len(v)), "The pass costs verify[gamma], not 1."),
        (lambda a, v: 17.0, "Tokens of a round, minus verify[gamma], over gamma."),
    ],
)
def test_mistakes_with_the_cost_are_named(answer: Any, look: str) -> None:
    verdict = judge("05.3", answer)
    assert verdict.grade == "wrong"
    assert look in verdict.look
