"""Explorers of zeros: the attention of a text under a threshold, and which neurons it opens.

Dimensions: L layers, T tokens, H query heads, F MLP width.
"""

from __future__ import annotations

import ipywidgets
import torch
from tokenizers import Tokenizer
from torch import Tensor

from minillm.data.heldout import stories
from minillm.sparsity.counting import Observed, observe
from minillm.sparsity.neurons import firing_rates
from minillm.tokens import encode, pieces
from minillm.transformer import Transformer
from widgets.common.controls import Prompt, choice
from widgets.common.drawing.film import Film
from widgets.common.named_model import OfModel, offer
from widgets.common.player import FilmExplorer
from widgets.common.strings import say
from widgets.sparsity.films import LONGEST, attention_film, neuron_film

__all__ = ["AttentionExplorer", "NeuronExplorer"]


class _TextExplorer(OfModel, FilmExplorer):
    """A film of the reader's own text; a change of another control keeps the token at hand."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        text: str,
        controls: dict[str, ipywidgets.ValueWidget],
    ):
        super().__init__(model, tokenizer, {"text": Prompt([text]), **controls})

    def refresh(self) -> None:
        step = self.player.step
        super().refresh()
        self.player.step = min(step, self.player.film.steps - 1)

    def _read(self) -> tuple[Observed, list[str]]:
        """What the model does with the text, and its tokens' names."""
        tokens = self.controls["text"].read(self._tokenizer, LONGEST, end=False)
        seen = observe(self._model, torch.tensor([tokens], device=self._model.device))
        return seen, pieces(self._tokenizer, tokens)


class AttentionExplorer(_TextExplorer):
    """How much of attention is small, on the reader's own text.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        text: what the reader starts from; at most `LONGEST` tokens of it are read.
        layer, head: what is shown first.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, text: str, layer: int = 0, head: int = 0
    ):
        thresholds = [(f"{x:g}", x) for x in (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3)]
        super().__init__(
            model,
            tokenizer,
            text,
            {
                "head": choice("head", _heads(model), value=(layer, head)),
                "threshold": ipywidgets.SelectionSlider(
                    options=thresholds, value=0.03, description="threshold"
                ),
                "of_maximum": ipywidgets.Checkbox(
                    False, description="in units of each query's largest weight"
                ),
            },
        )

    def fit(self) -> None:
        offer(self.controls["head"], _heads(self._model))

    def film(self) -> Film:
        seen, names = self._read()
        layer, head = self["head"]
        return attention_film(
            seen, names, layer, head, self["threshold"], of_maximum=self["of_maximum"]
        )

    def summary(self) -> str:
        keys, shares, _, zeros, *_ = self.player.film.numbers
        where = self.controls["head"].label.capitalize()
        last = self.player.film.steps - 1
        return (
            f"{where}: {keys.at(last)} keys hold 90 % of the last query's attention; over all "
            f"heads, {shares.at(0)} of the keys seen. {zeros.at(0)} of the weights count as zero "
            f"({say('tag.computed')})."
        )


def _heads(model: Transformer) -> list[tuple[str, tuple[int, int]]]:
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    return [(f"layer {i}, head {j}", (i, j)) for i in range(layers) for j in range(heads)]


class NeuronExplorer(_TextExplorer):
    """Which neurons open, token by token, on the reader's own text.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        text: what the reader starts from; at most `LONGEST` tokens of it are read.
        gates: (L, B, T, F) of other texts, which say how hot each neuron is.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, text: str, gates: Tensor):
        self._own_rates = self._rates = firing_rates(gates)
        super().__init__(model, tokenizer, text, {})

    def fit(self) -> None:
        act, name = self._model.config.hidden_act, self.named.value
        if act != "relu":
            raise ValueError(say("model.no_zeros", name=name, act=act))
        self._rates = self._own_rates if self.named.is_own else self._rates_elsewhere()

    def _rates_elsewhere(self) -> Tensor:
        """How hot each neuron is on held-out text."""
        texts = [token for text in stories()[:8] for token in encode(self._tokenizer, text)]
        read = texts[: self._model.config.max_position_embeddings]
        return firing_rates(
            observe(self._model, torch.tensor([read], device=self._model.device)).gates
        )

    def film(self) -> Film:
        return neuron_film(*self._read(), self._rates)

    def summary(self) -> str:
        last = self.player.film.steps - 1
        _, shut, independent = (number.at(last) for number in self.player.film.numbers)
        return (
            f"{last + 1} tokens leave {shut} of the neurons unused; X^N, with one X for all, says "
            f"{independent} ({say('tag.computed')})."
        )
