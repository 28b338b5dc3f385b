"""The exercise of lesson 15: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest

from widgets.common.exercises import judge
from widgets.public_model.exercises import PASSES, TOKENS, V

RIGHT = [TOKENS[name] / V[m] for name, m in PASSES.items()]


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (RIGHT, "right", "times the plain loop"),
        (tuple(RIGHT), "right", "Above 1 on this machine"),
        (RIGHT[:2], "wrong", "three numbers"),
        ([TOKENS["lookup"], *RIGHT[1:]], "wrong", "What does a pass cost?"),
        ([RIGHT[0], 1 / RIGHT[1], RIGHT[2]], "wrong", "inverse"),
        ([RIGHT[0], RIGHT[1], TOKENS["lookahead"] * V[30]], "wrong", "slower"),
        ([RIGHT[0], TOKENS["jacobi"] / 16, RIGHT[2]], "wrong", "V(16), not 16"),
        ([99.0, *RIGHT[1:]], "wrong", "Divide"),
    ],
)
def test_speeds(answer: Any, grade: str, says: str) -> None:
    verdict = judge("15.1", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"
