"""Small charts side by side: the same rows, measured in several ways, each on its own scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from widgets.common.chart.chart import Titled, interval
from widgets.common.chart.live import Drawing, title_lines
from widgets.common.chart.static import tags
from widgets.common.stable import verbatim
from widgets.common.theme import BASELINE, CURVES, LIGHT, template

__all__ = ["Panel", "Panels", "panel_drawing", "panel_picture"]

_WIDTH, _LEFT, _TOP, _ROW, _GAP = 960, 120, 96, 26, 28
_FULL = 0.72  # of a panel's width, that the longest bar takes; its number stands behind it


@dataclass(frozen=True)
class Panel:
    """One way to measure.

    Args:
        name: what it is, with its unit.
        values: of each row.
        reference: a line that all are compared with, and its name.
        form: how a value is written.
    """

    name: str
    values: Sequence[float]
    reference: tuple[float, str]
    form: str = ".2f"

    @property
    def most(self) -> float:
        return max([*(interval(value)[1] for value in self.values), self.reference[0]]) or 1.0

    def text(self, row: int) -> tuple[float, str]:
        """A row's number, and behind what it stands: its whisker, and the line if that is near."""
        high, at = interval(self.values[row])[1], self.reference[0]
        near = 0 <= at - high < 0.25 * self.most
        return (at if near else high), verbatim(f"{self.values[row]:{self.form}}")


@dataclass(frozen=True)
class Panels(Titled):
    """Rows and what is measured of them; one row is marked."""

    rows: Sequence[str]
    panels: tuple[Panel, ...]
    marked: str

    @property
    def about(self) -> str:
        return ", ".join(panel.name for panel in self.panels)

    @property
    def colours(self) -> list[str]:
        return [CURVES[0].light if row == self.marked else BASELINE.light for row in self.rows]


def panel_drawing(panels: Panels) -> Drawing:
    """For plotly: bars that lie, in as many columns as there are panels."""
    traces: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    axes: dict[str, Any] = {}
    share, names = 1 / len(panels.panels), list(panels.rows)
    for i, panel in enumerate(panels.panels):
        number = "" if i == 0 else str(i + 1)
        low, high = zip(*map(interval, panel.values), strict=True)
        values = [float(value) for value in panel.values]
        traces.append({
            "type": "bar", "name": panel.name, "orientation": "h", "y": names, "x": values,
            "xaxis": f"x{number}", "yaxis": "y", "marker": {"color": panels.colours},
            "error_x": {"type": "data", "symmetric": False, "color": LIGHT.text, "width": 3,
                        "thickness": 2, "visible": low != high,
                        "array": [h - v for h, v in zip(high, values, strict=True)],
                        "arrayminus": [v - b for v, b in zip(values, low, strict=True)]},
        })  # fmt: skip
        at, name = panel.reference
        shapes.append({
            "type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "xref": f"x{number}",
            "yref": "paper", "line": {"dash": "dot", "width": 2, "color": LIGHT.muted},
        })  # fmt: skip
        for text, x, y, ref, side in (
            (panel.name, i * share, 28, "paper", "left"),
            (name, at, 6, f"x{number}", "center" if at else "left"),
        ):
            annotations.append({
                "text": text, "x": x, "y": 1, "yshift": y, "xref": ref, "yref": "paper",
                "xanchor": side, "yanchor": "bottom", "showarrow": False,
                "font": {"size": 13, "color": LIGHT.muted},
            })  # fmt: skip
        for row, label in enumerate(names):
            behind, text = panel.text(row)
            annotations.append({
                "text": text, "x": behind, "y": label, "xshift": 6, "xref": f"x{number}",
                "yref": "y", "xanchor": "left", "showarrow": False,
                "font": {"size": 12, "color": LIGHT.text},
            })  # fmt: skip
        axes[f"xaxis{number}"] = {
            "domain": [i * share, (i + 1) * share - 0.03], "showticklabels": False,
            "range": [min(0, *values), panel.most / _FULL], "anchor": "y", "fixedrange": True,
        }  # fmt: skip
    layout = {
        "template": template().to_plotly_json(),
        "title": {"text": title_lines(panels.headline)},
        "height": _TOP + _ROW * len(names) + 40,
        "margin": {"l": _LEFT, "r": 24, "t": _TOP + 24, "b": 16},
        "annotations": annotations,
        "shapes": shapes,
        **axes,
        "yaxis": {"autorange": "reversed", "showgrid": False, "fixedrange": True},
    }
    return {"data": traces, "layout": layout}


def panel_picture(panels: Panels, label: str) -> str:
    """The same in SVG, on whole pixels."""
    width = (_WIDTH - _LEFT - 24) // len(panels.panels) - _GAP
    height = _TOP + _ROW * len(panels.rows) + 24
    parts = [
        f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="{LIGHT.page}" '
        f'stroke="{LIGHT.line}"/>',
        _text(20, 32, panels.headline, 18, 'font-weight="650"'),
    ]
    for k, row in enumerate(panels.rows):
        parts.append(_text(_LEFT - 10, _TOP + _ROW * k + 17, row, 13, 'text-anchor="end"'))
    for i, panel in enumerate(panels.panels):
        left = _LEFT + i * (width + _GAP)
        scale = _FULL * width / panel.most
        at = round(left + scale * panel.reference[0])
        parts.append(_text(left, _TOP - 32, panel.name, 13, f'fill="{LIGHT.muted}"'))
        side = "middle" if panel.reference[0] else "start"
        look = f'fill="{LIGHT.muted}" text-anchor="{side}"'
        parts.append(_text(at, _TOP - 10, panel.reference[1], 12, look))
        parts.append(
            f'<path d="M{at} {_TOP - 4}V{height - 20}" stroke="{LIGHT.muted}" stroke-width="2" '
            'stroke-dasharray="2 4"/>'
        )
        for k, value in enumerate(panel.values):
            low, high = (round(left + scale * end) for end in interval(value))
            end, y = round(left + scale * value), _TOP + _ROW * k
            parts.append(
                f'<rect x="{min(left, end)}" y="{y + 3}" width="{max(2, abs(end - left))}" '
                f'height="{_ROW - 8}" fill="{panels.colours[k]}"/>'
            )
            if low < high:
                parts.append(
                    f'<path d="M{low} {y + 12}H{high}M{low} {y + 8}v8M{high} {y + 8}v8" '
                    f'stroke="{LIGHT.text}" stroke-width="2"/>'
                )
            behind, text = panel.text(k)
            parts.append(_text(max(left, round(left + scale * behind)) + 6, y + 17, text, 12))
    parts += tags(label)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(label)} '
        f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif">\n<title>{escape(label)}</title>\n{body}\n</svg>'
    )


def _text(x: int, y: int, text: str, size: int, look: str = "") -> str:
    fill = "" if "fill" in look else f'fill="{LIGHT.text}" '
    return f'<text x="{x}" y="{y}" font-size="{size}" {fill}{look}>{escape(text)}</text>'
