"""The rows of `minillm bench`: a name, what it is set against, and a function that measures it.

A new row is one function under `@row`, in a module that `minillm.bench` imports:

    @row("kv_cache/step@500", against="recomputing 501 tokens")
    def step() -> Measured: ...

The function runs both sides in turn (`minillm.measure.timing.interleave`), checks that they
computed the same, and returns their times. It raises `CheckFailedError` where they did not,
`UnmeasuredError` where the other side is not installed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch

from minillm.fast.linear import stock_kernel
from minillm.measure.timing import Comparison, compare

__all__ = [
    "ROWS",
    "BenchRow",
    "CheckFailedError",
    "Measured",
    "UnmeasuredError",
    "measure",
    "row",
]

_Run = TypeVar("_Run", bound=Callable[..., "Measured"])
_TRIES = 3


class UnmeasuredError(Exception):
    """A row has no ratio; the message says why."""


class CheckFailedError(UnmeasuredError):
    """The two sides did not compute the same, so their times mean nothing."""


@dataclass(frozen=True)
class Measured:
    """What a row's function returns.

    Attributes:
        seconds: (ours, theirs) for one token, of every pair.
        check: what was found equal, and how closely.
        kernel: what multiplied the matrices on our side.
        unit: what the ratio is a ratio of.
    """

    seconds: Sequence[tuple[float, float]]
    check: str
    kernel: str
    unit: str = "ratio of times"


@dataclass(frozen=True)
class BenchRow:
    """A row as `minillm bench --json` prints it; times are medians, in milliseconds a token."""

    name: str
    against: str
    ratio: float | None
    low: float | None
    high: float | None
    unit: str
    check: str
    kernel: str
    threads: int
    pairs: int = 0
    our_ms: float | None = None
    their_ms: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Entry:
    against: str
    run: Callable[..., Measured]
    any_model: bool


ROWS: dict[str, _Entry] = {}


def row(name: str, *, against: str, any_model: bool = False) -> Callable[[_Run], _Run]:
    """Register a function as the row `name`; with `any_model` it takes the name of one."""

    def register(run: _Run) -> _Run:
        ROWS[name] = _Entry(against, run, any_model)
        return run

    return register


def measure(name: str, model: str = "stories") -> BenchRow:
    """Run a row; one that does not take a model runs with its own."""
    entry, threads = ROWS[name], torch.get_num_threads()
    try:
        found, result = _until_it_says_something(
            partial(entry.run, model) if entry.any_model else entry.run
        )
    except UnmeasuredError as error:
        check = "failed" if isinstance(error, CheckFailedError) else "not made"
        return BenchRow(
            name,
            entry.against,
            None,
            None,
            None,
            Measured.unit,
            check,
            stock_kernel(),
            threads,
            reason=str(error),
        )
    return BenchRow(
        name,
        entry.against,
        result.ratio,
        result.low,
        result.high,
        found.unit,
        found.check,
        found.kernel,
        threads,
        len(found.seconds),
        1000 * result.our_seconds,
        1000 * result.their_seconds,
        result.reason,
    )


def _until_it_says_something(run: Callable[[], Measured]) -> tuple[Measured, Comparison]:
    """Measure once more, and again, as long as the noise hides the ratio; all pairs count."""
    seconds: list[tuple[float, float]] = []
    for _ in range(_TRIES):
        found = run()
        seconds.extend(found.seconds)
        if (result := compare(seconds)).ratio is not None:
            break
    return replace(found, seconds=seconds), result
