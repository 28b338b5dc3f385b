"""The checks of lesson 11: a column by hand, GPTQ in another order, and text that misleads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minillm.gptq.columns import gptq, round_trip_error
from minillm.gptq.hessian import Hessian, inverse_root
from minillm.quantization.rounding import quantize
from minillm.quantization.spec import Spec
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["check", "hint", "transfer"]

_WEIGHTS = (0.4, 1.35)
_H = ((4.0, 3.0), (3.0, 6.0))


@exercise(
    "11.1",
    hints=[
        "The first weight is moved by -0.4. For which move x of the second is the error "
        "4 * 0.4^2 - 2 * 3 * 0.4 x + 6 x^2 least?",
        "The error of a row is 4 a^2 + 2 * 3 a b + 6 b^2, with a and b what rounding took away.",
        "Nearest takes away 0.4 and 0.35; GPTQ takes away 0.4, and adds to the second.",
    ],
)
def by_hand(answer: Any) -> Verdict:
    """The second weight before its rounding; the output error of nearest, and of GPTQ."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: the second weight, nearest's error, GPTQ's error.")
    moved, nearest, ours = map(float, answer)
    (a, b), ((aa, ab), (_, bb)) = _WEIGHTS, _H
    true = b + a * ab / bb
    if not math.isclose(moved, true, rel_tol=1e-3):
        why = {
            b - a * ab / bb: "Inputs that go together: the second weight has to make up for what "
            "the first lost.",
            b + a * ab / aa: "Over the H of the weight that moves, 6, not of the one rounded.",
            b + a: "All of the error? Inputs go together only in part.",
            b: "Nothing has moved.",
        }
        return wrong(f"The second weight becomes {moved:g}: that is not it.", _why(why, moved))
    for name, said, (x, y) in (
        ("Nearest", nearest, (a, b - round(b))),
        ("GPTQ", ours, (a, b - round(true))),
    ):
        error = aa * x * x + 2 * ab * x * y + bb * y * y
        if not math.isclose(said, error, rel_tol=1e-2):
            why = {
                aa * x * x + bb * y * y: "And the product of both, since the inputs go together?",
                aa * x * x + ab * x * y + bb * y * y: "H has its 3 twice.",
                error / 2: "tr((W - Q) H (W - Q)^T), not half of it.",
                aa * x * x
                - 2 * ab * x * y
                + bb * y * y: "Mind the signs: what each lost, w - rounded.",
                x * x + y * y: "That is the error of the weights; H weighs the outputs'.",
            }
            return wrong(f"{name}: {said:g} is not it.", _why(why, said))
    return right(
        f"{moved:g} rounds to 2, and the error falls from {nearest:g} to {ours:g}.",
        "GPTQ's weights are further from the given ones, and its outputs nearer.",
    )


@exercise(
    "11.2",
    hints=[
        "order = H.diagonal().argsort(descending=True) is the order in which columns are rounded.",
        "Take w and both sides of H in that order, H[order][:, order], and then the root of it.",
        "At the end each value goes back to its place: order.argsort() undoes the order.",
    ],
)
def ordered_row(answer: Any) -> Verdict:
    """A function (w, H) -> K whole numbers: GPTQ of one row, the strongest inputs first."""
    for seed in range(8):
        draw = torch.Generator().manual_seed(seed)
        w = 3 * torch.randn(6, generator=draw, dtype=torch.float64)
        hessian = Hessian(6)
        mixing = torch.randn(6, 6, generator=draw, dtype=torch.float64)
        hessian.add(torch.randn(40, 6, generator=draw, dtype=torch.float64) @ mixing)
        H = hessian.matrix.double()
        given = w.clone(), H.clone()
        got = run(answer, *given)
        if isinstance(got, Verdict):
            return got
        if not (torch.equal(given[0], w) and torch.equal(given[1], H)):
            return wrong(
                "What was passed in has changed.", "w.clone() and w[order] are copies of your own."
            )
        values = torch.as_tensor(got, dtype=torch.float64)
        if values.shape != w.shape:
            return wrong(f"Expected {len(w)} numbers, got a shape of {tuple(values.shape)}.")
        if not values.equal(values.round()):
            return wrong(f"{_shown(values)} are not all whole numbers.", "Return what was rounded.")
        right_ones = _ordered(w, H)
        if not values.equal(right_ones):
            return wrong(
                f"w = {_shown(w)}: expected {_shown(right_ones)}, got {_shown(values)}.",
                _mistake(w, H, values),
            )
    return right(
        "Eight rows of six weights: every value is GPTQ's with act-order.",
        "The strongest inputs come first, while all others can still compensate.",
    )


