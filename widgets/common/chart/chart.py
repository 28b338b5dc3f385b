"""Charts: one description, drawn twice, as a live plotly figure and as a static picture.

A `Chart` says what is shown; `figure` hands it to plotly for hover and zoom, `picture` draws it as
SVG with whole pixels for GitHub, print and nbval. `ChartExplorer` puts controls over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import ipywidgets
import plotly.graph_objects as go

from widgets.common.chart.figure import Figure
from widgets.common.controls import Explorer
from widgets.common.stable import verbatim
from widgets.common.theme import LIGHT, SERIES, STATES, template

__all__ = [
    "Chart",
    "ChartExplorer",
    "Columns",
    "Curve",
    "Level",
    "figure",
    "picture",
]

COLOURS = tuple(
    STATES[name].light.line for name in ("computed", "rejected", "accepted", "bonus", "resampled")
)
_TEMPLATE = template(dark=False)
BASELINE = SERIES["baseline"].light
_LOG_TICKS = 3  # few enough for powers of ten alone
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Curve:
    """A line through points. The baseline is drawn grey; others differ in colour and dashes.

    Args:
        dot: one stands at its end.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    baseline: bool = False
    dot: bool = False


@dataclass(frozen=True)
class Columns:
    """A bar for each label."""

    name: str
    labels: Sequence[str]
    y: Sequence[float]
    baseline: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name: a limit that curves meet."""

    name: str
    y: float


@dataclass(frozen=True)
class Chart:
    """What is shown. The title says the point; axis titles carry the units.

    Args:
        note: a marked point (x, y, text), where one is to be looked at.

    Raises:
        ValueError: nothing to draw, more series than colours, or a value that an axis cannot show.
    """

    title: str
    x_title: str
    y_title: str
    series: tuple[Curve | Columns, ...]
    levels: tuple[Level, ...] = ()
    note: tuple[float, float, str] | None = None
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        if not any(len(series.y) for series in self.series):
            raise ValueError(f"{self.title!r} has nothing to draw")
        if sum(not series.baseline for series in self.series) > len(COLOURS):
            raise ValueError(f"{self.title!r}: at most {len(COLOURS)} series beside the baseline")
        for values, log in ((self._xs(), self.log_x), (self._ys(), self.log_y)):
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{self.title!r} has values that are not finite")
            if log and min(values) <= 0:
                raise ValueError(f"{self.title!r}: a logarithmic axis shows values above 0 only")

    def _xs(self) -> list[float]:
        marked = [self.note[0]] if self.note else []
        return [x for s in self.series if isinstance(s, Curve) for x in s.x] + marked

    def _ys(self) -> list[float]:
        marked = [self.note[1]] if self.note else []
        return [y for s in self.series for y in s.y] + [v.y for v in self.levels] + marked

    @property
    def x_range(self) -> tuple[float, float]:
        """Of the curves; bars stand at 0.5, 1.5, ... of their number."""
        xs = [x for s in self.series if isinstance(s, Curve) for x in s.x]
        bars = [len(s.labels) for s in self.series if isinstance(s, Columns)]
        return (min(xs), max(xs)) if xs else (0.0, float(max(bars)))

    @property
    def y_range(self) -> tuple[float, float]:
        low, high = min(self._ys()), max(self._ys())
        if self.log_y:
            return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.2))
        return min(0.0, low), 1.08 * high or 1.0


def figure(chart: Chart) -> go.Figure:
    """The chart for plotly. Backgrounds are left clear, so that it stands in either theme."""
    fig = go.Figure(layout={"template": _TEMPLATE})
    colours = iter(zip(COLOURS, DASHES, strict=True))
    for series in chart.series:
        colour, dash = (BASELINE, "solid") if series.baseline else next(colours)
        if isinstance(series, Columns):
            fig.add_bar(name=series.name, x=series.labels, y=series.y, marker_color=colour)
        else:
            line = {"color": colour, "dash": dash, "width": 2.5}
            sizes = [0] * (len(series.x) - 1) + [11 * series.dot]
            fig.add_scatter(
                name=series.name, x=series.x, y=series.y, line=line,
                mode="lines+markers" if series.dot else "lines", marker={"size": sizes},
            )  # fmt: skip
    for level in chart.levels:
        fig.add_scatter(
            x=chart.x_range, y=[level.y] * 2, mode="lines+text", text=[level.name, ""],
            textposition="top right", line={"dash": "dot", "width": 1.5, "color": LIGHT.muted},
            showlegend=False, name=level.name,
        )  # fmt: skip
    if chart.note:
        x, y, text = chart.note
        fig.add_scatter(
            x=[x], y=[y], mode="markers+text", text=[text], textposition="top left",
            marker={"size": 11, "symbol": "x", "color": COLOURS[1]}, showlegend=False,
        )  # fmt: skip
    bottom, top = chart.y_range
    fig.update_layout(
        title_text=chart.title, height=400, autosize=True, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", bargap=0.25,
        showlegend=len(chart.series) > 1,
    )  # fmt: skip
    fig.update_xaxes(
        title_text=chart.x_title, type="log" if chart.log_x else None,
        nticks=_LOG_TICKS if chart.log_x else 0,
    )  # fmt: skip
    fig.update_yaxes(
        title_text=chart.y_title, type="log" if chart.log_y else "linear",
        range=[math.log10(bottom), math.log10(top)] if chart.log_y else [bottom, top],
        nticks=_LOG_TICKS if chart.log_y else 0,
    )  # fmt: skip
    return fig


class ChartExplorer(Explorer):
    """A subclass gives `chart()` and `summary()`, which read the controls."""

    def chart(self) -> Chart:
        raise NotImplementedError

    def picture(self) -> str:
        return picture(self.chart(), self.summary())

    def show(self) -> ipywidgets.Widget:
        self._drawn = figure(self.chart())
        self.view = Figure(self._drawn)
        self.view._config = {"responsive": True, "displaylogo": False}  # else 700 pixels wide
        return self.view

    def refresh(self) -> None:
        old, new = self._drawn, figure(self.chart())
        with self.view.batch_update():
            for trace, before, after in zip(self.view.data, old.data, new.data, strict=True):
                trace.update(_changes(before, after))
            self.view.layout.update(_changes(old.layout, new.layout))
        self._drawn = new
        self._keep()

    def _keep(self) -> None:
        """What a page reload shows: else the first state, or half of the last one.

        plotly takes what a browser reports back for defaults, and drops it from its own data.
        """
        uids = [trace.uid for trace in self.view.data]
        self.view._widget_data = [
            trace.to_plotly_json() | {"uid": uid}
            for trace, uid in zip(self._drawn.data, uids, strict=True)
        ]
        self.view._widget_layout = self._drawn.layout.to_plotly_json()


def _changes(before: Any, after: Any) -> dict[str, Any]:
    """What plotly has to redraw: updating all of it takes several times as long."""
    old, new = before.to_plotly_json(), after.to_plotly_json()
    return {key: value for key, value in new.items() if old.get(key) != value}


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 420, 84, 84, 64


def picture(chart: Chart, label: str) -> str:
    """The chart as an SVG document; `label` is what a screen reader says."""
    plot = _Plot(chart)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{LIGHT.page}" '
        f'stroke="{LIGHT.line}"/>',
        _text(20, 32, chart.title, size=18, bold=True),
        _text(LEFT, TOP - 8, chart.y_title, muted=True),
        _text((LEFT + WIDTH) // 2, HEIGHT - 16, chart.x_title, "middle", muted=True),
        *plot.axes(),
        *plot.marks(),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(label)} '
        f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif">\n<title>{escape(label)}</title>\n{body}\n</svg>'
    )


def _text(
    x: int, y: int, text: str, anchor: str = "start", size: int = 13, bold: bool = False,
    muted: bool = False,
) -> str:  # fmt: skip
    weight = ' font-weight="650"' if bold else ""
    fill = LIGHT.muted if muted else LIGHT.text
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{weight}>'
        f"{escape(text)}</text>"
    )


class _Plot:
    """From data to pixels."""

    def __init__(self, chart: Chart):
        self.chart = chart
        self.labels = next((s.labels for s in chart.series if isinstance(s, Columns)), ())
        self.x_range, self.y_range = chart.x_range, chart.y_range

    def x(self, value: float) -> int:
        return LEFT + round(_part(value, *self.x_range, self.chart.log_x) * (WIDTH - LEFT - 24))

    def y(self, value: float) -> int:
        room = HEIGHT - TOP - BOTTOM
        return HEIGHT - BOTTOM - round(_part(value, *self.y_range, self.chart.log_y) * room)

    def axes(self) -> list[str]:
        parts = []
        for value in _ticks(*self.y_range, self.chart.log_y):
            y = self.y(value)
            parts.append(f'<path d="M{LEFT} {y}H{WIDTH - 24}" stroke="{LIGHT.line}"/>')
            parts.append(_text(LEFT - 8, y + 4, verbatim(f"{value:,.6g}"), "end", 12, muted=True))
        if self.labels:
            for i, text in enumerate(self.labels):
                parts.append(_text(self.x(i + 0.5), HEIGHT - BOTTOM + 18, text, "middle", 12))
        else:
            for value in _ticks(*self.x_range, self.chart.log_x):
                at = self.x(value)
                parts.append(
                    _text(
                        at,
                        HEIGHT - BOTTOM + 18,
                        verbatim(f"{value:,.6g}"),
                        "middle",
                        12,
                        muted=True,
                    )
                )
        return parts

    def marks(self) -> list[str]:
        parts, key = [], 20
        colours = iter(zip(COLOURS, ("", "8 5", "2 4", "8 4 2 4", "14 5"), strict=True))
        bars = [s for s in self.chart.series if isinstance(s, Columns)]
        for series in self.chart.series:
            colour, dash = (BASELINE, "") if series.baseline else next(colours)
            if isinstance(series, Columns):
                parts += self._columns(series, bars.index(series), len(bars), colour)
            else:
                points = " ".join(
                    f"{self.x(x)},{self.y(y)}" for x, y in zip(series.x, series.y, strict=True)
                )
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="3" '
                    f'stroke-dasharray="{dash}"/>'
                )
                if series.dot:
                    x, y = self.x(series.x[-1]), self.y(series.y[-1])
                    parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="{colour}"/>')
            if len(self.chart.series) > 1:
                parts.append(f'<path d="M{key} 52h28" stroke="{colour}" stroke-width="4" '
                             f'stroke-dasharray="{dash}"/>')  # fmt: skip
                parts.append(_text(key + 36, 57, series.name, size=12, muted=True))
                key += 60 + 7 * len(series.name)
        for level in self.chart.levels:
            y = self.y(level.y)
            parts.append(f'<path d="M{LEFT} {y}H{WIDTH - 24}" stroke="{LIGHT.muted}" '
                         'stroke-width="2" stroke-dasharray="2 4"/>')  # fmt: skip
            parts.append(_text(LEFT + 8, y - 6, level.name, size=12))
        if self.chart.note:
            x, y = self.x(self.chart.note[0]), self.y(self.chart.note[1])
            parts.append(f'<path d="M{x - 6} {y - 6}l12 12m0-12l-12 12" stroke="{COLOURS[1]}" '
                         'stroke-width="3"/>')  # fmt: skip
            parts.append(_text(x - 12, y - 14, self.chart.note[2], "end", 12, bold=True))
        return parts

    def _columns(self, series: Columns, index: int, count: int, colour: str) -> list[str]:
        base, slot = self.y(max(0.0, self.y_range[0])), 0.8 / count
        parts = []
        for i, value in enumerate(series.y):
            left, right = self.x(i + 0.1 + index * slot), self.x(i + 0.1 + (index + 1) * slot)
            top = self.y(value)
            parts.append(f'<rect x="{left}" y="{top}" width="{max(1, right - left)}" '
                         f'height="{max(0, base - top)}" fill="{colour}"/>')  # fmt: skip
        return parts


def _part(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers between low and high: decades, or multiples of 1, 2 or 5.

    >>> _ticks(0, 47, False)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    >>> _ticks(1, 1000, True)
    [1.0, 10.0, 100.0, 1000.0]
    """
    if log:
        return [
            10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        ]
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
