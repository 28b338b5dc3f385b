"""The exercises of lesson 12: right answers, and what is said of typical mistakes."""

import math
from typing import Any

import pytest

from minillm.scaling import kbit
from minillm.scaling.kbit import frontier
from widgets.common.exercises import judge
from widgets.scaling import exercises


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (1.2625, "wrong", "three numbers"),
        ((1.2, 1.425, 1.711), "wrong", "Scales are stored as well."),
        ((1.16875, 1.425, 1.711), "wrong", "stays in 16 bits"),
        ((1.0625, 1.425, 1.711), "wrong", "And the embedding?"),
        ((1.0, 1.425, 1.711), "wrong", "Scales and the embedding"),
        ((3.2, 1.425, 1.711), "wrong", "share one scale"),
        ((10.1, 1.425, 1.711), "wrong", "Eight bits are one byte"),
        ((7.0, 1.425, 1.711), "wrong", "Count again"),
        ((1.2625, 1.3, 1.711), "wrong", "large: 1.3 GB is not it. Scales are stored as well."),
        ((1.2625, 1.425, 2.0), "wrong", "more memory than the small"),
        ((1.2625, 1.425, 1.8889), "wrong", "not of one size"),
        ((1.2625, 1.425, 2.2444), "wrong", "needs room as well"),
        ((1.2625, 1.425, 1.925), "wrong", "Scales are stored as well."),
        ((1.2625, 1.425, 1.8611), "wrong", "matrices alone"),
        ((1.2625, 1.425, 1.711), "right", "1.71 billion instead of 2"),
    ],
)
def test_half_the_bits_of_twice_the_model(answer: Any, grade: str, says: str) -> None:
    verdict = judge("12.1", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def lowest_so_far(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [p for p in sorted(points) if all(p[1] < q[1] for q in sorted(points) if q < p)]


def test_a_frontier() -> None:
    verdict = judge("12.2", lowest_so_far)
    assert verdict.grade == "right"
    mine = [p.bits for p in frontier([p for p in kbit.read() if p.embedding])]
    assert f"20 points {len(mine)} are worth having" in verdict.says
    assert verdict.says.endswith(f"{', '.join(map(str, mine))}.")
    assert judge("12.2", lambda points: map(list, lowest_so_far(points))).grade == "right"
    assert judge("12.2", ...).grade == "open"


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda points: sorted(points).reverse(), "Is there a return?"),
        (lambda points: points.sort() or lowest_so_far(points), "is a new one"),
        (lambda points: lowest_so_far(points)[::-1], "not from the fewest bits on"),
        (sorted, "Every point is there"),
        (lambda points: [p for p in points if p in lowest_so_far(points)], "not from the fewest"),
        (
            lambda points: [
                p for p in sorted(points) if all(p[1] <= q[1] for q in points if q < p)
            ],
            "fewer bits reach as well",
        ),
        (
            lambda points: [
                p for p in sorted(points) if all(p[1] < q[1] for q in points if q[0] < p[0])
            ],
            "equal bits",
        ),
        (
            lambda points: [
                p
                for last, p in zip([(0, 9), *sorted(points)], sorted(points), strict=False)
                if p[1] < last[1]
            ],
            "not with the last point alone",
        ),
        (lambda points: lowest_so_far(points)[:2], "A point is missing"),
    ],
)
def test_a_frontier_mistaken(answer: Any, helps: str) -> None:
    verdict = judge("12.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


_UP = [[0, 100, 200, 300], *[[4, 3, 2, 1]] * 4]
_DOWN = [[300, 200, 100, 0], *[[1, 2, 3, 4]] * 4]


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        ([_UP], "wrong", "two tables"),
        ((_UP[:4], _DOWN), "wrong", "up: expected five rows"),
        ((_UP, [row[:3] for row in _DOWN]), "wrong", "down: expected five rows"),
        (([[math.nan] * 4] * 5, _DOWN), "wrong", "must be finite"),
        ((_DOWN, _UP), "wrong", "have to rise at every step"),
        (([[1, 2, 3, 4]] * 5, _DOWN), "wrong", "Let one seed alone"),
        ((_UP, _UP), "wrong", "have to fall at every step"),
        ((_UP, [[4, 3, 2, 1]] * 5), "wrong", "How many of five rows"),
        ((_UP, _DOWN), "right", "though they fall"),
    ],
)
def test_means_that_mislead(answer: Any, grade: str, says: str) -> None:
    verdict = judge("12.3", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def test_the_exercises_offer_their_checks() -> None:
    assert set(exercises.__all__) == {"check", "hint"}
