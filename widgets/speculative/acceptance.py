"""The explorer of guess and verify: both decoders run anew at every change of a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import ipywidgets
from tokenizers import Tokenizer

from minillm import ModelConfig, Sampler, Transformer, decode_cached, generators
from minillm.decoding import Step
from minillm.speculative.decode import SpeculativeStep, decode_speculative
from minillm.speculative.drafters import Drafter
from minillm.tokens import pieces
from widgets.common.controls import Prompt, choice, slider
from widgets.common.drawing.film import Film
from widgets.common.named_model import OfModel, offer
from widgets.common.player import FilmExplorer
from widgets.common.strings import say
from widgets.speculative.rounds import rounds_film

__all__ = ["AcceptanceExplorer"]


class AcceptanceExplorer(OfModel, FilmExplorer):
    """Guess and verify beside the plain loop, run anew at every change of a control.

    Args:
        model, tokenizer: the target's; best the optimized twin.
        drafters: by name; the first is used at first. Of another model those are offered that
            share its vocabulary.
        prompts: examples beside the reader's own text.
        new: tokens that are written.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        drafters: Mapping[str, Drafter],
        prompts: Sequence[str],
        *,
        new: int = 32,
    ):
        self._drafters, self._new = drafters, new
        self._plain: list[Step] = []
        self._rounds: list[SpeculativeStep] = []
        super().__init__(
            model,
            tokenizer,
            {
                "text": Prompt(prompts),
                "gamma": slider("gamma (guesses)", 1, 8, 4),
                "temperature": ipywidgets.FloatSlider(
                    1.0, min=0, max=1.6, step=0.2, description="temperature",
                    continuous_update=False,
                ),
            },
            {
                "drafter": choice("drafter", drafters),
                "seed": slider("seed", 0, 20, 0),
            },
        )  # fmt: skip

    def fit(self) -> None:
        target, name = self._model.config, self.named.value
        fitting = {label: d for label, d in self._drafters.items() if _guesses_for(d, target)}
        if not fitting:
            raise ValueError(say("model.no_drafter", name=name))
        if others := [label for label in self._drafters if label not in fitting]:
            self.named.note = say("model.left_out", name=name, drafters=", ".join(others))
        offer(self.controls["drafter"], fitting.items())
        self._rounds = []

    def film(self) -> Film:
        if not self._rounds:
            self._decode()  # warms up
        self._plain, self._rounds = self._decode()
        return rounds_film(self._plain, self._rounds, self._name, self._prompt())

    def opening(self, film: Film) -> int:
        """The step that tells most: the last guess that was replaced, or the end."""
        rows = [step.rows[0] for step in self._rounds]
        ends = accumulate(2 + row.judged for row in rows)  # a step to write, one to add a token
        replaced = [
            end - 1 for end, row in zip(ends, rows, strict=True) if row.accepted < len(row.guesses)
        ]
        return max(replaced, default=film.steps - 1)

    def summary(self) -> str:
        slow, fast = (sum(step.seconds for step in steps) for steps in (self._plain, self._rounds))
        kept = sum(step.rows[0].accepted for step in self._rounds)
        judged = sum(step.rows[0].judged for step in self._rounds)
        return (
            f"{self.controls['drafter'].label}, gamma {self['gamma']}, temperature "
            f"{self['temperature']:g}: {self._new} tokens in {len(self._rounds)} passes of the "
            f"target, {kept} of {judged} guesses accepted ({say('tag.computed')}); "
            f"{1e3 * fast:.0f} ms against {1e3 * slow:.0f} ms of plain decoding, "
            f"{slow / fast:.2f} times as fast ({say('tag.measured')})."
        )

    def _decode(self) -> tuple[list[Step], list[SpeculativeStep]]:
        """Both decoders on the chosen prompt, with the same settings."""
        prompt = self._prompt()
        options: dict[str, Any] = {
            "max_new_tokens": self._new,
            "sampler": Sampler(self["temperature"]),
        }
        plain = decode_cached(
            self._model, [prompt], generators=generators(self["seed"], 1), **options
        )
        rounds = decode_speculative(
            self._model,
            [prompt],
            drafter=self["drafter"],
            gamma=self["gamma"],
            generators=generators(self["seed"], 1),
            **options,
        )
        return list(plain), list(rounds)

    def _prompt(self) -> list[int]:
        room = self._model.config.max_position_embeddings - self._new
        return self.controls["text"].read(self._tokenizer, room)

    def _name(self, token: int) -> str:
        return pieces(self._tokenizer, [token])[0]


def _guesses_for(drafter: Drafter, target: ModelConfig) -> bool:
    """Whether it begins a run of this target."""
    try:
        drafter.start(target, rows=1, capacity=1)
    except ValueError:
        return False
    return True
