"""Charts of plain data: by plotly, and in SVG for where nothing runs."""

from widgets.common.chart.chart import Chart, ChartExplorer, Columns, Curve, Level

__all__ = ["Chart", "ChartExplorer", "Columns", "Curve", "Level"]
