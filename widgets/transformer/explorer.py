"""The explorer of one forward pass: a text's way from tokens to the next one, with every shape.

`watch` runs the model once and returns what hooks saw; `forward_film` tells it station by station
for one layer and head; `ForwardExplorer` puts text, layer and head under the reader's hands.

Dimensions: T tokens, C width, H query heads, G key/value heads, D head dim, F MLP width.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from minillm import Transformer
from widgets.common.controls import Prompt, choice
from widgets.common.drawing.film import Film
from widgets.common.named_model import OfModel, offer
from widgets.common.player import FilmExplorer
from widgets.common.strings import say
from widgets.transformer.film import forward_film, logit_sum
from widgets.transformer.watching import follow

__all__ = ["ForwardExplorer"]


class ForwardExplorer(OfModel, FilmExplorer):
    """One forward pass on the reader's own text, inside of the layer and head of their choice.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        text: what the reader starts from.
        layer, head: what is shown first.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, text: str, layer: int = 0, head: int = 0
    ):
        config = model.config
        super().__init__(
            model,
            tokenizer,
            {
                "text": Prompt([text]),
                "layer": choice("open layer", range(config.num_hidden_layers), value=layer),
                "head": choice("head", range(config.num_attention_heads), value=head),
            },
        )

    def fit(self) -> None:
        config = self._model.config
        offer(self.controls["layer"], range(config.num_hidden_layers))
        offer(self.controls["head"], range(config.num_attention_heads))

    def film(self) -> Film:
        self._run = follow(self._model, self._tokenizer, self["text"])
        return forward_film(self._run, self._model.config, self["layer"], self["head"])

    def refresh(self) -> None:
        step = self.player.step  # every layer and head has the same stations
        super().refresh()
        self.player.step = step

    def summary(self) -> str:
        return (
            f"Layer {self['layer']}, head {self['head']}. {logit_sum(self._run)} "
            f"({say('tag.computed')})."
        )
