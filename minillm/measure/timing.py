"""Which of two is faster, and by how much? Run them in turn, compare within each pair.

A machine drifts: it heats up, it is shared. Two things measured one after the other differ by the
drift as well. So both run in turn, in one process, and a ratio is taken within each pair; the
median of these ratios is the result. Its interval needs no assumption about the noise: each ratio
lies below the true median with the chance of a coin, so how often the k-th smallest and the k-th
largest enclose it can be counted.

Source: the interval of the sign test (H. A. David, Order Statistics, section 7.1).
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from statistics import median
from typing import Any, Generic, TypeVar

import torch

__all__ = ["Comparison", "Pair", "compare", "in_turn", "interleave", "median_interval", "now"]

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")
Result = TypeVar("Result")

_MISSES = 0.05  # how often the interval may fail to hold the true median
_WIDEST = 1.5  # an interval whose ends differ by more than this factor says nothing


def now(device: torch.device) -> float:
    """The clock, in seconds, when the device has done what it was handed; a CPU has by then."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


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


def interleave(
    runs: Sequence[tuple[Callable[[], Ours], Callable[[], Theirs]]],
    *,
    warm_up: int = 2,
    budget: float = 25.0,
) -> Iterator[Pair[Ours, Theirs]]:
    """Run each pair, every second one in the opposite order.

    The first `warm_up` rounds of the first pair are not counted. After `budget` seconds no new
    pair is begun, but there is always one: `compare` judges whether there are enough.
    """
    begin = time.perf_counter()
    for _ in range(warm_up):
        for run in runs[0]:
            run()
    for (a, a_seconds), (b, b_seconds) in in_turn(
        [[partial(_timed, run) for run in pair] for pair in runs]
    ):
        yield Pair(a, b, a_seconds, b_seconds)
        if time.perf_counter() - begin > budget:
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
    interval = median_interval(ratios)
    if interval is None:
        few = f"{len(ratios)} pairs are too few for a 95 % interval"
        return Comparison(None, None, None, ours, theirs, few)
    low, high = interval
    if high > _WIDEST * low:
        wide = f"too noisy: the median may be anywhere from {low:.2f} to {high:.2f}"
        return Comparison(None, low, high, ours, theirs, wide)
    return Comparison(median(ratios), low, high, ours, theirs)


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
