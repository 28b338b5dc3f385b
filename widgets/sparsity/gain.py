"""What skipping is worth: an MLP that skips shut neurons against a dense one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import ipywidgets
import torch
from torch import Tensor

from minillm.fast.kernels import float32
from minillm.fast.kernels.neurons import open_neurons
from minillm.fast.linear import Kernel, prepare
from minillm.measure.noise import Measured
from minillm.measure.timing import in_turn, until_narrow
from minillm.sparsity.skipping import SkippingMLP
from minillm.transformer import MLP
from minillm.whole import whole, wholes
from widgets.common.chart import Chart, ChartExplorer, Claim, Curve
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["Cost", "SkippingExplorer", "crossover", "measure_costs"]


_BUDGET = 0.1  # seconds of the processor for a batch and a density


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
    mlps: Sequence[MLP], densities: Sequence[float], batches: Sequence[int], rounds: int = 9
) -> dict[float, dict[int, Cost]]:
    """Time MLPs in turn, as in a model, with gates that are open at random, so many of them.

    The weights are those given; only which gates are open is drawn, independently.

    Args:
        mlps: in float32 on a CPU, with a relu.
        densities: shares of open gates.
        batches: rows of a pass.
        rounds: at most so many, of which the fastest counts; from six on it has an interval.

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
            running = in_turn([both] * (rounds + 1))
            next(running)  # warms up
            times = until_narrow(running, budget=_BUDGET)
            union, opened = int(gates.any(0).sum()), int(gates.sum())
            of_dense, of_skipping = (
                Measured.of(side, min(side)) for side in zip(*times, strict=True)
            )
            found[density][R] = Cost(
                (of_dense / len(mlps), of_skipping / len(mlps)),
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


def _claims(where: str, costs: Mapping[int, Cost]) -> tuple[Claim, ...]:
    """What the times allow to say, the most first."""
    stops, batches = crossover(costs), sorted(costs)
    gains = {R: cost.seconds[0] / cost.seconds[1] for R, cost in costs.items()}
    wins, losses = ({R: pair(gain) for R, gain in gains.items()} for pair in (_above, _below))
    fewest = f"{batches[0]} row{'s' * (batches[0] > 1)}"
    few = Claim(f"{where}skipping pays for {fewest}", (wins[batches[0]],))
    if stops is None:
        return (Claim(f"{where}skipping pays throughout", tuple(wins.values())), few)
    before = [wins[R] for R in batches if R < stops]
    after = tuple(losses[R] for R in batches if R >= stops)
    if not before:
        return (Claim(f"{where}skipping never pays", after),)
    return (
        Claim(f"{where}skipping stops paying at {stops} rows", (before[-1], *after)),
        Claim(f"{where}skipping pays for few rows, not for many", (before[0], after[-1])),
        few,
    )


def _above(gain: float) -> tuple[float, float]:
    return 1.0, gain


def _below(gain: float) -> tuple[float, float]:
    return gain, 1.0


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
        at = batches.index(self["batch"])
        gain = dense[at] / skips[at]
        return Chart(
            title=_claims(f"{self['open']:.0%} of the gates open: ", costs),
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

    def said(self) -> str:
        rows, cost = self["batch"], self._costs[self["open"]][self["batch"]]
        (dense, skips), (whole, part), (many, few) = cost.seconds, cost.nbytes, cost.flops
        return verbatim(
            f"{rows} row{'s' * (rows > 1)}, {self['open']:.0%} of the gates open: "
            f"{1e6 * dense:,.0f} µs dense, {1e6 * skips:,.0f} skipping, "
            f"{dense / skips:.2f} times the speed ({say('tag.measured')}); "
            f"{part / whole:.0%} of the bytes and {few / many:.0%} of the FLOPs "
            f"({say('tag.computed')})."
        )
