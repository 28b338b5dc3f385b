"""Lesson 00: one forward pass, from tokens to the next one, with every shape.

`watching.watch` runs the model once and returns what hooks saw; `film.forward_film` tells it
station by station for one layer and head; `explorer` puts text, layer and head under the reader's
hands.
"""

from widgets.transformer.explorer import ForwardExplorer
from widgets.transformer.film import forward_film
from widgets.transformer.watching import watch

__all__ = ["ForwardExplorer", "forward_film", "watch"]
