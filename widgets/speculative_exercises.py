"""The checks of lesson 04: the best number of guesses, another exact rule, what a draft may cost.

Dimensions: G guesses of a round, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from minillm.sampling import pick
from minillm.speculative.exactness import Text, joint_law, text_law, toy_draft, toy_target
from minillm.speedup.formulas import best_gamma, break_even, expected_tokens, speedup
from widgets.common.attempt import Stopped
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["ACCEPTANCE", "C", "V", "check", "hint"]

ACCEPTANCE = (0.8, 0.7, 0.6, 0.5)  # of guess 1, 2, ..., where all before it were kept
C = 0.15  # a step of the draft, in steps of the target
V = (1.0, 1.2, 1.3, 1.4, 1.5)  # a pass over 0, 1, ... guesses and one token more


def _near(got: float, true: float) -> bool:
    return abs(got - true) < 0.01 * abs(true)


# 04.1


@exercise(
    "04.1",
    hints=[
        "A round of G guesses costs G steps of the draft and one pass of V[G].",
        "It yields one token in any case, another with 0.8, a third with 0.8 x 0.7, and so on.",
        "Four divisions, tokens over cost, one for each G. With one guess it breaks even where "
        "1 + a is what the round costs.",
    ],
)
def best_number_of_guesses(answer: Any) -> Verdict:
    """(best G, its speed-up, the acceptance at which one guess a round breaks even)."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: the best G, its speed-up, an acceptance.")
    G, gain, even = map(float, answer)
    best = best_gamma(ACCEPTANCE, C, V)
    true, one = speedup(ACCEPTANCE[:best], C, V[best]), break_even(1, C, V[1]) or 0.0
    for why, wrong_gain in _wrong_gains().items():
        if round(wrong_gain, 2) != round(true, 2) and _near(gain, wrong_gain):
            return wrong(f"{gain:.4g} times, with {G:g} guesses, is not it.", why)
    if G != best:
        return wrong(f"{G:g} guesses are not the best.", "Compute the speed-up of all four.")
    if not _near(gain, true):
        return wrong(
            f"The best is {best} guesses, but not {gain:.4g} times.",
            "Tokens of a round over its cost, both counted in plain steps.",
        )
    if not _near(even, one):
        costs = {
            "One guess costs a step of the draft and a pass over two tokens.": (C, V[1] - 1, 1 + C),
            "That is the cost of the round; the token that comes in any case pays 1 of it.": (
                C + V[1],
            ),
        }
        look = next(
            (why for why, found in costs.items() if any(_near(even, x) for x in found)),
            "One guess yields 1 + a tokens. What does its round cost?",
        )
        return wrong(f"An acceptance of {even:.4g} does not break even.", look)
    return right(
        f"{best} guesses, {true:.2f} times; best_gamma and break_even say the same.",
        f"With four it is only {speedup(ACCEPTANCE, C, V[4]):.2f}: the later guesses are kept too "
        "seldom for what they cost.",
    )


def _wrong_gains() -> dict[str, float]:
    """The speed-up at what would be the best G by typical mistakes."""
    chains = [expected_tokens(ACCEPTANCE[:G]) for G in range(5)]
    costs = [G * C + V[G] for G in range(5)]
    wrongs = {
        "A guess counts only where all before it were kept: multiply their acceptances.": [
            (1 + sum(ACCEPTANCE[:G])) / costs[G] for G in range(5)
        ],
        "Each round adds a token of the target's own, whatever becomes of the guesses.": [
            (chains[G] - 1) / costs[G] for G in range(5)
        ],
        "The pass over the guesses is not free of charge here: V[G], not 1.": [
            chains[G] / (G * C + 1) for G in range(5)
        ],
        "The draft works too: a step for each guess.": [chains[G] / V[G] for G in range(5)],
        "The draft writes one guess after the other: G steps, not one.": [
            chains[G] / (C + V[G]) for G in range(5)
        ],
    }
    return {why: max(gains[1:]) for why, gains in wrongs.items()}


# 04.2

