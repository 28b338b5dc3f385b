"""The exercises of lesson 11: right answers, and what is said of typical mistakes."""

import math
from typing import Any

import pytest
from torch import Tensor

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


def _gptq_row(w: Tensor, U: Tensor, old: str = "", new: str = "") -> Tensor:
    """The solution, or one with a part of its loop replaced."""
    loop = "q[i] = w[i].round(); w[i + 1 :] -= (w[i] - q[i]) / U[i, i] * U[i, i + 1 :]"
    assert old in loop
    given, w, q = w, w.clone(), w.clone()
    for i in range(len(w)):
        exec(loop.replace(old, new) if old else loop, {"w": w, "q": q, "U": U, "i": i, "w0": given})
    return q


def test_gptq_of_a_row() -> None:
    assert judge("11.2", _gptq_row).grade == "right"
    assert judge("11.2", lambda w, U: _gptq_row(w, U).tolist()).grade == "right"


@pytest.mark.parametrize(
    ("old", "new", "helps"),
    [
        ("-=", "+=", "the wrong way"),
        (" / U[i, i] ", " ", "divided by U[i, i]"),
        ("U[i, i + 1 :]", "U[i + 1 :, i]", "does anything move?"),
        ("(w[i] - q[i])", "(w0[i] - q[i])", "as it is by now"),
        ("w[i + 1 :] -=", "w[i + 1 :] -= 2 *", "move all later weights"),
    ],
)
def test_gptq_of_a_row_mistaken(old: str, new: str, helps: str) -> None:
    verdict = judge("11.2", lambda w, U: _gptq_row(w, U, old, new))
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_row_of_whole_numbers_is_asked_for() -> None:
    assert "not all whole" in judge("11.2", lambda w, U: w).says
    assert "got a shape of ()" in judge("11.2", lambda w, U: 1.0).says
    assert "has changed" in judge("11.2", lambda w, U: w.round_()).says
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
