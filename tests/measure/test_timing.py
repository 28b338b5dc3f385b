"""Measuring stops where it knows enough, or has spent enough, and not before six rounds."""

from collections.abc import Iterator

import pytest

from minillm.measure import timing
from minillm.measure.timing import until_narrow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The processor's time, as a test sets it."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "process_time", lambda: now[0])
    return now


def noisy(clock: list[float], seconds: float) -> Iterator[tuple[float, float]]:
    """Rounds of one steady number and one that never settles."""
    for index in range(99):
        clock[0] += seconds
        yield 1.0, 1.0 + index % 2


def test_steady_numbers_are_measured_as_often_as_an_interval_needs(clock: list[float]) -> None:
    assert len(list(until_narrow([(1.0, 5.0)] * 99))) == 6


def test_noise_is_measured_until_the_budget_is_spent(clock: list[float]) -> None:
    assert len(list(until_narrow(noisy(clock, 0.1), budget=0.95))) == 10
    assert len(list(until_narrow(noisy(clock, 9.0), budget=1.0))) == 6
    assert len(list(until_narrow(noisy(clock, 0.0)))) == 99


def test_noise_that_settles_ends_the_rounds(clock: list[float]) -> None:
    rounds = [(3.0,), *[(1.0,)] * 98]
    assert len(list(until_narrow(rounds))) == 9  # the second smallest and largest of nine
    assert len(list(until_narrow(rounds, width=3.5))) == 6


def test_no_round_is_run_in_vain(clock: list[float]) -> None:
    rounds = iter([(1.0,)] * 99)
    list(until_narrow(rounds))
    assert len(list(rounds)) == 93


def test_fewer_rounds_than_an_interval_needs_are_all_there_is() -> None:
    assert list(until_narrow([(1.0,)] * 3)) == [(1.0,)] * 3
