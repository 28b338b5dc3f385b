"""The exercises of lesson 09: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest
import torch

from widgets.common.exercises import judge
from widgets.sparsity.exercises import SIZES, Rows

MATRIX = SIZES["C"] * SIZES["F"] * SIZES["bytes"] / 1e6


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (3, "wrong", "three numbers"),
        ((2 * MATRIX, 1, 3), "wrong", "three matrices"),
        ((3 * MATRIX, 0.3 * MATRIX, 3), "wrong", "W_gate is read in full"),
        ((3 * MATRIX, 2.1 * MATRIX, 3), "wrong", "rows of W_up can be skipped"),
        ((3 * MATRIX, 1.2 * MATRIX, 10), "wrong", "Zeros save nothing of W_gate"),
        ((3 * MATRIX, 1.2 * MATRIX, 2.5), "wrong", "if every gate were shut"),
        ((3 * MATRIX, 1.2 * MATRIX, 3), "right", "271 MB and 108 MB"),
    ],
)
def test_exercise_1(answer: Any, grade: str, says: str) -> None:
    verdict = judge("09.1", answer)
    assert verdict.grade == grade
    assert says in verdict.says + verdict.look


def skip_batch(x, gate, up, down):
    y = torch.zeros_like(x)
    for f in gate.any(0).nonzero()[:, 0]:
        y += torch.outer(gate[:, f] * (x @ up[f]), down[f])
    return y


def gathered(x, gate, up, down):
    opened = gate.any(0).nonzero()[:, 0].tolist()
    if not opened:
        return torch.zeros_like(x)
    ups, downs = (torch.stack([rows[f] for f in opened]) for rows in (up, down))
    return (gate[:, opened] * (x @ ups.T)) @ downs


def dense(x, gate, up, down):
    return sum(torch.outer(gate[:, f] * (x @ up[f]), down[f]) for f in range(gate.shape[1]))


def one_by_one(x, gate, up, down):
    return torch.cat([skip_batch(x[n : n + 1], g[None], up, down) for n, g in enumerate(gate)])


def of_all(x, gate, up, down):
    return skip_batch(x, gate * gate.all(0), up, down)


def summed(x, gate, up, down):
    return skip_batch(x, gate.sum(0).expand(gate.shape), up, down)


def without_value(x, gate, up, down):
    return skip_batch(x, (gate != 0).double(), up, down)


def without_up(x, gate, up, down):
    opened = gate.any(0).nonzero()[:, 0]
    return sum((torch.outer(gate[:, f], down[f]) for f in opened), torch.zeros_like(x))


def nothing(x, gate, up, down):
    skip_batch(x, gate, up, down)


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (skip_batch, "right", "each row that is needed is read once"),
        (gathered, "right", "each row that is needed is read once"),
        (lambda *given: skip_batch(*given).tolist(), "right", "read once"),
        (dense, "wrong", "rows of up were read for nothing"),
        (one_by_one, "wrong", "more than once"),
        (of_all, "wrong", "as soon as *any* token opens it"),
        (summed, "wrong", "gates of its own"),
        (without_value, "wrong", "The gate's own value"),
        (without_up, "wrong", "also multiplies by up[f] @ x"),
        (nothing, "wrong", "got nothing"),
        (lambda x, *_: x[:, :2], "wrong", "expected the shape (1, 6)"),
        (lambda x, *_: x / 0 + y, "wrong", "NameError"),
    ],
)
def test_exercise_2(answer: Any, grade: str, says: str) -> None:
    verdict = judge("09.2", answer)
    assert verdict.grade == grade, verdict
    assert says in verdict.says + verdict.look


def test_rows_note_what_is_read() -> None:
    rows = Rows(torch.eye(3))
    assert rows[1].tolist() == [0, 1, 0]
    assert len(list(rows)) == len(rows) == 3
    assert rows.read == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        (([1.0] + [0.0] * 9, [0.1] * 10), "right", "90% and 43% unused"),
        (([0.1] * 10, [0.1] * 10), "wrong", "most: 8 tokens leave 43.0%"),
        (([1.0] + [0.0] * 9, [0.5, 0.5] + [0.0] * 8), "wrong", "least: 80.1% stay unused"),
        (([0.5] * 10, [0.1] * 10), "wrong", "the mean is 0.5"),
        (([1.0], [0.1] * 10), "wrong", "expected ten rates"),
        ([[0.1] * 10], "wrong", "two lists"),
    ],
)
def test_exercise_3(answer: Any, grade: str, says: str) -> None:
    verdict = judge("09.3", answer)
    assert verdict.grade == grade, verdict
    assert says in verdict.says + verdict.look
