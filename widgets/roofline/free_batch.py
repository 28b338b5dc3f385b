"""How many tokens a pass computes in the time of one, on this machine or on a card."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets

from widgets.common.chart import Chart, ChartExplorer, Claim, Curve, Level
from widgets.common.controls import numbers
from widgets.common.strings import say

__all__ = ["FreeBatchExplorer", "free_batch_chart"]


def free_batch_chart(
    measured: Mapping[str, Mapping[int, float]],
    predicted: Mapping[int, float],
    recorded: tuple[str, Mapping[int, float]],
    mark: tuple[str, int],
    *,
    title: str,
    cheaper: tuple[str, str] | None,
    together: str,
) -> Chart:
    """The time of m tokens together over the time of one; see `FreeBatchExplorer`.

    Args:
        mark: a measured run and an m to be looked at.
    """
    label, reference = recorded
    runs = {**measured, "roofline": predicted, label: reference}
    curves = [
        Curve(name, sorted(run), [run[m] / run[1] for m in sorted(run)])
        for name, run in runs.items()
    ]
    highest = float(max(max(curve.y) for curve in curves))
    most = min(max(max(curve.x) for curve in curves), 1.2 * highest)  # else it dwarfs the others
    name, m = mark
    ratio = measured[name][m] / measured[name][1]
    ends = {curve.name: (curve.y[-1], float(curve.x[-1])) for curve in curves}
    if cheaper:
        pairs = [(ends[cheaper[0]][0], ends[cheaper[1]][0])]
    else:
        pairs = [ends[name] for name in measured if ends[name][1] > 1]
    return Chart(
        title=(Claim(title, tuple(pairs)),),
        x_title=f"m: {together}",
        y_title="time of m over time of one",
        series=(Curve("no gain", [0, most], [0, most], baseline=True), *curves),
        levels=(Level("free", 1.0),),
        note=(m, ratio, f"{ratio:.2f}×"),
    )


class FreeBatchExplorer(ChartExplorer):
    """What m tokens together cost, measured in some runs, predicted, and on another machine.

    Args:
        measured: runs by name (of kernels, say): the seconds of a pass over m tokens, by m.
        predicted: the seconds that the roofline gives, by m.
        recorded: what another run is called, and its times by m, in any unit.
        title: the point that the chart makes, where the measurement bears it out.
        cheaper: two measured runs, of which the title says that the first takes less at its
            largest m; by default it says of all that they take less than m times the time of one.
        together: what the m are.

    Raises:
        ValueError: a run without m = 1.
    """

    def __init__(
        self,
        measured: Mapping[str, Mapping[int, float]],
        predicted: Mapping[int, float],
        recorded: tuple[str, Mapping[int, float]],
        *,
        title: str,
        cheaper: tuple[str, str] | None = None,
        together: str = "tokens of one text",
    ):
        runs = {**measured, "roofline": predicted, recorded[0]: recorded[1]}
        for name, run in runs.items():
            if 1 not in run:
                raise ValueError(f"{name!r} has no time of one: it has those of {sorted(run)}")
        self._measured, self._predicted, self._recorded = measured, predicted, recorded
        self._title, self._cheaper, self._together = title, cheaper, together
        common = sorted(set.intersection(*(set(run) for run in runs.values())))
        super().__init__(
            {
                "run": ipywidgets.Dropdown(options=list(measured), description="run"),
                "m": numbers("m", common, common[-1]),
            }
        )

    def chart(self) -> Chart:
        return free_batch_chart(
            self._measured,
            self._predicted,
            self._recorded,
            (self["run"], self["m"]),
            title=self._title,
            cheaper=self._cheaper,
            together=self._together,
        )

    def said(self) -> str:
        name, m = self["run"], self["m"]
        label, reference = self._recorded
        run = self._measured[name]
        ratio = run[m] / run[1]
        predicted = self._predicted[m] / self._predicted[1]
        noise = f" ({say('chart.noise')})" if ratio < 1 else ""
        return (
            f"{name}: one takes {1e3 * run[1]:.2f} ms, {m} {self._together} take "
            f"{1e3 * run[m]:.2f} ms, {ratio:.2f} times as long{noise}, so each is "
            f"{m / ratio:.1f} times cheaper ({say('tag.measured')}); the roofline says "
            f"{predicted:.2f} times ({say('tag.computed')}), {label} "
            f"{reference[m] / reference[1]:.2f}."
        )
