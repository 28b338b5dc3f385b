"""The exercises of lesson 04: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest
import torch

from minillm.sampling import pick
from minillm.speculative.exactness import toy_draft, toy_target
from minillm.speculative.verification import residual
from widgets.common.exercises import judge
from widgets.speculative.exercises import P, Q

_LEFT, _CARELESS = [0.75, 0.25, 0.0], [0.4, 0.32, 0.28]


def test_a_round_by_hand() -> None:
    kept = [min(p, q) for p, q in zip(P, Q, strict=True)]
    leftover = residual(torch.tensor(P), torch.tensor(Q)).tolist()
    careless = [m + (1 - sum(kept)) * p for p, m in zip(P, kept, strict=True)]
    verdict = judge("04.1", (sum(kept), leftover, careless))
    assert verdict.grade == "right"
    assert verdict.says.startswith(
        "0.6 are kept; a rejected guess is replaced from (0.75, 0.25, 0)"
    )
    assert "gets 0.08 too much" in verdict.look
    assert judge("04.1", [0.6, [0.75, 0.25, 0], [0.4, 0.32, 0.28]]).grade == "right"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (0.6, "Expected three things"),
        ((0.6, [0.75, 0.25], [0.4, 0.32, 0.28]), "lists of three numbers"),
        ((0.28, _LEFT, _CARELESS), "sum p q"),
        ((0.4, _LEFT, _CARELESS), "how often it is rejected"),
        ((0.867, _LEFT, _CARELESS), "drawn from q"),
        ((0.778, _LEFT, _CARELESS), "weight the ratios with q"),
        ((1.4, _LEFT, _CARELESS), "the sum of the larger ones"),
        ((0.5, _LEFT, _CARELESS), "the smaller of p and q"),
        ((0.6, [0.3, 0.1, 0], _CARELESS), "a distribution adds up to 1"),
        ((0.6, [0, 0, 1], _CARELESS), "what p has more than q"),
        ((0.6, P, _CARELESS), "forgets that the kept guesses"),
        ((0.6, [1 / 3] * 3, _CARELESS), "the distribution of the guesses that are kept"),
        ((0.6, [0.375, 0.125, 0.5], _CARELESS), "zero, not the distance"),
        ((0.6, [1, 0, 0], _CARELESS), "where it is above 0, over its sum"),
        ((0.6, _LEFT, P), "which the right rule gives"),
        ((0.6, _LEFT, [0.32, 0.24, 0.44]), "one time in three"),
        ((0.6, _LEFT, [0.2, 0.12, 0.08]), "The kept guesses count as well"),
        ((0.6, _LEFT, [0.7, 0.5, 0.4]), "only where the guess was rejected"),
        ((0.6, _LEFT, [1, 0, 0]), "the rejected share times p"),
    ],
)
def test_a_round_by_hand_mistaken(answer: Any, told: str) -> None:
    verdict = judge("04.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_a_round_by_hand_half_answered_is_open() -> None:
    assert judge("04.1", (..., [..., ..., ...], [..., ..., ...])).grade == "open"
    assert judge("04.1", (0.6, [0.75, 0.25, 0], [..., ..., ...])).grade == "open"


def rule(p: Any, guesses: Any, u: Any) -> tuple[int, int]:
    for i, guess in enumerate(guesses.tolist()):
        own = int(pick(p[i], u[i]))
        if own != guess:
            return i, own
    return len(guesses), int(pick(p[-1], u[-1]))


def own_first(p: Any, guesses: Any, u: Any) -> tuple[int, int]:
    return 0, int(pick(p[0], u[0]))


def drawn_again(p: Any, guesses: Any, u: Any) -> tuple[int, int]:
    accepted, _ = rule(p, guesses, u)
    return accepted, int(pick(p[accepted], u[-1]))


_LUCK = torch.Generator()


def random_rule(p: Any, guesses: Any, u: Any) -> tuple[int, int]:
    return 0, int(torch.randint(3, (), generator=_LUCK))


def test_the_other_exact_rule() -> None:
    verdict = judge("04.2", rule)
    assert verdict.grade == "right"
    p, q = (torch.tensor([float(x) for x in law(())]) for law in (toy_target, toy_draft))
    assert f"sum p q = {float(p @ q):.3g}" in verdict.look
    assert f"sum min(p, q) = {float(torch.minimum(p, q).sum()):.3g}" in verdict.look


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (own_first, "the first guess is kept with the chance 0"),
        (drawn_again, "The first token lacks the target's distribution: it has (19/64"),
        (random_rule, "Two calls, two answers."),
        (lambda p, guesses, u: 1, "Expected two numbers"),
        (lambda p, guesses, u: (3, 0), "(3, 0) is not possible here."),
        (lambda p, guesses, u: guesses[7], "IndexError"),
        (1.0, "A function is asked for"),
    ],
)
def test_other_rules_are_told_what_they_do(answer: Any, told: str) -> None:
    verdict = judge("04.2", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says


def test_a_known_mistake_is_named() -> None:
    assert "you draw once more" in judge("04.2", drawn_again).look


_SAME = ([0.28, 0.24, 0.24, 0.24], [1, 0, 0, 0])
_OTHER = ([0.51, 0.49], [0.49, 0.51])


def test_the_same_favourite_and_another() -> None:
    verdict = judge("04.3", (_SAME, _OTHER))
    assert verdict.grade == "right"
    assert verdict.says.endswith("at temperature 1, 0.28 and 0.98.")
    tensors = [[torch.tensor(law).double() for law in pair] for pair in (_SAME, _OTHER)]
    assert judge("04.3", tensors) == verdict
    assert judge("04.3", ((..., ...), _OTHER)).grade == "open"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (1, "Expected two pairs"),
        ((_SAME, [1, 0]), "other: expected two distributions"),
        ((_SAME, ([0.8, 0.2], [0.2, 0.8])), "only 0.4 of the guesses"),
        (([[1, 0]], _OTHER), "same: expected two distributions"),
        ((_OTHER, _OTHER), "Greedy, this guess is rejected"),
        ((_SAME, _SAME), "Greedy, this guess is kept"),
        ((([0.4, 0.3, 0.3], [1, 0, 0]), _OTHER), "With 3 tokens the likeliest"),
        ((([0.7, 0.1, 0.1, 0.1], [1, 0, 0, 0]), _OTHER), "one of them surer"),
        ((_SAME, ([0.9, 0.1], [0.1, 0.9])), "Bring p and q closer"),
        ((_SAME, ([0.5, 0.5], [0.49, 0.51])), "p has two likeliest tokens"),
        ((_SAME, ([0.6, 0.6], [0.49, 0.51])), "its sum is 1.2"),
        ((_SAME, ([1.5, -0.5], [0.49, 0.51])), "No number below 0"),
        ((_SAME, ([0.51, 0.49], [0.49, 0.5, 0.01])), "p has 2 tokens, q has 3"),
        ((_SAME, ([1], [1])), "p has 1 tokens"),
    ],
)
def test_favourites_and_shapes_mistaken(answer: Any, told: str) -> None:
    verdict = judge("04.3", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look
