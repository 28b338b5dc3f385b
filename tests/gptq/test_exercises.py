"""The exercises of lesson 11: right answers, and what is said of typical mistakes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm.gptq.hessian import inverse_root
from widgets.common.exercises import (
    judge,
)
from widgets.gptq import exercises


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (1.55, "wrong", "three numbers"),
        ((1.15, 2.215, 1.615), "wrong", "make up for what the first lost"),
        ((1.65, 2.215, 1.615), "wrong", "of the weight that moves"),
        ((1.75, 2.215, 1.615), "wrong", "All of the error?"),
        ((1.35, 2.215, 1.615), "wrong", "Nothing has moved"),
        ((1.55, 1.375, 1.615), "wrong", "the product of both"),
        ((1.55, 1.795, 1.615), "wrong", "its 3 twice"),
        ((1.55, 2.215, 4.735), "wrong", "Mind the signs"),
        ((1.55, 2.215, 0.5825), "wrong", "the error of the weights"),
        ((1.55, 2.215, 9.0), "wrong", "Write it down"),
        ((1.55, 2.215, 1.615), "right", "from 2.215 to 1.615"),
    ],
)
def test_a_column_by_hand(answer: Any, grade: str, says: str) -> None:
    verdict = judge("11.1", answer)
    assert verdict.grade == grade
    assert says in verdict.says + verdict.look


_LOOP = """
order = H.diagonal().argsort(descending=True)
w, U = w[order], inverse_root(H[order][:, order], damping=0.01)
for i in range(len(w)):
    rounded = w[i].round()
    w[i + 1 :] -= (w[i] - rounded) / U[i, i] * U[i, i + 1 :]
    w[i] = rounded
w = w[order.argsort()]
"""


def _ordered_row(w: Tensor, H: Tensor, old: str = "", new: str = "") -> Tensor:
    """The solution, or one with a part of it replaced."""
    assert old in _LOOP
    space = {"w": w, "H": H, "inverse_root": inverse_root, "torch": torch}
    exec(_LOOP.replace(old, new) if old else _LOOP, space)
    return space["w"]


def test_gptq_of_a_row_in_another_order() -> None:
    assert judge("11.2", _ordered_row).grade == "right"
    assert judge("11.2", lambda w, H: _ordered_row(w, H).tolist()).grade == "right"
    assert judge("11.2", lambda w, H: _ordered_row(w, 5 * H)).grade == "right"


@pytest.mark.parametrize(
    ("old", "new", "helps"),
    [
        ("w[i + 1 :] -=", "w[i + 1 :] -= 0 *", "does anything move?"),
        ("H.diagonal().argsort(descending=True)", "torch.arange(6)", "from left to right"),
        ("descending=True", "descending=False", "not the weakest"),
        ("w = w[order.argsort()]", "", "not back at their places"),
        ("H[order][:, order]", "H", "in the same order as w"),
        (
            "inverse_root(H[order][:, order], damping=0.01)",
            "inverse_root(H, damping=0.01)[order][:, order]",
            "The root of H in the new order",
        ),
        ("-=", "+=", "the wrong way"),
        (" / U[i, i] ", " ", "divided by U[i, i]"),
        ("w[i + 1 :] -=", "w[i + 1 :] -= 2 *", "order back"),
    ],
)
def test_gptq_in_another_order_mistaken(old: str, new: str, helps: str) -> None:
    verdict = judge("11.2", lambda w, H: _ordered_row(w, H, old, new))
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_row_of_whole_numbers_is_asked_for() -> None:
    assert "not all whole" in judge("11.2", lambda w, H: w).says
    assert "got a shape of ()" in judge("11.2", lambda w, H: 1.0).says
    assert "has changed" in judge("11.2", lambda w, H: w.round_()).says
    assert "has changed" in judge("11.2", lambda w, H: _ordered_row(w, H.mul_(2))).says
    assert judge("11.2", ...).grade == "open"


_EQUAL, _OPPOSITE = [[1, 1]] * 4, [[1, -1]] * 4


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        ([_EQUAL], "wrong", "two texts"),
        ((_EQUAL[:3], _OPPOSITE), "wrong", "at least 4 rows"),
        ((_EQUAL, [[0, 0]] * 4), "wrong", "tells nothing"),
        ((_EQUAL, [[1, math.inf]] * 4), "wrong", "must be finite"),
        (([[1, 0], [0, 1]] * 2, _OPPOSITE), "wrong", "where inputs go together"),
        ((_EQUAL, _EQUAL), "wrong", "half at most"),
        ((_EQUAL, _OPPOSITE), "right", "16.0 times GPTQ's on the one"),
    ],
)
def test_a_misleading_text(answer: Any, grade: str, says: str) -> None:
    verdict = judge("11.3", answer)
    assert verdict.grade == grade
    assert says in verdict.says + verdict.look


def test_nearest_errs_sixteen_times_as_much_where_inputs_are_equal() -> None:
    on, off = exercises.transfer(_EQUAL, [[1, 0], [0, 1]])
    assert on == pytest.approx(0.8**2 / 0.2**2)
    assert off == pytest.approx((0.4**2 + 0.4**2) / (0.4**2 + 0.6**2))
