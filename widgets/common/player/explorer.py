"""Controls over a player: a run of a decoder, made anew at every change of a control."""

from __future__ import annotations

import ipywidgets

from widgets.common.controls import Explorer
from widgets.common.drawing.film import Film
from widgets.common.player.step_player import StepPlayer

__all__ = ["FilmExplorer"]


class FilmExplorer(Explorer):
    """A subclass gives `film()` and `summary()`, which read the controls."""

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
