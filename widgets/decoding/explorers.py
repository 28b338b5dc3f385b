"""Explorers of decoding: the distribution a token is drawn from, and what each token costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from tokenizers import Tokenizer

from minillm import Sampler, Transformer
from minillm.tokens import pieces
from widgets.common.chart import Chart, ChartExplorer, Claim, Columns, Curve
from widgets.common.controls import Prompt
from widgets.common.drawing.page import visible
from widgets.common.named_model import OfModel, offer
from widgets.common.strings import say

__all__ = ["CostExplorer", "DistributionExplorer"]

SHOWN = 14  # bars that fit a slide


class DistributionExplorer(OfModel, ChartExplorer):
    """The next token of the reader's own text: the model's distribution, and what sampling keeps.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        text: what the reader starts from.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, text: str):
        self._tokens: list[int] = []  # of which the logits are known
        super().__init__(
            model,
            tokenizer,
            {
                "text": Prompt([text]),
                "temperature": ipywidgets.FloatSlider(
                    1.0, min=0.0, max=2.0, step=0.05, description="temperature"
                ),
                "top_p": ipywidgets.FloatSlider(
                    1.0, min=0.05, max=1.0, step=0.05, description="top-p"
                ),
                "top_k": ipywidgets.SelectionSlider(
                    options=_top_k(model),
                    value=model.config.vocab_size,
                    description="top-k (tokens)",
                ),
            },
        )

    def fit(self) -> None:
        self._tokens = []
        offer(self.controls["top_k"], _top_k(self._model))

    def chart(self) -> Chart:
        order, own, shaped = self._distributions()
        labels = self._labels(order)
        return Chart(
            title="Sampling reshapes the model's distribution before it draws",
            x_title=f"the {SHOWN} most probable next tokens",
            y_title="probability",
            series=(
                Columns("the model's own", labels, own, baseline=True),
                Columns("what a token is drawn from", labels, shaped),
            ),
        )

    def said(self) -> str:
        order, own, shaped = self._distributions()
        kept = sum(p > 0 for p in shaped)
        first = self._labels(order)[0]
        return (
            f"Temperature {self['temperature']:g}, top-k {self['top_k']}, top-p {self['top_p']:g}: "
            f"{first} has {own[0]:.0%} of the model's own distribution and {shaped[0]:.0%} of "
            f"what is drawn from; {kept} of the {SHOWN} shown can be drawn "
            f"({say('tag.computed')})."
        )

    def _labels(self, tokens: Sequence[int]) -> list[str]:
        """Their text in quotes; alike ones, such as parts of characters, with their number."""
        texts = [f"“{visible(piece)}”" for piece in pieces(self._tokenizer, tokens)]
        return [
            text if texts.count(text) == 1 else f"{text} {token}"
            for text, token in zip(texts, tokens, strict=True)
        ]

    def _distributions(self) -> tuple[list[int], list[float], list[float]]:
        """The likeliest tokens, with their probability before and after shaping."""
        context = self._model.config.max_position_embeddings
        tokens = self.controls["text"].read(self._tokenizer, context)
        if tokens != self._tokens:
            batch = torch.tensor([tokens], device=self._model.device)
            self._tokens, self._logits = tokens, self._model(batch)[0, -1]
        logits = self._logits
        own = Sampler().probabilities(logits)
        sampler = Sampler(self["temperature"], self["top_k"], self["top_p"])
        order = own.topk(SHOWN).indices
        return order.tolist(), own[order].tolist(), sampler.probabilities(logits)[order].tolist()


def _top_k(model: Transformer) -> list[tuple[str, int]]:
    few = [(str(k), k) for k in (1, 2, 3, 5, 8, 12, 50)]
    return [*few, ("all", model.config.vocab_size)]


class CostExplorer(ChartExplorer):
    """Measured time of one token against the length of the text before it.

    Args:
        curves: for each decoder by name, (tokens before, milliseconds) of its tokens; the first
            one is the baseline.
        title: the point that the chart makes: the last token of the first decoder takes longer than
            its first one.
    """

    def __init__(self, curves: Mapping[str, Sequence[tuple[int, float]]], title: str):
        self._curves, self._title = curves, title
        super().__init__({"log": ipywidgets.Checkbox(False, description="logarithmic time")})

    def chart(self) -> Chart:
        curves: list[Curve] = []
        for name, points in self._curves.items():
            lengths, times = zip(*points, strict=True)
            curves.append(Curve(name, lengths, times, baseline=not curves))
        first = curves[0].y
        return Chart(
            (Claim(self._title, ((first[0], first[-1]),) * (len(first) > 1)),),
            "tokens of text so far",
            "time of one token (ms)",
            tuple(curves),
            log_y=self["log"],
        )

    def said(self) -> str:
        ends = "; ".join(
            f"{name}: {points[0][1]:.1f} ms after {points[0][0]} tokens, "
            f"{points[-1][1]:.1f} ms after {points[-1][0]}"
            for name, points in self._curves.items()
        )
        return f"{ends} ({say('tag.measured')})."
