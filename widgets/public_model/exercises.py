"""The check of lesson 15: from tokens a pass to speed."""

from __future__ import annotations

from typing import Any

from minillm.public_model.findings import read
from widgets.common.exercises import Verdict, check, exercise, hint, right, wrong

__all__ = ["PASSES", "TOKENS", "V", "check", "hint"]

PASSES = {"lookup": 5, "jacobi": 16, "lookahead": 30}  # the most tokens that a pass of each reads
TOKENS = {name: read()[name, "smollm2"].by["code"] for name in PASSES}  # that a pass yields
V = read()["together", "smollm2"].by  # times of a pass over m tokens, in passes over one
_NEAR = 0.02


@exercise(
    "15.1",
    hints=[
        "A pass over m tokens takes V(m) times as long as one over a single token.",
        "In the time of V(m) plain tokens, a pass yields so many tokens.",
        "speed = tokens a pass / V(tokens that the pass reads).",
    ],
)
def speeds(answer: Any) -> Verdict:
    """The least speeds on code against the plain loop: prompt lookup, Jacobi and lookahead."""
    if not isinstance(answer, tuple | list) or len(answer) != len(PASSES):
        return wrong("Expected three numbers: prompt lookup, Jacobi, lookahead.")
    for (name, m), said in zip(PASSES.items(), map(float, answer), strict=True):
        tokens, cost = TOKENS[name], V[m]
        if not _near(said, tokens / cost):
            return wrong(f"{name}: {said:.3g} is not it.", _why(said, tokens, cost, m))
    true = {name: TOKENS[name] / V[m] for name, m in PASSES.items()}
    gains = [name for name, speed in true.items() if speed > 1]
    return right(
        ", ".join(f"{name} {speed:.2f}" for name, speed in true.items())
        + " times the plain loop, at least.",
        f"Above 1 on this machine, whatever a pass reads: {', '.join(gains) or 'none'}. A machine"
        " with more arithmetic for each byte has a smaller V(m), and may turn a loss into a gain.",
    )


def _near(said: float, true: float) -> bool:
    return abs(said - true) <= _NEAR * true


def _why(said: float, tokens: float, cost: float, m: int) -> str:
    if _near(said, tokens):
        return "Those are tokens a pass. What does a pass cost?"
    if _near(said, cost / tokens):
        return "That is the time. The speed is its inverse."
    if _near(said, tokens * cost):
        return "A pass that costs more makes the loop slower."
    if _near(said, tokens / m):
        return f"A pass over {m} tokens costs V({m}), not {m}: part of them is free."
    return "Divide tokens a pass by V(m) of the tokens that a pass reads."
