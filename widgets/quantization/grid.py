"""A format's grid over real weights, and the error of rounding, layer by layer."""

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from minillm.quantization.formats import FORMATS
from minillm.quantization.model import matrices
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Granularity, Spec
from minillm.transformer import Transformer
from widgets.common.chart import Chart, ChartExplorer, Columns, Curve, Stems
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say

__all__ = ["GridExplorer", "LayerErrorExplorer", "error_by_layer"]

_GROUPS: dict[str, Granularity] = {"whole matrix": "tensor", "row": "channel", "64": 64, "16": 16}

_BINS = 81


def _spec(name: str, group: Granularity) -> Spec:
    """A format that fixes its blocks has its own."""
    return Spec(name, FORMATS[name].block or group)


class GridExplorer(ChartExplorer):
    """The values that a format has, over the weights that are rounded to them.

    Weights are shown as parts of what their group's scale reaches, so that one grid serves all.

    Args:
        model: in floats.
    """

    def __init__(self, model: Transformer):
        self._matrices = {name: w for name, w in matrices(model).items() if name != "embed"}
        names = list(self._matrices)
        super().__init__(
            {
                "format": ipywidgets.Dropdown(
                    options=list(FORMATS), value="int4", description="format"
                ),
                "share": ipywidgets.Dropdown(
                    options=list(_GROUPS.items()), value="channel", description="scale per"
                ),
                "outlier": ipywidgets.SelectionSlider(
                    options=[("none", 1), *((f"{n} times", n) for n in (3, 10, 30, 100))],
                    description="outlier",
                ),
            },
            {"layer": ipywidgets.Dropdown(options=names, value=names[2], description="matrix")},
        )

    def weight(self) -> Float[Tensor, "N K"]:
        """Of the chosen matrix; the outlier is one weight in each 64th row."""
        weight = self._matrices[self["layer"]].detach().float().clone()
        weight[::64, 5] = self["outlier"] * weight.abs().max()
        return weight if self["outlier"] > 1 else self._matrices[self["layer"]].detach().float()

    def _rounded(self) -> tuple[Tensor, Tensor, Spec]:
        weight, spec = self.weight(), _spec(self["format"], self["share"])
        return weight, dequantize(quantize(weight, spec)), spec

    def chart(self) -> Chart:
        weight, rounded, spec = self._rounded()
        grid = quantize(weight, spec).grid
        G = grid.scales.shape[1]
        steps = grid.steps.repeat_interleave(weight.shape[1] // G, 1)
        parts = (weight / steps / spec.table.largest).clamp(-1, 1)  # beyond, they saturate
        shares = torch.histc(parts, _BINS, -1, 1) / weight.numel() * 100
        centres = torch.linspace(-1, 1, _BINS).tolist()
        top = float(shares.max())
        values = (spec.table.levels / spec.table.largest).tolist()
        return Chart(
            title=f"{spec}: {len(spec.table.levels)} values, "
            f"{int(rounded.eq(0).float().mean() * 100)} % become 0",
            x_title="weight, as a part of the largest of its group",
            y_title="share of the weights in a bin (%)",
            series=(
                Curve("weights", centres, shares.tolist(), baseline=True, filled=True),
                Stems("values of the format", values, [top / 3] * len(values)),
            ),
        )

    def said(self) -> str:
        weight, rounded, spec = self._rounded()
        error = float((rounded - weight).norm() / weight.norm())
        typical = float((rounded - weight).abs().median() / weight.abs().median())
        bits = verbatim(f"{quantize(weight, spec).bits:.2f}")
        return (
            f"{self['layer']} in {spec}: {bits} bits a weight with scales; "
            f"relative error {digits(100 * error)} % of the matrix, "
            f"{digits(100 * typical)} % of a typical weight ({say('tag.computed')})."
        )


def error_by_layer(model: Transformer, spec: Spec) -> dict[str, list[float]]:
    """The relative error of each kind of matrix, by layer, in percent."""
    found: dict[str, list[float]] = {}
    for name, weight in matrices(model).items():
        if name.startswith("blocks."):
            weight = weight.detach().float()
            error = (dequantize(quantize(weight, spec)) - weight).norm() / weight.norm()
            found.setdefault(name.rpartition(".")[2], []).append(100 * float(error))
    return found


class LayerErrorExplorer(ChartExplorer):
    """How far rounding moves the matrices of each layer.

    Args:
        model: in floats.
    """

    def __init__(self, model: Transformer):
        self._model = model
        self._cache: dict[Spec, dict[str, list[float]]] = {}
        super().__init__(
            {
                "format": ipywidgets.Dropdown(
                    options=list(FORMATS), value="int4", description="format"
                ),
                "share": ipywidgets.Dropdown(
                    options=list(_GROUPS.items()), value=64, description="scale per"
                ),
            }
        )

    def errors(self) -> dict[str, list[float]]:
        spec = _spec(self["format"], self["share"])
        if spec not in self._cache:
            self._cache[spec] = error_by_layer(self._model, spec)
        return self._cache[spec]

    def chart(self) -> Chart:
        errors = self.errors()
        worst = max(errors, key=lambda kind: max(errors[kind]))
        labels = [str(layer) for layer in range(len(errors[worst]))]
        return Chart(
            title=f"{_spec(self['format'], self['share'])}: {worst} is moved furthest",
            x_title="layer",
            y_title="relative error of the weights (%)",
            series=tuple(Columns(kind, labels, values) for kind, values in errors.items()),
        )

    def said(self) -> str:
        said = ", ".join(
            f"{kind} {digits(min(values))} to {digits(max(values))} %"
            for kind, values in self.errors().items()
        )
        return f"Relative error over the layers ({say('tag.computed')}): {said}."
