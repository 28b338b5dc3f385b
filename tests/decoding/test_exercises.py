"""The exercises of lesson 01: right answers, and what is said of typical mistakes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from widgets.common.exercises import (
    judge,
)
from widgets.decoding import exercises


def test_rows_without_a_cache() -> None:
    p, n = exercises.PROMPT, exercises.NEW
    verdict = judge("01.1", n * p + n * (n - 1) // 2)
    assert verdict.grade == "right"
    assert "counts 1,512" in verdict.says


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (384, "but not the tokens already written"),
        (1128, "sees the prompt as well"),
        (1560, "last token is written"),
        (2688, "early passes"),
        (55, "with a cache"),
        (56, "one a token"),
        (7, "2 + 3 + 4"),
    ],
)
def test_rows_without_a_cache_mistaken(answer: int, helps: str) -> None:
    verdict = judge("01.1", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def _top_p(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) - values >= p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _drops_the_crossing_token(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) > p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _keeps_one_too_many(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) - values > p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _forgets_to_divide(given: Tensor, p: float) -> Tensor:
    return given * (_top_p(given, p) > 0)


def _keeps_the_sorted_order(given: Tensor, p: float) -> Tensor:
    return _top_p(given, p).sort(descending=True).values


def _cuts_by_value(given: Tensor, p: float) -> Tensor:
    return torch.where(given >= p, given, 0.0) / 1


def _shortens(given: Tensor, p: float) -> Tensor:
    kept = _top_p(given, p)
    return kept[kept > 0]


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (_drops_the_crossing_token, "the one that makes the sum cross p stays"),
        (_keeps_one_too_many, "no further token is needed"),
        (_forgets_to_divide, "divide by the sum"),
        (_keeps_the_sorted_order, "put them back"),
        (_cuts_by_value, "Nothing is left"),
        (_shortens, "keep their place"),
        (lambda given, p: _top_p(given, p).tolist(), "Is there a return?"),
        (lambda given, p: given, "Add up from the most probable"),
    ],
)
def test_top_p_mistaken(answer: Callable[[Tensor, float], Any], helps: str) -> None:
    verdict = judge("01.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_top_p() -> None:
    assert judge("01.2", _top_p).grade == "right"
    said = judge("01.2", _drops_the_crossing_token).says
    assert said == (
        "top_p([0.125, 0.5, 0.25, 0.125], 0.6): expected [0, 0.667, 0.333, 0], got [0, 1, 0, 0]."
    )


def _temperature_of(bits: float) -> float:
    low, high = 0.1, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if exercises.entropy_bits(middle) < bits else (low, middle)
    return low


def test_the_temperature_of_an_entropy() -> None:
    bits = exercises.BITS
    assert judge("01.3", _temperature_of(bits)).grade == "right"
    assert "divide nats" in judge("01.3", _temperature_of(bits / math.log(2))).look
    assert "lower temperature" in judge("01.3", 5.0).look
    assert "higher temperature" in judge("01.3", 0.5).look
    for senseless in (0, -1, math.nan, math.inf):
        assert judge("01.3", senseless).grade == "wrong"
