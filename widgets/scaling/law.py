"""The k-bit law as a chart: loss against bits stored."""

from __future__ import annotations

from collections.abc import Sequence

from minillm.measure.noise import Measured
from minillm.scaling.kbit import PRECISIONS, KBit, best_at, loss_at
from widgets.common.chart import Chart, ChartExplorer, Curve
from widgets.common.controls import choice
from widgets.common.stable import digits
from widgets.common.strings import say

__all__ = ["LawExplorer", "losses_at", "megabytes"]

_BUDGETS = 13


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
                Curve(
                    f"{bits} bits",
                    [size for size, _ in line],
                    [Measured(y - least) for _, y in line],
                )
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

    def said(self) -> str:
        losses = self._losses()
        said = ", ".join(f"{bits} bits {digits(loss)}" for bits, loss in losses.items())
        counted = self.controls["embedding"].label
        return (
            f"Embedding {counted}, {megabytes(self['budget'])}: loss {said} nats a token "
            f"({say('tag.measured')}), between sizes interpolated. A precision that is not named "
            "has no model of that size."
        )
