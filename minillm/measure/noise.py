"""A measured number, and how far to trust it.

A number that is measured again is another one. So it is kept with an interval that holds the true
median in 95 % of all cases, and whoever says that one number is larger than another asks first
whether their intervals lie `apart`. The interval needs no assumption about the noise: each value
lies below the true median with the chance of a coin, so how often the k-th smallest and the k-th
largest enclose it can be counted.

Source: the interval of the sign test (H. A. David, Order Statistics, section 7.1).
"""

from collections.abc import Iterable, Sequence
from math import comb
from statistics import median

__all__ = ["Measured", "apart", "median_interval"]

_MISSES = 0.05  # how often the interval may fail to hold the true median
_WIDEST = 1.5  # an interval whose ends differ by more than this factor says nothing


class Measured(float):
    """A number with its interval. Sums, products and quotients of such numbers have one too.

    Of two that were measured in the same rounds, the quotient is taken round by round, so that a
    drift of the machine cancels. Otherwise the ends are combined, which is wider than need be.

    Attributes:
        low, high: the ends of the interval.
        rounds: what each round gave, in order; none where that is not known.
        few: there were too few rounds for an interval; these are the ends of what was seen.

    >>> half = Measured.of([1, 2, 1, 1, 2, 1]) / 2
    >>> half.low, half, half.high
    (0.5, 0.5, 1.0)
    """

    low: float
    high: float
    rounds: tuple[float, ...]
    few: bool

    def __new__(
        cls,
        value: float,
        low: float | None = None,
        high: float | None = None,
        rounds: Sequence[float] = (),
        few: bool = False,
    ) -> "Measured":
        self = super().__new__(cls, value)
        self.low, self.high = _ends(value) if low is None or high is None else (low, high)
        self.rounds, self.few = tuple(map(float, rounds)), few
        return self

    @classmethod
    def of(cls, rounds: Iterable[float], value: float | None = None) -> "Measured":
        """The median of the rounds, or a value that stands for them, such as the least."""
        rounds = tuple(map(float, rounds))
        value = median(rounds) if value is None else value
        low, high = median_interval(rounds) or (min(rounds), max(rounds))
        few = median_interval(rounds) is None
        return cls(value, min(low, value), max(high, value), rounds, few)

    @property
    def doubt(self) -> str | None:
        """Why this number says nothing; None where it does."""
        if self.few:
            return f"{len(self.rounds) or 'these'} rounds are too few for a 95 % interval"
        if self.high > _WIDEST * self.low:
            return f"too noisy: the median may be anywhere from {self.low:.2f} to {self.high:.2f}"
        return None

    def __add__(self, other: float) -> "Measured":
        low, high = _ends(other)
        few = self.few or _few(other)
        return Measured(float(self) + other, self.low + low, self.high + high, few=few)

    __radd__ = __add__

    def __mul__(self, other: float) -> "Measured":
        ends = [mine * theirs for mine in _ends(self) for theirs in _ends(other)]
        rounds = () if isinstance(other, Measured) else [each * other for each in self.rounds]
        few = self.few or _few(other)
        return Measured(float(self) * float(other), min(ends), max(ends), rounds, few)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> "Measured":
        if not isinstance(other, Measured):
            return self * (1 / other)
        value = float(self) / float(other)
        if self.rounds and len(self.rounds) == len(other.rounds):
            return Measured.of(map(float.__truediv__, self.rounds, other.rounds), value)
        few = self.few or other.few
        return Measured(value, self.low / other.high, self.high / other.low, few=few)

    def __rtruediv__(self, other: float) -> "Measured":
        return Measured(
            other / float(self),
            other / self.high,
            other / self.low,
            [other / each for each in self.rounds],
            self.few,
        )


def apart(less: float, more: float) -> bool:
    """Whether `less` is below `more` for certain: the one's interval ends where the other's begins.

    A number that was not measured is its own interval.

    >>> apart(1.0, Measured(1.2, 1.1, 1.4)), apart(Measured(1.2, 1.1, 1.4), 1.3)
    (True, False)
    """
    return not (_few(less) or _few(more)) and _ends(less)[1] < _ends(more)[0]


def _ends(x: float) -> tuple[float, float]:
    return (x.low, x.high) if isinstance(x, Measured) else (x, x)


def _few(x: float) -> bool:
    return isinstance(x, Measured) and x.few


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The narrowest pair of k-th smallest and k-th largest that holds the median in 95 %.

    The k-th smallest of n lies above the true median when fewer than k of them fall below it, as
    often as n throws of a coin show fewer than k heads. None where even k = 1 misses too often.

    >>> median_interval([1, 2, 3, 4, 5, 6, 7, 8, 9])
    (2, 8)
    """
    ordered, n = sorted(values), len(values)
    k, below = 0, 0
    while 2 * (below := below + comb(n, k)) <= _MISSES * 2**n:
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else None
