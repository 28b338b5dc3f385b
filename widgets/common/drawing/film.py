"""What the step player shows, as plain data: a `Film` of panels, numbers and captions.

Everything that varies is a history: the entries `[step, value ...]` in order of step, and the
value at a step is that of the last entry not after it. A cell that is free, then computed in
step 3 and read from step 4 on has three entries, however long the film. So 512 tokens over 512
steps weigh 0.1 MB. Steps count from 0 here; what the reader sees starts at `Film.first`.

`Film.to_json()` is the wire format that player.js reads; optional parts are left out. All
objects check themselves when made and raise ValueError.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from widgets.common.theme import SERIES, STATES, TAGS

__all__ = [
    "BLANK",
    "FULL",
    "LONGEST",
    "Bar",
    "Bars",
    "BarsAt",
    "Cell",
    "Change",
    "Film",
    "Grid",
    "Heat",
    "Lane",
    "Lanes",
    "Number",
    "Panel",
    "Patch",
    "Rect",
    "quantize",
    "width",
]

BLANK = 255  # the byte of a heat map that is left empty
FULL = 12  # columns of the film's page; a panel's `share` is how many it takes
LONGEST = 18  # characters shown of a cell's text; the tooltip has the rest
Json = dict[str, Any]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_state(state: str) -> None:
    _require(state in STATES, f"unknown state {state!r}: expected one of {', '.join(STATES)}")


def _require_order(name: str, steps: Sequence[int]) -> None:
    ordered = all(a <= b for a, b in pairwise(steps))
    _require(not steps or (steps[0] >= 0 and ordered), f"{name}: steps must rise from 0: {steps}")


def width(text: str) -> int:
    """Width of a text in characters of a monospaced font."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _runs(values: Sequence[str]) -> list[list[Any]]:
    """One value per step, as a history."""
    return [[i, v] for i, v in enumerate(values) if i == 0 or v != values[i - 1]]


def _placed(panel: Panel) -> Json:
    """Where a panel stands: columns of the page, and how many panels stand beside it in a stack."""
    return {"share": panel.share, "stack": panel.stack}


def _compact(**fields: Any) -> Json:
    """A JSON object without its empty parts; zero stays."""
    return {k: v for k, v in fields.items() if v not in (None, "", False, (), [])}


@dataclass(frozen=True)
class Change:
    """From `step` on, a cell is in `state`.

    Args:
        text: the cell's new text, where it changes.
        origin: the `link` of the cell that this one came from; the player slides it from there.
        ghost: draws the outline that says "plain decoding would be here".
    """

    step: int
    state: str
    text: str | None = None
    origin: str | None = None
    ghost: bool = False

    def __post_init__(self) -> None:
        _require_state(self.state)

    def to_json(self) -> list[Any]:
        extra = _compact(origin=self.origin, ghost=self.ghost)
        if self.text is not None:
            extra["text"] = self.text
        return [self.step, self.state, extra] if extra else [self.step, self.state]


@dataclass(frozen=True)
class Cell:
    """A token, slot or station. Before its first change it is not there.

    Args:
        text: shown as it is, white space made visible.
        history: its states.
        link: a name; hovering lights everything that has the same one.
        detail: a second, small line, such as a shape.
        tip: a sentence for the tooltip.
        arrow: an arrow leads from the cell before to this one.
    """

    text: str
    history: tuple[Change, ...]
    link: str | None = None
    detail: str = ""
    tip: str = ""
    arrow: bool = False

    def __post_init__(self) -> None:
        steps = [change.step for change in self.history]
        _require_order(f"cell {self.text!r}", steps)
        _require(len(set(steps)) == len(steps), f"cell {self.text!r}: two changes in one step")

    def at(self, step: int) -> Change | None:
        """The change in force at `step`, its text filled in."""
        text, now = self.text, None
        for change in self.history:
            if change.step > step:
                break
            text = text if change.text is None else change.text
            now = change
        return now and replace(now, text=text)

    @property
    def width(self) -> int:
        """Characters of its longest text, up to a limit: the room it keeps at every step."""
        changed = [change.text for change in self.history if change.text is not None]
        return min(LONGEST, max(width(text) for text in (self.text, self.detail, *changed)))

    def to_json(self) -> Json:
        history = []
        for change in self.history:  # every entry says its text where it is not the first one
            now = self.at(change.step) or change
            history.append(replace(now, text=None if now.text == self.text else now.text))
        return {
            "text": self.text,
            "width": self.width,
            "history": [change.to_json() for change in history],
            **_compact(link=self.link, detail=self.detail, tip=self.tip, arrow=self.arrow),
        }


