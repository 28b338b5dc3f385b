"""The exercises of lesson 14: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from typing import Any

import pytest

from widgets.common.exercises import judge
from widgets.serving import exercises


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        ((483, 59), "right", "8.2 times"),
        ((491, 59), "wrong", "992 tokens only"),
        ((605, 59), "wrong", "weights need room"),
        ((30488, 59), "wrong", "number of blocks"),
        ((1, 59), "wrong", "bytes are left"),
        ((483, 74), "wrong", "8,192 tokens"),
    ],
)
def test_texts_on_a_card(answer: Any, grade: str, says: str) -> None:
    verdict = judge("14.1", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def chunked(unread: list[int], budget: int) -> list[int]:
    left = max(budget - unread.count(1), 0)
    reads = []
    for n in unread:
        reads.append(1 if n == 1 else min(n, left))
        if n > 1:
            left -= reads[-1]
    return reads


def in_order(unread: list[int], budget: int) -> list[int]:
    reads = []
    for n in unread:
        reads.append(min(n, budget))
        budget -= reads[-1]
    return reads


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (chunked, "right", "never wait"),
        (lambda unread, budget: tuple(chunked(unread, budget)), "right", ""),
        (lambda unread, budget: list(unread), "wrong", "all of every prompt"),
        (in_order, "wrong", "must not wait"),
        (lambda unread, budget: [min(n, budget) for n in unread], "wrong", "more than its budget"),
        (lambda unread, budget: chunked(unread[::-1], budget)[::-1], "wrong", "order of arrival"),
        (lambda unread, budget: chunked(unread, budget)[1:], "wrong", "each request"),
        (lambda unread, budget: unread.sort(), "wrong", "a return"),
        (lambda unread, budget: [min(n, 1) for n in unread], "wrong", "within what is left"),
    ],
)
def test_a_plan_with_chunks(answer: Callable[..., Any], grade: str, says: str) -> None:
    verdict = judge("14.2", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        ((22, 12), "right", "176 slots in blocks of 8, 192 in blocks of 16"),
        ((21, 12), "wrong", "1 preempted"),
        ((23, 12), "wrong", "not the fewest"),
        ((22, 13), "wrong", "not the fewest"),
        ((5, 12), "wrong", "longest text"),
        ((22, 12, 6), "wrong", "two numbers"),
    ],
)
def test_the_smallest_pools(answer: Any, grade: str, says: str) -> None:
    verdict = judge("14.3", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def test_a_pool_that_holds_all_preempts_nobody() -> None:
    assert [exercises.preemptions(n, 8) > 0 for n in (6, 21, 22, 40)] == [True, True, False, False]
    with pytest.raises(ValueError, match="the pool has 5"):
        exercises.preemptions(5, 8)
