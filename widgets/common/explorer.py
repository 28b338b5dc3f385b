"""Controls over a player: a run of a decoder, made anew at every change of a control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ipywidgets

from widgets.common.controls import Explorer
from widgets.common.film import Film
from widgets.common.player import StepPlayer

__all__ = ["FilmExplorer", "choice", "numbers", "own_text", "slider"]


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


def choice(name: str, options: Any, **more: Any) -> ipywidgets.Dropdown:
    """A list to choose from; a mapping names its options."""
    listed = list(options.items()) if isinstance(options, Mapping) else list(options)
    return ipywidgets.Dropdown(options=listed, description=name, **more)


def slider(name: str, low: int, high: int, first: int) -> ipywidgets.IntSlider:
    """A whole number, read when the slider comes to rest."""
    return ipywidgets.IntSlider(
        first, low, high, description=name, continuous_update=False, layout={"width": "19em"}
    )


def numbers(name: str, options: Iterable[int], first: int) -> ipywidgets.SelectionSlider:
    """One of these whole numbers."""
    return ipywidgets.SelectionSlider(
        options=[(f"{n:,}", n) for n in options], value=first, description=name
    )


def own_text() -> ipywidgets.Text:
    """A prompt of the reader's own."""
    return ipywidgets.Text(
        description="own prompt", continuous_update=False, layout={"width": "32em"}
    )
