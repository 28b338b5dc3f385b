"""Rank tests, exact: how often would chance alone look as good as what was found?

A handful of runs is too few for a normal distribution, and few enough to count every case. If
nothing were going on, all orders of a row would be equally likely, or each difference as often
above zero as below; the p value is the share of these cases that speak for the claim at least as
loudly as the data. It cannot fall below one case of all: with three pairs that is 1/8, whatever
they show, so a test says how small its p can be at all.

    >>> page([[0.1, 0.2, 0.4], [0.3, 0.5, 0.9]])  # in order both times: 1 case of 3! x 3!
    RankTest(statistic=28.0, p=Fraction(1, 36), smallest=Fraction(1, 36))
    >>> signed_rank([0.3, 0.1, -0.2]).p  # above zero in sum: 3 cases of 8 do as well
    Fraction(3, 8)

Sources: E. B. Page, "Ordered hypotheses for multiple treatments", J. Am. Stat. Assoc. 58 (1963);
F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

__all__ = ["RankTest", "page", "ranks", "signed_rank"]


@dataclass(frozen=True)
class RankTest:
    """What a one-sided test found.

    Attributes:
        statistic: large where the data speak for the claim.
        p: share of all cases whose statistic is as large or larger.
        smallest: the least that p could have been with as much data.
    """

    statistic: float
    p: Fraction
    smallest: Fraction


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equal values share the mean of their places.

    Raises:
        ValueError: a value that is not finite.

    >>> ranks([0.5, 0.1, 0.5])
    [2.5, 1.0, 2.5]
    """
    if not all(map(math.isfinite, values)):
        raise ValueError(f"values to rank must be finite, got {list(values)}")
    ordered = sorted(values)
    return [ordered.index(x) + (ordered.count(x) + 1) / 2 for x in values]


def page(rows: Sequence[Sequence[float]]) -> RankTest:
    """Page's L: do values grow along the rows?

    L adds up place x rank over all rows. Under chance the rows are independent, and in each all
    orders are equally likely. Points along one training run are not as free: neighbours resemble
    each other, chance makes order more often, and p comes out too small.

    Args:
        rows: as many values in each, in the order in which they are claimed to grow.

    Raises:
        ValueError: no rows, rows of one value or of unequal lengths, a value that is not finite.
    """
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        raise ValueError("rows must be one or more, of one length, and of at least two values")
    ranked = [ranks(row) for row in rows]
    cases = _sums(Counter(map(_in_order, permutations(row))) for row in ranked)
    return _test(sum(map(_in_order, ranked)), cases)


def _in_order(row: Iterable[float]) -> float:
    return sum(place * rank for place, rank in enumerate(row, start=1))


def signed_rank(differences: Sequence[float]) -> RankTest:
    """Wilcoxon's W: are differences of pairs above zero, the large ones above all?

    W adds up the ranks, by magnitude, of those above zero. Under chance each sign is as likely as
    the other, independently of all. Differences of zero are left out, as Wilcoxon did.

    Raises:
        ValueError: no difference but zero, or one that is not finite.
    """
    found = [x for x in differences if x != 0]
    if not found:
        raise ValueError(f"no difference other than zero among {len(differences)}")
    sizes = ranks([abs(x) for x in found])
    cases = _sums(Counter([0.0, size]) for size in sizes)
    return _test(sum(size for x, size in zip(found, sizes, strict=True) if x > 0), cases)


def _test(statistic: float, cases: Counter[float]) -> RankTest:
    """Where a statistic stands among those of all cases."""
    total = cases.total()
    as_large = sum(ways for value, ways in cases.items() if value >= statistic)
    return RankTest(statistic, Fraction(as_large, total), Fraction(cases[max(cases)], total))


def _sums(parts: Iterable[Counter[float]]) -> Counter[float]:
    """In how many ways each sum comes about, one number of each part."""
    sums = Counter([0.0])
    for part in parts:
        longer = Counter[float]()
        for total, ways in sums.items():
            for number, times in part.items():
                longer[total + number] += ways * times
        sums = longer
    return sums
