"""plotly's figures, whose program a page reads once.

Each of plotly's own figures brings its program of 5 MB: about a second of the browser's time, and
a lesson holds a dozen. Here one widget that is never shown brings it for all.
"""

from pathlib import Path

import anywidget
import plotly
import plotly.graph_objects as go
import traitlets
from ipywidgets import widget_serialization

from widgets.common.program import Program, program

__all__ = ["Figure"]

_CONFIG = {
    "responsive": True,  # else 700 pixels wide
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
}


class _Bundle(anywidget.AnyWidget):
    """plotly's program, and its version."""

    _esm = "export default {};"
    program = traitlets.Unicode(str(go.FigureWidget._esm)).tag(sync=True)
    version = traitlets.Unicode(plotly.__version__).tag(sync=True)
    kept: "_Bundle | None" = None

    @classmethod
    def shared(cls) -> "_Bundle":
        """The one that all figures share; a new one if it was closed."""
        if cls.kept is None or cls.kept.comm is None:
            cls.kept = cls()
        return cls.kept


class Figure(Program, go.FigureWidget):
    """A figure that the browser keeps up to date, once it has the program.

    What the kernel changes before that, the browser reads off `_widget_data` and `_widget_layout`:
    whoever changes the figure keeps them up to date as well.
    """

    _esm = program(Path(__file__).with_name("figure.js"))
    _config = traitlets.Dict(_CONFIG).tag(sync=True)
    bundle = traitlets.Instance(_Bundle).tag(sync=True, **widget_serialization)

    @traitlets.validate("_config")
    def _keep_config(self, _proposal: object) -> dict[str, object]:
        """Plotly sets its own; what is set again after that may miss the first drawing."""
        return _CONFIG

    @traitlets.default("bundle")
    def _default_bundle(self) -> _Bundle:
        return _Bundle.shared()
