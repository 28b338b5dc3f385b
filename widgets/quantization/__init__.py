"""Lesson 10: a number of few bits, a format's grid over real weights, and formats compared."""

from widgets.quantization.bits import BitExplorer
from widgets.quantization.duel import DuelExplorer
from widgets.quantization.formats import FormatsExplorer, Stored
from widgets.quantization.grid import GridExplorer, LayerErrorExplorer, error_by_layer

__all__ = [
    "BitExplorer",
    "DuelExplorer",
    "FormatsExplorer",
    "GridExplorer",
    "LayerErrorExplorer",
    "Stored",
    "error_by_layer",
]
