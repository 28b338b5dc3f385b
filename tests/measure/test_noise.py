"""Measured numbers keep an interval, and say when nothing rests on it."""

import copy
import pickle
import random

import pytest

from minillm.measure.noise import Measured, apart


def test_a_measured_number_is_a_float_with_an_interval() -> None:
    found = Measured.of(range(1, 10), 1.0)
    assert found == 1.0
    assert (found.low, found.high) == (1.0, 8.0)  # widened to hold the least
    assert Measured.of(range(1, 10)) == 5
    assert f"{found:.2f}" == "1.00"
    assert Measured(3.0).low == Measured(3.0).high == 3.0
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (twin, twin.low, twin.high, twin.rounds) == (1.0, 1.0, 8.0, found.rounds)


@pytest.mark.parametrize(
    ("rounds", "doubt"),
    [
        ([1.0] * 5, "5 rounds are too few for a 95 % interval"),
        ([1.0] * 6, None),
        ([1, 1, 1, 2, 2, 2], "too noisy: the median may be anywhere from 1.00 to 2.00"),
    ],
)
def test_what_makes_a_number_doubtful(rounds: list[float], doubt: str | None) -> None:
    assert Measured.of(rounds).doubt == doubt


def test_a_drift_that_hits_both_cancels_in_their_quotient() -> None:
    drift = [1.0, 1.1, 1.3, 1.7, 2.0, 2.5, 3.0]
    ours, theirs = (Measured.of([x * slow for slow in drift]) for x in (2.0, 6.0))
    ratio = theirs / ours
    assert (ratio.low, ratio.high) == pytest.approx((3, 3))
    assert not apart(ours, theirs)  # each alone is too wide


@pytest.mark.parametrize("seed", range(3))
def test_sums_products_and_quotients_hold_what_their_parts_may_be(seed: int) -> None:
    source = random.Random(seed)
    a, b = (Measured(x, 0.7 * x, 1.6 * x) for x in (source.uniform(1, 9), source.uniform(1, 9)))
    for _ in range(50):
        x, y = source.uniform(a.low, a.high), source.uniform(b.low, b.high)
        for whole, part in (
            (a + b, x + y), (2 + a, 2 + x), (a * b, x * y), (3 * a, 3 * x), (-3 * a, -3 * x),
            (a / b, x / y), (a / 2, x / 2), (2 / a, 2 / x), (sum([a, b]), x + y),
        ):  # fmt: skip
            assert whole.low <= part <= whole.high
    assert (a / b, a + b, a * 2) == (float(a) / float(b), float(a) + float(b), 2 * float(a))


def test_too_few_rounds_stay_too_few() -> None:
    few = Measured.of([1.0, 1.1])
    for found in (few + 1, 2 * few, few / 3, 3 / few, few / Measured(2.0), Measured(2.0) / few):
        assert found.few


def test_apart_are_those_whose_intervals_do_not_meet() -> None:
    low, high = Measured(1.0, 0.9, 1.1), Measured(1.3, 1.15, 1.5)
    assert apart(low, high)
    assert not apart(high, low)
    assert not apart(low, Measured(1.3, 1.05, 1.5))
    assert apart(low, 1.2)
    assert not apart(low, 1.0)
    assert not apart(Measured.of([1.0]), 100.0)
    assert apart(1, 2)
    assert not apart(1, 1)
