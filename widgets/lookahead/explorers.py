"""Explorers of lookahead decoding: who sees whom in a pass, and a run pass by pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from tokenizers import Tokenizer

from minillm import Sampler, Transformer, generators
from minillm.jacobi import GUESSES
from minillm.lookahead.decode import LookaheadRow, LookaheadStep, decode_lookahead
from minillm.tokens import pieces
from widgets.common.controls import Prompt, choice, slider
from widgets.common.drawing.film import Film
from widgets.common.named_model import OfModel
from widgets.common.player import FilmExplorer, continuing
from widgets.common.strings import say
from widgets.jacobi.gain import rate
from widgets.lookahead.mask import mask_film
from widgets.lookahead.run import found_in_text, run_film

__all__ = ["LookaheadExplorer", "MaskExplorer"]


class _RunExplorer(OfModel, FilmExplorer):
    """Controls of a run of `decode_lookahead`: text, W, N and G at once, the others folded."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        sizes: tuple[int, int, int],
        folded: Mapping[str, ipywidgets.ValueWidget],
    ):
        W, N, G = sizes
        super().__init__(
            model,
            tokenizer,
            {
                "text": Prompt(prompts),
                "W": slider("W (places)", 1, 8, W),
                "N": slider("N (tokens)", 2, 6, N),
                "G": slider("G (guesses)", 1, 8, G),
            },
            folded,
        )

    @property
    def _sizes(self) -> dict[str, Any]:
        return {name: self[name] for name in "WNG"}

    def _prompt(self, new: int) -> list[int]:
        room = self._model.config.max_position_embeddings - new
        return self.controls["text"].read(self._tokenizer, room)

    def _decode(self, new: int, **more: Any) -> list[LookaheadStep]:
        steps = decode_lookahead(
            self._model, [self._prompt(new)], **self._sizes, max_new_tokens=new, **more
        )
        return list(steps)

    def _name(self, token: int) -> str:
        return pieces(self._tokenizer, [token])[0]


class MaskExplorer(_RunExplorer):
    """One pass of a real run, token by token: whom it sees, why, and where it comes from.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        prompts: examples beside the reader's own text.
    """

    _NEW = 24  # tokens that are written before a pass is chosen

    def __init__(self, model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str]):
        super().__init__(model, tokenizer, prompts, (4, 4, 2), {})

    def film(self) -> Film:
        steps = self._decode(self._NEW)
        at = [len(self._prompt(self._NEW)) - 1, *(step.cached[0] for step in steps)]
        most = max(range(len(steps)), key=lambda k: self._worth(steps[k].rows[0]))
        self._row, number = steps[most].rows[0], most + 1
        film = mask_film(self._row, number, at[most], self._name)
        return continuing(film, self["text"])

    def _worth(self, row: LookaheadRow) -> tuple[bool, bool, int, int]:
        """What makes a pass worth a look: a whole window, whole guesses, many, right ones."""
        whole = all(len(guess) == self["N"] - 1 for guess in row.guesses)
        return len(row.window) == self["N"] - 1, whole, len(row.guesses), row.accepted

    def opening(self, film: Film) -> int:
        """A token low in the window, since it sees most kinds of others."""
        return max(0, sum(map(len, self._row.window)) - 2)

    def summary(self) -> str:
        row, (W, N, G) = self._row, self._sizes.values()
        read = sum(map(len, (*row.window, *row.guesses)))
        return (
            f"W = {W}, N = {N}, G = {G}: at most (W + G)(N - 1) = {(W + G) * (N - 1)} tokens in a "
            f"pass, here {read}; lines of the window: {len(row.window)}, guesses: "
            f"{len(row.guesses)}, guessed tokens that were right: {row.accepted} "
            f"({say('tag.computed')})."
        )


class LookaheadExplorer(_RunExplorer):
    """A run, pass by pass, made anew at every change of a control.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        prompts: examples beside the reader's own text.
        new: tokens that are written.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str], *, new: int = 32
    ):
        self._new = new
        folded = {
            "guess": choice("start", GUESSES),
            "temperature": ipywidgets.FloatSlider(
                0.0, min=0, max=1.6, step=0.2, description="temperature", continuous_update=False
            ),
            "seed": slider("seed", 0, 20, 0),
        }
        super().__init__(model, tokenizer, prompts, (5, 4, 5), folded)

    def film(self) -> Film:
        self._steps = self._decode(
            self._new,
            guess=self["guess"],
            sampler=Sampler(self["temperature"]),
            generators=generators(self["seed"], 1),
        )
        film = run_film(self._steps, **self._sizes, name=self._name)
        return continuing(film, self["text"])

    def opening(self, film: Film) -> int:
        """The pass that gains most."""
        rows = [step.rows[0] for step in self._steps]
        return max(range(film.steps), key=lambda k: len(rows[k].tokens))

    def summary(self) -> str:
        rows = [step.rows[0] for step in self._steps]
        tokens = sum(len(row.tokens) for row in rows)
        right, copied = found_in_text(self._steps, self._prompt(self._new))
        (W, N, G), how = self._sizes.values(), self["temperature"]
        return (
            f"W = {W}, N = {N}, G = {G}, {f'temperature {how:g}' if how else 'greedy'}: {tokens} "
            f"tokens in {len(rows)} passes, {rate(tokens, len(rows))} tokens a pass. In {right} "
            f"passes a guess was right; {copied} of these n-grams stood in the text already "
            f"({say('tag.computed')})."
        )
