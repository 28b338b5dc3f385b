"""Controls over a player: a run of a decoder, made anew at every change of a control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets

from widgets.common.chart import Readout, control_rows
from widgets.common.film import Film
from widgets.common.player import StepPlayer
from widgets.common.svg import Pictured

__all__ = ["FilmExplorer", "choice", "own_text", "slider"]


class FilmExplorer(Pictured, ipywidgets.VBox):
    """A subclass gives `film()` and `summary()`, which read the controls.

    Args:
        controls: the widgets that the reader sees at once, three at most.
        folded: further ones, behind a title that opens.
    """

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.ValueWidget],
        folded: Mapping[str, ipywidgets.ValueWidget],
    ):
        self.controls = {**controls, **folded}
        film = self.film()
        self.player = StepPlayer(film, step=self.opening(film))
        self.readout = Readout(text=self.summary())
        for control in self.controls.values():
            control.observe(self._run, "value")
        rows = control_rows(controls.values(), folded.values())
        super().__init__([*rows, self.player, self.readout])
        self.add_class("minillm").add_class("chart")

    def film(self) -> Film:
        raise NotImplementedError

    def opening(self, film: Film) -> int:
        """The step that is shown at first."""
        return film.steps - 1

    def picture(self) -> str:
        return self.player.picture()

    def __getitem__(self, name: str) -> Any:
        """The value of a control."""
        return self.controls[name].value

    def _run(self, _change: Any) -> None:
        film = self.film()
        with self.player.hold_sync():
            self.player.film = film
            self.player.step = self.opening(film)
        self.readout.text = self.summary()


def choice(name: str, options: Any, **more: Any) -> ipywidgets.Dropdown:
    """A list to choose from; a mapping names its options."""
    listed = list(options.items()) if isinstance(options, Mapping) else list(options)
    return ipywidgets.Dropdown(options=listed, description=name, **more)


def slider(name: str, low: int, high: int, first: int) -> ipywidgets.IntSlider:
    """A whole number, read when the slider comes to rest."""
    return ipywidgets.IntSlider(
        first, low, high, description=name, continuous_update=False, layout={"width": "19em"}
    )


def own_text() -> ipywidgets.Text:
    """A prompt of the reader's own."""
    return ipywidgets.Text(
        description="own prompt", continuous_update=False, layout={"width": "32em"}
    )
