"""The checks of lesson 04: a round by hand, another exact rule, what temperature asks of a draft.

Dimensions: gamma guesses of a round, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from minillm.sampling import pick
from minillm.speculative.exactness import Text, joint_law, text_law, toy_draft, toy_target
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.common.exercises.attempt import Stopped

__all__ = ["P", "Q", "check", "hint"]

Numbers = tuple[float, ...]

# 04.1

P = (0.5, 0.3, 0.2)  # of three tokens: the target's distribution
Q = (0.2, 0.2, 0.6)  # and the draft's


@exercise(
    "04.1",
    hints=[
        "Token by token: the draft guesses x with q(x), and it is kept with min(1, p(x)/q(x)).",
        "The residual is what p has more than q, zero where it has less, divided by its sum.",
        "Careless: what was kept stays as it is. To each token comes the share that is rejected, "
        "times its p.",
    ],
)
def a_round_by_hand(answer: Any) -> Verdict:
    """(chance that the guess is kept, residual, law if a rejected guess is replaced from p)."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three things: a number, and two lists of three numbers.")
    kept, lists = float(answer[0]), [tuple(map(float, part)) for part in answer[1:]]
    if any(len(part) != len(P) for part in lists):
        return wrong("The second and the third are lists of three numbers, one for each token.")
    residual, careless = lists
    rejected = 1 - sum(_MIN)
    laws = (
        ("residual", residual, _RESIDUAL, _RESIDUALS, "p - q where it is above 0, over its sum."),
        ("careless rule", careless, _LAW, _CARELESS, "min(p, q), and the rejected share times p."),
    )
    if not _equal((kept,), (sum(_MIN),)):
        look = _named((kept,), _KEPT, "Add up what is kept of each token: the smaller of p and q.")
        return wrong(f"The guess is not kept with the chance {kept:.4g}.", look)
    for name, got, true, mistakes, otherwise in laws:
        if not _equal(got, true):
            return wrong(f"The {name} is not {_list(got)}.", _named(got, mistakes, otherwise))
    return right(
        f"{kept:.2g} are kept; a rejected guess is replaced from {_list(_RESIDUAL)}, and all is p.",
        f"The careless rule writes with {_list(_LAW)}: the token that the draft likes too much "
        f"gets {rejected * P[2]:.2g} too much. It is the bug “residual = p” of section 6.",
    )


_MIN = tuple(map(min, P, Q))
_RESIDUAL = tuple((p - m) / (1 - sum(_MIN)) for p, m in zip(P, _MIN, strict=True))
_LAW = tuple(m + (1 - sum(_MIN)) * p for p, m in zip(P, _MIN, strict=True))
_RATIOS = tuple(min(1.0, p / q) for p, q in zip(P, Q, strict=True))

_KEPT: dict[str, Numbers] = {
    "That is the chance that two draws, one from each, are the same token: sum p q.": (
        sum(p * q for p, q in zip(P, Q, strict=True)),
    ),
    "That is how often it is rejected.": (1 - sum(_MIN),),
    "The guess is drawn from q: each ratio counts as often as the draft guesses its token.": (
        sum(p * r for p, r in zip(P, _RATIOS, strict=True)),
    ),
    "The draft does not guess each token equally often: weight the ratios with q.": (
        sum(_RATIOS) / len(P),
    ),
    "That is the sum of the larger ones.": (sum(map(max, P, Q)),),
}
_RESIDUALS: dict[str, Numbers] = {
    "Right up to a factor: a distribution adds up to 1.": tuple(
        p - m for p, m in zip(P, _MIN, strict=True)
    ),
    "What q has more than p is what gets rejected. What is missing is what p has more than q.": (
        0.0, 0.0, 1.0,
    ),
    "A fresh draw from p forgets that the kept guesses have already brought a part of it.": P,
    "That is the distribution of the guesses that are kept.": tuple(m / sum(_MIN) for m in _MIN),
    "Where q has more than p nothing is missing: zero, not the distance.": tuple(
        abs(p - q) / sum(abs(a - b) for a, b in zip(P, Q, strict=True))
        for p, q in zip(P, Q, strict=True)
    ),
}  # fmt: skip
_CARELESS: dict[str, Numbers] = {
    "That is p, which the right rule gives. Here a rejected guess is replaced from p, not from the "
    "residual.": P,
    "Kept guesses are not distributed as q: the third token is kept one time in three.": tuple(
        sum(_MIN) * q + (1 - sum(_MIN)) * p for p, q in zip(P, Q, strict=True)
    ),
    "The kept guesses count as well.": tuple((1 - sum(_MIN)) * p for p in P),
    "A token is drawn from p only where the guess was rejected.": tuple(
        p + m for p, m in zip(P, _MIN, strict=True)
    ),
}


def _equal(got: Numbers, true: Numbers) -> bool:
    return all(abs(a - b) < 0.006 for a, b in zip(got, true, strict=True))


def _named(got: Numbers, mistakes: dict[str, Numbers], otherwise: str) -> str:
    return next((why for why, numbers in mistakes.items() if _equal(got, numbers)), otherwise)


