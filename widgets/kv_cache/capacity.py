"""When a card is full: weights, and the cache of so many texts of such a length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ipywidgets

from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import MODELS, Capacity, PublicModel, capacity
from widgets.common.chart import Chart, ChartExplorer, Curve, Level
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say

__all__ = ["CapacityExplorer"]


class CapacityExplorer(ChartExplorer):
    """Weights and cache of a model against the memory of real cards; all sizes are cited."""

    def __init__(self, shipped: PublicModel):
        models = {shipped.name: shipped, **MODELS}
        super().__init__(
            controls={
                "model": _choice("model", models, "Llama-2-7B"),
                "card": _choice("card", ACCELERATORS, "RTX 4090"),
                "batch": ipywidgets.IntSlider(1, 1, 64, description="batch"),
            },
            folded={
                "cards": ipywidgets.IntSlider(1, 1, 16, description="cards"),
                "bits": _choice("bits", {"16 bits": 16, "8 bits": 8, "4 bits": 4}, "16 bits"),
            },
        )

    def chart(self) -> Chart:
        model, card, cards = self["model"], self["card"], self["cards"]
        found = self._capacity()
        # Wide enough for the point where the card is full, with room for its text on the left.
        full = math.log2(found.tokens / model.context) if found.tokens else 0.0
        octaves = range(min(-6, math.floor(full) - 2), max(4, math.ceil(full)) + 1)
        contexts = [model.context * 2.0**k for k in octaves]
        name = card.name if cards == 1 else f"{cards} x {card.name}"
        at = found.tokens or model.context
        text = f"full at {at:,} tokens" if found.tokens else "the weights alone do not fit"
        return Chart(
            title=f"{model.name}: weights stay, the cache grows until the card is full",
            x_title="context (tokens in each row of the batch)",
            y_title="memory (GB)",
            series=(
                Curve("weights and cache", contexts, [self._gb(n) for n in contexts]),
                Curve(
                    "weights alone", contexts, [found.weights / 1e9] * len(contexts), baseline=True
                ),
            ),
            levels=(
                Level(f"{name}: {found.memory / 1e9:,.0f} GB {card.kind}", found.memory / 1e9),
            ),
            note=(at, self._gb(at), text),
            log_x=True,
            log_y=True,
        )

    def said(self) -> str:
        model, found = self["model"], self._capacity()
        if found.tokens == 0:
            verdict = "the weights alone do not fit"
        else:
            verdict = f"full at {found.tokens:,} tokens a row"
            if found.tokens > model.context:
                verdict += f", beyond the {model.context:,} it was trained for"
        return (
            f"{model.name} ({verbatim(model.source)}), batch {self['batch']}, {self['bits']} bits: "
            f"weights {digits(found.weights / 1e9)} GB, cache {found.per_token:,.0f} bytes a token "
            f"({model.kv_formula}); on {self['cards']} x {self['card'].name}: {verdict} "
            f"({say('tag.computed')})."
        )

    def _capacity(self) -> Capacity:
        return capacity(
            self["model"], self["card"], cards=self["cards"], batch=self["batch"], bits=self["bits"]
        )

    def _gb(self, tokens: float) -> float:
        found = self._capacity()
        return (found.weights + tokens * found.per_token) / 1e9


def _choice(name: str, options: Mapping[str, Any], first: str) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        options=list(options.items()), value=options[first], description=name
    )
