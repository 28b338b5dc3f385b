"""The exercises of lesson 08: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from typing import Any

import pytest

from widgets.common.exercises import judge
from widgets.lookahead import (
    exercises,
)
from widgets.lookahead.mask import SENTENCES, Place


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((150, 5, 3), "chosen, not read"),
        ((60, 5, 3), "read in the same pass"),
        ((900, 5, 3), "add up"),
        ((30, 5, 3), "N - 1 tokens"),
        ((7, 5, 3), "Count the window's tokens"),
        ((120, 4, 3), "lost in the authors' program"),
        ((120, 6, 3), "One too many"),
        ((120, 60, 3), "only one of them"),
        ((120, 9, 3), "what comes after it"),
        ((120, 5, 1), "as short as one token's"),
        ((120, 5, 120), "no token were free"),
        ((120, 5, 1 / 3), "Upside down"),
        ((120, 5, 40), "how many tokens are free"),
        ((120, 5, 2), "How many times as long"),
        ((120, 5), "Expected three numbers"),
    ],
)
def test_the_price_of_a_pass_mistaken(answer: Any, told: str) -> None:
    verdict = judge("08.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_the_price_of_a_pass() -> None:
    assert judge("08.1", (120, 5, 3)).grade == "right"
    assert judge("08.1", ...).grade == "open"


def sees(me: Place, other: Place) -> bool:
    if me.guess and other.guess:
        return me.line == other.line and other.column <= me.column
    if me.guess:
        return (other.line, other.column) == (0, 0)
    if other.guess:
        return False
    if other.line == 0:
        return other.column <= me.column
    return other.column == me.column and other.line <= me.line


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda a, b: sees(a, b) or (not a.guess and b.guess), "window"),
        (lambda a, b: sees(a, b) or (a.guess and not b.guess), "unseen"),
        (lambda a, b: sees(a, b) or (a.guess and b.guess and a.line != b.line), "rival"),
        (lambda a, b: sees(a, b) and a != b, "self"),
        (lambda a, b: sees(a, b) or (not (a.guess or b.guess) and a.line == b.line), "future"),
        (lambda a, b: sees(a, b) and (a.line == b.line or a.guess), "start"),
        (lambda a, b: sees(a, b) and not (a.guess and not b.guess), "newest"),
    ],
)
def test_a_mask_mistaken(answer: Callable[[Place, Place], bool], why: str) -> None:
    verdict = judge("08.2", answer)
    assert verdict.grade == "wrong"
    assert verdict.look == SENTENCES[why]


def test_a_mask() -> None:
    assert judge("08.2", sees).grade == "right"
    assert judge("08.2", lambda a, b: [].clear()).says == "Expected True or False, got nothing."
    said = judge("08.2", lambda a, b: sees(a, b) or (a.guess and not b.guess)).says
    assert said == "guess 0, column 0 and line 0, column 1: expected False, got True."


def ten(text: list[int]) -> int:
    return (text[-1] + 1) % 10


def endless(text: list[int]) -> int:
    return (text[-1] + 1) % 1000


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((endless, endless), "does the text come back"),
        ((ten, ten), "The text still comes back"),
        ((lambda text: len(text), endless), "It is to settle one"),
        ((ten,), "Expected two functions"),
        ((ten, lambda text: 1000), "from 0 to 999"),
        ((ten, lambda text: 0.5), "not float"),
        ((ten, 7), "A function is asked for"),
        ((ten, lambda text, seen=[0]: seen.append(1) or len(seen)), "nothing else"),  # type: ignore[func-returns-value]
    ],
)
def test_what_it_lives_on_mistaken(answer: Any, told: str) -> None:
    verdict = judge("08.3", answer)
    assert verdict.grade == "wrong"
    assert told.lower() in (verdict.says + verdict.look).lower()


def test_what_it_lives_on() -> None:
    verdict = judge("08.3", (ten, endless))
    assert verdict.grade == "right"
    assert "Lookahead: 3.05 and 1.00" in verdict.says
    assert judge("08.3", (ten, ...)).grade == "open"
    assert exercises.tokens_a_pass(endless) == (1, 1)
