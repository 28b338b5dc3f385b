"""One finding of two models in one chart: by depth, or by the number of tokens."""

from __future__ import annotations

from collections.abc import Mapping

from minillm.public_model.findings import Point
from widgets.common.chart import Chart, ChartExplorer, Claim, Curve
from widgets.common.controls import choice
from widgets.common.stable import digits
from widgets.common.strings import say

__all__ = ["SideBySideExplorer"]

_LAYERS = "way through the layers (%)"
_SHOWN = {  # its label: the finding, in which unit, at what, on a logarithmic scale
    "attention on the first token": ("sinks", 100, "share of attention (%)", _LAYERS, False),
    "massive activations": ("massive", 1, "largest number, in medians", _LAYERS, True),
    "outlier channels of keys": ("key channels", 1, "largest channel, in medians", _LAYERS, False),
    "m tokens in one pass": ("together", 1, "time, in passes over one token", "tokens", False),
    "without a cache": ("recomputed", 1, "time of a token, in tokens with a cache", "text", False),
}
_TITLES = {"text": "tokens of the text", "tokens": "tokens of a pass", _LAYERS: _LAYERS}


class SideBySideExplorer(ChartExplorer):
    """What a model has at each layer, or at each number of tokens, beside what the other has.

    Args:
        points: by finding and model; of the two models, the first is the baseline.
        models: what they are called here, by their names in the record.
    """

    def __init__(self, points: Mapping[tuple[str, str], Point], models: Mapping[str, str]) -> None:
        self._points, self._models = points, models
        super().__init__({"finding": choice("finding", list(_SHOWN))})

    def _curves(self) -> dict[str, dict[float, float]]:
        finding, scale, _, x_title, _ = _SHOWN[self["finding"]]
        curves = {}
        for name, label in self._models.items():
            by = self._points[finding, name].by
            whole = 100 / len(by) if x_title == _LAYERS else 1
            curves[label] = {float(at) * whole: scale * value for at, value in by.items()}
        return curves

    def chart(self) -> Chart:
        _, _, y_title, x_title, log = _SHOWN[self["finding"]]
        curves = self._curves()
        return Chart(
            title=self._claims(curves),
            x_title=_TITLES[x_title],
            y_title=y_title,
            series=tuple(
                Curve(label, list(by), list(by.values()), baseline=i == 0)
                for i, (label, by) in enumerate(curves.items())
            ),
            log_y=log,
        )

    def _claims(self, curves: Mapping[str, Mapping[float, float]]) -> tuple[Claim, ...]:
        (here, first), (there, second) = ((k, max(v.values())) for k, v in curves.items())
        return (
            Claim(
                f"{there}: {digits(second / first)} times as much at its peak", ((first, second),)
            ),
            Claim(
                f"{here}: {digits(first / second)} times as much at its peak", ((second, first),)
            ),
        )

    def said(self) -> str:
        _, _, y_title, x_title, _ = _SHOWN[self["finding"]]
        told = []
        for label, by in self._curves().items():
            peak = max(by, key=by.__getitem__)
            at = f"{peak:.0f} % of the layers" if x_title == _LAYERS else f"{peak:.0f} tokens"
            told.append(f"{label} at most {digits(by[peak])}, at {at}")
        return f"{y_title.capitalize()}: {'; '.join(told)} ({say('tag.measured')})."
