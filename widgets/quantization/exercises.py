"""The checks of lesson 10: bits counted, rounding written, and numbers that favour a format."""

from __future__ import annotations

import math
from typing import Any

import torch

from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["advantage", "check", "hint"]


@exercise(
    "10.1",
    hints=[
        "A group of 128 weights: 128 codes of 4 bits, one scale of 16, one zero point of 4.",
        "Bits of the group over the weights of the group.",
        "A weight of 5 bits has one bit more than its code: 20 bits for how many weights?",
    ],
)
def stored(answer: Any) -> Verdict:
    """Bits a weight of int4 with zero points, MB of a 4096 x 4096 matrix, the group of 5 bits."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: bits a weight, MB, weights of a group.")
    bits, size, group = map(float, answer)
    if not math.isclose(bits, true := 4 + 20 / 128, rel_tol=1e-3):
        why = {4.0: "And the scales?", 4.125: "And the zero points?", 24.0: "Of a whole group?"}
        look = why.get(bits, "128 codes, a scale, a zero point: bits, over how many weights?")
        return wrong(f"{bits:g} bits is not it.", look)
    if not math.isclose(size, whole := 4096 * 4096 * true / 8 / 1e6, rel_tol=0.005):
        mistakes = {
            whole * 8: "These are bits; eight are a byte.",
            4096 * 4096 / 2e6: "And the scales?",
        }
        told = [why for x, why in mistakes.items() if math.isclose(size, x, rel_tol=0.005)]
        look = told[0] if told else "Weights times bits, over 8, over a million."
        return wrong(f"{size:g} MB is not it.", look)
    if group != 20:
        why = {16: "And the zero point?", 4: "And the scale?"}
        look = why.get(int(group), "A group shares 20 bits. When is a weight's share one bit?")
        return wrong(f"A group of {group:g} is not it.", look)
    return right(
        f"{true} bits, {whole:.2f} MB, groups of 20.",
        "In 16 bits the matrix has 33.55 MB: a factor of 3.85, not 4. Scales are bits too.",
    )


_GROUPS = (
    [1.0, -2.0, 3.5, -7.0],
    [0.0, 0.0, 0.0],
    [0.3, -0.1, 0.26, 0.05, -0.3],
    [1e-3, 5e-4, -1e-3],
    [-8.0, 1.0, 0.4, 4.4],
)


@exercise(
    "10.2",
    hints=[
        "The largest magnitude becomes 7; what is then the step?",
        "Divide by the step, round to the nearest integer.",
        "Of zeros only, any step will do, as long as it is not 0.",
    ],
)
def round_group(answer: Any) -> Verdict:
    """A function weights -> (codes, scale): symmetric int4, the largest magnitude becomes 7."""
    for weights in _GROUPS:
        got = run(answer, list(weights))
        if isinstance(got, Verdict):
            return got
        if not isinstance(got, tuple | list) or len(got) != 2:
            return wrong("Expected two things: a list of codes, and the scale.")
        codes, scale = [float(code) for code in got[0]], float(got[1])
        if len(codes) != len(weights):
            return wrong(f"{weights} gave {len(codes)} codes.")
        if not scale > 0:
            return wrong(
                f"{weights}: the scale is {scale:g}.", "A group of zeros must not divide by zero."
            )
        if any(code != round(code) for code in codes):
            return wrong(f"{weights}: {codes} are not all integers.")
        if max(map(abs, codes)) > 7:
            return wrong(
                f"{weights}: {codes} leaves -7 to 7.", "Which scale makes the largest a 7?"
            )
        largest = max(map(abs, weights))
        if largest and not math.isclose(scale, largest / 7, rel_tol=1e-6):
            return wrong(
                f"{weights}: the scale is {scale:g}.", "The largest magnitude is to become 7."
            )
        worst = max(abs(c * scale - w) for c, w in zip(codes, weights, strict=True))
        if worst > scale / 2 * (1 + 1e-6):
            return wrong(
                f"{weights}: an error of {worst:g} at a step of {scale:g}.",
                "Rounding to the nearest errs by half a step at most; int() cuts off.",
            )
    return right(
        "Every code is the nearest, zeros are harmless, the largest weight is exact.",
        "That is round-to-nearest, the twin that lesson 11's GPTQ has to beat.",
    )


def advantage(numbers: list[float]) -> float:
    """The error of e4m3 over that of int8, each with a scale for all numbers: above 1 int8 wins.

    The root of the mean squared *relative* error, of the numbers that are not zero.
    """
    x = torch.tensor([numbers], dtype=torch.float32)
    errors = [
        float(((dequantize(quantize(x, Spec(name))) - x) / x)[x != 0].square().mean().sqrt())
        for name in ("fp8_e4m3", "int8")
    ]
    return errors[0] / max(errors[1], 1e-9)


@exercise(
    "10.3",
    hints=[
        "Steps of int8 are equally wide; those of a float are as wide as the number allows.",
        "When all numbers are about as large as the largest, whose steps are finer?",
        "Let one number be a thousand times as large as the rest.",
    ],
)
def favourites(answer: Any) -> Verdict:
    """Two lists of 8 numbers or more: one on which int8 errs less by half, one for e4m3."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two lists: (for int8, for e4m3).")
    ratios = []
    for name, numbers in zip(("for int8", "for e4m3"), answer, strict=True):
        try:
            values = [float(x) for x in numbers]
            if len(values) < 8 or not any(values) or not all(map(math.isfinite, values)):
                return wrong(f"{name}: at least 8 finite numbers are needed, not all of them 0.")
            ratios.append(advantage(values))
        except TypeError:
            return wrong(f"{name}: that is no list of numbers.")
    if ratios[0] < 2:
        return wrong(
            f"for int8: e4m3 errs {ratios[0]:.2f} times as much; at least twice is asked for.",
            "Where are the steps of int8 the finer ones?",
        )
    if ratios[1] > 0.5:
        return wrong(
            f"for e4m3: it errs {ratios[1]:.2f} times as much as int8; at most half is asked for.",
            "What happens to small numbers when one of them is huge?",
        )
    return right(
        f"e4m3 errs {ratios[0]:.1f} times as much on the first list, {ratios[1]:.2f} times on the "
        "second.",
        "Neither is strictly better: it depends on what is rounded.",
    )
