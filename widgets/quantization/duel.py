"""Int8 against fp8: the error of each on weights, on activations, and on those with outliers."""

import ipywidgets
from jaxtyping import Float
from torch import Tensor

from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from widgets.common.chart import Chart, ChartExplorer, Columns
from widgets.common.stable import digits
from widgets.common.strings import say

__all__ = ["DuelExplorer", "relative_error", "with_outliers"]

_RIVALS = ("int8", "fp8_e4m3")
_OUTLIERS = 3  # channels


def relative_error(x: Float[Tensor, "R K"], spec: Spec, channels: slice = slice(None)) -> float:
    """The root of the squared error over that of the numbers, of some channels."""
    error = dequantize(quantize(x, spec)) - x
    return float(error[:, channels].norm() / x[:, channels].norm())


def with_outliers(x: Float[Tensor, "R K"], factor: float) -> Float[Tensor, "R K"]:
    """The first three channels `factor` times as large."""
    spiky = x.clone()
    spiky[:, :_OUTLIERS] *= factor
    return spiky


class DuelExplorer(ChartExplorer):
    """Two formats of eight bits, each with a scale for every row, on three kinds of numbers.

    Args:
        weight: of a layer, (N, K).
        activations: what the layer reads, (R, K).
    """

    def __init__(self, weight: Float[Tensor, "N K"], activations: Float[Tensor, "R K"]):
        self._weight, self._activations = weight, activations
        super().__init__(
            {
                "outliers": ipywidgets.SelectionSlider(
                    options=[(f"{n} times", n) for n in (1, 3, 10, 30, 100, 300, 1000)],
                    value=100,
                    description="outliers",
                )
            }
        )

    def errors(self) -> dict[str, list[float]]:
        """By format: of weights, activations, and activations behind outliers, in percent."""
        spiky = with_outliers(self._activations, self["outliers"])
        others = slice(_OUTLIERS, None)
        return {
            name: [
                100 * relative_error(self._weight, Spec(name)),
                100 * relative_error(self._activations, Spec(name)),
                100 * relative_error(spiky, Spec(name), others),
            ]
            for name in _RIVALS
        }

    def chart(self) -> Chart:
        labels = ("weights", "activations", "activations, other channels")
        errors = self.errors()
        wins = sum(a < b for a, b in zip(*errors.values(), strict=True))
        return Chart(
            title=f"int8 is closer in {wins} of 3: even numbers favour it, outliers do not",
            x_title=f"what is rounded; on the right {_OUTLIERS} channels are made larger",
            y_title="relative error (%)",
            series=tuple(Columns(name, labels, values) for name, values in errors.items()),
        )

    def said(self) -> str:
        int8, fp8 = self.errors().values()
        return (
            f"Relative error ({say('tag.computed')}), int8 and e4m3: weights "
            f"{digits(int8[0])} and {digits(fp8[0])} %, activations {digits(int8[1])} and "
            f"{digits(fp8[1])} %, the other channels beside outliers of {self['outliers']} times "
            f"{digits(int8[2])} and {digits(fp8[2])} %."
        )
