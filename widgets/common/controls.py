"""What all explorers share: controls above, what they change, and a line of words below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import ipywidgets
import traitlets
from tokenizers import Tokenizer

from minillm.tokens import encode
from widgets.common.program import Program, program
from widgets.common.still import Pictured
from widgets.common.strings import say, section
from widgets.common.theme import css

__all__ = ["STYLE", "Explorer", "Prompt", "Readout", "choice", "numbers", "slider"]

_HERE = Path(__file__).parent
STYLE = css() + (_HERE / "controls.css").read_text(encoding="utf-8")
_OWN = ""  # stands among the examples for a text that is none of them


class Readout(Program):
    """The line under a chart. In the browser it names the chart's figure and sliders."""

    _esm = program(_HERE / "controls.js")
    _css = STYLE

    text = traitlets.Unicode().tag(sync=True)
    tags = traitlets.Dict(section("tag")).tag(sync=True)


class Explorer(Pictured, ipywidgets.VBox):
    """Controls over a view. A subclass gives `show()`, `refresh()`, `picture()` and `summary()`.

    Args:
        controls: the widgets that the reader sees at once, three at most; a model's name is none.
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
    if not (behind := list(folded)):
        return [_row(controls)]
    more = ipywidgets.ToggleButton(description=say("controls.more"))
    hidden = _row(behind)
    ipywidgets.dlink((more, "value"), (hidden.layout, "display"), _shown)
    return [_row([*controls, more]), hidden]


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
    return ipywidgets.IntSlider(first, low, high, description=name, continuous_update=False)


def numbers(name: str, options: Iterable[int], first: int) -> ipywidgets.SelectionSlider:
    """One of these whole numbers."""
    return ipywidgets.SelectionSlider(
        options=[(f"{n:,}", n) for n in options], value=first, description=name
    )


class Prompt(ipywidgets.HBox):
    """A text of the reader's own, and examples to take instead; `value` is the one in force.

    Args:
        examples: the first one is in force at first, and where the reader leaves nothing.
    """

    value = traitlets.Unicode()

    def __init__(self, examples: Sequence[str]):
        self._examples = list(examples)
        self.text = ipywidgets.Text(description=say("prompt.text"), continuous_update=False)
        listed = [(shorten(text, 60, placeholder="…"), text) for text in examples]
        self.example = ipywidgets.Dropdown(
            options=[(say("prompt.own"), _OWN), *listed], description=say("prompt.examples")
        )
        self._cut = ipywidgets.HTML(layout={"display": "none"})
        super().__init__([self.text, self.example, self._cut], value=self._examples[0])
        self.add_class("prompt")
        self._show()
        self.text.observe(self._typed, "value")
        self.example.observe(self._taken, "value")
        self.observe(self._show, "value")

    def read(self, tokenizer: Tokenizer, most: int, *, end: bool = True) -> list[int]:
        """Its tokens, at most so many from its end or its start; the reader is told of a cut."""
        tokens = encode(tokenizer, self.value)
        part = say("prompt.last" if end else "prompt.first")
        self._cut.value = say("prompt.cut", part=part, most=most, all=len(tokens))
        self._cut.layout.display = _shown(len(tokens) > most)
        return tokens[-most:] if end else tokens[:most]

    def _typed(self, _change: Any) -> None:
        self.value = self.text.value or self._examples[0]
        self._show()

    def _taken(self, _change: Any) -> None:
        self.value = self.example.value or self.value
        self._show()

    def _show(self, _change: Any = None) -> None:
        self.text.value = self.value
        self.example.value = self.value if self.value in self._examples else _OWN
