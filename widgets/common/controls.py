"""What all explorers share: controls above, what they change, and a line of words below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from widgets.common.drawing.svg import Pictured
from widgets.common.theme import css

__all__ = ["Explorer", "Readout", "choice", "numbers", "own_text", "slider"]

_HERE = Path(__file__).parent


class Readout(anywidget.AnyWidget):
    """The line under a chart. In the browser it names the chart's figure and sliders."""

    _esm = (_HERE / "controls.js").read_text(encoding="utf-8")
    _css = css() + (_HERE / "controls.css").read_text(encoding="utf-8")

    text = traitlets.Unicode().tag(sync=True)


class Explorer(Pictured, ipywidgets.VBox):
    """Controls over a view. A subclass gives `show()`, `refresh()`, `picture()` and `summary()`.

    Args:
        controls: the widgets that the reader sees at once, three at most.
        folded: further ones, behind a title that opens.
    """

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.ValueWidget],
        folded: Mapping[str, ipywidgets.ValueWidget] | None = None,
    ):
        self.controls = {**controls, **(folded or {})}
        view = self.show()
        self.readout = Readout(text=self.summary())
        for control in self.controls.values():
            control.observe(self._change, "value")
        rows = _rows(controls.values(), (folded or {}).values())
        super().__init__([*rows, view, self.readout])
        self.add_class("minillm").add_class("chart")

    def __getitem__(self, name: str) -> Any:
        """The value of a control."""
        return self.controls[name].value

    def show(self) -> ipywidgets.Widget:
        """The view, as the controls first have it."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Make the view what the controls have become."""
        raise NotImplementedError

    def _change(self, _change: Any) -> None:
        self.refresh()
        self.readout.text = self.summary()


def _rows(
    controls: Iterable[ipywidgets.Widget], folded: Iterable[ipywidgets.Widget] = ()
) -> list[ipywidgets.Widget]:
    """Controls in a row, and further ones behind a button that shows them."""
    rows: list[ipywidgets.Widget] = [_row(controls)]
    if behind := list(folded):
        more = ipywidgets.ToggleButton(description="More settings")
        rows += [more, _row(behind)]
        ipywidgets.dlink((more, "value"), (rows[-1].layout, "display"), _shown)
    return rows


def _shown(on: bool) -> str:
    return "flex" if on else "none"


def _row(controls: Iterable[ipywidgets.Widget]) -> ipywidgets.HBox:
    return ipywidgets.HBox(list(controls), layout={"flex_flow": "row wrap"})


def choice(name: str, options: Any, **more: Any) -> ipywidgets.Dropdown:
    """A list to choose from; a mapping names its options."""
    listed = list(options.items()) if isinstance(options, Mapping) else list(options)
    return ipywidgets.Dropdown(options=listed, description=name, **more)


def slider(name: str, low: int, high: int, first: int) -> ipywidgets.IntSlider:
    """A whole number, read when the slider comes to rest."""
    return ipywidgets.IntSlider(
        first, low, high, description=name, continuous_update=False, layout={"width": "19em"}
    )


def numbers(name: str, options: Iterable[int], first: int) -> ipywidgets.SelectionSlider:
    """One of these whole numbers."""
    return ipywidgets.SelectionSlider(
        options=[(f"{n:,}", n) for n in options], value=first, description=name
    )


def own_text() -> ipywidgets.Text:
    """A prompt of the reader's own."""
    return ipywidgets.Text(
        description="own prompt", continuous_update=False, layout={"width": "32em"}
    )