Rule = Callable[[Tensor, Tensor, Tensor], tuple[int, int]]
Law = dict[Text, Fraction]  # of the tokens that a round of two guesses leads to

_P, _Q = (torch.tensor([float(x) for x in law(())]) for law in (toy_target, toy_draft))


@exercise(
    "04.2",
    hints=[
        "At place i the target draws a token of its own: pick(p[i], u[i]).",
        "As long as it is guesses[i], go on. The first one that differs is right as it is: it was "
        "drawn from p, and ends the round.",
        "If all were the same, one more: pick(p[G], u[G]).",
    ],
)
def accept_if_the_same(answer: Any) -> Verdict:
    """A function (p (G+1, V), guesses (G,), u (G+1,)) -> (accepted, token)."""
    law = joint_law(partial(_tried, answer), toy_target, toy_draft, gamma=2)
    true = text_law(toy_target, 3)
    if not _same(law, true):
        why = next((why for why, rule in _WRONG.items() if _same(law, _law(rule))), "")
        for n, place in enumerate(("first", "second", "third"), 1):
            got, expected = (_beginning(x, n) for x in (law, true))
            if not _same(got, expected):
                told = "" if n > 1 else f": it has {_told(got)}, not {_told(expected)}"
                return wrong(f"The {place} token has not the target's law{told}.", why)
    kept, same = _kept(answer), float(_P @ _Q)
    if abs(kept - same) > 1e-6:
        return wrong(
            f"The law is right, but the first guess is kept with the chance {kept:.4g}, not "
            f"sum p q = {same:.4g}.",
            "A guess that the target draws as well is kept: count it.",
        )
    return right(
        "Exact, and without looking at q: what comes out has the target's law.",
        f"But it keeps the first guess with the chance sum p q = {same:.3g}; verify keeps it with "
        f"sum min(p, q) = {float(torch.minimum(_P, _Q).sum()):.3g}.",
    )


def _tried(rule: Rule, p: Tensor, q: Tensor, guesses: Tensor, u: Tensor) -> tuple[int, int]:
    """The reader's answer, as `joint_law` asks for it: a wrong kind ends the check."""
    answers = [run(rule, p.clone(), guesses.clone(), u.clone()) for _ in range(2)]
    for got in answers:
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Stopped(wrong("Expected two numbers: guesses kept, and the token behind them."))
    (accepted, token), again = (tuple(map(int, got)) for got in answers)
    if not (0 <= accepted <= len(guesses) and 0 <= token < p.shape[1]):
        asked = f"p = {p.tolist()}, guesses = {guesses.tolist()}, u = {u.tolist()}"
        raise Stopped(wrong(f"({accepted}, {token}) is not possible here.", asked))
    if (accepted, token) != again:
        raise Stopped(wrong("Two calls, two answers.", "u is all the randomness that there is."))
    return accepted, token


def _kept(rule: Rule) -> float:
    """The chance that the first guess is kept."""
    chance = 0.0
    p = torch.stack((_P, _P)).double()
    for guess, drawn in enumerate(_Q.tolist()):
        for u in (0.125, 0.375, 0.625, 0.875):  # a toy law is one of quarters
            accepted, _ = run(rule, p, torch.tensor([guess]), torch.tensor([u, 0.5]).double())
            chance += drawn / 4 * int(accepted)
    return chance


def _law(rule: Rule) -> Law:
    return joint_law(lambda p, q, guesses, u: rule(p, guesses, u), toy_target, toy_draft, gamma=2)


def _beginning(law: Law, n: int) -> Law:
    """The law of the first n tokens."""
    shorter: Law = dict.fromkeys(product(range(3), repeat=n), Fraction(0))
    for text, chance in law.items():
        shorter[text[:n]] += chance
    return shorter


def _same(one: Law, other: Law) -> bool:
    return all(one.get(text, 0) == other.get(text, 0) for text in {*one, *other})


def _told(law: Law) -> str:
    return f"({', '.join(str(chance) for chance in law.values())})"