@dataclass(frozen=True)
class Bar:
    """A stretch `start` to `end` of the panel's axis, there from `step` on."""

    step: int
    start: float
    end: float
    series: str

    def __post_init__(self) -> None:
        _require(self.series in SERIES, f"unknown series {self.series!r}: one of {list(SERIES)}")
        _require(0 <= self.start <= self.end, f"bar from {self.start} to {self.end}")

    def to_json(self) -> list[Any]:
        return [self.step, self.start, self.end, self.series]


@dataclass(frozen=True)
class Lane:
    """One row: a label with a note, cells, and bars on the axis that all lanes of a panel share.

    Args:
        notes: one text per step, or a single one.
        start: the step at which the lane appears.
        baseline: what the trick is compared with; drawn quietly.
        prose: its cells are read as one running text.
        line: a line runs through its cells.
    """

    label: str
    cells: tuple[Cell, ...] = ()
    bars: tuple[Bar, ...] = ()
    notes: str | tuple[str, ...] = ""
    start: int = 0
    baseline: bool = False
    prose: bool = False
    line: bool = False

    def __post_init__(self) -> None:
        name = f"bars of lane {self.label!r}"
        _require_order(name, [bar.step for bar in self.bars])
        one_by_one = all(a.end <= b.start for a, b in pairwise(self.bars))
        _require(one_by_one, f"{name} must follow one another on the axis")

    def to_json(self) -> Json:
        notes = (self.notes,) if isinstance(self.notes, str) else self.notes
        return {
            "label": self.label,
            **_compact(
                cells=[cell.to_json() for cell in self.cells],
                bars=[bar.to_json() for bar in self.bars],
                notes=_runs(notes) if any(notes) else None,
                start=self.start or None,
                baseline=self.baseline,
                prose=self.prose,
                line=self.line,
            ),
        }


@dataclass(frozen=True)
class Lanes:
    """Lanes one below the other. `unit` names the axis of their bars.

    Args:
        recent: only so many are shown, those that began last.
    """

    lanes: tuple[Lane, ...]
    title: str = ""
    unit: str = ""
    recent: int | None = None
    share: int = FULL
    stack: int = 1

    def cells(self) -> Iterator[Cell]:
        for lane in self.lanes:
            yield from lane.cells

    def shown(self, step: int) -> tuple[int, int]:
        """The lanes that have their place at `step`, begun or not: from, up to."""
        begun = sum(lane.start <= step for lane in self.lanes)
        most = self.recent or len(self.lanes)
        end = min(len(self.lanes), max(begun, most))
        return max(0, end - most), end

    @property
    def span(self) -> float:
        """Where the axis ends: the end of the longest lane."""
        return max((bar.end for lane in self.lanes for bar in lane.bars), default=0.0)

    @property
    def end(self) -> str:
        """The label at the end of the axis."""
        number = f"{self.span:,.0f}" if self.span >= 100 else f"{self.span:.3g}"
        return f"{number} {self.unit}".strip()

    def to_json(self) -> Json:
        return {
            "kind": "lanes",
            "lanes": [lane.to_json() for lane in self.lanes],
            **_compact(title=self.title, unit=self.unit, recent=self.recent),
            **_placed(self),
            "span": self.span,
            "end": self.end,
        }


