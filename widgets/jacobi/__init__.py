"""Lesson 07: a block of guesses on its way to the fixed point, and what its passes gain."""

from widgets.jacobi.explorer import JacobiExplorer
from widgets.jacobi.film import settling_film
from widgets.jacobi.gain import (
    JacobiGainExplorer,
    measure_blocks,
    measure_loop,
    pairs_elsewhere,
    right_after,
)
from widgets.jacobi.laws import LawModel

__all__ = [
    "JacobiExplorer",
    "JacobiGainExplorer",
    "LawModel",
    "measure_blocks",
    "measure_loop",
    "pairs_elsewhere",
    "right_after",
    "settling_film",
]
