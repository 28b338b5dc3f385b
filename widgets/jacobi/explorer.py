"""The explorer of Jacobi decoding: a run, and the block, start and text it is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
from tokenizers import Tokenizer

from minillm import Sampler, Transformer, generators
from minillm.jacobi import GUESSES, JacobiStep, decode_jacobi
from minillm.tokens import encode, pieces
from widgets.common.controls import Prompt, choice, slider
from widgets.common.drawing.film import Film
from widgets.common.named_model import OfModel
from widgets.common.player import FilmExplorer, continuing
from widgets.common.strings import say
from widgets.jacobi.film import settling_film
from widgets.jacobi.gain import rate

__all__ = ["JacobiExplorer"]


class JacobiExplorer(OfModel, FilmExplorer):
    """The grid of one run, made anew at every change of a control.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        prompts: examples beside the reader's own text; the one that gains most is shown first.
        new: tokens that are written.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str], *, new: int = 12
    ):
        self._new = new
        gains = sorted(
            prompts, key=lambda text: len(_decode(model, encode(tokenizer, text), new, block=new))
        )
        sizes = sorted({size for size in (1, 2, 3, 4, 6, 8, new) if size <= new})
        super().__init__(
            model,
            tokenizer,
            {
                "text": Prompt(gains),
                "block": ipywidgets.SelectionSlider(
                    options=sizes, value=new, description="block (tokens)", continuous_update=False
                ),
                "guess": choice("start", GUESSES),
            },
            {
                "temperature": ipywidgets.FloatSlider(
                    0.0, min=0, max=1.6, step=0.2, description="temperature",
                    continuous_update=False,
                ),
                "seed": slider("seed", 0, 20, 0),
            },
        )  # fmt: skip

    def film(self) -> Film:
        self._steps = _decode(
            self._model,
            self.controls["text"].read(self._tokenizer, self._room),
            self._new,
            block=self["block"],
            guess=self["guess"],
            sampler=Sampler(self["temperature"]),
            generators=generators(self["seed"], 1),
        )
        return continuing(settling_film(self._steps, self._name), self["text"])

    def summary(self) -> str:
        rows = [step.rows[0] for step in self._steps]
        tokens = sum(len(row.tokens) for row in rows)
        how = f"temperature {self['temperature']:g}" if self["temperature"] else "greedy"
        return (
            f"Block of {self['block']}, starting from {self.controls['guess'].label}, {how}: "
            f"{tokens} tokens in {len(rows)} passes, {rate(tokens, len(rows))} tokens a pass; "
            f"{sum(len(row.before) for row in rows)} choices, where plain decoding makes "
            f"{tokens} ({say('tag.computed')})."
        )

    @property
    def _room(self) -> int:
        return self._model.config.max_position_embeddings - self._new

    def _name(self, token: int) -> str:
        return pieces(self._tokenizer, [token])[0]


def _decode(model: Transformer, prompt: list[int], new: int, **more: Any) -> list[JacobiStep]:
    return list(decode_jacobi(model, [prompt], max_new_tokens=new, **more))
