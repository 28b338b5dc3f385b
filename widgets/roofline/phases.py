"""Where prefill and decoding stand under a machine's roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import ipywidgets

from minillm import ModelConfig
from minillm.data.hardware import ACCELERATORS, Accelerator
from minillm.measure.machine import Machine
from minillm.roofline import Work, seconds, work
from widgets.common.chart import Chart, ChartExplorer, Curve
from widgets.common.controls import numbers
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say

__all__ = ["Roof", "RooflineExplorer", "roofline_chart"]

_GIGA = 1e9


def roofline_chart(
    phases: Mapping[str, Work],
    flops: float,
    bandwidth: float,
    measured: Sequence[tuple[Work, float]] = (),
) -> Chart:
    """What a machine attains at each intensity, and where passes stand under it.

    A pass is a dot on the roof, on a line that tells its intensity: it cannot be faster.

    Args:
        phases: passes by name.
        flops: per second, that the machine computes.
        bandwidth: bytes per second that it reads.
        measured: passes that were run, and the seconds of each.
    """
    ridge = flops / bandwidth
    attained = sorted((step.intensity, step.flops / s / _GIGA) for step, s in measured)
    intensities = [ridge, *(step.intensity for step in phases.values()), *(x for x, _ in attained)]
    low, high = min(intensities) / 2, max(intensities) * 2

    def roof(intensity: float) -> float:
        return min(flops, intensity * bandwidth) / _GIGA

    lowest = min([roof(low), *(y for _, y in attained)])
    floor = 10.0 ** math.floor(math.log10(lowest))  # where the axis begins
    curves = [
        Curve("roof", *_points([(x, roof(x)) for x in (low, ridge, high)]), baseline=True),
        *(
            Curve(name, [step.intensity] * 2, [floor, roof(step.intensity)], dot=True)
            for name, step in phases.items()
        ),
    ]
    if attained:
        curves.append(Curve("measured here", *_points(attained)))
    return Chart(
        title="Left of the ridge a pass waits for memory: more tokens together are free",
        x_title="intensity (FLOP for each byte moved)",
        y_title="arithmetic (GFLOP a second)",
        series=tuple(curves),
        note=(ridge, roof(ridge), f"ridge: {digits(ridge)} FLOP a byte"),
        log_x=True,
        log_y=True,
    )


def _points(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


class Roof(ChartExplorer):
    """Some passes under the roof of an accelerator, without controls: a picture.

    Args:
        passes: by name.
        accelerator: its rates are those of its data sheet.
    """

    def __init__(self, passes: Mapping[str, Work], accelerator: Accelerator):
        self._passes, self._accelerator = passes, accelerator
        super().__init__({})

    def chart(self) -> Chart:
        return roofline_chart(self._passes, self._accelerator.flops, self._accelerator.bandwidth)

    def said(self) -> str:
        flops, bandwidth = self._accelerator.flops, self._accelerator.bandwidth
        told = "; ".join(
            f"{name} {digits(step.intensity)} FLOP a byte, "
            f"{digits(1e3 * seconds(step, flops, bandwidth))} ms at best"
            for name, step in self._passes.items()
        )
        return f"{self._accelerator.name}: {told} (computed)."


class RooflineExplorer(ChartExplorer):
    """Prefill, decode, verification and a batch of a model, under the roof of a machine.

    Args:
        models: configurations by name; the first is shown at first.
        machine: this one, as `measure_machine` found it. Accelerators have the rates of their
            data sheets; weights, cache and activations are taken to be of the rates' dtype.
        measured: passes that were run on this machine, and the seconds of each.
        weight_bytes: of a weight that they read; by default that of the rates' dtype.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        machine: Machine,
        measured: Sequence[tuple[Work, float]] = (),
        *,
        weight_bytes: float | None = None,
    ):
        self._measured, self._weight_bytes = measured, weight_bytes or machine.dtype.itemsize
        machines: dict[str, Machine | Accelerator] = {"this machine": machine, **ACCELERATORS}
        super().__init__(
            controls={
                "machine": ipywidgets.Dropdown(
                    options=list(machines.items()), value=machine, description="machine"
                ),
                "together": numbers("together", [2**k for k in range(10)], 8),
                "context": numbers("context", [2**k for k in range(4, 18)], 512),
            },
            folded={
                "model": ipywidgets.Dropdown(
                    options=list(models.items()),
                    value=next(iter(models.values())),
                    description="model",
                )
            },
        )

    def chart(self) -> Chart:
        return roofline_chart(self._phases(), *self._rates(), self._measured)

    def said(self) -> str:
        machine, config, context = self["machine"], self["model"], self["context"]
        flops, bandwidth = self._rates()
        if isinstance(machine, Machine):
            rates = f"{digits(flops / _GIGA)} GFLOP/s, {digits(bandwidth / _GIGA)} GB/s"
            rates += f" ({say('tag.measured')}), {machine.device}, {machine.threads} threads"
        else:
            rates = verbatim(f"{flops / _GIGA:,.0f} GFLOP/s, {bandwidth / _GIGA:,.0f} GB/s")
            rates += f" ({say('tag.cited')}), {verbatim(machine.source)}"
        phases = "; ".join(
            f"{name} {digits(step.intensity)} and {digits(1e3 * seconds(step, flops, bandwidth))}"
            for name, step in self._phases().items()
        )
        trained = config.max_position_embeddings
        beyond = f" (beyond the {trained:,} it was trained for)" if context > trained else ""
        return (
            f"{self.controls['machine'].label}: {rates}; so the ridge is at "
            f"{digits(flops / bandwidth)} FLOP a byte. {self.controls['model'].label} in "
            f"{self._sizes()[0]:g} bytes a weight at context {context:,}{beyond}, FLOP a byte and "
            f"ms at best: {phases} ({say('tag.computed')})."
        )

    def _phases(self) -> dict[str, Work]:
        m, context, (weight, number) = self["together"], self["context"], self._sizes()
        step = partial(work, self["model"], weight_bytes=weight, cache_bytes=number)
        return {
            "prefill": step(new=context, logits="last"),
            "decode": step(new=1, cached=context),
            f"{m} tokens of one text": step(new=m, cached=context),
            f"{m} texts": step(new=1, cached=context, batch=m),
        }

    def _sizes(self) -> tuple[float, int]:
        """Bytes of a weight, and of any other number."""
        machine = self["machine"]
        number = machine.dtype.itemsize
        return (self._weight_bytes if isinstance(machine, Machine) else number), number

    def _rates(self) -> tuple[float, float]:
        """FLOPs and bytes a second; of a measured machine, for what a decode step reads."""
        machine = self["machine"]
        if isinstance(machine, Accelerator):
            return machine.flops, machine.bandwidth
        return machine.flops, machine.bandwidth_at(self._phases()["decode"].nbytes)
