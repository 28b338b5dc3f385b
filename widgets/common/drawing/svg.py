"""Static pictures: one frame of a film as SVG, for GitHub, print, and wherever no kernel runs.

`picture(film, step)` looks like the player at that step. It is deterministic and all of its
coordinates are whole pixels, so that nbval can compare it byte for byte. `summary` is its line
of text; it gives computed and cited numbers only, since measured ones differ between machines.
`Pictured` puts both beside a widget's live view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from widgets.common.drawing.film import BLANK, Bars, Cell, Film, Grid, Heat, Lane, Lanes
from widgets.common.drawing.page import PAD, WIDTH, Page, shortened
from widgets.common.strings import say
from widgets.common.theme import DIVERGING, SEQUENTIAL, SERIES, STATES

__all__ = ["Pictured", "picture", "summary"]

HEAD = 130  # the column of lane labels
CELL, GAP, CHAR = 26, 4, 8  # a cell's height, the gap between cells, a monospaced character
DENSE = 96  # as in player.js: a longer lane shows small squares
SAMPLES = 64  # a heat map is drawn with at most this many rows and columns
SHADES = 16  # colours of a scale
_LEAST = 3  # characters that are still worth showing


def picture(film: Film, step: int, dark: bool = False) -> str:
    """The film at `step` as an SVG document."""
    if film.steps and not 0 <= step < film.steps:
        raise ValueError(f"step {step}: this film has steps 0 to {film.steps - 1}")
    page = Page(dark)
    page.text(PAD, 32, film.title, size=18, bold=True)
    page.y = 40
    page.paragraph(film.hint, muted=True)
    if film.steps == 0:
        page.paragraph(say("player.empty"))
    else:
        page.text(WIDTH - PAD, 32, _position(film, step, "player.short"), anchor="end", muted=True)
        for panel in film.panels:
            page.y += 12
            _DRAW[type(panel)](page, panel, step)
        _numbers(page, film, step)
        _legend(page, film)
        _caption(page, film.captions[step])
    return page.document(summary(film, step))


def summary(film: Film, step: int) -> str:
    """One line: the title, the step, and the numbers that are the same on every machine."""
    if film.steps == 0:
        return f"{film.title}: {say('player.empty')}"
    stable = [
        f"{number.label} = {number.at(step)}" for number in film.numbers if number.tag != "measured"
    ]
    line = "; ".join([f"{film.title}: {_position(film, step, 'player.position')}", *stable])
    return " ".join(line.split())


class Pictured:
    """Mixin for widgets: adds `picture()` and `summary()` to what a notebook stores.

    Stands before the widget class: `class Explorer(Pictured, ipywidgets.VBox)`.
    """

    def picture(self) -> str:
        raise NotImplementedError

    def summary(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        static = {"image/svg+xml": self.picture(), "text/plain": self.summary()}
        return {**data, **static}, metadata


def _position(film: Film, step: int, key: str) -> str:
    last = film.steps - 1 + film.first
    return say(key, unit=film.unit, step=step + film.first, steps=last)


def _room(cell: Cell) -> int:
    """Width in pixels of a cell, the same at every step."""
    return 30 + CHAR * max(1, cell.width)


def _panel_title(page: Page, title: str) -> None:
    if title:
        page.y += 16
        page.text(PAD, page.y, title, 13, muted=True)
        page.y += 8


def _lanes(page: Page, panel: Lanes, step: int) -> None:
    _panel_title(page, panel.title)
    left = PAD + HEAD
    has_cells = any(lane.cells for lane in panel.lanes)
    has_bars = any(lane.bars for lane in panel.lanes)
    right = WIDTH - PAD - (300 if has_cells and has_bars else 0)
    for lane in panel.lanes:
        if step < lane.start:
            continue
        note = lane.notes if isinstance(lane.notes, str) else lane.notes[step]
        page.text(PAD, page.y + 12, lane.label, 14, bold=True)
        page.text(PAD, page.y + 26, note, 11, muted=True)
        bottom = _flow(page, lane.cells, step, left, right) if lane.cells else page.y + CELL
        if lane.bars:
            start = right + 2 * GAP if has_cells else left
            _track(page, lane, step, start, WIDTH - PAD - start, panel.span)
        page.y = max(bottom, page.y + 30) + 10
    if has_bars and panel.span > 0:
        page.text(right + 2 * GAP if has_cells else left, page.y + 4, "0", 11, muted=True)
        page.text(WIDTH - PAD, page.y + 4, panel.end, 11, anchor="end", muted=True)
        page.y += 8


def _flow(page: Page, cells: Sequence[Cell], step: int, left: int, right: int) -> int:
    """Cells in wrapped lines; returns where they end."""
    dense = len(cells) > DENSE
    x, y, height, gap = left, page.y, (12 if dense else CELL), (2 if dense else GAP)
    if any(cell.detail for cell in cells) and not dense:
        height += 16
    for cell in cells:
        w = 10 if dense else _room(cell)
        lead = 20 if cell.arrow else 0
        if x + lead + w > right and x > left:
            x, y = left, y + height + gap
        now = cell.at(step)
        if now is not None:
            if lead:
                page.glyph(
                    x + 3, y + height // 2 - 5, "M0 5h11M7.5 2l3.5 3-3.5 3", page.surface.muted
                )
            if dense:
                tone = STATES[now.state].tone(page.dark)
                page.rect(x, y, w, height, tone.fill, 2, stroke=tone.line)
            else:
                text = shortened(now.text or "")
                page.cell(x + lead, y, w, height, now.state, text, cell.detail)
        x += lead + w + gap
    return y + height


def _track(page: Page, lane: Lane, step: int, x: int, room: int, span: float) -> None:
    page.rect(x, page.y + 3, room, 20, page.surface.soft, 6)
    for bar in lane.bars:
        if bar.step <= step and span > 0:
            start, end = round(room * bar.start / span), round(room * bar.end / span)
            colour = SERIES[bar.series].colour(page.dark)
            page.rect(x + start, page.y + 3, max(1, end - start), 20, colour)


def _grid(page: Page, panel: Grid, step: int) -> None:
    _panel_title(page, panel.title)
    count = len(panel.rows[0]) if panel.rows else 0
    left = PAD + (60 if panel.row_labels else 0)
    wanted = [30 + CHAR * max(1, width) for width in panel.widths]
    room = WIDTH - PAD - left - GAP * (count - 1)
    squeezed = sum(wanted) > room  # then texts are cut, or left out: state and glyph stay
    widths = [max(6, room // count)] * count if squeezed else wanted
    most = (widths[0] - 24) // CHAR if squeezed else panel.most
    height = max(6, min(CELL, widths[0])) if squeezed else CELL
    starts = [left + sum(widths[:c]) + GAP * c for c in range(count)]
    if panel.column_labels and most >= _LEAST:
        for x, w, label in zip(starts, widths, panel.column_labels, strict=True):
            page.text(x + w // 2, page.y + 12, label, 12, anchor="middle", muted=True)
        page.y += 18
    for r, row in enumerate(panel.rows):
        if panel.row_labels:
            y = page.y + height // 2 + 4
            page.text(left - 8, y, panel.row_labels[r], 11, anchor="end", muted=True)
        for x, w, cell in zip(starts, widths, row, strict=True):
            now = cell.at(step)
            if now is None:
                continue
            if squeezed and w < 14:
                page.rect(x, page.y, w, height, STATES[now.state].tone(page.dark).fill, 1)
            else:
                text = shortened(now.text or "", most) if most >= _LEAST else ""
                page.cell(x, page.y, w, height, now.state, text)
            if now.ghost:
                muted = SERIES["baseline"].colour(page.dark)
                page.rect(
                    x - 2, page.y - 2, w + 4, height + 4, "none", 8, stroke=muted, stroke_width="2"
                )
        page.y += height + GAP


def _heat(page: Page, panel: Heat, step: int) -> None:
    _panel_title(page, panel.title)
    rows, columns = min(panel.rows, SAMPLES), min(panel.columns, SAMPLES)
    left = PAD + (HEAD if panel.row_labels else 0)
    wide = max(2, min(20, (WIDTH - PAD - left) // columns, 420 // rows))
    tall = min(20, max(wide, 160 // rows))  # few rows of many columns
    inset = 1 if wide >= 6 else 0
    page.rect(left, page.y, columns * wide, rows * tall, page.surface.soft)
    field = panel.at(step)
    paths: dict[str, list[str]] = {}
    for r in range(rows):
        for c in range(columns):
            colour = _shade(panel, field, r, c, rows, columns, page.dark)
            if colour is not None:
                x, y, w, h = left + c * wide, page.y + r * tall, wide - inset, tall - inset
                paths.setdefault(colour, []).append(f"M{x} {y}h{w}v{h}h-{w}z")
    page.parts += [f'<path fill="{fill}" d="{"".join(d)}"/>' for fill, d in paths.items()]
    if panel.row_labels and tall >= 11:
        for r, label in enumerate(panel.row_labels[:rows]):
            y = page.y + r * tall + tall // 2 + 4
            page.text(left - 8, y, shortened(label), 11, anchor="end", muted=True)
    area = next((area for at, area in reversed(panel.marks) if at <= step), None)
    if area:
        across, down = columns * wide, rows * tall
        x = left + area.column * across // panel.columns
        y = page.y + area.row * down // panel.rows
        w = max(1, area.columns * across // panel.columns)
        h = max(1, area.rows * down // panel.rows)
        page.rect(x, y, w, h, "none", 3, stroke=page.surface.text, stroke_width="2")
    page.y += rows * tall + 6
    if panel.row_title or panel.column_title:
        page.text(left, page.y + 12, f"{panel.row_title} × {panel.column_title}", 11, muted=True)
        page.y += 18


def _shade(
    panel: Heat, field: bytes, r: int, c: int, rows: int, columns: int, dark: bool
) -> str | None:
    """Colour of the cell that stands for sample (r, c)."""
    byte = field[r * panel.rows // rows * panel.columns + c * panel.columns // columns]
    if byte == BLANK:
        return None
    if panel.states:
        state = panel.states[byte]
        return None if state == "free" else STATES[state].tone(dark).fill
    stops = (DIVERGING if panel.scale == "diverging" else SEQUENTIAL)[dark]
    x = round(byte / 254 * (SHADES - 1)) / (SHADES - 1) * (len(stops) - 1)
    k = min(int(x), len(stops) - 2)
    low, high = ([int(s[i : i + 2], 16) for i in (1, 3, 5)] for s in stops[k : k + 2])
    return "#" + "".join(
        f"{round(a + (x - k) * (b - a)):02x}" for a, b in zip(low, high, strict=True)
    )


def _bars(page: Page, panel: Bars, step: int) -> None:
    now = next((entry for entry in reversed(panel.history) if entry.step <= step), None)
    if now is None:
        return
    _panel_title(page, now.title)
    tall, wide, x = 100, 24, PAD
    base = page.y + tall + 16
    for g, (label, group) in enumerate(zip(now.labels, now.values, strict=True)):
        room = len(group) * (wide + GAP) + 20
        if g == now.chosen:
            page.rect(x - 6, page.y, room - 8, tall + 44, page.surface.soft, 6)
        for s, value in enumerate(group):
            height = min(tall, round(tall * value / panel.high))
            at = x + s * (wide + GAP)
            fill = SERIES[panel.series[s]].colour(page.dark)
            page.rect(at, base - max(1, height), wide, max(1, height), fill)
            number = f"{value:.2f}".removeprefix("0")
            page.text(at + wide // 2, base - height - 4, number, 10, anchor="middle", muted=True)
        middle = x + (room - 20) // 2
        page.text(middle, base + 18, shortened(label, 12), 12, anchor="middle", mono=True)
        x += room
    page.y = base + 30


_DRAW: dict[type, Callable[[Page, Any, int], None]] = {
    Lanes: _lanes,
    Grid: _grid,
    Heat: _heat,
    Bars: _bars,
}


def _numbers(page: Page, film: Film, step: int) -> None:
    x = PAD
    if film.numbers:
        page.y += 34
    for number in film.numbers:
        value, label = number.at(step), f"{number.label} · {say('tag.' + number.tag)}"
        room = max(13 * len(value), 7 * len(label)) + 30
        if x + room > WIDTH and x > PAD:
            x, page.y = PAD, page.y + 54
        page.text(x, page.y, value, 22, bold=True)
        page.text(x, page.y + 18, label, 12, muted=True)
        x += room
    page.y += 22 if film.numbers else 0


def _legend(page: Page, film: Film) -> None:
    x = PAD
    page.y += 14
    for name, label in [(n, STATES[n].label) for n in film.states] + [
        (n, SERIES[n].label) for n in film.series
    ]:
        room = 34 + 7 * len(label) + 16
        if x + room > WIDTH and x > PAD:
            x, page.y = PAD, page.y + 26
        if name in STATES:
            page.cell(x, page.y, 26, 20, name)
        else:
            page.rect(x, page.y + 4, 26, 12, SERIES[name].colour(page.dark), 3)
        page.text(x + 34, page.y + 15, label, 12, muted=True)
        x += room
    page.y += 26 if film.states or film.series else 0


def _caption(page: Page, text: str) -> None:
    top, bar = page.y + 8, len(page.parts)
    page.y = top + 2
    page.paragraph(text, x=PAD + 14)
    height = page.y - top + 10
    page.parts.insert(bar, "")  # the ground lies under the text
    marker, page.parts = page.parts, []
    page.rect(PAD, top, WIDTH - 2 * PAD, height, page.surface.soft)
    page.rect(PAD, top, 3, height, page.surface.accent)
    marker[bar] = "\n".join(page.parts)
    page.parts = marker
    page.y = top + height
