"""The checks of lesson 05: the best number of guesses, a rule that sets it, what a draft may cost.

Dimension: gamma guesses of a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import index
from typing import Any

from minillm.speedup.formulas import best_gamma, break_even, expected_tokens, speedup
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["ACCEPTANCE", "VERIFY", "C", "check", "hint"]

ACCEPTANCE = (0.8, 0.7, 0.6, 0.5)  # of guess 1, 2, ..., where all before it were kept
C = 0.15  # a step of the draft, in steps of the target
VERIFY = (1.0, 1.2, 1.3, 1.4, 1.5)  # checking 0, 1, ... guesses: V(1), V(2), ... of lesson 03


def _near(got: float, true: float) -> bool:
    return abs(got - true) < 0.01 * abs(true)


# 05.1


@exercise(
    "05.1",
    hints=[
        "A round of gamma guesses costs gamma steps of the draft and one pass of verify[gamma].",
        "It yields one token in any case, another with 0.8, a third with 0.8 x 0.7, and so on.",
        "Four divisions, tokens over cost, one for each gamma. With one guess it breaks even where "
        "1 + a is what the round costs.",
    ],
)
def best_number_of_guesses(answer: Any) -> Verdict:
    """(best gamma, its speed-up, the acceptance at which one guess a round breaks even)."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: the best gamma, its speed-up, an acceptance.")
    gamma, gain, even = map(float, answer)
    best = best_gamma(ACCEPTANCE, C, VERIFY)
    true, one = speedup(ACCEPTANCE[:best], C, VERIFY[best]), break_even(1, C, VERIFY[1]) or 0.0
    for why, wrong_gain in _wrong_gains().items():
        if round(wrong_gain, 2) != round(true, 2) and _near(gain, wrong_gain):
            return wrong(f"{gain:.4g} times, with {gamma:g} guesses, is not it.", why)
    if gamma != best:
        return wrong(f"{gamma:g} guesses are not the best.", "Compute the speed-up of all four.")
    if not _near(gain, true):
        return wrong(
            f"The best is {best} guesses, but not {gain:.4g} times.",
            "Tokens of a round over its cost, both counted in plain steps.",
        )
    if not _near(even, one):
        costs = {
            "One guess costs a step of the draft and a pass over two tokens.": (
                C,
                VERIFY[1] - 1,
                1 + C,
            ),
            "That is the cost of the round; the token that comes in any case pays 1 of it.": (
                C + VERIFY[1],
            ),
        }
        look = next(
            (why for why, found in costs.items() if any(_near(even, x) for x in found)),
            "One guess yields 1 + a tokens. What does its round cost?",
        )
        return wrong(f"An acceptance of {even:.4g} does not break even.", look)
    return right(
        f"{best} guesses, {true:.2f} times; best_gamma and break_even say the same.",
        f"With four it is only {speedup(ACCEPTANCE, C, VERIFY[4]):.2f}: the later guesses are "
        "kept too rarely for what they cost.",
    )


def _wrong_gains() -> dict[str, float]:
    """The speed-up at what would be the best gamma by typical mistakes."""
    chains = [expected_tokens(ACCEPTANCE[:gamma]) for gamma in range(5)]
    costs = [gamma * C + VERIFY[gamma] for gamma in range(5)]
    wrongs = {
        "A guess counts only where all before it were kept: multiply their acceptances.": [
            (1 + sum(ACCEPTANCE[:gamma])) / costs[gamma] for gamma in range(5)
        ],
        "Each round adds a token of the target's own, whatever becomes of the guesses.": [
            (chains[gamma] - 1) / costs[gamma] for gamma in range(5)
        ],
        "The pass over the guesses is not free of charge here: verify[gamma], not 1.": [
            chains[gamma] / (gamma * C + 1) for gamma in range(5)
        ],
        "The draft works too: a step for each guess.": [
            chains[gamma] / VERIFY[gamma] for gamma in range(5)
        ],
        "The draft writes one guess after the other: gamma steps, not one.": [
            chains[gamma] / (C + VERIFY[gamma]) for gamma in range(5)
        ],
    }
    return {why: max(gains[1:]) for why, gains in wrongs.items()}


# 05.2

Rule = Callable[[int, int, float, tuple[float, ...]], int]

