"""Static pictures: one frame of a film as SVG, for GitHub, print, and wherever no kernel runs.

`picture(film, step)` looks like the player at that step. It is deterministic and all of its
coordinates are whole pixels, so that nbval can compare it byte for byte. `summary` is its line
of text; it gives computed and cited numbers only, since measured ones differ between machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from widgets.common.drawing.film import (
    BLANK,
    FULL,
    Bars,
    Cell,
    Film,
    Grid,
    Heat,
    Lane,
    Lanes,
    width,
)
from widgets.common.drawing.page import PAD, WIDTH, Page, shortened
from widgets.common.strings import say
from widgets.common.theme import DIVERGING, SEQUENTIAL, SERIES, STATES

__all__ = ["picture", "summary"]

GUTTER = 16  # between panels that stand side by side
HEAD = 130  # the column of lane labels
CELL, GAP, CHAR = 26, 4, 8  # a cell's height, the gap between cells, a monospaced character
DENSE = 96  # as in player.js: a longer lane shows small squares
SAMPLES = 64  # a heat map is drawn with at most this many rows and columns
SHADES = 16  # colours of a scale
FAINT = 0.04  # as in player.js: a weight below it has no arc
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
        page.text(
            page.width - PAD, 32, _position(film, step, "player.short"), anchor="end", muted=True
        )
        _caption(page, film.captions[step])
        _panels(page, film, step)
    return page.document(summary(film, step))


def _panels(page: Page, film: Film, step: int) -> None:
    """Each panel, and the numbers last, where the page of twelve columns first has room for it."""
    tops = [page.y] * FULL

    @contextmanager
    def placed(share: int) -> Iterator[Page]:
        start = min(range(FULL - share + 1), key=lambda c: max(tops[c : c + share]))
        top, room = max(tops[start : start + share]), WIDTH - 2 * PAD
        part = Page(page.dark, room * share // FULL + 2 * PAD - (GUTTER if share < FULL else 0))
        yield part
        page.put(part, room * start // FULL, top)
        tops[start : start + share] = [top + part.y] * share

    for panel, names in zip(film.panels, film.legends, strict=True):
        with placed(panel.share) as part:
            part.y = 12
            if not isinstance(panel, Bars):
                _head(part, panel.title, names)
            _DRAW[type(panel)](part, panel, step)
    with placed(film.aside) as part:
        _numbers(part, film, step)
    page.y = max(tops)
    for panel in film.panels:
        if isinstance(panel, Heat) and panel.arcs:
            _arcs(page, panel, step)


def summary(film: Film, step: int) -> str:
    """One line: the title, the step, and the numbers that are the same on every machine."""
    if film.steps == 0:
        return f"{film.title}: {say('player.empty')}"
    stable = [
        f"{number.label} = {number.at(step)}" for number in film.numbers if number.tag != "measured"
    ]
    line = "; ".join([f"{film.title}: {_position(film, step, 'player.position')}", *stable])
    return " ".join(line.split())


def _position(film: Film, step: int, key: str) -> str:
    last = film.steps - 1 + film.first
    return say(key, unit=film.unit, step=step + film.first, steps=last)


def _room(cell: Cell) -> int:
    """Width in pixels of a cell, the same at every step."""
    return 30 + CHAR * max(1, cell.width)


def _head(page: Page, title: str, names: Sequence[str] = ()) -> None:
    """A panel's title, and beside it what its states and series mean."""
    page.text(PAD, page.y + 15, title, 13, muted=True)
    x = PAD + (7 * len(title) + 16 if title else 0)
    for name in names:
        label = (STATES[name] if name in STATES else SERIES[name]).label
        room = 34 + 7 * len(label) + 16
        if x + room > page.width and x > PAD:
            x, page.y = PAD, page.y + 24
        if name in STATES:
            page.cell(x, page.y, 26, 20, name)
        else:
            page.rect(x, page.y + 4, 26, 12, SERIES[name].colour(page.dark), 3)
        page.text(x + 34, page.y + 15, label, 12, muted=True)
        x += room
    page.y += 28 if title or names else 0


