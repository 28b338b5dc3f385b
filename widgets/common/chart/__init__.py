"""Charts of plain data: by plotly, and in SVG for where nothing runs."""

from widgets.common.chart.chart import Chart, Claim, Columns, Curve, Level, Stems
from widgets.common.chart.explorer import ChartExplorer
from widgets.common.chart.panels import Panel, Panels

__all__ = [
    "Chart",
    "ChartExplorer",
    "Claim",
    "Columns",
    "Curve",
    "Level",
    "Panel",
    "Panels",
    "Stems",
]
