"""The film of GPTQ: one column at a time, its error pushed to those still to come.

Dimensions: N outputs, K inputs (columns), M of them still to come.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.gptq.columns import Column
from widgets.common.drawing.film import Bars, BarsAt, Film, Heat, Number, Patch, Rect
from widgets.common.drawing.film import quantize as shades
from widgets.common.stable import digits
from widgets.gptq.rounding import Rounding

__all__ = ["column_film"]

_SENTENCES = 256  # of a heat map


def column_film(rounding: Rounding) -> Film:
    """A run of GPTQ, column by column, in the order in which they were rounded.

    Raises:
        ValueError: more weights than there is room to speak of.
    """
    N, K = rounding.weight.shape
    if N * K > _SENTENCES:
        raise ValueError(f"{N} x {K} weights are too many: at most {_SENTENCES} can be told of")
    outputs = [rounding.output_errors(states) for states in (rounding.nearest, rounding.states)]
    weights = [rounding.weight_errors(states) for states in (rounding.nearest, rounding.states)]
    return Film(
        title="GPTQ: a column is rounded, and later columns compensate for its error",
        hint="A part of a real layer: some outputs, and the share of them that these inputs give. "
        "Left of the frame columns are rounded and stay; right of it they move.",
        captions=(
            _start(rounding),
            *(_told(rounding, i, outputs, weights) for i in range(K)),
        ),
        panels=(_moved(rounding), _errors(outputs, weights), _partners(rounding)),
        numbers=(
            Number("output error, nearest → GPTQ", _pairs(outputs), "computed"),
            Number("weight error, nearest → GPTQ", _pairs(weights), "computed"),
            Number(
                "Σe², and tr((W−Q)H(W−Q)ᵀ)",
                tuple(
                    f"{digits(a)} {'=' if abs(a - b) <= 1e-9 * max(a, b) else '≠'} {digits(b)}"
                    for a, b in zip(rounding.squares, rounding.traces, strict=True)
                ),
                "computed",
            ),
        ),
        unit="column",
        first=0,
        aside=5,
    )


def _pairs(errors: Sequence[Sequence[float]]) -> tuple[str, ...]:
    return tuple(f"{digits(a)} → {digits(b)} %" for a, b in zip(*errors, strict=True))


def _scale(values: Tensor) -> float:
    """A round number that all of the values reach at most."""
    return max(0.25, math.ceil(4 * float(values.abs().max())) / 4)


def _labels(rounding: Rounding) -> tuple[str, ...]:
    """The columns, in their order."""
    return tuple(str(rounding.inputs[i]) for i in rounding.order)


def _moved(rounding: Rounding) -> Heat:
    """All weights, columns in the order in which they are rounded."""
    N, K = rounding.weight.shape
    fields = torch.stack([rounding.moved(state)[:, rounding.order] for state in rounding.states])
    most = _scale(fields)
    patches = [Patch(0, Rect(0, 0, N, K), shades([0.0] * (N * K), -most, most))]
    for i, field in enumerate(fields[1:]):
        values = shades(field[:, i:].flatten().tolist(), -most, most)
        patches.append(Patch(i + 1, Rect(0, i, N, K - i), values))
    return Heat(
        rows=N,
        columns=K,
        patches=tuple(patches),
        low=-most,
        high=most,
        marks=tuple((i + 1, Rect(0, i, N, 1)) for i in range(K)),
        row_labels=tuple(f"output {n}" for n in range(N)),
        column_labels=_labels(rounding),
        row_title="output",
        column_title="input, in the order of rounding",
        column_links=tuple(f"input {label}" for label in _labels(rounding)),
        title="Moved so far, in steps of the grid (+ up, - down)",
        sweep="right",
        share=7,
        stack=2,
        sentences=tuple(_fates(rounding)),
        tips=bytes(range(N * K)),
    )


def _fates(rounding: Rounding) -> list[str]:
    """What becomes of each weight."""
    given = rounding.moved(2 * rounding.weight)[:, rounding.order]
    nearest, gptq = (
        rounding.moved(states[-1] + rounding.weight)[:, rounding.order].round().int().tolist()
        for states in (rounding.nearest, rounding.states)
    )
    return [
        f"Given: {digits(given[n, k])} steps. Nearest: {nearest[n][k]}, GPTQ: {gptq[n][k]}."
        for n in range(given.shape[0])
        for k in range(given.shape[1])
    ]


def _partners(rounding: Rounding) -> Heat:
    """Of the current column: with whom it goes together, and who answers for it."""
    K, answers = len(rounding.columns), [_answers(column) for column in rounding.columns]
    most = max(1.0, *(_scale(answer) for answer in answers if len(answer)))
    patches = []
    for i, (column, answer) in enumerate(zip(rounding.columns, answers, strict=True)):
        together = rounding.correlations[column.index, column.rest]
        patches.append(Patch(i + 1, Rect(0, 0, 2, i + 1), 255))
        if len(answer):
            values = shades([*together.tolist(), *answer.tolist()], -most, most)
            patches.append(Patch(i + 1, Rect(0, i + 1, 2, K - i - 1), values))
    return Heat(
        rows=2,
        columns=K,
        patches=tuple(patches),
        low=-most,
        high=most,
        marks=tuple((i + 1, Rect(0, i, 2, 1)) for i in range(K)),
        row_labels=("together", "moves"),
        column_labels=_labels(rounding),
        row_title="correlation, from H; move, from its inverse",
        column_title="input still to come",
        column_links=tuple(f"input {label}" for label in _labels(rounding)),
        title="Later inputs: correlation with the framed one, and move for an error of 1",
    )


def _answers(column: Column) -> Float[Tensor, " M"]:
    """How far each column to come is moved when this one is moved by 1: U_ij / U_ii."""
    by = (column.rounded - column.weight).norm()
    return column.reach * column.error.norm() / by if by else torch.zeros_like(column.reach)


def _errors(outputs: Sequence[Sequence[float]], weights: Sequence[Sequence[float]]) -> Bars:
    """Both errors of both ways, so far."""
    return Bars(
        series=("nearest", "gptq"),
        history=tuple(
            BarsAt(
                step,
                "Error so far, as a part of each",
                ("outputs", "weights"),
                tuple(tuple(way[step] / 100 for way in ways) for ways in (outputs, weights)),
            )
            for step in range(len(outputs[0]))
        ),
        high=max(max(way) for ways in (outputs, weights) for way in ways) / 100,
        share=5,
    )


def _start(rounding: Rounding) -> str:
    N, K = rounding.weight.shape
    return (
        f"Nothing is rounded yet: {N} outputs, {K} inputs. Input "
        f"{rounding.inputs[rounding.order[0]]} comes first; both ways will round it to the same "
        "values."
    )


def _told(
    rounding: Rounding,
    i: int,
    outputs: Sequence[Sequence[float]],
    weights: Sequence[Sequence[float]],
) -> str:
    """What rounding the i-th column did."""
    column = rounding.columns[i]
    before, after = rounding.moved(rounding.states[i]), rounding.moved(rounding.states[i + 1])
    moves = (after - before).abs()
    own = digits(moves[:, column.index].mean())
    said = [f"Input {rounding.inputs[column.index]} is rounded, by {own} steps on average."]
    if len(column.rest):
        far = moves[:, column.rest].mean(0)
        most = int(column.rest[far.argmax()])
        together = digits(rounding.correlations[column.index, most])
        count = len(column.rest)
        others = "The last input moves" if count == 1 else f"The {count} inputs to come move"
        said.append(
            f"{others} to compensate, most input {rounding.inputs[most]}, by "
            f"{digits(far.max())} steps on average (correlation {together})."
        )
    else:
        said.append("No input is left to compensate.")
    nearest, ours = outputs[0][i + 1], outputs[1][i + 1]
    said.append(
        f"The outputs are off by {digits(ours)} %, with round to nearest by {digits(nearest)} %."
    )
    if not len(column.rest):
        nearest, ours = weights[0][-1], weights[1][-1]
        said.append(
            f"The weights: by {digits(ours)} %, with round to nearest by {digits(nearest)} %."
        )
    return " ".join(said)