def _lanes(page: Page, panel: Lanes, step: int) -> None:
    left = PAD + HEAD
    has_cells = any(lane.cells for lane in panel.lanes)
    has_bars = any(lane.bars for lane in panel.lanes)
    right = page.width - PAD - (300 if has_cells and has_bars else 0)
    if any(lane.prose for lane in panel.lanes):
        page.y += 14  # for arcs
    for lane in panel.lanes[slice(*panel.shown(step))]:
        if step < lane.start:
            continue
        note = lane.notes if isinstance(lane.notes, str) else lane.notes[step]
        page.text(PAD, page.y + 12, lane.label, 14, bold=True)
        page.text(PAD, page.y + 26, note, 11, muted=True)
        draw = _prose if lane.prose else _flow
        if lane.line:
            page.rect(left, page.y + 19, right - left, 3, SERIES["baseline"].colour(page.dark))
        bottom = draw(page, lane.cells, step, left, right) if lane.cells else page.y + CELL
        if lane.bars:
            start = right + 2 * GAP if has_cells else left
            _track(page, lane, step, start, page.width - PAD - start, panel.span)
        page.y = max(bottom, page.y + 30) + 10
    if has_bars and panel.span > 0:
        page.text(right + 2 * GAP if has_cells else left, page.y + 4, "0", 11, muted=True)
        page.text(page.width - PAD, page.y + 4, panel.end, 11, anchor="end", muted=True)
        page.y += 8


