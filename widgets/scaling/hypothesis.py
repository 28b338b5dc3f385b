"""The quantization hypothesis as a chart: loss that rounding adds, against tokens trained on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from statistics import fmean
from typing import get_args

from minillm.measure.noise import Measured
from minillm.scaling.overtraining import FEW_BITS, FewBits, Point, Rate, Text, decay_effect, trend
from widgets.common.chart import Chart, ChartExplorer, Curve
from widgets.common.controls import choice
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["HypothesisExplorer", "probability"]

_MEAN = "mean"  # of all seeds
_FOUND = 0.05  # a p value up to it is called found


def probability(p: Fraction) -> str:
    """As text; it was counted exactly, and reads alike on every machine.

    >>> probability(Fraction(1, 8))
    '0.12'
    """
    return verbatim(f"{float(p):.2g}")


class HypothesisExplorer(ChartExplorer):
    """What rounding adds to the loss of models that read ever more tokens.

    Args:
        points: of all arms and seeds.
    """

    def __init__(self, points: Sequence[Point]):
        self._all = points
        seeds = sorted({point.seed for point in points})
        super().__init__(
            {
                "format": choice("format", FEW_BITS, value="int3"),
                "show": choice(
                    "show", {"mean of seeds": _MEAN} | {f"seed {seed}": seed for seed in seeds}
                ),
            }
        )

    def _arm(self, text: Text, rate: Rate) -> Curve:
        """The loss added by number of tokens, as chosen."""
        form, chosen = self["format"], self["show"]
        added: dict[int, list[float]] = {}
        for point in self._all:
            if (point.text, point.rate) == (text, rate) and chosen in (_MEAN, point.seed):
                added.setdefault(point.tokens, []).append(point.added(form))
        tokens = sorted(added)
        return Curve(
            f"{text} text, {rate}",
            [n / 1e6 for n in tokens],
            [
                Measured(fmean(each), min(each), max(each))
                for each in map(added.__getitem__, tokens)
            ],
        )

    def _trends(self) -> dict[tuple[Text, Rate], Fraction]:
        """By arm, the p value of "more tokens, more loss added"."""
        form: FewBits = self["format"]
        arms = product(get_args(Text), get_args(Rate))
        return {arm: trend(self._all, *arm, form).p for arm in arms}

    def chart(self) -> Chart:
        trends = self._trends()
        found = sum(p <= _FOUND for p in trends.values())
        return Chart(
            title=f"{self['format']}: the loss added grows with the tokens in {found} of "
            f"{len(trends)} arms",
            x_title="tokens read (millions); the learning rate stayed constant, or had decayed",
            y_title="loss added (nats a token)",
            series=tuple(self._arm(text, rate) for text, rate in trends),
        )

    def said(self) -> str:
        form: FewBits = self["format"]
        trends = ", ".join(
            f"{text} text and {rate} rate {probability(p)}"
            for (text, rate), p in self._trends().items()
        )
        decays = ", ".join(
            f"{text} text {probability(decay_effect(self._all, text, form).p)}"
            for text in get_args(Text)
        )
        return (
            f"{form}. p, if the points of a run were independent, which they are not (section 7): "
            f"more tokens, more loss added, {trends} (Page); decayed above constant rate, {decays} "
            f"(Wilcoxon). All seeds of recorded runs ({say('tag.computed')})."
        )
