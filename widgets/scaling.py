"""Two experiments as charts: loss against bits stored, and loss that rounding adds against tokens.

Both draw points that commands of `minillm` recorded: `minillm kbit` and `minillm hypothesis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from statistics import fmean
from typing import get_args

from minillm.scaling.kbit import PRECISIONS, KBit, best_at, loss_at
from minillm.scaling.overtraining import FORMATS, Format, Point, Rate, Text, decay_effect, trend
from widgets.common.chart import Chart, ChartExplorer, Curve
from widgets.common.explorer import choice
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say

__all__ = ["HypothesisExplorer", "LawExplorer", "losses_at", "megabytes", "probability"]

_BUDGETS = 13
_MEAN = "mean"  # of all seeds
_FOUND = 0.05  # a p value up to it is called found


def losses_at(points: Sequence[KBit], stored: float) -> dict[int, float]:
    """By precision, the loss at a number of stored bits; those left out have no model so large.

    >>> family = [KBit("small", 4, True, 100, 3.0), KBit("large", 4, True, 10_000, 2.0)]
    >>> losses_at(family, 1000)
    {4: 2.5}
    """
    found = {bits: loss_at(points, bits, stored) for bits in PRECISIONS}
    return {bits: loss for bits, loss in found.items() if loss is not None}


def megabytes(bits: float) -> str:
    """As text, in millions of bytes."""
    return f"{digits(bits / 8e6)} MB"


def probability(p: Fraction) -> str:
    """As text; it was counted exactly, and reads alike on every machine.

    >>> probability(Fraction(1, 8))
    '0.12'
    """
    return verbatim(f"{float(p):.2g}")


class LawExplorer(ChartExplorer):
    """A family at several precisions: which is best at a number of megabytes?

    Args:
        points: of several models, each at all precisions, with its embedding and without.
    """

    def __init__(self, points: Sequence[KBit]):
        self._points = {
            whole: [point for point in points if point.embedding == whole]
            for whole in (True, False)
        }
        shown = [[p.stored for p in part if p.bits > 2] for part in self._points.values()]
        low, high = max(map(min, shown)), min(map(max, shown))
        budgets = [low * (high / low) ** (i / (_BUDGETS - 1)) for i in range(_BUDGETS)]
        super().__init__(
            {
                "embedding": choice("embedding", {"counted": True, "left out": False}),
                "bits": choice("bits", {"3 and more": 3, "2 and more": 2}),
                "budget": choice(
                    "budget",
                    {megabytes(budget): budget for budget in budgets},
                    value=budgets[_BUDGETS // 2],
                ),
            }
        )

    @property
    def _family(self) -> list[KBit]:
        return self._points[self["embedding"]]

    def _losses(self) -> dict[int, float]:
        """At the budget, of the precisions that are shown."""
        losses = losses_at(self._family, self["budget"])
        return {bits: loss for bits, loss in losses.items() if bits >= self["bits"]}

    def chart(self) -> Chart:
        least = min(point.loss for point in self._family)
        curves = []
        for bits in PRECISIONS:
            line = sorted((p.stored / 8e6, p.loss) for p in self._family if p.bits == bits)
            if bits < self["bits"]:
                line = []
            curves.append(
                Curve(f"{bits} bits", [size for size, _ in line], [y - least for _, y in line])
            )
        losses, best = self._losses(), best_at(self._family, self["budget"])
        lowest = min(losses, key=losses.__getitem__)
        size = megabytes(self["budget"])
        return Chart(
            title=f"{size}: no precision was set against both of its neighbours"
            if best is None
            else f"{size}: {best} bits a weight predict best",
            x_title="stored (MB), a logarithmic scale",
            y_title="loss above the lowest (nats a token)",
            series=tuple(curves),
            note=(self["budget"] / 8e6, losses[lowest] - least, f"{lowest} bits"),
            log_x=True,
        )

    def summary(self) -> str:
        losses = self._losses()
        said = ", ".join(f"{bits} bits {digits(loss)}" for bits, loss in losses.items())
        counted = self.controls["embedding"].label
        return (
            f"Embedding {counted}, {megabytes(self['budget'])}: loss {said} nats a token "
            f"({say('tag.measured')}, between sizes interpolated). A precision that is not named "
            "has no model of that size."
        )


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
                "format": choice("format", FORMATS, value="int3"),
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
            [fmean(added[n]) for n in tokens],
        )

    def _trends(self) -> dict[tuple[Text, Rate], Fraction]:
        """By arm, the p value of "more tokens, more loss added"."""
        form: Format = self["format"]
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

    def summary(self) -> str:
        form: Format = self["format"]
        trends = ", ".join(
            f"{text} text and {rate} rate {probability(p)}"
            for (text, rate), p in self._trends().items()
        )
        decays = ", ".join(
            f"{text} text {probability(decay_effect(self._all, text, form).p)}"
            for text in get_args(Text)
        )
        return (
            f"{form}. How often chance alone would look so: more tokens, more loss added, {trends} "
            f"(Page); decayed above constant rate, {decays} (Wilcoxon). All seeds; "
            f"{say('tag.computed')} of recorded runs."
        )
