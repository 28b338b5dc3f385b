"""What zeros are worth: neurons unused by a batch, and a skipping MLP against a dense one.

Dimensions: L layers, B texts, T tokens, R rows (tokens of a pass), C width, F MLP width.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import ipywidgets
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minillm.fast.kernels import float32
from minillm.fast.kernels.neurons import open_neurons
from minillm.fast.linear import Kernel, prepare
from minillm.measure.timing import in_turn
from minillm.sparsity.neurons import Unused, firing_rates, hot_neurons, neighbours, unused
from minillm.sparsity.skipping import SkippingMLP
from minillm.transformer import MLP
from minillm.whole import whole, wholes
from widgets.common.chart import Chart, ChartExplorer, Columns, Curve
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say

__all__ = [
    "Cost",
    "RateExplorer",
    "SkippingExplorer",
    "UnionExplorer",
    "crossover",
    "measure_costs",
    "texts_together",
]

_EDGES = (0.0, 0.01, 0.03, 0.1, 0.3)  # upper ends of the histogram's bins but the last
_BINS = ("never", "up to 1 %", "up to 3 %", "up to 10 %", "up to 30 %", "more often")


def texts_together(opened: Bool[Tensor, "L B T F"], N: int) -> Bool[Tensor, "L M N F"]:
    """Groups of N tokens at the same place of N texts, as a batch reads them.

    Raises:
        ValueError: N below 1, or more than there are texts.
    """
    return neighbours(opened.transpose(1, 2), N)


class RateExplorer(ChartExplorer):
    """How often neurons are open: a histogram of each layer.

    Args:
        gates: of some texts, as `minillm.sparsity.counting.observe` gives them.
    """

    def __init__(self, gates: Float[Tensor, "L B T F"]):
        self._rates, self._hot = firing_rates(gates), hot_neurons(firing_rates(gates)).tolist()
        self._tokens = gates[0, ..., 0].numel()
        options = [(f"layer {i}", i) for i in range(len(gates))]
        super().__init__(
            {"layer": ipywidgets.Dropdown(options=options, value=0, description="layer")}
        )

    def _counts(self) -> list[int]:
        at = torch.bucketize(self._rates[self["layer"]], torch.tensor(_EDGES, dtype=torch.float64))
        return torch.bincount(at, minlength=len(_BINS)).tolist()

    def chart(self) -> Chart:
        return Chart(
            title=f"Layer {self['layer']}: {self._counts()[0]} of {self._rates.shape[1]} neurons "
            "never open",
            x_title=f"how often a neuron is open (share of {self._tokens:,} tokens)",
            y_title="neurons",
            series=(Columns("neurons", _BINS, self._counts()),),
        )

    def summary(self) -> str:
        layer = self["layer"]
        shut = 1 - self._rates[layer].mean().item()
        return (
            f"Layer {layer}: {digits(100 * shut)} % of the gates are shut; {self._counts()[0]} "
            f"neurons never open here, and {self._hot[layer]} hot ones make 80 % of all openings "
            f"({say('tag.computed')})."
        )


class UnionExplorer(ChartExplorer):
    """What a batch leaves unused: measured, and by the law X^N.

    Args:
        short: which gates are open, of at least as many texts as the largest batch has.
        long: the same of texts that are at least as long.
        batches: numbers of tokens that are read together.
    """

    def __init__(
        self,
        short: Bool[Tensor, "L B T F"],
        long: Bool[Tensor, "L B2 T2 F"],
        batches: Sequence[int],
    ):
        self._batches = list(batches)
        self._found: dict[str, list[Unused]] = {
            "different texts": [unused(texts_together(short, N)) for N in batches],
            "neighbours in a text": [unused(neighbours(long, N)) for N in batches],
        }
        layers = [("all layers", None), *((f"layer {i}", i) for i in range(len(short)))]
        super().__init__(
            {
                "together": ipywidgets.Dropdown(options=list(self._found), description="together"),
                "layer": ipywidgets.Dropdown(options=layers, description="layer"),
                "batch": ipywidgets.SelectionSlider(
                    options=self._batches,
                    value=self._batches[len(self._batches) // 2],
                    description="batch",
                ),
            }
        )

    def _shares(self, name: str) -> list[float]:
        found = [getattr(one, name) for one in self._found[self["together"]]]
        layer = self["layer"]
        return [(x.mean() if layer is None else x[layer]).item() for x in found]

    def chart(self) -> Chart:
        names = {
            "measured": "measured",
            "by_rates": "independent tokens, neurons as they are",
            "by_law": "X^N",
        }
        shares = {name: self._shares(name) for name in names}
        at = self._batches.index(self["batch"])
        return Chart(
            title="A batch leaves fewer neurons unused, but more than X^N says",
            x_title="tokens read together, N",
            y_title="share of neurons left unused",
            series=tuple(
                Curve(names[name], self._batches, y, baseline=name == "by_law")
                for name, y in shares.items()
            ),
            note=(self["batch"], shares["measured"][at], f"{shares['measured'][at]:.0%}"),
            log_x=True,
        )

    def summary(self) -> str:
        at = self._batches.index(self["batch"])
        measured, by_rates, law = (
            self._shares(name)[at] for name in ("measured", "by_rates", "by_law")
        )
        return (
            f"{self['batch']} tokens, {self['together']}: {measured:.0%} unused; X^N says "
            f"{law:.0%}. Points of the gap: {100 * (by_rates - law):.0f} because neurons differ, "
            f"{100 * (measured - by_rates):.0f} because tokens are alike ({say('tag.computed')})."
        )


@dataclass(frozen=True)
class Cost:
    """One MLP on R rows, dense and skipping.

    Attributes:
        seconds: dense, skipping; measured.
        nbytes: of weights read.
        flops: of the matrices.
    """

    seconds: tuple[float, float]
    nbytes: tuple[float, float]
    flops: tuple[float, float]


def measure_costs(
    mlps: Sequence[MLP], densities: Sequence[float], batches: Sequence[int], rounds: int = 5
) -> dict[float, dict[int, Cost]]:
    """Time MLPs in turn, as in a model, with gates that are open at random, so many of them.

    The weights are those given; only which gates are open is drawn, independently.

    Args:
        mlps: in float32 on a CPU, with a relu.
        densities: shares of open gates.
        batches: rows of a pass.
        rounds: of which the fastest counts.

    Raises:
        ValueError: batches or rounds that are no whole numbers from 1.
    """
    rounds, batches = whole("rounds", rounds, least=1), wholes("batches", batches, least=1)
    C, F = mlps[0].gate_up.in_features, mlps[0].down.in_features
    dense = [(prepare("x @ W.T", m.gate_up), prepare("x @ W.T", m.down)) for m in mlps]
    skips = [SkippingMLP(mlp) for mlp in mlps]
    sparse = [(_kernel(mlp.gate), mlp.neurons) for mlp in skips]
    source = torch.Generator().manual_seed(0)
    found: dict[float, dict[int, Cost]] = {density: {} for density in densities}
    for R in batches:
        x = torch.randn(R, C, generator=source)
        for density in densities:
            gates = (torch.rand(R, F, generator=source) < density).float()
            both = partial(_time_dense, dense, x), partial(_time_skipping, sparse, x, gates)
            times = list(in_turn([both] * (rounds + 1)))[1:]  # the first round warms up
            union, opened = int(gates.any(0).sum()), int(gates.sum())
            found[density][R] = Cost(
                tuple(min(side) / len(mlps) for side in zip(*times, strict=True)),
                (4 * 3 * C * F, 4 * (C * F + 2 * C * union)),
                (2 * R * 3 * C * F, 2 * R * C * F + 4 * C * opened),
            )
    return found


def _kernel(linear: object) -> Kernel:
    assert isinstance(linear, torch.nn.Linear)
    return prepare("x @ W.T", linear)


@torch.inference_mode()
def _time_dense(mlps: Sequence[tuple[Kernel, Kernel]], x: Tensor) -> float:
    start = time.perf_counter()
    for gate_up, down in mlps:
        both = gate_up(x)
        F = both.shape[1] // 2
        float32.gate_relu(both.data_ptr(), len(x), F)
        down(both[:, :F])
    return time.perf_counter() - start


@torch.inference_mode()
def _time_skipping(mlps: Sequence[tuple[Kernel, Tensor]], x: Tensor, gates: Tensor) -> float:
    (R, F), C = gates.shape, x.shape[1]
    start = time.perf_counter()
    for gate, neurons in mlps:
        gate(x).relu_()  # computed as always; then the gates that were drawn are taken
        out = torch.zeros_like(x)
        addresses = (tensor.data_ptr() for tensor in (x, gates, neurons, out))
        open_neurons(*addresses, R, C, F)
    return time.perf_counter() - start


def crossover(costs: Mapping[int, Cost]) -> int | None:
    """The batch from which on skipping is never faster; None where the largest still gains."""
    gains = {R: cost.seconds[1] < cost.seconds[0] for R, cost in costs.items()}
    lost = list(takewhile(lambda R: not gains[R], sorted(gains, reverse=True)))
    return lost[-1] if lost else None


_UNITS = {
    "time": ("time of one MLP (µs)", "seconds", 1e6),
    "bytes read": ("weights read by one MLP (MB)", "nbytes", 1e-6),
    "FLOPs": ("arithmetic of one MLP (MFLOP)", "flops", 1e-6),
}


class SkippingExplorer(ChartExplorer):
    """A dense MLP against a skipping one: time, bytes and FLOPs over the batch.

    Args:
        costs: from `measure_costs`.
    """

    def __init__(self, costs: Mapping[float, Mapping[int, Cost]]):
        self._costs = costs
        batches = list(next(iter(costs.values())))
        super().__init__(
            {
                "show": ipywidgets.Dropdown(options=list(_UNITS), description="show"),
                "open": ipywidgets.SelectionSlider(
                    options=[(f"{density:.0%}", density) for density in costs],
                    description="open gates",
                ),
                "batch": ipywidgets.SelectionSlider(options=batches, description="batch"),
            }
        )

    def _curves(self) -> tuple[list[float], list[float]]:
        _, name, scale = _UNITS[self["show"]]
        pairs = [getattr(cost, name) for cost in self._costs[self["open"]].values()]
        return [a * scale for a, _ in pairs], [b * scale for _, b in pairs]

    def chart(self) -> Chart:
        costs = self._costs[self["open"]]
        batches, (dense, skips) = list(costs), self._curves()
        stops = crossover(costs)
        at = batches.index(self["batch"])
        gain = dense[at] / skips[at]
        return Chart(
            title=f"{self['open']:.0%} of the gates open: "
            + (f"skipping stops paying at {stops} rows" if stops else "skipping pays throughout"),
            x_title="rows of a pass (tokens)",
            y_title=_UNITS[self["show"]][0],
            series=(
                Curve("dense", batches, dense, baseline=True),
                Curve("skipping", batches, skips),
            ),
            note=(self["batch"], skips[at], f"{gain:.1f}×"),
            log_x=True,
            log_y=True,
        )

    def summary(self) -> str:
        rows, cost = self["batch"], self._costs[self["open"]][self["batch"]]
        (dense, skips), (whole, part), (many, few) = cost.seconds, cost.nbytes, cost.flops
        return verbatim(
            f"{rows} row{'s' * (rows > 1)}, {self['open']:.0%} of the gates open: "
            f"{1e6 * dense:,.0f} µs dense, {1e6 * skips:,.0f} skipping, "
            f"{dense / skips:.2f} times the speed ({say('tag.measured')}); "
            f"{part / whole:.0%} of the bytes and {few / many:.0%} of the FLOPs "
            f"({say('tag.computed')})."
        )
