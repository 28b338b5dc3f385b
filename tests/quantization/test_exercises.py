"""The exercises of lesson 10: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest

from widgets.common.exercises import judge
from widgets.quantization import (
    exercises,
)
from widgets.quantization.exercises import advantage


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        ((4.15625, 8.716, 20), "right", "3.85"),
        ((4.156, 8.72, 20), "right", "3.85"),
        ((4.0, 8.716, 20), "wrong", "And the scales?"),
        ((4.125, 8.716, 20), "wrong", "And the zero points?"),
        ((4.15625, 69.7, 20), "wrong", "bits; eight"),
        ((4.15625, 8.39, 20), "wrong", "And the scales?"),
        ((4.15625, 8.716, 16), "wrong", "And the zero point?"),
        ((4.15625, 8.716, 32), "wrong", "one bit"),
        (4.5, "wrong", "three numbers"),
        (..., "open", ""),
    ],
)
def test_bits_are_counted(answer: Any, state: str, told: str) -> None:
    verdict = judge("10.1", answer)
    assert verdict.grade == state
    assert told in str(verdict)


def good(weights: list[float]) -> Any:
    largest = max(map(abs, weights))
    scale = largest / 7 if largest else 1.0
    return [round(weight / scale) for weight in weights], scale


def cuts(weights: list[float]) -> Any:
    scale = good(weights)[1]
    return [int(weight / scale) for weight in weights], scale


def no_guard(weights: list[float]) -> Any:
    scale = max(map(abs, weights)) / 7
    return [round(weight / (scale or 1)) for weight in weights], scale


def signed(weights: list[float]) -> Any:
    scale = max(weights) / 7 or 1
    return [round(weight / scale) for weight in weights], scale


@pytest.mark.parametrize(
    ("function", "state", "told"),
    [
        (good, "right", "nearest"),
        (cuts, "wrong", "int() cuts off"),
        (no_guard, "wrong", "divide by zero"),
        (signed, "wrong", "a 7"),
        (lambda weights: weights, "wrong", "two things"),
    ],
)
def test_rounding_is_checked(function: Any, state: str, told: str) -> None:
    verdict = judge("10.2", function)
    assert verdict.grade == state
    assert told in str(verdict)


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (([91, 93, 95, 97, 99, 101, 103, 127], [1000, 1, 2, 3, 4, 5, 6, 7]), "right", "Neither"),
        (([1000, 1, 2, 3, 4, 5, 6, 7], [91, 93, 95, 97, 99, 101, 103, 127]), "wrong", "for int8"),
        (([91, 93, 95, 97, 99, 101, 103, 127],) * 2, "wrong", "for e4m3"),
        (([0] * 8, [1] * 8), "wrong", "not all of them 0"),
        ((1, 2), "wrong", "no list"),
    ],
)
def test_favourites_are_checked(answer: Any, state: str, told: str) -> None:
    verdict = judge("10.3", answer)
    assert verdict.grade == state
    assert told in str(verdict)


def test_advantage_is_one_for_what_both_hold() -> None:
    assert advantage([127.0, 2.0, 1.0, 64.0] * 2) != 1
    assert set(exercises.__all__) == {"advantage", "check", "hint"}
