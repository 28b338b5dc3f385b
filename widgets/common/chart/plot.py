"""From data to pixels: where points, ticks and names of a chart stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from minillm.measure.noise import Measured
from widgets.common.chart.chart import Chart, Columns, Curve, Stems, interval
from widgets.common.stable import verbatim
from widgets.common.theme import Hue

__all__ = ["BOTTOM", "HEIGHT", "LEFT", "TOP", "WIDTH", "Label", "Plot"]

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 420, 84, 84, 64
_LETTER, _LINE = 6.6, 16  # pixels of a letter, and of a line of text
_WIDEST = 220  # pixels of a name in the margin
_APART = 30  # pixels between ticks where something was measured
_SPOTS = (1.0, 0.85, 0.7, 0.5, 0.3, 0.15, 0.0)  # along a line, where its name may stand
_AROUND = [
    (8, 0, "start"), (-8, 0, "end"), (0, -14, "middle"), (0, 15, "middle"),
    (0, -30, "middle"), (0, 31, "middle"), (16, -16, "start"), (16, 17, "start"),
]  # fmt: skip
_RING = 9  # radius of the circle around what is marked
_BESIDE = [
    (dx, dy, anchor)
    for far in (16, 34, 54, 78)
    for dy in (-far, far)
    for dx, anchor in ((-10, "end"), (10, "start"), (0, "middle"))
]

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """A name beside a point of the data.

    Attributes:
        x, y: of the point, in data.
        dx, dy: from there to the text's middle, or to the end that `anchor` names; in pixels.
        hue: that of the line that it names; None is text as any other.
    """

    text: str
    x: float
    y: float
    dx: float
    dy: float
    anchor: str
    hue: Hue | None = None
    strong: bool = False


class Plot:
    """The pixels of a chart."""

    def __init__(self, chart: Chart):
        self.chart = chart
        self.columns = [s for s in chart.series if isinstance(s, Columns)]
        self.x_range, self.y_range = chart.x_range, chart.y_range
        self._named = [s for s in chart.series if not isinstance(s, Columns) and len(s.y)]
        names = [s.name for s in self._named if s.x[-1] == self.x_range[1]]
        several = len(self._named) > 1
        wide = [_width(name) for name in names if several and _width(name) < _WIDEST]
        self.right = 24 + math.ceil(max(wide, default=0))

    def x(self, value: float) -> float:
        room = WIDTH - LEFT - self.right
        return LEFT + part(value, *self.x_range, self.chart.log_x) * room

    def y(self, value: float) -> float:
        room = HEIGHT - TOP - BOTTOM
        return HEIGHT - BOTTOM - part(value, *self.y_range, self.chart.log_y) * room

    @property
    def x_ticks(self) -> list[float]:
        """Where something was measured, if at whole numbers far apart; else round numbers."""
        places = sorted(
            {x for s in self._named for x, y in zip(s.x, s.y, strict=True)
             if isinstance(y, Measured)}
        )  # fmt: skip
        pixels = [self.x(place) for place in places]
        far = all(b - a >= _APART for a, b in pairwise(pixels))
        if len(places) > 1 and far and all(float(place).is_integer() for place in places):
            return places
        return ticks(*self.x_range, self.chart.log_x)

    @property
    def y_ticks(self) -> list[float]:
        return ticks(*self.y_range, self.chart.log_y)

    # Names

    def labels(self) -> list[Label]:
        """Names of lines, of levels and of what is marked, where they cover no line."""
        self._taken: list[Box] = [self._ring()] if self.chart.note else []
        self._lines = list(self.lines())
        placed = []
        if len(self._named) > 1:
            hues = dict(zip(map(id, self.chart.series), self.chart.hues, strict=True))
            shifts = self._shifts()
            for series in self._named:
                spots = list(self._along(series, shifts.get(id(series), 0)))
                placed.append(self._place(series.name, spots, hues[id(series)]))
        if self.chart.note:
            x, y, text = self.chart.note
            spots = [(x, y, *offset) for offset in _BESIDE]
            placed.append(self._place(text, spots, strong=True))
        low, high = self.x_range
        for level in self.chart.levels:
            spots = [
                (at, level.y, dx, dy, anchor)
                for dy in (-10, 11)
                for at, dx, anchor in ((low, 8, "start"), (high, -8, "end"), *self._between())
            ]
            placed.append(self._place(level.name, spots))
        return placed

    def _ring(self) -> Box:
        assert self.chart.note
        x, y = self.x(self.chart.note[0]), self.y(self.chart.note[1])
        return x - _RING, y - _RING, x + _RING, y + _RING

    def _between(self) -> Iterator[tuple[float, float, str]]:
        low, high = self.x_range
        for share in (0.5, 0.25, 0.75, 0.12, 0.88):
            if self.chart.log_x:
                yield low * (high / low) ** share, 0, "middle"
            else:
                yield low + share * (high - low), 0, "middle"

    def _shifts(self) -> dict[int, float]:
        """How far names at the right edge move, so that they stand one below the other."""
        ends = [s for s in self._named if s.x[-1] == self.x_range[1]]
        ends.sort(key=lambda s: self.y(s.y[-1]))
        wanted = [self.y(s.y[-1]) for s in ends]
        at = list(wanted)
        for i in range(1, len(at)):
            at[i] = max(at[i], at[i - 1] + _LINE)
        floor = HEIGHT - BOTTOM + 4.0
        for i in reversed(range(len(at))):
            at[i] = min(at[i], floor)
            floor = at[i] - _LINE
        return {id(s): a - w for s, a, w in zip(ends, at, wanted, strict=True)}

    def _along(
        self, series: Curve | Stems, shift: float
    ) -> Iterator[tuple[float, float, float, float, str]]:
        points = list(zip(series.x, series.y, strict=True))
        yield (*points[-1], 10, shift, "start")
        yield (*points[-1], 14, shift, "start")
        for spot in _SPOTS:
            place = spot * (len(points) - 1)
            i = min(int(place), max(len(points) - 2, 0))
            (x0, y0), (x1, y1) = points[i], points[min(i + 1, len(points) - 1)]
            x = _mix(x0, x1, place - i, self.chart.log_x)
            y = _mix(y0, y1, place - i, self.chart.log_y)
            for offset in _AROUND:
                yield (x, y, *offset)

    def _place(
        self,
        text: str,
        spots: Iterable[tuple[float, float, float, float, str]],
        hue: Hue | None = None,
        strong: bool = False,
    ) -> Label:
        """At the first spot where it covers nothing, or where it covers least."""
        least = math.inf
        for spot in spots:
            if (cost := self._cost(self.box(text, *spot))) < least:
                best, least = spot, cost
            if cost == 0:
                break
        self._taken.append(self.box(text, *best))
        return Label(text, *best, hue, strong)

    def box(self, text: str, x: float, y: float, dx: float, dy: float, anchor: str) -> Box:
        width = _width(text)
        left = self.x(x) + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        middle = self.y(y) + dy
        return left, middle - _LINE / 2, left + width, middle + _LINE / 2

    def _cost(self, box: Box) -> float:
        left, top, right, bottom = box
        outside = not (LEFT <= left and right <= WIDTH - 4)
        outside |= not (TOP - 10 <= top and bottom <= HEIGHT - BOTTOM + 12)
        return (
            10 * outside
            + 5 * sum(_overlap(box, other) for other in self._taken)
            + sum(crosses(line, box) for line in self._lines)
        )

    def lines(self) -> Iterator[tuple[Point, Point]]:
        """All that is drawn as a line."""
        for series in self._named:
            points = [(self.x(x), self.y(y)) for x, y in zip(series.x, series.y, strict=True)]
            if isinstance(series, Curve):
                yield from pairwise(points)
            else:
                yield from (((x, y), (x, self.y(self.y_range[0]))) for x, y in points)
            for (x, _), y in zip(points, series.y, strict=True):
                low, high = interval(y)
                yield (x, self.y(low)), (x, self.y(high))
        for level in self.chart.levels:
            yield (LEFT, self.y(level.y)), (WIDTH - self.right, self.y(level.y))


def _width(text: str) -> float:
    return _LETTER * len(text)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def crosses(line: tuple[Point, Point], box: Box) -> bool:
    """Whether a line runs through a box: Liang and Barsky's clipping."""
    (x0, y0), (x1, y1) = line
    left, top, right, bottom = box
    enters, leaves = 0.0, 1.0
    for step, room in ((x0 - x1, x0 - left), (x1 - x0, right - x0),
                       (y0 - y1, y0 - top), (y1 - y0, bottom - y0)):  # fmt: skip
        if step == 0:
            if room < 0:
                return False
        elif step < 0:
            enters = max(enters, room / step)
        else:
            leaves = min(leaves, room / step)
    return enters <= leaves


def _mix(a: float, b: float, share: float, log: bool) -> float:
    return a * (b / a) ** share if log else a + share * (b - a)


def part(value: float, low: float, high: float, log: bool) -> float:
    """How far along an axis a value stands, from 0 to 1."""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


def tick_text(value: float) -> str:
    """A tick's number in full, such as 10,000."""
    return verbatim(f"{value:,.6g}")


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers between low and high: decades, or multiples of 1, 2 or 5.

    >>> ticks(0, 47, False)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    >>> ticks(1, 1000, True), ticks(3, 70, True)
    ([1.0, 10.0, 100.0, 1000.0], [5.0, 10.0, 20.0, 50.0])
    """
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1,), (1, 2, 5)):
            found = [digit * 10.0**k for k in decades for digit in digits]
            found = [tick for tick in found if low <= tick * (1 + 1e-9) and tick <= high]
            if len(found) > 2:
                break
        return found
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
