"""The player of films, and explorers that make a run anew at every change of a control."""

from widgets.common.player.explorer import FilmExplorer, continuing
from widgets.common.player.step_player import StepPlayer

__all__ = ["FilmExplorer", "StepPlayer", "continuing"]
