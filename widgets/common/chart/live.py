"""A chart for plotly, which looks like the picture in `static` and can be hovered.

It is drawn as plain data: plotly's own objects check every value, which takes longer than to draw.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from widgets.common.chart.chart import Chart, Columns, Stems, interval
from widgets.common.chart.plot import BOTTOM, LEFT, TOP, Plot, tick_text
from widgets.common.theme import LIGHT, template

__all__ = ["Drawing", "drawing", "figure"]

Drawing = dict[str, Any]  # of plotly: its "data", which are traces, and its "layout"

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_TEMPLATE = template().to_plotly_json()
_TITLE = 70  # letters of a line of it
_EDGE = 0.008  # of the axis, left free at its ends for dots and whiskers
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def figure(chart: Chart) -> go.Figure:
    """The chart as plotly's figure."""
    return go.Figure(drawing(chart))


def drawing(chart: Chart) -> Drawing:
    """The chart for plotly, in the colours of a light page; `theme.css` makes them the page's."""
    plot = Plot(chart)
    traces = [*_series(chart), *_levels(chart), *_note(chart)]
    layout = {
        "template": _TEMPLATE,
        "title": {"text": title_lines(chart.headline)},
        "showlegend": len(plot.columns) > 1,
        "margin": {"l": LEFT, "r": plot.right, "t": TOP, "b": BOTTOM},
        "annotations": [_y_title(chart), *_labels(plot)],
        "xaxis": {"title": {"text": chart.x_title}, **_x_axis(plot)},
        "yaxis": _y_axis(plot),
    }
    return {"data": traces, "layout": layout}


def _series(chart: Chart) -> Iterator[dict[str, Any]]:
    dashes = iter(_DASHES)
    for series, hue in zip(chart.series, chart.hues, strict=True):
        dash = "solid" if series.baseline else next(dashes)
        if isinstance(series, Columns):
            yield {
                "type": "bar", "name": series.name, "x": list(series.labels),
                "y": _floats(series.y), "marker": {"color": hue.light},
                "error_y": _whiskers(series.y, LIGHT.text),
            }  # fmt: skip
        elif isinstance(series, Stems):
            floor = chart.y_range[0]
            yield {
                "type": "scatter", "name": series.name, "mode": "lines",
                "line": {"color": hue.light, "width": 2},
                "x": [x for at in series.x for x in (at, at, None)],
                "y": [y for at in series.y for y in (floor, at, None)],
            }  # fmt: skip
        else:
            dots = set(series.dots)
            size = 12 if series.dot else 8
            yield {
                "type": "scatter", "name": series.name, "x": list(series.x),
                "y": _floats(series.y), "line": {"color": hue.light, "dash": dash, "width": 3},
                "mode": "lines+markers" if dots else "lines",
                "marker": {"size": [size * (i in dots) for i in range(len(series.y))],
                           "color": hue.light, "line": {"width": 0}},
                "error_y": _whiskers(series.y, hue.light), "cliponaxis": False,
                "fill": "tozeroy" if series.filled else "none",
            }  # fmt: skip


def _levels(chart: Chart) -> Iterator[dict[str, Any]]:
    for level in chart.levels:
        yield {
            "type": "scatter", "name": level.name, "x": list(chart.x_range), "y": [level.y] * 2,
            "mode": "lines", "text": [level.name] * 2,
            "line": {"dash": "dot", "width": 2, "color": LIGHT.muted},
        }  # fmt: skip


def _note(chart: Chart) -> Iterator[dict[str, Any]]:
    if chart.note:
        x, y, text = chart.note
        yield {
            "type": "scatter", "name": text, "x": [x], "y": [float(y)], "mode": "markers",
            "text": [text], "hoverinfo": "skip", "cliponaxis": False,
            "marker": {"size": 16, "symbol": "circle-open", "color": LIGHT.text,
                       "line": {"width": 2}},
        }  # fmt: skip


def title_lines(title: str) -> str:
    """A title in as few lines as it needs, which are alike in length."""
    lines = math.ceil(len(title) / _TITLE)
    return "<br>".join(textwrap.wrap(title, len(title) // lines + 8)) if lines > 1 else title


def _floats(values: Any) -> list[float]:
    return [float(y) for y in values]


def _whiskers(values: Any, colour: str) -> dict[str, Any]:
    ends = [interval(y) for y in values]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - y for y, (_, high) in zip(values, ends, strict=True)],
        "arrayminus": [y - low for y, (low, _) in zip(values, ends, strict=True)],
        "visible": any(low < high for low, high in ends),
        "color": colour,
        "thickness": 2,
        "width": 4,
    }


def _x_axis(plot: Plot) -> dict[str, Any]:
    if plot.columns:
        return {"type": "category", "tickangle": 0, "automargin": True}
    log = plot.chart.log_x
    low, high = (_logged(end, log) for end in plot.x_range)
    edge = _EDGE * (high - low)
    shown = {"range": [low - edge, high + edge]} if low < high else {}
    return {"type": _kind(log), **_shown(plot.x_ticks), **shown}


def _y_axis(plot: Plot) -> dict[str, Any]:
    log = plot.chart.log_y
    return {
        "type": _kind(log),
        "range": [_logged(end, log) for end in plot.y_range],
        **_shown(plot.y_ticks),
    }


def _kind(log: bool) -> str:
    return "log" if log else "linear"


def _logged(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _shown(values: list[float]) -> dict[str, Any]:
    return {"tickvals": values, "ticktext": [tick_text(value) for value in values]}


def _y_title(chart: Chart) -> dict[str, Any]:
    return {
        "text": chart.y_title, "xref": "paper", "yref": "paper", "x": 0, "y": 1, "yshift": 16,
        "xanchor": "left", "yanchor": "middle", "showarrow": False,
        "font": {"size": 13, "color": LIGHT.muted},
    }  # fmt: skip


def _labels(plot: Plot) -> list[dict[str, Any]]:
    return [
        {
            "text": f"<b>{label.text}</b>" if label.strong else label.text,
            "x": _logged(label.x, plot.chart.log_x),
            "y": _logged(label.y, plot.chart.log_y),
            "xshift": label.dx,
            "yshift": -label.dy,
            "xanchor": _ANCHORS[label.anchor],
            "yanchor": "middle",
            "showarrow": False,
            "font": {"size": 12, "color": label.hue.light_text if label.hue else LIGHT.text},
        }
        for label in plot.labels()
    ]
