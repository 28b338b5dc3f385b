"""The exercises of lesson 07: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from widgets.common.exercises import judge
from widgets.jacobi import (
    exercises,
)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((12, 96, 0.8), "a second pass have to confirm"),
        ((1, 96, 0.8), "Only one block"),
        ((96, 96, 0.8), "At best a pass settles a whole block"),
        ((16, 96, 0.8), "how many tokens a block has"),
        ((7, 96, 0.8), "How many blocks are there"),
        ((6, 102, 0.8), "nothing is left that could change"),
        ((6, 16, 0.8), "one block"),
        ((6, 6, 0.8), "That is at best"),
        ((6, 50, 0.8), "at the very least"),
        ((6, 96, 1.25), "Upside down"),
        ((6, 96, 1.2), "The passes got longer"),
        ((6, 96, 1.8), "A longer pass costs"),
        ((6, 96, 5), "over the cost of a pass"),
        ((6, 96), "Expected three numbers"),
        (6, "Expected three numbers"),
    ],
)
def test_passes_and_their_price_mistaken(answer: Any, told: str) -> None:
    verdict = judge("07.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_passes_and_their_price() -> None:
    assert judge("07.1", (6, 96, 0.8)).grade == "right"
    assert judge("07.1", [6.0, 96.0, 0.8001]).grade == "right"
    assert judge("07.1", ...).grade == "open"


def committed(guesses: list[int], choices: list[int], stop: int) -> list[int]:
    size = 1
    while size < len(choices) and guesses[size - 1] == choices[size - 1] != stop:
        size += 1
    return choices[:size]


def settled(guesses: list[int], choices: list[int]) -> int:
    return len(committed(guesses, choices, -1))


def stopped_at_a_guess(g: list[int], c: list[int], stop: int) -> list[int]:
    place = g.index(stop) + 1 if stop in g else len(g)
    return c[: min(settled(g, c), place)]


def both(text: Callable[..., Any]) -> Callable[..., Any]:
    """An answer whose text may be wrong, with the rest that is right beside the true one."""

    def answer(g: list[int], c: list[int], stop: int) -> tuple[Any, list[int]]:
        true = committed(g, c, stop)
        return text(g, c, stop), [] if true[-1] == stop else c[len(true) :]

    return answer


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (lambda g, c, s: c[: 1 + sum(a == b for a, b in zip(g, c, strict=True))], "a wrong one"),
        (lambda g, c, s: committed(g, c, s)[:-1], "The first choice that differs is right as well"),
        (lambda g, c, s: c[:1], "and one more"),
        (lambda g, c, s: c[: settled(g, c) + 1], "saw the wrong one"),
        (lambda g, c, s: c[: settled(g, c)], "what was chosen after it is never read"),
        (lambda g, c, s: [t for t in committed(g, c, s) if t != s], "The stop token is written"),
        (lambda g, c, s: committed(g, c, s)[::-1], "without a gap"),
        (lambda g, c, s: settled(g, c), "Expected two lists"),
    ],
)
def test_committed_mistaken(text: Callable[..., Any], told: str) -> None:
    verdict = judge("07.2", both(text))
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda g, c, s: (committed(g, c, s), g[settled(g, c) :]), "read already"),
        (lambda g, c, s: (committed(g, c, s), c[len(committed(g, c, s)) :]), "The text has ended"),
        (lambda g, c, s: (committed(g, c, s), c), "as long as the block"),
        (lambda g, c, s: (committed(g, c, s), []), "as long as the block"),
        (committed, "Expected two lists"),
        (lambda g, c, s: g.reverse(), "Is there a return"),
        (lambda g, c, s: g[99], "IndexError"),
        (7, "A function is asked for"),
    ],
)
def test_the_rest_of_the_block_mistaken(answer: Any, told: str) -> None:
    verdict = judge("07.2", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_committed() -> None:
    for text in (
        committed,
        lambda g, c, s: tuple(committed(g, c, s)),
        lambda g, c, s: torch.tensor(committed(g, c, s)),
        stopped_at_a_guess,  # a wrong guess ends it anyway
    ):
        assert judge("07.2", both(text)).grade == "right"
    assert judge("07.2", ...).grade == "open"


def sixteen(text: list[int]) -> int:
    return (text[-1] + 1) % 100


def nine(text: list[int]) -> int:
    return (text[-2] + 1) % 100


def two(text: list[int]) -> int:
    return len(text) % 100


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((two, nine, two), "Make every token depend on the one before"),
        ((nine, nine, two), "Make every token depend on the one before"),
        ((sixteen, sixteen, two), "waits for the one before it"),
        ((sixteen, two, two), "two places before it"),
        ((sixteen, nine, nine), "No token may look at another"),
        ((sixteen, nine), "Expected three functions"),
        ((sixteen, nine, lambda text: 100), "from 0 to 99"),
        ((sixteen, nine, lambda text: "a"), "not str"),
        ((sixteen, nine, lambda text: True), "not bool"),
        ((sixteen, nine, lambda text: text[99]), "IndexError"),
        ((lambda text, seen=[0]: seen.append(1) or len(seen) % 100, nine, two), "nothing else"),  # type: ignore[func-returns-value]
    ],
)
def test_laws_mistaken(answer: Any, told: str) -> None:
    verdict = judge("07.3", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_laws() -> None:
    assert judge("07.3", (sixteen, nine, two)).grade == "right"
    assert judge("07.3", (sixteen, nine, lambda text: 5)).grade == "right"
    assert judge("07.3", (sixteen, ..., two)).grade == "open"
    assert exercises.passes_of(sixteen, 1) == 16
