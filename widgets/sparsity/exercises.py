"""The checks of lesson 09: bytes that a zero saves, skipping for a batch, what X^N overlooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["BATCH", "SIZES", "Rows", "check", "hint"]

SIZES = {"C": 4096, "F": 11008, "bytes": 2, "shut": 0.9}  # Llama-2-7B's MLP, with a relu
BATCH = 8  # tokens of exercise 09.3


@exercise(
    "09.1",
    hints=[
        "Three matrices of C x F numbers: gate, up and down.",
        "Which of the three has to be read before it is known what is shut?",
        "At best nothing is open. What is read even then?",
    ],
)
def saved(answer: Any) -> Verdict:
    """Megabytes of a dense MLP, of a skipping one, and the most that skipping can gain."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: MB dense, MB skipping, most times less.")
    dense, skipping, most = map(float, answer)
    matrix = SIZES["C"] * SIZES["F"] * SIZES["bytes"] / 1e6
    opened = 1 - SIZES["shut"]
    if not _near(dense, 3 * matrix):
        why = {
            2 * matrix: "A gated MLP has three matrices.",
            3 * matrix / 2: "Two bytes for each number.",
            3 * matrix * 1e6: "In MB, please: millions of bytes.",
        }
        return wrong(f"Dense: {dense:g} MB is not it.", _why(why, dense))
    if not _near(skipping, matrix * (1 + 2 * opened)):
        why = {
            3 * matrix * opened: "W_gate is read in full: it says which neurons are open.",
            matrix * (2 + opened): "In a gated MLP the rows of W_up can be skipped as well.",
            matrix * (1 + opened): "A row of W_up and a column of W_down for each open neuron.",
        }
        return wrong(f"Skipping: {skipping:g} MB is not it.", _why(why, skipping))
    if not _near(most, 3):
        why = {
            dense / skipping: "That is the gain here. And if every gate were shut?",
            1 / opened: "Zeros save nothing of W_gate.",
        }
        return wrong(f"At most: {most:g} times is not it.", _why(why, most))
    return right(
        f"{3 * matrix:.0f} MB and {matrix * (1 + 2 * opened):.0f} MB; never less than a third.",
        "To skip rows of W_gate too, something cheaper has to predict which gates are shut. The "
        "prediction may be wrong (Deja Vu, PowerInfer).",
    )


def _near(value: float, true: float) -> bool:
    return abs(value - true) <= 0.01 * true


def _why(reasons: dict[float, str], value: float) -> str:
    return next((text for wanted, text in reasons.items() if _near(value, wanted)), "Count again.")


class Rows:
    """Rows of a matrix, which notes those that are read: `rows[f]` is row f."""

    def __init__(self, matrix: Tensor):
        self._matrix = matrix
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._matrix)

    def __getitem__(self, f: int) -> Tensor:
        self.read.append(int(f))
        return self._matrix[int(f)]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[f] for f in range(len(self)))


@exercise(
    "09.2",
    hints=[
        "Which neurons does the batch need? Those that any of its tokens opens.",
        "For each of them read up[f] and down[f] once, and serve all tokens with it.",
        "Neuron f adds gate[n, f] * (x[n] @ up[f]) * down[f] to the row of token n.",
    ],
)
def skip_batch(answer: Any) -> Verdict:
    """A function (x, gate, up, down) -> y of N tokens; up and down are `Rows`, a neuron each."""
    source = torch.Generator().manual_seed(0)
    for N, density in ((1, 0.3), (3, 0.2), (4, 1.0), (3, 0.0)):
        C, F = 6, 40
        x, up, down = (
            torch.randn(*size, generator=source).double() for size in ((N, C), (F, C), (F, C))
        )
        gate = torch.rand(N, F, generator=source).double() + 0.1
        gate *= torch.rand(N, F, generator=source) < density
        rows = Rows(up), Rows(down)
        got = run(answer, x, gate, *rows)
        if got is None:
            return wrong("Expected a row for each token, got nothing.", "Is there a return?")
        got = torch.as_tensor(got, dtype=torch.float64)
        opened = gate.any(0).nonzero()[:, 0].tolist()
        case = f"{N} token{'s' * (N > 1)}, {len(opened)} of {F} neurons needed"
        if got.shape != x.shape:
            return wrong(f"{case}: expected the shape {(N, C)}, got {tuple(got.shape)}.")
        if (got - (gate * (x @ up.T)) @ down).abs().max() > 1e-9:
            return wrong(
                f"{case}: that is not what the dense MLP says.", _mistake(got, x, gate, up, down)
            )
        for name, read in zip(("up", "down"), (row.read for row in rows), strict=True):
            if sorted(set(read)) != opened:
                extra = len(set(read)) - len(opened)
                return wrong(f"{case}: right, but {extra} rows of {name} were read for nothing.")
            if len(read) > len(opened):
                return wrong(
                    f"{case}: right, but rows of {name} were read more than once.",
                    "A row that is there serves every token that needs it.",
                )
    return right(
        "What the dense MLP says, and each row that is needed is read once.",
        "The rows read are the union over the batch: it grows with every token.",
    )


def _mistake(got: Tensor, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> str:
    opened = (gate != 0).double()
    if torch.allclose(got, (opened * (x @ up.T)) @ down):
        return "The gate's own value multiplies its neuron."
    if torch.allclose(got, gate @ down):
        return "Each neuron also multiplies by up[f] @ x."
    if torch.allclose(got, (gate * gate.all(0) * (x @ up.T)) @ down):
        return "A neuron is needed as soon as *any* token opens it, not only if all do."
    if torch.allclose(got, (gate.sum(0) * (x @ up.T)) @ down):
        return "Each token has gates of its own: gate[n, f]."
    return "Sum gate[n, f] * (x[n] @ up[f]) * down[f] over the neurons, for each token n."


@exercise(
    "09.3",
    hints=[
        "X^N knows only the mean, 0.9. What do dead neurons do to a batch?",
        "Let a few neurons make all the openings.",
        "Independent tokens leave mean(x^N) unused, and that is least where all x are the same.",
    ],
)
def overlooked(answer: Any) -> Verdict:
    """Firing rates of ten neurons twice, mean 0.1: a batch leaves most unused, and least."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two lists of ten rates: (most, least).")
    shares = []
    for name, rates in zip(("most", "least"), answer, strict=True):
        rates = [float(rate) for rate in rates]
        if len(rates) != 10 or not all(0 <= rate <= 1 for rate in rates):
            return wrong(f"{name}: expected ten rates from 0 to 1.")
        if abs(sum(rates) / 10 - 0.1) > 1e-9:
            return wrong(
                f"{name}: the mean is {sum(rates) / 10:.3g}.", "90 % shut: the mean rate is 0.1."
            )
        shares.append(sum((1 - rate) ** BATCH for rate in rates) / 10)
    most, least = shares
    law = 0.9**BATCH
    if most < 0.899:
        return wrong(
            f"most: {BATCH} tokens leave {most:.1%} unused; 90 % is possible.",
            "Which neuron could be open for every token?",
        )
    if least > law + 1e-6:
        return wrong(
            f"least: {least:.1%} stay unused; {law:.1%} is possible.",
            "Make no neuron hotter than another.",
        )
    return right(
        f"{most:.0%} and {law:.0%} unused, at the same 90 % of zeros a token.",
        "X^N is the worst case of independent tokens; hot and dead neurons make it better.",
    )
