"""plotly's figures, whose program a page reads once.

Each of plotly's own figures brings its program of 5 MB: about a second of the browser's time, and
a lesson holds a dozen. Here one widget that is never shown brings it for all.
"""

from functools import cache
from pathlib import Path

import anywidget
import plotly.graph_objects as go
import traitlets

__all__ = ["Figure"]

_ESM = Path(__file__).with_name("figure.js").read_text(encoding="utf-8")


class _Bundle(anywidget.AnyWidget):
    _esm = _ESM
    program = traitlets.Unicode().tag(sync=True)


@cache
def _bundle() -> _Bundle:
    return _Bundle(program=str(go.FigureWidget._esm))


class Figure(go.FigureWidget):
    """A figure that the browser keeps up to date."""

    _esm = _ESM

    def __init__(self, figure: go.Figure):
        _bundle()
        super().__init__(figure)