_FLAT = (1.0, 1.05, 1.1, 1.15, 1.2)
_SHOWN: dict[str, tuple[int, int, float, tuple[float, ...]]] = {  # accepted, tried, c, verify
    "nothing tried yet": (0, 0, 0.15, (1.0, 1.1, 1.2, 1.3, 1.4)),
    "nearly all kept": (19, 20, 0.05, _FLAT),
    "nothing kept": (0, 20, 0.1, _FLAT),
    "one kept of one": (1, 1, 0.3, _FLAT),
    "an expensive draft": (6, 10, 0.45, _FLAT),
    "an expensive draft, seldom right": (1, 4, 0.45, _FLAT),
    "a kernel for blocks: the second token costs, the others do not": (
        9, 10, 0.05, (1.0, 1.9, 1.95, 2.0, 2.05),
    ),
    "a full batch: every token costs": (8, 10, 0.05, (1.0, 2.0, 3.0, 4.0)),
}  # fmt: skip


@exercise(
    "05.2",
    hints=[
        "The chance of each guess is (accepted + 1) / (tried + 2); the second is kept with its "
        "square, and so on.",
        "Tokens of a round over gamma c + verify[gamma], for gamma = 0, 1, ..., len(verify) - 1. "
        "What does gamma = 0 yield?",
        "Compute all of them, then take the best: the gain may fall first and rise later.",
    ],
)
def so_many_guesses(answer: Any) -> Verdict:
    """A function (accepted, tried, c, verify) -> how many guesses gain most, 0 where none gains."""
    answers = []
    for name, (accepted, tried, c, costs) in _SHOWN.items():
        got = run(answer, accepted, tried, c, costs)
        call = f"guesses({accepted}, {tried}, {c}, {costs}), {name}"
        if got is None:
            return wrong("Expected a number, got nothing.", "Is there a return?")
        if not 0 <= index(got) < len(costs):
            return wrong(
                f"{call}: got {got}.",
                f"verify has the costs of 0 to {len(costs) - 1} guesses; no more can be made.",
            )
        answers.append((call, index(got)))
    rule = _rule()
    for (call, got), case in zip(answers, _SHOWN.values(), strict=True):
        if got != (true := rule(*case)):
            found = [got for _, got in answers]
            why = (why for why, mistaken in _MISTAKEN.items() if found == _tried(mistaken))
            look = next(why, "Tokens of a round over its cost, for each number of guesses.")
            return wrong(f"{call}: expected {true}, got {got}.", look)
    return right(
        "By its own estimate this rule never loses: where no guess pays, it makes none.",
        "But it learns from guesses only: once it has stopped, it never hears that the text has "
        "become easier. AdaptiveGamma makes at least one.",
    )


def _rule(
    chance: Callable[[int, int], float] = lambda accepted, tried: (accepted + 1) / (tried + 2),
    tokens: Callable[[float, int], float] = lambda a, gamma: expected_tokens([a] * gamma),
    cost: Callable[[int, float, Sequence[float]], float] = lambda gamma, c, verify: (
        gamma * c + verify[gamma]
    ),
    choose: Callable[[list[float]], int] = lambda gains: gains.index(max(gains)),
) -> Rule:
    """The rule, or one with a part of it mistaken."""

    def rule(accepted: int, tried: int, c: float, verify: tuple[float, ...]) -> int:
        a = chance(accepted, tried)
        return choose([tokens(a, gamma) / cost(gamma, c, verify) for gamma in range(len(verify))])

    return rule


def _climb(gains: list[float]) -> int:
    """The first number of guesses behind which one more gains less."""
    falls = (gamma for gamma, (now, more) in enumerate(pairwise(gains)) if more <= now)
    return next(falls, len(gains) - 1)


_MISTAKEN: dict[str, Rule] = {
    "Where no guess pays, make none: gamma = 0 is a plain step, and gains exactly 1.": _rule(
        choose=lambda gains: gains.index(max(gains[1:]), 1)
    ),
    "More guesses yield more tokens, and cost more: divide by gamma c + verify[gamma].": _rule(
        cost=lambda gamma, c, verify: 1.0
    ),
    "The pass over the guesses is not free of charge: verify[gamma], not 1.": _rule(
        cost=lambda gamma, c, verify: gamma * c + 1
    ),
    "The draft works too: gamma steps of c each.": _rule(
        cost=lambda gamma, c, verify: verify[gamma]
    ),
    "The draft writes one guess after the other: gamma steps, not one.": _rule(
        cost=lambda gamma, c, verify: (gamma > 0) * c + verify[gamma]
    ),
    "The gain may fall first and rise later: compare all numbers of guesses.": _rule(choose=_climb),
    "A guess counts only where all before it were kept: a, then a squared, and so on.": _rule(
        tokens=lambda a, gamma: 1 + gamma * a
    ),
    "Each round adds a token of the target's own, whatever becomes of the guesses.": _rule(
        tokens=lambda a, gamma: expected_tokens([a] * gamma) - 1
    ),
    "One kept of one tells little: (accepted + 1) / (tried + 2).": _rule(
        chance=lambda accepted, tried: accepted / tried if tried else 0.5
    ),
    "Upside down: the largest gain, not the least.": _rule(
        choose=lambda gains: gains.index(min(gains))
    ),
}


