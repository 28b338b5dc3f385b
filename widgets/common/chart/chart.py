"""What a chart shows, in plain data: `live` and `static` draw it.

A number that was measured (`minillm.measure.noise.Measured`) is drawn with a dot and its interval,
and a title that rests on such numbers is a `Claim`: it stands only where their intervals lie apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minillm.measure.noise import Measured, apart
from widgets.common.strings import say
from widgets.common.theme import BASELINE, CURVES, Hue

__all__ = ["Chart", "Claim", "Columns", "Curve", "Level", "Series", "Stems", "Titled"]


@dataclass(frozen=True)
class Curve:
    """A line through points. The baseline is drawn grey; others differ in colour and dashes.

    Args:
        dot: one stands at its end.
        filled: down to zero, as a histogram is.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    baseline: bool = False
    dot: bool = False
    filled: bool = False

    @property
    def dots(self) -> list[int]:
        """Where one stands: at what was measured."""
        measured = [i for i, y in enumerate(self.y) if isinstance(y, Measured)]
        return sorted({*measured, *([len(self.y) - 1] if self.dot else [])})


@dataclass(frozen=True)
class Stems:
    """A tooth at each of some places, from the axis up."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    baseline: bool = False


@dataclass(frozen=True)
class Columns:
    """A bar for each label."""

    name: str
    labels: Sequence[str]
    y: Sequence[float]
    baseline: bool = False


Series = Curve | Stems | Columns


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name: a limit that curves meet."""

    name: str
    y: float


@dataclass(frozen=True)
class Claim:
    """A title, and the pairs (less, more) of numbers that it rests on."""

    text: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def holds(self) -> bool:
        return all(apart(less, more) for less, more in self.pairs)


@dataclass(frozen=True)
class Titled:
    """What has a title that its numbers must bear out.

    Args:
        title: its text, or claims of which the first that holds is the title. Where none does, the
            chart says that this is not decided.
    """

    title: str | tuple[Claim, ...]

    @property
    def about(self) -> str:
        """What is drawn."""
        raise NotImplementedError

    @property
    def decided(self) -> bool:
        """Whether the numbers are far enough apart for a title that says something of them."""
        return isinstance(self.title, str) or any(claim.holds for claim in self.title)

    @property
    def headline(self) -> str:
        """The title that the numbers allow."""
        if isinstance(self.title, str):
            return self.title
        undecided = say("chart.undecided", what=self.about)
        return next((claim.text for claim in self.title if claim.holds), undecided)


@dataclass(frozen=True)
class Chart(Titled):
    """What is shown. The title says the point; axis titles carry the units.

    Args:
        note: a marked point (x, y, text), where one is to be looked at.

    Raises:
        ValueError: nothing to draw, more series than colours, or a value that an axis cannot show.
    """

    x_title: str
    y_title: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    note: tuple[float, float, str] | None = None
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        name = self.headline
        if not any(len(series.y) for series in self.series):
            raise ValueError(f"{name!r} has nothing to draw")
        if sum(not series.baseline for series in self.series) > len(CURVES):
            raise ValueError(f"{name!r}: at most {len(CURVES)} series beside the baseline")
        for values, log in ((self._xs(), self.log_x), (self._ys(), self.log_y)):
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{name!r} has values that are not finite")
            if log and min(values) <= 0:
                raise ValueError(f"{name!r}: a logarithmic axis shows values above 0 only")

    @property
    def about(self) -> str:
        return self.y_title

    @property
    def hues(self) -> Iterator[Hue]:
        """The colour of each series, in order."""
        colours = iter(CURVES)
        return (BASELINE if series.baseline else next(colours) for series in self.series)

    def _xs(self) -> list[float]:
        marked = [self.note[0]] if self.note else []
        return [x for s in self.series if not isinstance(s, Columns) for x in s.x] + marked

    def _ys(self) -> list[float]:
        marked = [self.note[1]] if self.note else []
        ends = [end for s in self.series for y in s.y for end in interval(y)]
        return ends + [v.y for v in self.levels] + marked

    @property
    def x_range(self) -> tuple[float, float]:
        """Of the curves; bars stand at 0.5, 1.5, ... of their number."""
        xs = [x for s in self.series if not isinstance(s, Columns) for x in s.x]
        bars = [len(s.labels) for s in self.series if isinstance(s, Columns)]
        return (min(xs), max(xs)) if xs else (0.0, float(max(bars)))

    @property
    def y_range(self) -> tuple[float, float]:
        low, high = min(self._ys()), max(self._ys())
        if self.log_y:
            return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.2))
        return min(0.0, low), 1.08 * high or 1.0


def interval(y: float) -> tuple[float, float]:
    """Where a measured number may lie; of any other, the number itself."""
    return (y.low, y.high) if isinstance(y, Measured) else (y, y)
