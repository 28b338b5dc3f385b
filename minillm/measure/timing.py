"""Which of two is faster, and by how much? Run them in turn, compare within each pair.

A machine drifts: it heats up, it is shared. Two things measured one after the other differ by the
drift as well. So both run in turn, in one process, and a ratio is taken within each pair; the
median of these ratios is the result, with its interval (`minillm.measure.noise`).
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Generic, TypeVar

import torch

from minillm.measure.noise import Measured, median_interval

__all__ = [
    "Comparison",
    "Pair",
    "compare",
    "in_turn",
    "interleave",
    "now",
    "seconds_of",
    "until_narrow",
]

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")
Result = TypeVar("Result")


def now(device: torch.device) -> float:
    """The clock, in seconds, when the device has done what it was handed; a CPU has by then."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """What a run takes, until the device has done it."""
    start = now(device)
    run()
    return now(device) - start


@dataclass(frozen=True)
class Pair(Generic[Ours, Theirs]):
    """Two runs made in turn: what each returned, and its seconds."""

    ours: Ours
    theirs: Theirs
    our_seconds: float
    their_seconds: float


def in_turn(rounds: Iterable[Sequence[Callable[[], Any]]]) -> Iterator[list[Any]]:
    """Run what is compared round by round, every second round in the opposite order.

    Over two rounds all have stood in the middle: a machine that gets slower, slows all alike.

    >>> said = []
    >>> list(in_turn([(lambda: said.append("a"), lambda: said.append("b"))] * 2)), said
    ([[None, None], [None, None]], ['a', 'b', 'b', 'a'])
    """
    for index, runs in enumerate(rounds):
        order = -1 if index % 2 else 1
        yield [run() for run in runs[::order]][::order]


def until_narrow(
    rounds: Iterable[Sequence[float]], *, width: float = 1.1, budget: float = 1.5
) -> Iterator[Sequence[float]]:
    """Pass on rounds of numbers until each number is known well enough, or the time is spent.

    At least as many are passed on as an interval needs. Rounds are run as they are asked for, so
    that of `in_turn` none is run in vain. Stopping at a narrow interval makes it miss the true
    median a little more often than its 5 % say.

    Args:
        rounds: what each round gave, such as the seconds of all that is compared.
        width: the upper end of each number's interval is at most so many times the lower.
        budget: seconds of the processor, which others on the machine do not use up.

    >>> len(list(until_narrow([(1.0, 2.0)] * 99)))
    6
    """
    begin, passed = time.process_time(), list[Sequence[float]]()
    for each in rounds:
        passed.append(each)
        yield each
        ends = [median_interval(side) for side in zip(*passed, strict=True)]
        known = [pair for pair in ends if pair is not None]
        spent = time.process_time() - begin > budget
        if len(known) == len(ends) and (spent or all(high <= width * low for low, high in known)):
            return


def interleave(
    runs: Sequence[tuple[Callable[[], Ours], Callable[[], Theirs]]],
    *,
    warm_up: int = 2,
    budget: float = 25.0,
) -> Iterator[Pair[Ours, Theirs]]:
    """Run each pair, every second one in the opposite order.

    The first `warm_up` rounds of the first pair are not counted. After `budget` seconds no new
    pair is begun, unless an interval needs more of them.
    """
    begin, passed = time.perf_counter(), list[float]()
    for _ in range(warm_up):
        for run in runs[0]:
            run()
    for (a, a_seconds), (b, b_seconds) in in_turn(
        [[partial(_timed, run) for run in pair] for pair in runs]
    ):
        yield Pair(a, b, a_seconds, b_seconds)
        passed.append(a_seconds)
        if median_interval(passed) is not None and time.perf_counter() - begin > budget:
            return


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns and how long it takes, garbage collection put off."""
    gc.disable()
    try:
        start = time.perf_counter()
        result = run()
        return result, time.perf_counter() - start
    finally:
        gc.enable()


@dataclass(frozen=True)
class Comparison:
    """How many times faster ours is.

    Attributes:
        ratio: median of their time over our time in each pair; None where it would say nothing.
        low: the true median lies between `low` and `high` with a probability of 95 % or more.
        high: see `low`.
        our_seconds: median of our times.
        their_seconds: median of their times.
        reason: why there is no ratio.
    """

    ratio: float | None
    low: float | None
    high: float | None
    our_seconds: float
    their_seconds: float
    reason: str | None = None


def compare(seconds: Sequence[tuple[float, float]]) -> Comparison:
    """Judge interleaved times, (ours, theirs) each.

    There is no ratio from fewer than six pairs, which give no 95 % interval, nor where the upper
    end of the interval is more than 1.5 times the lower.
    """
    ratios = [theirs / ours for ours, theirs in seconds]
    ours, theirs = (median(side) for side in zip(*seconds, strict=True))
    low, high = median_interval(ratios) or (None, None)
    found = Measured.of(ratios)
    ratio = None if found.doubt else float(found)
    return Comparison(ratio, low, high, ours, theirs, found.doubt)
