"""The explorer of one forward pass: a text's way from tokens to the next one, with every shape.

`watch` runs the model once and returns what hooks saw; `forward_film` tells it station by station
for one layer and head; `ForwardExplorer` puts text, layer and head under the reader's hands.

Dimensions: T tokens, C width, H query heads, G key/value heads, D head dim, F MLP width.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
from tokenizers import Tokenizer

from minillm import Transformer
from widgets.common.drawing.film import Film
from widgets.common.drawing.svg import Pictured
from widgets.common.player import StepPlayer
from widgets.common.theme import css
from widgets.transformer.film import forward_film
from widgets.transformer.watching import follow

__all__ = ["ForwardExplorer"]


class ForwardExplorer(Pictured, ipywidgets.VBox):
    """One forward pass on the reader's own text, inside of the layer and head of their choice.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        text: what the reader starts from.
        layer, head: what is shown first.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, text: str, layer: int = 0, head: int = 0
    ):
        self._model, self._tokenizer = model, tokenizer
        config = model.config
        self.text = ipywidgets.Text(
            text, description="text", continuous_update=False, layout={"width": "34em"}
        )
        self.layer = _choice("layer", config.num_hidden_layers, layer)
        self.head = _choice("head", config.num_attention_heads, head)
        self._pass = follow(model, tokenizer, text)
        film = self._film()
        self.player = StepPlayer(film, step=film.steps - 1)
        self.text.observe(self._read, "value")
        for control in (self.layer, self.head):
            control.observe(self._show, "value")
        row = ipywidgets.HBox([self.text, self.layer, self.head], layout={"flex_flow": "row wrap"})
        super().__init__([ipywidgets.HTML(f"<style>{css()}</style>"), row, self.player])
        self.add_class("minillm")

    def picture(self) -> str:
        return self.player.picture()

    def summary(self) -> str:
        return f"Layer {self.layer.value}, head {self.head.value}. {self.player.summary()}"

    def _film(self) -> Film:
        return forward_film(self._pass, self._model.config, self.layer.value, self.head.value)

    def _read(self, _change: Any) -> None:
        self._pass = follow(self._model, self._tokenizer, self.text.value)
        self._show()

    def _show(self, _change: Any = None) -> None:
        step = self.player.step  # every layer and head has the same stations
        with self.player.hold_sync():
            self.player.film = self._film()
            self.player.step = step


def _choice(name: str, count: int, value: int) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        options=range(count), value=value, description=name, layout={"width": "10em"}
    )
