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


def test_rows_in_a_window() -> None:
    verdict = judge("01.1", sum(range(8, 16)) + 40 * 16)
    assert verdict.grade == "right"
    assert "732 tokens, and a run of such a loop counts 732" in verdict.says


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (1512, "whole text"),
        (768, "early passes"),
        (748, "last token is written"),
        (716, "one pass is missing"),
        (55, "with a cache"),
        (7, "2 + 3 + 3 + 3"),
    ],
)
def test_rows_in_a_window_mistaken(answer: int, helps: str) -> None:
    verdict = judge("01.1", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def _min_p(p: Tensor, share: float) -> Tensor:
    kept = p.where(p >= share * p.amax(-1, keepdim=True), 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _min_p_by_logarithms(p: Tensor, share: float) -> Tensor:
    low = p.max(dim=1, keepdim=True).values.log() + math.log(share)
    return p.log().masked_fill(p.log() < low - 1e-9, -torch.inf).softmax(1)


def _of_the_batch(p: Tensor, share: float) -> Tensor:
    kept = p.where(p >= share * p.max(), 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _scaled_by_the_whole(p: Tensor, share: float) -> Tensor:
    kept = p * (_min_p(p, share) > 0)
    return kept / kept.sum()


def _fixed_threshold(p: Tensor, share: float) -> Tensor:
    kept = p.where(p >= share, 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _top_p(p: Tensor, share: float) -> Tensor:
    values, order = p.sort(-1, descending=True)
    values[values.cumsum(-1) - values >= share] = 0
    return torch.zeros_like(p).scatter(-1, order, values / values.sum(-1, keepdim=True))


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda p, share: p * (_min_p(p, share) > 0), "divide it by its sum"),
        (_scaled_by_the_whole, "not the whole batch"),
        (_of_the_batch, "take each row's own"),
        (_fixed_threshold, "a fixed threshold"),
        (lambda p, share: p * (_min_p(p, share) == 0), "the likely ones stay"),
        (_top_p, "That is top-p"),
        (lambda p, share: _min_p(p, share)[:, :2], "keep their place"),
        (lambda p, share: _min_p(p, share).tolist(), "Is there a return?"),
        (lambda p, share: p, "Compare each probability"),
        (lambda p, share: p * math.nan, "Compare each probability"),
    ],
)
def test_min_p_mistaken(answer: Callable[[Tensor, float], Any], helps: str) -> None:
    verdict = judge("01.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


@pytest.mark.parametrize("answer", [_min_p, _min_p_by_logarithms])
def test_min_p(answer: Callable[[Tensor, float], Any]) -> None:
    assert judge("01.2", answer).grade == "right"


def test_min_p_says_which_row_differs() -> None:
    assert judge("01.2", _of_the_batch).says == (
        "min_p of [0.16, 0.3, 0.29, 0.25] in row 1, share 0.4: expected [0.16, 0.3, 0.29, 0.25], "
        "got [0, 0.357, 0.345, 0.298]."
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