def _rule(own: Callable[[Tensor, Tensor, int], int], last: Callable[..., int]) -> Rule:
    """A rule of this kind from its two parts: the target's own token, and the added one."""

    def rule(p: Tensor, guesses: Tensor, u: Tensor) -> tuple[int, int]:
        for i, guess in enumerate(guesses.tolist()):
            token = own(p, u, i)
            if token != guess:
                return i, last(p, u, i, token, guess)
        G = len(guesses)
        return G, last(p, u, G, own(p, u, G), -1)

    return rule


def _own(p: Tensor, u: Tensor, i: int) -> int:
    return int(pick(p[i], u[i]))


_WRONG: dict[str, Rule] = {
    "At the first difference you draw once more. The token that differed was the target's own: "
    "it stands as it is. (Another draw forgets that some tokens were already kept.)": _rule(
        _own, lambda p, u, i, token, guess: int(pick(p[i], u[-1]))
    ),
    "At the first difference comes the target's token, not the guess.": _rule(
        _own, lambda p, u, i, token, guess: token if guess < 0 else guess
    ),
    "One number serves all places; each needs its own.": _rule(
        lambda p, u, i: int(pick(p[i], u[0])), lambda p, u, i, token, guess: token
    ),
    "The most probable token is not a sample.": _rule(
        lambda p, u, i: int(p[i].argmax()), lambda p, u, i, token, guess: token
    ),
    "Behind the last guess stands p[G], not p[G - 1].": _rule(
        lambda p, u, i: int(pick(p[min(i, 1)], u[i])), lambda p, u, i, token, guess: token
    ),
}


# 04.3

_CASES = {
    "a kernel made for blocks": ((0.8, 0.75, 0.7, 0.65), (1.0, 1.1, 1.15, 1.2, 1.25)),
    "a kernel that charges for every token": ((0.8, 0.75, 0.7, 0.65), (1.0, 1.6, 2.0, 2.3, 2.6)),
    "two guesses best": ((0.9, 0.9, 0.1), (1.0, 1.7, 1.8, 2.6)),
    "a draft that guesses badly": ((0.3, 0.3), (1.0, 1.4, 1.5)),
}


@exercise(
    "04.3",
    hints=[
        "At which c is the cost of a round what its tokens would have cost one by one?",
        "G c + V[G] = expected tokens of G guesses: solve for c.",
        "Some G allows the dearest draft: take the largest c of all G, at least one guess. It may "
        "be below 0: then even a draft for nothing loses.",
    ],
)
def draft_may_cost(answer: Any) -> Verdict:
    """A function (acceptance by position, verification V[0], V[1], ...) -> the largest c."""
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
        (expected_tokens(acceptance[:G]) - verification[G]) / G for G in range(1, len(verification))
    ]


def _why_not(
    got: float, costs: Sequence[float], acceptance: Sequence[float], verification: Sequence[float]
) -> str:
    counts = range(1, len(verification))
    chains = [expected_tokens(acceptance[:G]) for G in counts]
    mistakes = {
        "That is the c of one guess; another number may allow more.": costs[0],
        "That is the c of the most guesses; fewer may allow more.": costs[-1],
        "The largest c of all numbers of guesses, not the least.": min(costs),
        "It may be below 0: then even a draft for nothing loses.": 0.0,
        "The pass costs V[G], not 1.": max(
            (n - 1) / G for n, G in zip(chains, counts, strict=True)
        ),
        "The round's own token counts as well.": max(
            (n - 1 - verification[G]) / G for n, G in zip(chains, counts, strict=True)
        ),
        "Divide by G: the draft makes a step for each guess.": max(
            n - verification[G] for n, G in zip(chains, counts, strict=True)
        ),
        "A guess counts only where all before it were kept: multiply their acceptances.": max(
            (1 + sum(acceptance[:G]) - verification[G]) / G for G in counts
        ),
    }
    return next(
        (why for why, value in mistakes.items() if abs(got - value) < 1e-6),
        "Tokens of a round, minus V[G], over G.",
    )
