"""A number of few bits, bit by bit: what it stands for, its neighbours, and the format's ends."""

from __future__ import annotations

from typing import Any

import ipywidgets
import torch

from minillm.quantization.formats import FORMATS
from widgets.common.chart import Chart, ChartExplorer, Stems
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["BitExplorer", "described", "neighbours"]

# Of each format the parts of a code, from its highest bit: s sign, e exponent, m mantissa, i other.
_PARTS = {
    "fp8_e4m3": "seeeemmm",
    "fp8_e5m2": "seeeeemm",
    "mxfp4": "seem",
    "int4": "iiii",
    "nf4": "iiii",
    "int8": "iiiiiiii",
}
_NAMES = {"s": "sign", "e": "exponent", "m": "mantissa", "i": "bit"}


def neighbours(name: str, code: int) -> tuple[float | None, float, float | None]:
    """The next smaller value, the value itself, and the next larger one."""
    form = FORMATS[name]
    value = float(form.table[code])
    levels = form.levels.tolist()
    below = [level for level in levels if level < value]
    above = [level for level in levels if level > value]
    return below[-1] if below else None, value, above[0] if above else None


def described(name: str, code: int) -> str:
    """A value with its neighbours and the ends of its format, in words."""
    form = FORMATS[name]
    below, value, above = neighbours(name, code)
    bits = format(code, f"0{form.bits}b")
    if value != value:
        return f"{name} {bits} is NaN, not a number."
    beside = " and ".join(_said(x) for x in (below, above) if x is not None)
    return (
        f"{name} {bits} is {_said(value)}; its neighbours are {beside or 'none'}. The format goes "
        f"from {_said(float(form.levels[0]))} to {_said(float(form.levels[-1]))}, its smallest "
        f"step above zero is {_said(float(form.levels[form.levels > 0][0]))} "
        f"({say('tag.computed')})."
    )


def _said(x: float) -> str:
    return verbatim(f"{x:.6g}")


class BitExplorer(ChartExplorer):
    """Bits to click, and where the number they make lies among all those of its format."""

    def __init__(self, name: str = "fp8_e4m3", code: int = 0b00111000) -> None:
        self._bits = [ipywidgets.ToggleButton() for _ in range(8)]
        for place, button in enumerate(reversed(self._bits)):
            button.value = bool(code >> place & 1)
        chosen = ipywidgets.Dropdown(options=list(_PARTS), value=name, description="format")
        controls: dict[str, Any] = {"format": chosen}
        controls |= {f"bit {7 - i}": button for i, button in enumerate(self._bits)}
        self.controls = controls
        self._label()
        super().__init__(controls)

    @property
    def code(self) -> int:
        """The number that the shown bits are."""
        bits = self._bits[-len(_PARTS[self["format"]]) :]
        return sum(button.value << place for place, button in enumerate(reversed(bits)))

    def _label(self) -> None:
        parts = _PARTS[self["format"]]
        for place, button in enumerate(self._bits):
            index = place - (len(self._bits) - len(parts))
            part = parts[max(index, 0)]
            first = index >= 0 and parts.index(part) == index
            button.layout.display = "" if index >= 0 else "none"
            button.description = str(int(button.value))
            button.tooltip = _NAMES[part]  # also written over the first bit of a part
            button._dom_classes = ("bit", _NAMES[part], *(["first"] if first else []))

    def refresh(self) -> None:
        self._label()
        super().refresh()

    def chart(self) -> Chart:
        name = self["format"]
        form = FORMATS[name]
        steps = form.levels.diff().tolist()
        value = float(form.table[self.code])
        place = int(torch.searchsorted(form.levels, value, right=True)) - 1  # of NaN: the last
        place = min(max(place, 0), len(steps))
        levels = form.levels.tolist()
        heights = [*steps, steps[-1]]
        return Chart(
            title=f"These bits are {_said(value)}, one of {len(levels)} values of {name}",
            x_title="the values of the format on the number line",
            y_title="distance to the next value",
            series=(Stems(name, levels, heights),),
            note=(levels[place], heights[place], _said(value)),
            log_y=True,
        )

    def said(self) -> str:
        return described(self["format"], self.code)
