"""Throughput and latency against the rate of arrivals: measured here, computed for a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minillm.measure.noise import Measured
from minillm.serving.record import Record
from minillm.serving.simulate import Load
from widgets.common.chart import Chart, ChartExplorer, Claim, Curve
from widgets.common.controls import choice
from widgets.common.stable import digits
from widgets.common.strings import say

__all__ = ["RateExplorer", "Rates", "measured_load"]


@dataclass(frozen=True)
class Rates:
    """One machine: what each policy makes of the same rates of arrivals.

    Args:
        policies: loads in order of their rates; of several, the first is the baseline.
        tag: "measured" or "computed".
    """

    policies: Mapping[str, Sequence[Load]]
    tag: str


def measured_load(rate: float, record: Record) -> Load:
    """Of a run, with intervals over its requests."""
    served = list(record.requests.values())
    return Load(
        rate,
        record.throughput,
        Measured.of(one.ttft for one in served),
        record.ttft_p95,
        Measured.of(one.tpot for one in served),
    )


_SHOWN = {
    "time to first token": ("ttft", 1e3, "median TTFT (ms)"),
    "time per token": ("tpot", 1e3, "median TPOT (ms)"),
    "throughput": ("throughput", 1.0, "tokens a second"),
}


class RateExplorer(ChartExplorer):
    """What requests wait for, and what the machine writes, against the rate of arrivals.

    Args:
        machines: by name.
    """

    def __init__(self, machines: Mapping[str, Rates]):
        super().__init__(
            {"machine": choice("machine", machines), "show": choice("show", list(_SHOWN))}
        )

    def chart(self) -> Chart:
        rates: Rates = self["machine"]
        name, scale, y_title = _SHOWN[self["show"]]
        curves = {
            policy: [scale * getattr(load, name) for load in loads]
            for policy, loads in rates.policies.items()
        }
        x = [load.rate for load in next(iter(rates.policies.values()))]
        return Chart(
            title=self._claims(list(curves.items())),
            x_title="requests a second",
            y_title=f"{y_title}, {say(f'tag.{rates.tag}')}",
            series=tuple(
                Curve(policy, x, ys, baseline=i == 0 and len(curves) > 1)
                for i, (policy, ys) in enumerate(curves.items())
            ),
            log_x=True,
            log_y=self["show"] == "time to first token",
        )

    def _claims(self, curves: Sequence[tuple[str, list[float]]]) -> tuple[Claim, ...]:
        (_, first), (name, last) = curves[0], curves[-1]
        if self["show"] == "throughput":
            more = "Throughput grows with the arrivals until the machine is full"
            return (Claim(more, ((last[0], max(last)),)),)
        waits = Claim(f"More arrivals, longer waits: {name}", ((last[0], last[-1]),))
        if len(curves) == 1:
            return (waits,)
        pairs = tuple(zip(last, first, strict=True))
        return (Claim(f"{name.capitalize()} waits less at every rate", pairs), waits)

    def said(self) -> str:
        rates: Rates = self["machine"]
        name, scale, y_title = _SHOWN[self["show"]]
        told = []
        for policy, loads in rates.policies.items():
            low, high = (digits(scale * getattr(loads[i], name)) for i in (0, -1))
            told.append(
                f"{policy}: {low} at {loads[0].rate:.3g} requests a second, {high} at "
                f"{loads[-1].rate:.3g}"
            )
        label = self.controls["machine"].label
        return f"{label}, {y_title}: {'; '.join(told)} ({say(f'tag.{rates.tag}')})."