def _tried(rule: Rule) -> list[int]:
    return [rule(*case) for case in _SHOWN.values()]


# 05.3

_CASES = {
    "a kernel made for blocks": ((0.8, 0.75, 0.7, 0.65), (1.0, 1.1, 1.15, 1.2, 1.25)),
    "a kernel that charges for every token": ((0.8, 0.75, 0.7, 0.65), (1.0, 1.6, 2.0, 2.3, 2.6)),
    "two guesses best": ((0.9, 0.9, 0.1), (1.0, 1.7, 1.8, 2.6)),
    "a draft that guesses badly": ((0.3, 0.3), (1.0, 1.4, 1.5)),
}


@exercise(
    "05.3",
    hints=[
        "At which c is the cost of a round what its tokens would have cost one by one?",
        "gamma c + verify[gamma] = expected tokens of gamma guesses: solve for c.",
        "Some gamma allows the dearest draft: take the largest c of all gamma, at least one guess. "
        "It may be below 0: then even a draft for nothing loses.",
    ],
)
def draft_may_cost(answer: Any) -> Verdict:
    """A function (acceptance by position, verification costs) -> the largest c."""
    for name, (acceptance, verification) in _CASES.items():
        got = float(run(answer, acceptance, verification))
        costs = _affordable(acceptance, verification)
        true = max(costs)
        if abs(got - true) > 1e-6:
            call = f"draft_may_cost({acceptance}, {verification})"
            return wrong(
                f"{call}, {name}: expected {true:.4g}, got {got:.4g}.",
                _why_not(got, costs, acceptance, verification),
            )
    blocks, stock = (max(_affordable(*_CASES[name])) for name in list(_CASES)[:2])
    return right(
        "A draft that costs more than this slows every round down, however many guesses it makes.",
        f"Same acceptance, two kernels: a step of the draft may cost {blocks:.2f} of the target's, "
        f"or {stock:.2f}. Now try it on what section 4 measured here.",
    )


def _affordable(acceptance: Sequence[float], verification: Sequence[float]) -> list[float]:
    """The break-even c of 1, 2, ... guesses."""
    return [
        (expected_tokens(acceptance[:gamma]) - verification[gamma]) / gamma
        for gamma in range(1, len(verification))
    ]


def _why_not(
    got: float, costs: Sequence[float], acceptance: Sequence[float], verification: Sequence[float]
) -> str:
    counts = range(1, len(verification))
    chains = [expected_tokens(acceptance[:gamma]) for gamma in counts]
    mistakes = {
        "That is the c of one guess; another number may allow more.": costs[0],
        "That is the c of the most guesses; fewer may allow more.": costs[-1],
        "The largest c of all numbers of guesses, not the least.": min(costs),
        "It may be below 0: then even a draft for nothing loses.": 0.0,
        "The pass costs verify[gamma], not 1.": max(
            (n - 1) / gamma for n, gamma in zip(chains, counts, strict=True)
        ),
        "The round's own token counts as well.": max(
            (n - 1 - verification[gamma]) / gamma for n, gamma in zip(chains, counts, strict=True)
        ),
        "Divide by gamma: the draft makes a step for each guess.": max(
            n - verification[gamma] for n, gamma in zip(chains, counts, strict=True)
        ),
        "A guess counts only where all before it were kept: multiply their acceptances.": max(
            (1 + sum(acceptance[:gamma]) - verification[gamma]) / gamma for gamma in counts
        ),
    }
    return next(
        (why for why, value in mistakes.items() if abs(got - value) < 1e-6),
        "Tokens of a round, minus verify[gamma], over gamma.",
    )