@dataclass(frozen=True)
class Grid:
    """Rows of text cells in columns of one width each, at most 64 x 64.

    Args:
        most: characters shown of a cell's text; the tooltip has the rest.
    """

    rows: tuple[tuple[Cell, ...], ...]
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    title: str = ""
    most: int = LONGEST
    share: int = FULL
    stack: int = 1

    def __post_init__(self) -> None:
        columns = {len(row) for row in self.rows}
        _require(len(columns) <= 1, f"rows of a grid must be equally long, not {columns}")
        size = (len(self.rows), *columns)
        _require(max(size) <= 64, f"a grid of text is at most 64 x 64, not {size}")
        for name, labels, count in zip(
            ("row", "column"), (self.row_labels, self.column_labels), size, strict=False
        ):
            _require(len(labels) in (0, count), f"{len(labels)} {name} labels for {count}")

    def cells(self) -> Iterator[Cell]:
        for row in self.rows:
            yield from row

    @property
    def widths(self) -> list[int]:
        """Characters of each column, the same at every step."""
        columns = zip(*self.rows, strict=True)
        return [min(self.most, max(cell.width for cell in column)) for column in columns]

    def to_json(self) -> Json:
        rows = [
            [{**cell.to_json(), "width": w} for cell, w in zip(row, self.widths, strict=True)]
            for row in self.rows
        ]
        return {
            "kind": "grid",
            "rows": rows,
            **_placed(self),
            **_compact(
                title=self.title,
                row_labels=self.row_labels,
                column_labels=self.column_labels,
            ),
        }


@dataclass(frozen=True)
class Rect:
    """A rectangle of a heat map, in rows and columns."""

    row: int
    column: int
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Patch:
    """In `step`, the bytes of `area` change: to one value, or to `values` row by row."""

    step: int
    area: Rect
    values: int | bytes

    def __post_init__(self) -> None:
        size = self.area.rows * self.area.columns
        if isinstance(self.values, bytes):
            _require(len(self.values) == size, f"{len(self.values)} values for {size} cells")

    def to_json(self) -> list[Any]:
        area, values = self.area, self.values
        coded = values if isinstance(values, int) else base64.b64encode(values).decode()
        return [self.step, area.row, area.column, area.rows, area.columns, coded]