def _prose(page: Page, cells: Sequence[Cell], step: int, left: int, right: int) -> int:
    """Cells as one running text; returns where it ends."""
    x, y = left, page.y
    for cell in cells:
        now = cell.at(step)
        if now is None or now.state == "free":
            continue
        w = CHAR * width(now.text or "")
        if x + w > right and x > left:
            x, y = left, y + CELL
        tone = STATES[now.state].tone(page.dark)
        if cell.link:
            page.places[cell.link] = (x + w // 2, y)
        page.rect(x, y, w, CELL - 2, tone.fill)
        page.rect(x, y + CELL - 4, w, 2, tone.line)
        text = now.text or ""
        lead = len(text) - len(text.lstrip(" "))  # SVG drops white space in front
        page.text(x + CHAR * lead, y + 16, text[lead:], 13, tone.ink, mono=True)
        x += w
    return y + CELL


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
    count = len(panel.rows[0]) if panel.rows else 0
    left = PAD + (60 if panel.row_labels else 0)
    wanted = [30 + CHAR * max(1, characters) for characters in panel.widths]
    room = page.width - PAD - left - GAP * (count - 1)
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
    rows, columns = min(panel.rows, SAMPLES), min(panel.columns, SAMPLES)
    tall = max(2, min(20, 300 // rows))
    named = panel.row_labels and tall >= 11
    left = PAD + (min(HEAD, 7 * max(map(width, panel.row_labels)) + 14) if named else 0)
    wide = max(2, min(20, (page.width - PAD - left) // columns, 3 * tall))
    inset = 1 if wide >= 6 else 0
    if panel.column_labels and wide >= 11:
        labels = [shortened(label) for label in panel.column_labels[:columns]]
        page.y += 7 * max(map(width, labels)) + 8
        for c, label in enumerate(labels):
            page.text(
                left + c * wide + wide // 2 + 4, page.y - 6, label, 11, muted=True, upright=True
            )
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
    if named:
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
    axes = " × ".join(filter(None, (panel.row_title, panel.column_title)))
    page.text(left, page.y + 12, axes, 11, muted=True)
    if not panel.states:
        _scale(page, panel, left + 6 * len(axes) + 30)
    page.y += 18 if axes or not panel.states else 0


def _scale(page: Page, panel: Heat, x: int) -> None:
    """The colours from the lowest value to the highest."""
    page.text(x - 6, page.y + 12, f"{panel.low:g}", 11, anchor="end", muted=True)
    wide = max(2, min(8, (page.width - PAD - x - 24) // SHADES))
    for shade in range(SHADES):
        colour = _tint(panel, round(254 * shade / (SHADES - 1)), page.dark)
        page.rect(x + wide * shade, page.y + 3, wide, 10, colour)
    page.text(x + wide * SHADES + 6, page.y + 12, f"{panel.high:g}", 11, muted=True)


def _arcs(page: Page, panel: Heat, step: int) -> None:
    """The outlined row over the text, from its cell to those it looks at."""
    area = next((area for at, area in reversed(panel.marks) if at <= step), None)
    if area:
        start = area.row * panel.columns
        row = panel.at(step)[start : start + panel.columns]
        for link, byte in zip(panel.row_links, row, strict=True):
            if FAINT <= byte / 254 <= 1:
                page.arc(panel.row_links[area.row], link, 1 + round(5 * byte / 254))


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
    return _tint(panel, byte, dark)


def _tint(panel: Heat, byte: int, dark: bool) -> str:
    """Colour of a value on the panel's scale."""
    stops = (DIVERGING if panel.scale == "diverging" else SEQUENTIAL)[dark]
    x = round(byte / 254 * (SHADES - 1)) / (SHADES - 1) * (len(stops) - 1)
    k = min(int(x), len(stops) - 2)
    low, high = ([int(s[i : i + 2], 16) for i in (1, 3, 5)] for s in stops[k : k + 2])
    return "#" + "".join(
        f"{round(a + (x - k) * (b - a)):02x}" for a, b in zip(low, high, strict=True)
    )


def _bars(page: Page, panel: Bars, step: int) -> None:
    """A table: a column for each group, a row for each series, in every cell a bar and number."""
    now = next((entry for entry in reversed(panel.history) if entry.step <= step), None)
    if now is None:
        return
    _head(page, now.title)
    left, tall = PAD + HEAD, 22
    columns = max(len(entry.labels) for entry in panel.history)
    room = (page.width - PAD - left) // max(1, columns)
    for s, name in enumerate(panel.series):
        y = page.y + 22 + tall * s
        page.text(left - 8, y + 15, SERIES[name].label, 12, anchor="end", muted=True)
    for g, (label, group) in enumerate(zip(now.labels, now.values, strict=True)):
        x = left + g * room
        if g == now.chosen:
            page.rect(x - 4, page.y, room - 4, 26 + tall * len(group), page.surface.soft, 6)
        page.text(x, page.y + 15, shortened(label, room // CHAR - 1), 13, mono=True)
        for s, value in enumerate(group):
            y = page.y + 22 + tall * s
            long = max(1, min(room - 50, round((room - 50) * value / panel.high)))
            page.rect(x, y + 3, long, 15, SERIES[panel.series[s]].colour(page.dark))
            number = f"{value:.2f}".removeprefix("0")
            page.text(x + long + 5, y + 15, number, 12, muted=True)
    page.y += 30 + tall * len(panel.series)


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
        value, label = number.at(step), number.label
        told = round(6.4 * len(label)) + 12
        room = max(13 * len(value), told + 14 + 7 * len(say(f"tag.{number.tag}"))) + 30
        if x + room > page.width and x > PAD:
            x, page.y = PAD, page.y + 54
        page.text(x, page.y, value, 22, bold=True)
        page.text(x, page.y + 18, label, 12, muted=True)
        page.tag(x + told, page.y + 18, number.tag)
        x += room
    page.y += 22 if film.numbers else 0


def _caption(page: Page, text: str) -> None:
    top, bar = page.y + 8, len(page.parts)
    page.y = top + 2
    page.paragraph(text, x=PAD + 14)
    height = page.y - top + 10
    page.parts.insert(bar, "")  # the ground lies under the text
    marker, page.parts = page.parts, []
    page.rect(PAD, top, page.width - 2 * PAD, height, page.surface.soft)
    page.rect(PAD, top, 3, height, page.surface.accent)
    marker[bar] = "\n".join(page.parts)
    page.parts = marker
    page.y = top + height
