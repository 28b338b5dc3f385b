"""Lesson 07: a block of guesses on its way to the fixed point, and what its passes gain."""

from widgets.jacobi.gain import JacobiGainExplorer, measure_blocks, pairs_elsewhere, right_behind
from widgets.jacobi.laws import LawModel
from widgets.jacobi.settling import JacobiExplorer, settling_film

__all__ = [
    "JacobiExplorer",
    "JacobiGainExplorer",
    "LawModel",
    "measure_blocks",
    "pairs_elsewhere",
    "right_behind",
    "settling_film",
]
