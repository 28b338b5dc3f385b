"""Which neurons a text leaves unused, and which a batch of texts leaves unused together."""

from collections.abc import Sequence

import ipywidgets
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minillm.sparsity.neurons import Unused, firing_rates, hot_neurons, neighbours, unused
from widgets.common.chart import Chart, ChartExplorer, Columns, Curve
from widgets.common.stable import digits
from widgets.common.strings import say

__all__ = ["RateExplorer", "UnionExplorer", "texts_together"]

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

    def said(self) -> str:
        layer = self["layer"]
        shut = 1 - self._rates[layer].mean().item()
        return (
            f"Layer {layer}: {digits(100 * shut)} % of the gates are shut; {self._counts()[0]} "
            f"neurons never open here, and {self._hot[layer]} of {self._rates.shape[1]} make 80 % "
            f"of all openings ({say('tag.computed')})."
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

    def said(self) -> str:
        at = self._batches.index(self["batch"])
        measured, by_rates, law = (
            self._shares(name)[at] for name in ("measured", "by_rates", "by_law")
        )
        return (
            f"{self['batch']} tokens, {self['together']}: {measured:.0%} unused; X^N says "
            f"{law:.0%}. Points of the gap: {100 * (by_rates - law):.0f} because neurons differ, "
            f"{100 * (measured - by_rates):.0f} because tokens are alike ({say('tag.computed')})."
        )