@dataclass(frozen=True)
class Heat:
    """A field of up to 512 x 512 coloured cells on a canvas, changed by patches.

    With `states`, byte n means the n-th of them. Without, bytes 0 to 254 run from `low` to
    `high` (see `quantize`) on the sequential scale, or on the diverging one if `low` is negative.
    A cell never patched is blank.

    Args:
        marks: (step, area or None): the outlined area from that step on.
        row_links, column_links: a link for each row or column, as in `Cell.link`.
        sweep: when stepping, cells change in the order of computation: "down", row by row, or
            "right", column by column.
        arcs: the outlined row is drawn over the text too, from its cell to those it looks at.
        sentences: what there is to say about cells.
        tips: for each cell, row by row, which of the sentences is said of it.
    """

    rows: int
    columns: int
    patches: tuple[Patch, ...]
    states: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    marks: tuple[tuple[int, Rect | None], ...] = ()
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    row_title: str = ""
    column_title: str = ""
    row_links: tuple[str, ...] = ()
    column_links: tuple[str, ...] = ()
    title: str = ""
    sweep: str = ""
    arcs: bool = False
    share: int = FULL
    stack: int = 1
    sentences: tuple[str, ...] = ()
    tips: bytes = b""

    def __post_init__(self) -> None:
        size = f"{self.rows} x {self.columns}"
        _require(0 < self.rows <= 512 and 0 < self.columns <= 512, f"1 to 512 cells, not {size}")
        _require(self.low < self.high, f"low {self.low} must be below high {self.high}")
        for state in self.states:
            _require_state(state)
        _require_order(f"patches of {self.title!r}", [patch.step for patch in self.patches])
        _require_order(f"marks of {self.title!r}", [step for step, _ in self.marks])
        areas = [patch.area for patch in self.patches] + [area for _, area in self.marks if area]
        for area in areas:
            inside = (
                min(area.row, area.column) >= 0
                and area.row + area.rows <= self.rows
                and area.column + area.columns <= self.columns
            )
            _require(inside, f"{area} is outside of {size}")
        for name, found, count in (
            ("row_labels", self.row_labels, self.rows),
            ("row_links", self.row_links, self.rows),
            ("column_labels", self.column_labels, self.columns),
            ("column_links", self.column_links, self.columns),
            ("tips", self.tips, self.rows * self.columns),
        ):
            _require(len(found) in (0, count), f"{name}: {len(found)} for {count}")
        told = all(tip < len(self.sentences) for tip in self.tips)
        _require(told, f"tips name one of {len(self.sentences)} sentences each")

    @property
    def scale(self) -> str:
        if self.states:
            return "states"
        return "diverging" if self.low < 0 else "sequential"

    def at(self, step: int) -> bytes:
        """The field at `step`, row by row."""
        field = bytearray([BLANK]) * (self.rows * self.columns)
        for patch in self.patches:
            if patch.step > step:
                break
            area = patch.area
            for r in range(area.rows):
                start = (area.row + r) * self.columns + area.column
                field[start : start + area.columns] = (
                    bytes([patch.values]) * area.columns
                    if isinstance(patch.values, int)
                    else patch.values[r * area.columns : (r + 1) * area.columns]
                )
        return bytes(field)

    def to_json(self) -> Json:
        marks = [
            [step, [area.row, area.column, area.rows, area.columns] if area else None]
            for step, area in self.marks
        ]
        return {
            "kind": "heat",
            "rows": self.rows,
            "columns": self.columns,
            "scale": self.scale,
            "low": self.low,
            "high": self.high,
            "patches": [patch.to_json() for patch in self.patches],
            **_placed(self),
            **_compact(
                states=self.states,
                marks=marks,
                row_labels=self.row_labels,
                column_labels=self.column_labels,
                row_title=self.row_title,
                column_title=self.column_title,
                row_links=self.row_links,
                column_links=self.column_links,
                title=self.title,
                sweep=self.sweep,
                arcs=self.arcs,
                sentences=self.sentences,
                tips=base64.b64encode(self.tips).decode(),
            ),
        }


def quantize(values: Sequence[float], low: float, high: float) -> bytes:
    """Numbers as bytes of a heat map: `low` is 0, `high` 254, beyond is clipped, nan is blank.

    >>> list(quantize([0.0, 0.5, 1.0, 7.0, float("nan")], 0.0, 1.0))
    [0, 127, 254, 254, 255]
    """
    scale = 254 / (high - low)
    return bytes(
        BLANK if v != v else min(254, max(0, round((v - low) * scale)))  # nan differs from itself
        for v in values
    )


@dataclass(frozen=True)
class BarsAt:
    """From `step` on, bars show `values[group][series]` over `labels`; `chosen` is set off."""

    step: int
    title: str
    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    chosen: int | None = None

    def __post_init__(self) -> None:
        groups = (len(self.labels), len(self.values))
        _require(groups[0] == groups[1], f"{groups[0]} labels for {groups[1]} groups of bars")
        _require(all(v >= 0 for group in self.values for v in group), "bars cannot be negative")


@dataclass(frozen=True)
class Bars:
    """Grouped bars, such as p and q of a few tokens, on a scale from 0 to `high`."""

    series: tuple[str, ...]
    history: tuple[BarsAt, ...]
    high: float = 1.0
    share: int = FULL
    stack: int = 1

    def __post_init__(self) -> None:
        for name in self.series:
            _require(name in SERIES, f"unknown series {name!r}: expected one of {list(SERIES)}")
        _require_order("bars", [entry.step for entry in self.history])
        for entry in self.history:
            wrong = [group for group in entry.values if len(group) != len(self.series)]
            _require(not wrong, f"{self.series} need {len(self.series)} values each, not {wrong}")

    def to_json(self) -> Json:
        entries = [
            [entry.step, entry.title, entry.labels, entry.values, entry.chosen]
            for entry in self.history
        ]
        return {
            "kind": "bars",
            "series": self.series,
            "history": entries,
            "high": self.high,
            **_placed(self),
        }