def _row(w: Tensor, U: Tensor, sign: float = 1.0, over: bool = True) -> Tensor:
    """GPTQ of a row from left to right, or one of its mistakes."""
    moved, rounded = w.clone(), w.round()
    for i in range(len(w)):
        rounded[i] = moved[i].round()
        error = (moved[i] - rounded[i]) / (U[i, i] if over else 1)
        moved[i + 1 :] -= sign * error * U[i, i + 1 :]
    return rounded


def _ordered(
    w: Tensor, H: Tensor, *, strongest: bool = True, back: bool = True, **row: Any
) -> Tensor:
    """GPTQ of a row, the strongest inputs first, or one of its mistakes."""
    order = H.diagonal().argsort(descending=strongest)
    rounded = _row(w[order], inverse_root(H[order][:, order], 0.01), **row)
    return rounded[order.argsort()] if back else rounded


def _mistake(w: Tensor, H: Tensor, values: Tensor) -> str:
    U, order = inverse_root(H, 0.01), H.diagonal().argsort(descending=True)
    mistakes = (
        (w.round(), "That is round to nearest: does anything move?"),
        (_row(w, U), "That is GPTQ from left to right: in which order are columns rounded?"),
        (_ordered(w, H, strongest=False), "The strongest inputs first, not the weakest."),
        (_ordered(w, H, back=False), "The values are right, but not back at their places."),
        (_row(w[order], U)[order.argsort()], "H has to be taken in the same order as w."),
        (_row(w[order], U[order][:, order])[order.argsort()], "The root of H in the new order."),
        (_ordered(w, H, sign=-1), "Later weights move the wrong way: subtract."),
        (_ordered(w, H, over=False), "The error is divided by U[i, i] before it moves others."),
    )
    told = [why for wrongly, why in mistakes if values.equal(wrongly)]
    return told[0] if told else "Order w and H, round as in the loop of section 3, order back."


def transfer(
    calibration: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """The error of nearest over GPTQ's, on the text that it was calibrated on and on another.

    Both round the weights 0.4 and 0.4 to whole numbers; a text is rows of two inputs.

    Raises:
        ValueError: a text of other than two inputs, or with zeros only.
    """
    weight = torch.tensor([[0.4, 0.4], [7.0, 7.0]])  # the 7 make the step 1
    texts = [Hessian(2), Hessian(2)]
    for hessian, rows in zip(texts, (calibration, other), strict=True):
        hessian.add(torch.tensor(rows, dtype=torch.float64))
    spec = Spec("int4", "tensor")
    nearest, ours = quantize(weight, spec), gptq(weight, texts[0].matrix, spec)
    tiny = 1e-9  # of an error that is none
    on, off = (
        (round_trip_error(weight, nearest, H) + tiny) / (round_trip_error(weight, ours, H) + tiny)
        for H in (hessian.matrix for hessian in texts)
    )
    return on, off


@exercise(
    "11.3",
    hints=[
        "With (1, 1) as input, which output do the weights 0.4 and 0.4 give? 0 and 0? 0 and 1?",
        "On which input does it not matter that both became 0?",
        "Calibrate on inputs that are equal, and then give opposite ones.",
    ],
)
def misled(answer: Any) -> Verdict:
    """Rows to calibrate on, where GPTQ errs far less, and others, where it errs far more."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two texts: (calibration, other), each a list of pairs.")
    for name, rows in zip(("calibration", "other"), answer, strict=True):
        shape = torch.tensor(rows, dtype=torch.float64).shape
        if len(shape) != 2 or shape[0] < 4 or shape[1] != 2:
            return wrong(f"{name}: at least 4 rows of 2 inputs are needed, got {tuple(shape)}.")
        if not all(math.isfinite(x) for pair in rows for x in pair):
            return wrong(f"{name}: all inputs must be finite.")
        if not any(x for pair in rows for x in pair):
            return wrong(f"{name}: all inputs are zero.", "Such a text tells nothing.")
    on, off = transfer(*answer)
    if on < 3:
        return wrong(
            f"calibration: nearest's error is {on:.2f} times GPTQ's; 3 times is asked for.",
            "GPTQ can compensate an error only where inputs go together.",
        )
    if off > 0.5:
        return wrong(
            f"other: nearest's error is {off:.2f} times GPTQ's; half at most is asked for.",
            "Where would 0 and 0 have been the better choice?",
        )
    return right(
        f"Nearest's error is {on:.1f} times GPTQ's on the one, {off:.2g} times on the other.",
        "GPTQ trusts its calibration text. Take one that is like what the model will read, and "
        "judge on another.",
    )


def _why(mistakes: dict[float, str], said: float) -> str:
    told = [why for value, why in mistakes.items() if math.isclose(said, value, rel_tol=1e-2)]
    return told[0] if told else "Write it down for one row: what each weight lost, and H."


def _shown(values: Tensor) -> str:
    return "[" + ", ".join(f"{x:g}" for x in (values * 100).round().div(100).tolist()) + "]"
