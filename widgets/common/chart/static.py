"""A chart as SVG, on whole pixels: for GitHub, print and nbval."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from widgets.common.chart.chart import Chart, Columns, Curve, Stems, interval
from widgets.common.chart.plot import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Plot, tick_text
from widgets.common.drawing.page import Page
from widgets.common.strings import say, tagged
from widgets.common.theme import LIGHT

__all__ = ["DASHES", "picture"]

DASHES = ("", "8 5", "2 4", "8 4 2 4", "14 5")  # of lines that are not the baseline
_DOT, _CAP = 4, 4  # radius of a dot, half the width of a whisker's end


def picture(chart: Chart, label: str) -> str:
    """The chart as an SVG document; `label` is what a screen reader says."""
    plot = Plot(chart)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{LIGHT.page}" '
        f'stroke="{LIGHT.line}"/>',
        _text(20, 32, chart.headline, size=18, bold=True),
        _text(LEFT, TOP - 10, chart.y_title, fill=LIGHT.muted),
        _text((LEFT + WIDTH) / 2, HEIGHT - 16, chart.x_title, "middle", fill=LIGHT.muted),
        *_axes(plot),
        *_series(plot),
        *_levels(plot),
        *_note(plot),
        *_labels(plot),
        *tags(label),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(label)} '
        f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif">\n<title>{escape(label)}</title>\n{body}\n</svg>'
    )


def tags(label: str) -> list[str]:
    """Where the numbers come from, in the corner under the title's end."""
    page, names = Page(dark=False), tagged(label)
    x = WIDTH - 10 - sum(28 + 7 * len(say(f"tag.{name}")) for name in names)
    for name in names:
        x += page.tag(x, TOP - 30, name) + 14
    return page.parts


def _axes(plot: Plot) -> list[str]:
    parts = []
    for value in plot.y_ticks:
        y = round(plot.y(value))
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - plot.right}" stroke="{LIGHT.line}"/>')
        parts.append(_text(LEFT - 8, y + 4, tick_text(value), "end", 12, fill=LIGHT.muted))
    below = HEIGHT - BOTTOM + 18
    if plot.columns:
        for i, text in enumerate(plot.columns[0].labels):
            parts.append(_text(plot.x(i + 0.5), below, text, "middle", 12))
    else:
        for value in plot.x_ticks:
            at = plot.x(value)
            parts.append(_text(at, below, tick_text(value), "middle", 12, fill=LIGHT.muted))
    return parts


def _series(plot: Plot) -> list[str]:
    parts, dashes, key = [], iter(DASHES), LEFT
    key += 10 + round(6.9 * len(plot.chart.y_title))
    for series, hue in zip(plot.chart.series, plot.chart.hues, strict=True):
        dash = "" if series.baseline else next(dashes)
        colour = hue.light
        if isinstance(series, Columns):
            parts += _columns(plot, series, colour)
            if len(plot.columns) > 1:
                parts.append(f'<rect x="{key}" y="64" width="12" height="12" fill="{colour}"/>')
                parts.append(_text(key + 18, 74, series.name, size=12, fill=LIGHT.muted))
                key += 40 + 7 * len(series.name)
        elif isinstance(series, Stems):
            floor = round(plot.y(plot.y_range[0]))
            path = "".join(f"M{x} {floor}V{y}" for x, y in _points(plot, series))
            parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="2"/>')
        else:
            parts += _curve(plot, series, colour, dash)
    return parts


def _points(plot: Plot, series: Curve | Stems) -> list[tuple[int, int]]:
    return [(round(plot.x(x)), round(plot.y(y))) for x, y in zip(series.x, series.y, strict=True)]


def _curve(plot: Plot, series: Curve, colour: str, dash: str) -> list[str]:
    points = _points(plot, series)
    parts = []
    if series.filled and points:
        floor = round(plot.y(max(0.0, plot.y_range[0])))
        outline = "L".join(f"{x} {y}" for x, y in points)
        parts.append(
            f'<path d="M{points[0][0]} {floor}L{outline}L{points[-1][0]} {floor}Z" '
            f'fill="{colour}" fill-opacity="0.25"/>'
        )
    joined = " ".join(f"{x},{y}" for x, y in points)
    parts.append(
        f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="3" '
        f'stroke-dasharray="{dash}"/>'
    )
    for (x, _), y in zip(points, series.y, strict=True):
        parts += _whisker(plot, x, y, colour)
    for i in series.dots:
        x, y = points[i]
        parts.append(f'<circle cx="{x}" cy="{y}" r="{_DOT + 2 * series.dot}" fill="{colour}"/>')
    return parts


def _columns(plot: Plot, series: Columns, colour: str) -> list[str]:
    base, slot = round(plot.y(max(0.0, plot.y_range[0]))), 0.8 / len(plot.columns)
    first, parts = 0.1 + plot.columns.index(series) * slot, []
    for i, value in enumerate(series.y):
        left, right = round(plot.x(i + first)), round(plot.x(i + first + slot))
        top = round(plot.y(value))
        parts.append(
            f'<rect x="{left}" y="{top}" width="{max(1, right - left)}" '
            f'height="{max(0, base - top)}" fill="{colour}"/>'
        )
        parts += _whisker(plot, (left + right) // 2, value, LIGHT.text)
    return parts


def _whisker(plot: Plot, x: int, value: float, colour: str) -> list[str]:
    low, high = interval(value)
    if low == high:
        return []
    bottom, top = round(plot.y(low)), round(plot.y(high))
    ends = "".join(f"M{x - _CAP} {y}H{x + _CAP}" for y in (bottom, top))
    return [f'<path d="M{x} {bottom}V{top}{ends}" stroke="{colour}" stroke-width="2"/>']


def _levels(plot: Plot) -> list[str]:
    return [
        f'<path d="M{LEFT} {round(plot.y(level.y))}H{WIDTH - plot.right}" stroke="{LIGHT.muted}" '
        'stroke-width="2" stroke-dasharray="2 4"/>'
        for level in plot.chart.levels
    ]


def _note(plot: Plot) -> list[str]:
    if not plot.chart.note:
        return []
    x, y = round(plot.x(plot.chart.note[0])), round(plot.y(plot.chart.note[1]))
    return [f'<circle cx="{x}" cy="{y}" r="8" fill="none" stroke="{LIGHT.text}" stroke-width="2"/>']


def _labels(plot: Plot) -> list[str]:
    return [
        _text(
            plot.x(label.x) + label.dx,
            plot.y(label.y) + label.dy + 4,
            label.text,
            label.anchor,
            12,
            bold=label.strong,
            fill=label.hue.light_text if label.hue else LIGHT.text,
            halo=True,
        )
        for label in plot.labels()
    ]


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 13, bold: bool = False,
    fill: str = LIGHT.text, halo: bool = False,
) -> str:  # fmt: skip
    look = ' font-weight="650"' if bold else ""
    if halo:
        look += f' stroke="{LIGHT.page}" stroke-width="4" paint-order="stroke"'
    return (
        f'<text x="{round(x)}" y="{round(y)}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{fill}"{look}>{escape(text)}</text>'
    )