def _list(numbers: Numbers) -> str:
    return f"({', '.join(f'{x:.3g}' for x in numbers)})"


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
        "If all were the same, one more: pick(p[gamma], u[gamma]).",
    ],
)
def accept_if_the_same(answer: Any) -> Verdict:
    """A function (p (gamma+1, V), guesses (gamma,), u (gamma+1,)) -> (accepted, token)."""
    law = joint_law(partial(_tried, answer), toy_target, toy_draft, gamma=2)
    true = text_law(toy_target, 3)
    if not _same(law, true):
        why = next((why for why, rule in _WRONG.items() if _same(law, _law(rule))), "")
        for n, place in enumerate(("first", "second", "third"), 1):
            got, expected = (_beginning(x, n) for x in (law, true))
            if not _same(got, expected):
                told = "" if n > 1 else f": it has {_told(got)}, not {_told(expected)}"
                return wrong(f"The {place} token lacks the target's distribution{told}.", why)
    kept, same = _kept(answer), float(_P @ _Q)
    if abs(kept - same) > 1e-6:
        return wrong(
            f"The distribution is right, but the first guess is kept with the chance {kept:.4g}, "
            f"not sum p q = {same:.4g}.",
            "A guess that the target draws as well is kept: count it.",
        )
    return right(
        "Exact, and without looking at q: what comes out has the target's distribution.",
        f"But it keeps the first guess with the chance sum p q = {same:.3g}; verify keeps it with "
        f"sum min(p, q) = {float(torch.minimum(_P, _Q).sum()):.3g}.",
    )


def _tried(rule: Rule, p: Tensor, q: Tensor, guesses: Tensor, u: Tensor) -> tuple[int, int]:
    """The reader's answer, as `joint_law` asks for it: a wrong kind ends the check."""
    answers = [run(rule, p.clone(), guesses.clone(), u.clone()) for _ in range(2)]
    for got in answers:
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Stopped(wrong("Expected two numbers: guesses kept, and the token after them."))
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
        gamma = len(guesses)
        return gamma, last(p, u, gamma, own(p, u, gamma), -1)

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
    "After the last guess stands p[gamma], not p[gamma - 1].": _rule(
        lambda p, u, i: int(pick(p[min(i, 1)], u[i])), lambda p, u, i, token, guess: token
    ),
}


# 04.3

MOST, LEAST = 0.3, 0.95  # kept at temperature 1, of `same` and of `other`


@exercise(
    "04.3",
    hints=[
        "Greedy asks which token is the likeliest; sampling, how much p and q have in common.",
        "For little in common: one distribution sure of itself, the other nearly flat.",
        "With V tokens the likeliest has at least 1/V in both. How many tokens must there be?",
        "For much in common with other favourites: two tokens nearly alike, and a tiny "
        "difference that decides.",
    ],
)
def favourites_and_shapes(answer: Any) -> Verdict:
    """Two pairs (p, q): same favourite and little in common; other favourites and nearly all."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two pairs: (same, other), each of them p and q.")
    found = {}
    for name, pair in zip(("same", "other"), answer, strict=True):
        p, q = _pair(name, pair)
        kept, agree = sum(map(min, p, q)), p.index(max(p)) == q.index(max(q))
        if agree != (name == "same"):
            says = "the same token is likeliest in both" if agree else "the likeliest tokens differ"
            looks = "Greedy, this guess is kept." if agree else "Greedy, this guess is rejected."
            return wrong(f"{name}: {says}.", looks)
        if name == "same" and kept > MOST:
            few = len(p) * MOST <= 1
            return wrong(
                f"same: {kept:.3g} of the guesses are kept at temperature 1.",
                f"With {len(p)} tokens the likeliest has more than 1/{len(p)} in both: that much "
                "they share. Take more tokens."
                if few
                else "Make one of them surer, the other flatter.",
            )
        if name == "other" and kept < LEAST:
            return wrong(
                f"other: only {kept:.3g} of the guesses are kept at temperature 1.",
                "Bring p and q closer; a tiny difference is enough for another favourite.",
            )
        found[name] = kept
    return right(
        f"Greedy, all and none are kept; at temperature 1, {found['same']:.3g} and "
        f"{found['other']:.3g}.",
        "Greedy asks a draft for the target's favourite, sampling for its whole shape. An "
        "acceptance rate belongs to a temperature.",
    )


def _pair(name: str, pair: Any) -> tuple[list[float], list[float]]:
    """Two distributions with a favourite each; anything else ends the check."""
    two = isinstance(pair, tuple | list) and len(pair) == 2
    if not two or not all(hasattr(law, "__len__") for law in pair):
        raise Stopped(wrong(f"{name}: expected two distributions, p and q."))
    p, q = ([float(x) for x in law] for law in pair)
    if len(p) != len(q) or len(p) < 2:
        raise Stopped(wrong(f"{name}: p has {len(p)} tokens, q has {len(q)}.", "As many in both."))
    for letter, law in {"p": p, "q": q}.items():
        if not (min(law) >= 0 and abs(sum(law) - 1) < 1e-6):
            told = f"{name}: {letter} is no distribution, its sum is {sum(law):.6g}."
            raise Stopped(wrong(told, "No number below 0, and 1 in all."))
        first, second = sorted(law, reverse=True)[:2]
        if first - second < 1e-9:
            raise Stopped(wrong(f"{name}: {letter} has two likeliest tokens.", "Let one win."))
    return p, q
