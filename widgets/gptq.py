"""The explorer of GPTQ: one column at a time, its error pushed to those still to come.

It reads the columns that `minillm.gptq` shows to whoever watches; nothing is rounded here. Shown is
a small problem of its own: some outputs of a real layer, as far as they depend on some of its
inputs, with the Hessian of just these inputs. What happens to all inputs is told below it.

Dimensions: N outputs, K inputs (columns), B x T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minillm import Transformer
from minillm.gptq import Column, gptq
from minillm.hessian import Hessian, damped
from minillm.quantization import Quantized, Spec, dequantize, quantize
from minillm.quantized_model import matrices
from widgets.common.explorer import FilmExplorer, choice
from widgets.common.film import Bars, BarsAt, Film, Heat, Number, Patch, Rect
from widgets.common.film import quantize as shades
from widgets.common.stable import digits, verbatim

__all__ = ["ColumnExplorer", "Rounding", "column_film", "hessians", "relative_error"]

_OUTPUTS, _INPUTS = 10, 24  # as many as can be drawn
_SENTENCES = 256  # of a heat map


@torch.no_grad()
def hessians(
    model: Transformer, tokens: Int[Tensor, "B T"], names: Sequence[str]
) -> dict[str, Tensor]:
    """The Hessian of the inputs of each of the layers, (K, K) in float64, on a text."""
    found, handles, weights = {}, [], matrices(model)
    for name in names:
        layer = model.get_submodule(name)
        found[name] = Hessian(weights[name].shape[1], tokens.device)
        add = found[name].add
        handles.append(layer.register_forward_pre_hook(lambda _, x, add=add: add(x[0])))
    try:
        model.hidden(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return {name: hessian.matrix for name, hessian in found.items()}


def relative_error(
    weight: Float[Tensor, "N K"], other: Float[Tensor, "N K"], hessian: Float[Tensor, "K K"]
) -> float:
    """||(W - W') X|| / ||W X||; of the weights themselves with the identity for H."""
    D = weight - other
    return float((((D @ hessian) * D).sum() / ((weight @ hessian) * weight).sum()).sqrt())


@dataclass(frozen=True)
class Rounding:
    """A matrix that GPTQ rounded, and all that it showed.

    Attributes:
        weight, hessian: as given, in float64; no input is always zero.
        inputs: (K,), their numbers in the layer.
        damping: as given.
        result: of GPTQ.
        columns: in the order in which they were rounded.
    """

    weight: Float[Tensor, "N K"]
    hessian: Float[Tensor, "K K"]
    inputs: tuple[int, ...]
    damping: float
    result: Quantized
    columns: tuple[Column, ...]

    @classmethod
    def run(
        cls,
        weight: Float[Tensor, "N K"],
        hessian: Float[Tensor, "K K"],
        inputs: Sequence[int],
        spec: Spec,
        *,
        damping: float = 0.01,
        act_order: bool = False,
    ) -> Rounding:
        """Round as `gptq` does."""
        seen: list[Column] = []
        weight, hessian = weight.double(), hessian.double()
        result = gptq(
            weight, hessian, spec, damping=damping, act_order=act_order, watch=seen.append
        )
        return cls(weight, hessian, tuple(inputs), damping, result, tuple(seen))

    @property
    def order(self) -> list[int]:
        """Of the columns, as they were rounded."""
        return [column.index for column in self.columns]

    @cached_property
    def states(self) -> list[Float[Tensor, "N K"]]:
        """The matrix before the first column, and after each: rounded so far, or moved."""
        states = [self.weight]
        for column in self.columns:
            now = states[-1].clone()
            now[:, column.index] = column.rounded
            now[:, column.rest] -= column.update
            states.append(now)
        return states

    @cached_property
    def nearest(self) -> list[Float[Tensor, "N K"]]:
        """The same of round to nearest, which moves nothing."""
        rounded = dequantize(quantize(self.weight, self.result.grid.spec)).double()
        states = [self.weight]
        for i in self.order:
            states.append(states[-1].clone())
            states[-1][:, i] = rounded[:, i]
        return states

    @cached_property
    def squares(self) -> list[float]:
        """Sum of e^2 over the columns rounded so far."""
        sums = [0.0]
        for column in self.columns:
            sums.append(sums[-1] + float(column.error.square().sum()))
        return sums

    @cached_property
    def traces(self) -> list[float]:
        """tr((W - Q) H (W - Q)^T) with the damped H, Q being the matrix as it is by then."""
        H = damped(self.hessian, self.damping)
        return [float((((W - self.weight) @ H) * (W - self.weight)).sum()) for W in self.states]

    def output_errors(self, states: Sequence[Tensor]) -> list[float]:
        """In percent, on the text itself: without damping."""
        return [100 * relative_error(self.weight, W, self.hessian) for W in states]

    def weight_errors(self, states: Sequence[Tensor]) -> list[float]:
        """In percent."""
        same = torch.eye(len(self.hessian), dtype=torch.float64)
        return [100 * relative_error(self.weight, W, same) for W in states]

    @cached_property
    def correlations(self) -> Float[Tensor, "K K"]:
        """How inputs go together: H with ones on its diagonal."""
        scale = self.hessian.diagonal().rsqrt()
        return self.hessian * scale * scale[:, None]

    def moved(self, state: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """How far weights are from the given ones, in steps of their row's grid."""
        return (state - self.weight) / self.result.grid.steps.double()


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
        title="GPTQ: a column is rounded, and those still to come make its error good",
        hint="A real problem, cut small: these outputs as far as these inputs make them. "
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
        half=True,
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
        row_labels=("together", "answers"),
        column_labels=_labels(rounding),
        row_title="correlation, from H, and answer, from its inverse",
        column_title="input still to come",
        column_links=tuple(f"input {label}" for label in _labels(rounding)),
        title="How inputs to come go together with the framed one, and answer each 1 that it moves",
    )


def _answers(column: Column) -> Float[Tensor, " M"]:
    """How far each column to come is moved when this one is moved by 1: U_ij / U_ii."""
    by = (column.rounded - column.weight).norm()
    return column.reach * column.error.norm() / by if by else torch.zeros_like(column.reach)


def _errors(outputs: Sequence[Sequence[float]], weights: Sequence[Sequence[float]]) -> Bars:
    """Both errors of both ways, so far."""
    return Bars(
        series=("baseline", "trick"),
        history=tuple(
            BarsAt(
                step,
                "Error so far, as a part: nearest (baseline) and GPTQ",
                ("outputs", "weights"),
                tuple(tuple(way[step] / 100 for way in ways) for ways in (outputs, weights)),
            )
            for step in range(len(outputs[0]))
        ),
        high=max(max(way) for ways in (outputs, weights) for way in ways) / 100,
        half=True,
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
            f"{others} to make it good, most input {rounding.inputs[most]}, by "
            f"{digits(far.max())} steps on average (correlation {together})."
        )
    else:
        said.append("Nothing is left to make it good.")
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


class ColumnExplorer(FilmExplorer):
    """GPTQ at work on a part of a real layer, made anew at every change of a control.

    Args:
        model: in floats.
        tokens: (B, T), the calibration text.
    """

    def __init__(self, model: Transformer, tokens: Int[Tensor, "B T"]):
        last = model.config.num_hidden_layers - 1
        blocks = sorted({0, last // 2, last}, reverse=True)
        self._weights: Mapping[str, Tensor] = {
            name: weight.detach()
            for name, weight in matrices(model).items()
            if name.startswith(tuple(f"blocks.{block}." for block in blocks))
        }
        self._hessians = hessians(model, tokens, list(self._weights))
        names = list(self._weights)
        first = next(name for name in reversed(names) if name.endswith("attention.out"))
        fewest = min(int((H.diagonal() > 0).sum()) for H in self._hessians.values())
        starts = range(0, max(1, fewest - _INPUTS + 1), _INPUTS)
        super().__init__(
            {
                "matrix": choice("matrix", names, value=first, layout={"width": "19em"}),
                "bits": choice("bits", (2, 3, 4), value=3, layout={"width": "11em"}),
                "order": choice(
                    "order", {"left to right": False, "act-order": True}, layout={"width": "17em"}
                ),
            },
            {
                "inputs": choice("inputs from", list(starts)),
                "damping": choice("damping", (0.001, 0.01, 0.1, 1.0), value=0.01),
            },
        )

    @property
    def _spec(self) -> Spec:
        return Spec(f"int{self['bits']}", "channel")

    def film(self) -> Film:
        weight, hessian = self._weights[self["matrix"]], self._hessians[self["matrix"]]
        alive = hessian.diagonal().nonzero()[:, 0]
        part = alive[self["inputs"] :][:_INPUTS]
        self.rounding = Rounding.run(
            weight[:_OUTPUTS, part],
            hessian[part][:, part],
            part.tolist(),
            self._spec,
            damping=self["damping"],
            act_order=self["order"],
        )
        return column_film(self.rounding)

    def opening(self, film: Film) -> int:
        """The column that moves others most, among those with many others to come."""
        moves = [float(column.update.square().sum()) for column in self.rounding.columns]
        return 1 + max(range((len(moves) + 1) // 2), key=moves.__getitem__)

    def errors(self) -> tuple[float, float]:
        """Output errors of the same outputs with all inputs, nearest and GPTQ, in percent."""
        weight = self._weights[self["matrix"]][:_OUTPUTS].double()
        hessian = self._hessians[self["matrix"]]
        more = {"damping": self["damping"], "act_order": self["order"]}
        ways = quantize(weight, self._spec), gptq(weight, hessian, self._spec, **more)
        nearest, ours = (
            100 * relative_error(weight, dequantize(way).double(), hessian) for way in ways
        )
        return nearest, ours

    def summary(self) -> str:
        film, rounding = self.player.film, self.rounding
        N, K = rounding.weight.shape
        outputs, weights = (number.at(film.steps - 1) for number in film.numbers[:2])
        whole = " → ".join(map(digits, self.errors()))
        return (
            f"{self['matrix']}, {self['bits']} bits, {self.controls['order'].label}: {N} outputs, "
            f"{K} of its inputs. Nearest → GPTQ at the end: outputs off by {outputs}, weights by "
            f"{weights}. The same outputs with all {len(self._hessians[self['matrix']])} inputs: "
            f"{whole} %. Computed; damping {verbatim(str(self['damping']))}, also of H in the sums."
        )
