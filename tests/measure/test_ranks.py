"""Rank tests against every case counted by hand, and against published tables."""

from fractions import Fraction
from itertools import permutations, product

import pytest

from minillm.measure.ranks import page, ranks, signed_rank


def test_equal_values_share_the_mean_of_their_places() -> None:
    assert ranks([0.3, 0.1, 0.3, 0.3]) == [3.0, 1.0, 3.0, 3.0]
    assert ranks([]) == []


def test_page_counts_every_order_of_every_row() -> None:
    rows = [[0.2, 0.1, 0.7, 0.9], [0.1, 0.4, 0.3, 0.5], [3.0, 2.0, 5.0, 4.0]]
    found = page(rows)
    [first, second, third] = ([1 + sorted(row).index(x) for x in row] for row in rows)
    statistic = sum(j * x for row in (first, second, third) for j, x in enumerate(row, 1))
    totals = [
        sum(j * x for row in case for j, x in enumerate(row, 1))
        for case in product(permutations(range(1, 5)), repeat=3)
    ]
    assert len(totals) == 13_824
    assert found.statistic == statistic
    assert found.p == Fraction(sum(total >= statistic for total in totals), 13_824)
    assert found.smallest == Fraction(1, 13_824)


@pytest.mark.parametrize(
    ("k", "n", "critical"),
    [(3, 2, 28), (3, 3, 41), (3, 4, 54), (3, 5, 66), (4, 2, 58), (4, 3, 84), (4, 6, 163)],
)
def test_page_has_the_critical_values_of_the_published_table(k: int, n: int, critical: int) -> None:
    """Page (1963), table 2, at 5 %: the least L whose p is not above it."""
    p_of: dict[float, Fraction] = {}
    for orders in product(permutations(range(k)), repeat=2):  # enough rows of it to meet every L
        rows = [orders[0], *[tuple(range(k))] * (n - 2), orders[1]]
        found = page(rows)
        p_of[found.statistic] = found.p
    assert p_of[critical] <= Fraction(1, 20)
    assert all(p > Fraction(1, 20) for L, p in p_of.items() if L < critical)


def test_page_is_the_same_as_others_on_a_published_example() -> None:
    """The example in the documentation of scipy.stats.page_trend_test."""
    rows = [[3, 4, 3], [2, 2, 4], [3, 3, 5], [1, 3, 2], [2, 3, 2]]
    rows += [[2, 4, 5], [1, 2, 4], [3, 4, 4], [2, 4, 5], [1, 3, 4]]
    assert page(rows).statistic == 133.5


def test_a_falling_row_is_no_evidence() -> None:
    assert page([[3.0, 2.0, 1.0]] * 2).p == 1
    assert page([[1.0, 1.0, 1.0]]).p == 1  # all equal: one case


@pytest.mark.parametrize("differences", [[0.4, -0.1, 0.2, 0.2, -0.3, 0.7], [0.5, -0.5, 0.5]])
def test_signed_rank_counts_every_sign(differences: list[float]) -> None:
    sizes = ranks([abs(x) for x in differences])
    sums = [
        sum(s for s, up in zip(sizes, case, strict=True) if up)
        for case in product((False, True), repeat=len(sizes))
    ]
    found = signed_rank(differences)
    assert found.statistic == sum(s for s, x in zip(sizes, differences, strict=True) if x > 0)
    assert found.p == Fraction(sum(x >= found.statistic for x in sums), len(sums))
    assert found.smallest == Fraction(1, len(sums))


@pytest.mark.parametrize(("n", "critical"), [(5, 15), (6, 19), (7, 25), (8, 31), (10, 45)])
def test_signed_rank_has_the_critical_values_of_the_published_table(n: int, critical: int) -> None:
    """Wilcoxon's table at 5 %, one-sided: n (n + 1) / 2 less 0, 2, 3, 5, 10."""
    below, need = list[int](), n * (n + 1) // 2 - critical
    for size in range(n, 0, -1):  # signs that leave out ranks summing to `need`
        if size <= need - sum(below):
            below.append(size)
    differences = [float(-x if x in below else x) for x in range(1, n + 1)]
    found = signed_rank(differences)
    assert found.statistic == critical
    assert found.p <= Fraction(1, 20)
    cheaper = [-x if x == 1 else x for x in differences]  # one step less
    if 1 not in below:
        assert signed_rank(cheaper).p > Fraction(1, 20)


def test_zeros_are_left_out_and_three_pairs_can_show_no_more_than_an_eighth() -> None:
    assert signed_rank([0.1, 0.0, 0.2, 0.3]).p == Fraction(1, 8) == signed_rank([1, 2, 3]).smallest


@pytest.mark.parametrize("rows", [[], [[]], [[1.0]], [[1.0, 2.0], [1.0]]])
def test_bad_rows_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="of one length"):
        page(rows)


@pytest.mark.parametrize("differences", [[], [0.0, 0.0]])
def test_differences_of_nothing_are_refused(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="no difference other than zero"):
        signed_rank(differences)


def test_what_is_not_finite_is_refused() -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be finite"):
            page([[1.0, bad]])
        with pytest.raises(ValueError, match="must be finite"):
            signed_rank([1.0, bad])
