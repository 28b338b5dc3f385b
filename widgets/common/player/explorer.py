"""Controls over a player: a run of a decoder, made anew at every change of a control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import ipywidgets

from widgets.common.controls import Explorer
from widgets.common.drawing.film import Film
from widgets.common.player.step_player import StepPlayer
from widgets.common.strings import say

__all__ = ["FilmExplorer", "continuing"]

_SHOWN = 80  # characters of a prompt, its last ones


def continuing(film: Film, prompt: str) -> Film:
    """The film of a run, led by the end of the prompt that it continues."""
    text = " ".join(prompt.split())
    said = say("film.after", prompt=text if len(text) <= _SHOWN else "…" + text[-_SHOWN:])
    return replace(film, hint=f"{said} {film.hint}")


class FilmExplorer(Explorer):
    """A subclass gives `film()` and `summary()`, which read the controls."""

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.ValueWidget],
        folded: Mapping[str, ipywidgets.ValueWidget] | None = None,
    ):
        super().__init__(controls, folded)
        self.add_class("film")

    def film(self) -> Film:
        raise NotImplementedError

    def opening(self, film: Film) -> int:
        """The step that is shown at first."""
        return film.steps - 1

    def picture(self) -> str:
        return self.player.picture()

    def show(self) -> ipywidgets.Widget:
        film = self.film()
        self.player = StepPlayer(film, step=self.opening(film))
        return self.player

    def refresh(self) -> None:
        film = self.film()
        with self.player.hold_sync():
            self.player.film = film
            self.player.step = self.opening(film)