@dataclass(frozen=True)
class Number:
    """A large number with a label, tagged by where it comes from; one text, or one per step."""

    label: str
    values: str | tuple[str, ...]
    tag: str

    def __post_init__(self) -> None:
        _require(self.tag in TAGS, f"tag {self.tag!r}: expected one of {', '.join(TAGS)}")

    def at(self, step: int) -> str:
        return self.values if isinstance(self.values, str) else self.values[step]

    def to_json(self) -> Json:
        values = (self.values,) if isinstance(self.values, str) else self.values
        return {"label": self.label, "values": _runs(values), "tag": self.tag}


Panel = Lanes | Grid | Heat | Bars


def _named(panel: Panel) -> set[str]:
    """The states and series that a panel needs a legend for; what labels name needs none."""
    if isinstance(panel, Bars):
        return set()
    if isinstance(panel, Heat):
        return set(panel.states)
    states = {change.state for cell in panel.cells() for change in cell.history}
    if isinstance(panel, Grid):
        return states
    if all(lane.prose for lane in panel.lanes):
        states -= {"free"}  # not drawn
    each = [{bar.series for bar in lane.bars} for lane in panel.lanes]
    return states.union(*(series for series in each if len(series) > 1))


@dataclass(frozen=True)
class Film:
    """All steps of one explorer.

    Args:
        title: names the idea.
        hint: one sentence that says what to look at.
        captions: one per step, each telling this very step in words; their number is the
            number of steps. Without captions there is nothing to show, and the player says so.
        unit: what a step is called ("step", "round", "pass").
        first: the number shown for the first step.
        opening: the step that is shown at first, from 0.
        aside: columns of the page for numbers and legend.
    """

    title: str
    captions: tuple[str, ...]
    panels: tuple[Panel, ...]
    numbers: tuple[Number, ...] = ()
    hint: str = ""
    unit: str = "step"
    first: int = 1
    opening: int = 0
    aside: int = FULL

    def __post_init__(self) -> None:
        for name, values in self._per_step():
            full = isinstance(values, str) or len(values) == self.steps
            _require(full, f"{name}: {len(values)} values for {self.steps} steps")
        cells = list(self.cells())
        links = {cell.link for cell in cells}
        for heat in self.panels:
            if isinstance(heat, Heat):
                links |= {*heat.row_links, *heat.column_links}
        origins = {c.origin for cell in cells for c in cell.history} - {None}
        _require(origins <= links, f"origins without a cell of that link: {origins - links}")

    def _per_step(self) -> Iterator[tuple[str, str | tuple[str, ...]]]:
        for number in self.numbers:
            yield number.label, number.values
        for panel in self.panels:
            if isinstance(panel, Lanes):
                for lane in panel.lanes:
                    yield f"notes of lane {lane.label!r}", lane.notes

    @property
    def steps(self) -> int:
        return len(self.captions)

    def cells(self) -> Iterator[Cell]:
        """Every text cell."""
        for panel in self.panels:
            if isinstance(panel, Lanes | Grid):
                yield from panel.cells()

    @property
    def legends(self) -> tuple[tuple[str, ...], ...]:
        """For each panel, the states and series that it is the first to show."""
        known: set[str] = set()
        found = []
        for panel in self.panels:
            names = _named(panel)
            found.append(tuple(name for name in (*STATES, *SERIES) if name in names - known))
            known |= names
        return tuple(found)

    def to_json(self) -> Json:
        return {
            "title": self.title,
            "hint": self.hint,
            "unit": self.unit,
            "first": self.first,
            "steps": self.steps,
            "aside": self.aside,
            "captions": list(self.captions),
            "panels": [panel.to_json() for panel in self.panels],
            "numbers": [number.to_json() for number in self.numbers],
            "legends": [list(names) for names in self.legends],
        }
